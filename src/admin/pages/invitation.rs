//! Invitations: the link that is shown once, and the page that it leads to.

use maud::{PreEscaped, html};

use super::super::http::{Request, Response, Status};
use super::super::messages::ClientText;
use super::super::sign_in::Session;
use super::super::texts;
use super::layout::Page;
use crate::server::QrCode;

/// Maximum length of the name of a file without its ending, as the WireGuard apps want it.
const MAX_NAME: usize = 15;

/// Returns the page with the link of a new invitation, at this host.
pub(in crate::admin) fn invited(
    tunnel: &str,
    session: &Session,
    name: &str,
    host: &str,
    token: &ClientText,
) -> Response {
    let link = format!("https://{host}/invite#{}", token.as_str());
    let svg = QrCode::new(link.as_bytes()).map(|code| code.svg());
    let body = html! {
        h1 { (name) }
        p { (texts::INVITED) }
        @if let Ok(svg) = &svg {
            // made of numbers only
            div .qr role="img" aria-label=(texts::LINK_QR_LABEL) { (PreEscaped(String::from_utf8_lossy(svg))) }
        }
        label for="file" { (texts::INVITATION_LINK) }
        textarea #file readonly rows="3" spellcheck="false" { (link) }
        p .bar {
            button #copy .plain hidden { (texts::COPY) }
            a .button href="/" { (texts::DONE) }
        }
    };
    Page::new(tunnel, Some(session), name).response(&body)
}

/// Returns the page that a link leads to. Its script makes the keys, and asks for the rest.
pub(in crate::admin) fn invitation(tunnel: &str, request: &Request) -> Response {
    let body = html! {
        h1 { (texts::SET_UP) }
        @if request.is_secure {
            noscript { p .problem { (texts::NEEDS_SCRIPT) } }
            div #invitation hidden {
                @for (id, text) in [
                    ("no-token", texts::NO_TOKEN),
                    ("no-key", texts::NO_X25519),
                    ("refused", texts::NOT_INVITED),
                    ("too-many", texts::TOO_MANY_LINKS),
                    ("failed", texts::NOT_ENROLLED),
                ] {
                    p .problem id=(id) role="alert" hidden { (text) }
                }
                div #begin hidden {
                    p { (texts::SET_UP_HELP) }
                    button { (texts::SET_UP_NOW) }
                }
                div #enrolled hidden {
                    p role="status" { (texts::ENROLLED) }
                    div .qr #code role="img" aria-label=(texts::QR_LABEL) {
                        svg shape-rendering="crispEdges" { path fill="#fff" {} path fill="#000" {} }
                    }
                    label for="file" { (texts::FILE) }
                    textarea #file readonly rows="13" spellcheck="false" data-name=(file_name(&request.host)) {}
                    p .bar {
                        button #save hidden { (texts::SAVE_FILE) }
                        button #copy .plain hidden { (texts::COPY) }
                    }
                }
            }
        } @else {
            p .problem { (texts::NEEDS_HTTPS) }
        }
    };
    let page = Page { script: Some("/invite.js"), ..Page::new(tunnel, None, texts::SET_UP) };
    page.response(&body).without_referrer()
}

/// Returns the response to a device that was enrolled: its file, without its private key.
pub(in crate::admin) fn enrolled(client: &ClientText) -> Response {
    let text = client.as_str().as_bytes().to_vec();
    Response::new(Status::Ok, "text/plain; charset=utf-8", text).without_referrer()
}

/// Returns the name of the file of a device, and of its tunnel, as the apps have it: that of the
/// server.
fn file_name(host: &str) -> String {
    let first = host.split([':', '.']).next().unwrap_or_default();
    let name: String =
        first.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(MAX_NAME).collect();
    let is_name = name.chars().any(|letter| letter.is_ascii_alphabetic()) && !host.starts_with('[');
    format!("{}.conf", if is_name { &name } else { texts::TITLE })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_the_name_of_the_server() {
        for (host, name) in [
            ("vpn.example.com:8443", "vpn.conf"),
            ("192.0.2.1:8443", "wontun.conf"),
            ("[2001:db8::1]", "wontun.conf"),
            ("a-very-long-name-of-a-host", "a-very-long-nam.conf"),
        ] {
            assert_eq!(file_name(host), name);
        }
    }
}
