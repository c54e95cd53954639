//! Pages about peers.

use std::time::Duration;

use maud::{Markup, PreEscaped, html};

use super::super::http::Response;
use super::super::messages::{ClientText, Setting};
use super::super::sign_in::Session;
use super::super::snapshot::{Peer, Snapshot, id};
use super::layout::{Page, token};
use super::problem::Problem;
use super::texts;
use crate::server::QrCode;

/// Returns the page with all peers.
pub(in crate::admin) fn list(tunnel: &str, session: &Session, snapshot: &Snapshot) -> Response {
    let body = html! {
        div .bar {
            h1 { (texts::PEERS) " " span .count { (snapshot.peers.len()) } }
            a .button href="/new" { (texts::ADD) }
        }
        @if !snapshot.problems.is_empty() {
            section .problem {
                h2 { (texts::PROBLEMS) }
                ul { @for problem in &snapshot.problems { li { (problem) } } }
            }
        }
        @if snapshot.peers.is_empty() {
            p .empty { (texts::NO_PEERS) }
        } @else {
            table .peers {
                thead { tr {
                    th scope="col" { (texts::NAME) }
                    th scope="col" { (texts::STATE) }
                    th scope="col" { (texts::HANDSHAKE) }
                    th scope="col" { (texts::ENDPOINT) }
                    th scope="col" .number { (texts::RECEIVED) }
                    th scope="col" .number { (texts::SENT) }
                    th scope="col" { (texts::NOW) }
                } }
                tbody { @for peer in &snapshot.peers { (row(peer, snapshot.at)) } }
            }
        }
        @if !snapshot.dropped.is_empty() {
            details .card {
                summary { (texts::DROPPED) }
                dl { @for (reason, count) in &snapshot.dropped { dt { code { (reason) } } dd { (count) } } }
            }
        }
    };
    Page { tunnel, session: Some(session), title: texts::PEERS, problem: None, is_live: true }.response(&body)
}

fn row(peer: &Peer, now: Duration) -> Markup {
    let row = peer.row(now);
    html! {
        tr data-peer=(row.id) {
            th scope="row" {
                a href={ "/peers/" (row.id) } { (peer.name()) }
                @let note = peer.setting(Setting::Note);
                @if !note.is_empty() { small { (note) } }
            }
            td data-label=(texts::STATE) { (state(row.state)) }
            td data-label=(texts::HANDSHAKE) data-value="handshake" { (row.handshake) }
            td data-label=(texts::ENDPOINT) data-value="endpoint" { (row.endpoint) }
            td .number data-label=(texts::RECEIVED) data-value="received" data-bytes=(row.received) {
                (bytes(row.received))
            }
            td .number data-label=(texts::SENT) data-value="sent" data-bytes=(row.sent) { (bytes(row.sent)) }
            td .graph { (graph("0 0 60 20")) }
        }
    }
}

fn state(name: &str) -> Markup {
    html! { span .state data-value="state" data-state=(name) { (texts::state(name)) } }
}

/// Returns an empty graph, which the script fills.
fn graph(view: &str) -> Markup {
    html! {
        svg viewBox=(view) preserveAspectRatio="none" role="img" aria-label=(texts::TRAFFIC) {
            path .received d="" {}
            path .sent d="" {}
        }
    }
}

/// Returns a number of bytes in its largest unit.
fn bytes(count: u64) -> String {
    let mut unit = 1_u64;
    let mut name = "B";
    for next in ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"] {
        if count / unit < 1024 {
            break;
        }
        (unit, name) = (unit * 1024, next);
    }
    if unit == 1 {
        return format!("{count} B");
    }
    let tenths = u128::from(count) * 10 / u128::from(unit);
    format!("{}.{} {name}", tenths / 10, tenths % 10)
}

