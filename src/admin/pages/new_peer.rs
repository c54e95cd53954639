//! The pages by which a peer is added.

use maud::{Markup, PreEscaped, html};

use super::super::http::Response;
use super::super::messages::{ClientText, Field};
use super::super::sign_in::Session;
use super::super::texts;
use super::form::Form;
use super::layout::{Page, token};
use super::peer::{ACCESS, CLIENT, LIMITS, RULES};
use super::problem::Problem;
use crate::server::QrCode;

const ADDRESSES: [Field; 2] = [Field::Address, Field::Site];

/// Returns the page for a new peer.
pub(in crate::admin) fn new(
    tunnel: &str,
    session: &Session,
    form: &Form,
    problem: Option<&Problem>,
) -> Response {
    let is_vpn = form.get("routes") == Some("vpn");
    let body = html! {
        p { a href="/" { "← " (texts::BACK) } }
        h1 { (texts::ADD) }
        form .card method="post" action="/new" {
            (token(session))
            (form.field(Field::Name, ""))
            fieldset {
                legend { (texts::ROUTES) }
                label .choice { input type="radio" name="routes" value="all" checked[!is_vpn]; (texts::ROUTES_ALL) }
                label .choice { input type="radio" name="routes" value="vpn" checked[is_vpn]; (texts::ROUTES_VPN) }
            }
            (part(form, texts::ACCESS, "", &ACCESS))
            (part(form, texts::RULES, texts::RULES_HELP, &RULES))
            (part(form, texts::LIMITS, texts::LIMITS_HELP, &LIMITS))
            (part(form, texts::ADDRESSES, texts::NEW_ADDRESSES_HELP, &ADDRESSES))
            (part(form, texts::CLIENT, "", &CLIENT))
            button { (texts::ADD) }
            fieldset {
                legend { (texts::INVITE) }
                @if form.is_secure {
                    p .hint { (texts::INVITE_HELP) }
                    (form.field(Field::Valid, texts::VALIDITY))
                    button formaction="/new/invitation" { (texts::INVITE_NOW) }
                } @else {
                    p .hint { (texts::INVITE_NEEDS_HTTPS) }
                    button type="button" disabled { (texts::INVITE_NOW) }
                }
            }
        }
    };
    Page { problem, ..Page::new(tunnel, Some(session), texts::ADD) }.response(&body)
}

/// Returns a part of the form, which is open if something in it was typed or is wrong.
fn part(form: &Form, title: &str, hint: &str, fields: &[Field]) -> Markup {
    let is_used = |field: &Field| form.get(field.name()).is_some_and(|value| !value.is_empty());
    let is_open = form.has_error_in(fields) || fields.iter().any(is_used);
    html! {
        details open[is_open] {
            summary { (title) }
            @if !hint.is_empty() { p .hint { (hint) } }
            @for &field in fields { (form.field(field, "")) }
        }
    }
}

/// Returns the page with the file of a new peer.
pub(in crate::admin) fn added(tunnel: &str, session: &Session, name: &str, client: &ClientText) -> Response {
    // the longest file fits
    let svg = QrCode::new(client.as_str().as_bytes()).map(|code| code.svg());
    let body = html! {
        h1 { (name) }
        p { (texts::ONCE) }
        @if let Ok(svg) = &svg {
            // made of numbers only
            div .qr role="img" aria-label=(texts::QR_LABEL) { (PreEscaped(String::from_utf8_lossy(svg))) }
        }
        label for="file" { (texts::FILE) }
        textarea #file readonly rows="13" spellcheck="false" data-name=(file_name(name)) { (client.as_str()) }
        p .bar {
            button #save hidden { (texts::SAVE_FILE) }
            button #copy .plain hidden { (texts::COPY) }
            a .button href="/" { (texts::DONE) }
        }
    };
    Page::new(tunnel, Some(session), name).response(&body)
}

/// Returns the name of a client's file: at most 15 letters, as the WireGuard apps want it.
fn file_name(name: &str) -> String {
    let plain = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { '-' };
    let name: String = name.chars().map(plain).take(15).collect();
    format!("{name}.conf")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_files_name_is_plain() {
        assert_eq!(file_name("<b>Mom's phone ü"), "-b-Mom-s-phone-.conf");
    }
}