/// Returns the page of a peer.
pub(in crate::admin) fn peer(
    tunnel: &str,
    session: &Session,
    peer: &Peer,
    now: Duration,
    problem: Option<&Problem>,
) -> Response {
    let row = peer.row(now);
    let path = format!("/peers/{}", id(&peer.file.key));
    let name = peer.name();
    let body = html! {
        p { a href="/" { "← " (texts::BACK) } }
        section data-peer=(row.id) {
            h1 { (name) }
            dl {
                dt { (texts::STATE) } dd { (state(row.state)) }
                dt { (texts::HANDSHAKE) } dd data-value="handshake" { (row.handshake) }
                dt { (texts::ENDPOINT) } dd data-value="endpoint" { (row.endpoint) }
                dt { (texts::ADDRESSES) } dd { (peer.file.networks.join(", ")) }
                dt { (texts::RECEIVED) } dd data-value="received" data-bytes=(row.received) { (bytes(row.received)) }
                dt { (texts::SENT) } dd data-value="sent" data-bytes=(row.sent) { (bytes(row.sent)) }
                dt { (texts::PUBLIC_KEY) } dd { code { (peer.file.key) } }
            }
            div .graph .large { (graph("0 0 60 20")) }
            p .hint { (texts::UPDATED) }
        }
        div .cards {
            form .card method="post" action={ (path) "/rename" } {
                (token(session))
                label { (texts::NAME) input name="name" value=(name) maxlength="64" required; }
                button { (texts::RENAME) }
            }
            form .card method="post" action={ (path) "/note" } {
                (token(session))
                label { (texts::NOTE) input name="value" value=(peer.setting(Setting::Note)) maxlength="200"; }
                button { (texts::SAVE) }
            }
            form .card method="post" action={ (path) "/expires" } {
                (token(session))
                label { (texts::EXPIRES) input name="value" value=(peer.setting(Setting::Expires)) maxlength="40"; }
                p .hint { (texts::EXPIRES_HELP) }
                button { (texts::SAVE) }
            }
            form .card method="post" action={ (path) (if peer.is_disabled() { "/enable" } else { "/disable" }) } {
                (token(session))
                button { (if peer.is_disabled() { texts::ENABLE } else { texts::DISABLE }) }
            }
            details .card {
                summary { (texts::RENEW) }
                form method="post" action={ (path) "/renew" } {
                    (token(session))
                    p { (texts::RENEW_HELP) }
                    button { (texts::RENEW_NOW) }
                }
            }
            details .card {
                summary { (texts::REMOVE) }
                form method="post" action={ (path) "/remove" } {
                    (token(session))
                    p { (texts::REMOVE_HELP) }
                    button .danger { (texts::REMOVE_NOW) }
                }
            }
        }
    };
    Page { tunnel, session: Some(session), title: &name, problem, is_live: true }.response(&body)
}

/// Returns the page for a new peer.
pub(in crate::admin) fn new(
    tunnel: &str,
    session: &Session,
    name: &str,
    problem: Option<&Problem>,
) -> Response {
    let body = html! {
        p { a href="/" { "← " (texts::BACK) } }
        h1 { (texts::ADD) }
        form .card method="post" action="/new" {
            (token(session))
            label { (texts::NAME)
                input name="name" value=(name) maxlength="64" required autofocus autocomplete="off";
            }
            p .hint { (texts::NAME_HELP) }
            fieldset {
                legend { (texts::ROUTES) }
                label .choice { input type="radio" name="routes" value="all" checked; (texts::ROUTES_ALL) }
                label .choice { input type="radio" name="routes" value="vpn"; (texts::ROUTES_VPN) }
            }
            button { (texts::ADD) }
        }
    };
    Page { tunnel, session: Some(session), title: texts::ADD, problem, is_live: false }.response(&body)
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
        label { (texts::FILE)
            textarea #file readonly rows="13" spellcheck="false" data-name=(file_name(name)) { (client.as_str()) }
        }
        p .bar {
            button #save hidden { (texts::SAVE_FILE) }
            button #copy .plain hidden { (texts::COPY) }
            a .button href="/" { (texts::DONE) }
        }
    };
    Page { tunnel, session: Some(session), title: name, problem: None, is_live: false }.response(&body)
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
    fn sizes_are_in_their_unit() {
        for (count, text) in
            [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1_572_864, "1.5 MiB"), (u64::MAX, "15.9 EiB")]
        {
            assert_eq!(bytes(count), text);
        }
    }

    #[test]
    fn a_files_name_is_plain() {
        assert_eq!(file_name("<b>Mom's phone ü"), "-b-Mom-s-phone-.conf");
    }
}
