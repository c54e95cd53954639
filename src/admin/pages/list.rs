//! The list of peers.

use std::time::Duration;

use form_urlencoded::Serializer;
use maud::{Markup, html};

use super::super::http::Response;
use super::super::messages::Principal;
use super::super::sign_in::Session;
use super::super::snapshot::{Listed, Peer, Row, Shown, Snapshot};
use super::super::texts;
use super::layout::Page;
use crate::config::peer_settings::PeerComment;

/// Returns a page of the list of peers.
pub(in crate::admin) fn list(
    tunnel: &str,
    session: &Session,
    snapshot: &Snapshot,
    shown: &Shown,
) -> Response {
    let principal = session.principal();
    let is_admin = *principal == Principal::Admin;
    let Listed { peers, page, pages, total } = snapshot.shown(principal, shown);
    let find = match shown {
        Shown::List { find, .. } => find.as_str(),
        Shown::Peer(_) => "",
    };
    let body = html! {
        div .bar {
            h1 { (texts::PEERS) " " span .count { (total) } }
            @if is_admin { a .button href="/new" { (texts::ADD) } }
        }
        @if is_admin && !snapshot.problems.is_empty() {
            section .problem {
                h2 { (texts::HEALTH) }
                ul { @for problem in &snapshot.problems { li { (problem) } } }
            }
        }
        @if pages > 1 || !find.is_empty() {
            form .find role="search" method="get" action="/" {
                label .quiet for="find" { (texts::FIND) }
                input #find type="search" name="find" value=(find) placeholder=(texts::FIND_HELP) maxlength="64";
                button .plain { (texts::FIND) }
            }
        }
        @if peers.is_empty() {
            p .empty { (if find.is_empty() { texts::NO_PEERS } else { texts::NONE_FOUND }) }
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
                tbody { @for peer in peers { (row(peer, snapshot.at, is_admin)) } }
            }
        }
        @if pages > 1 {
            nav .pages aria-label=(texts::PAGES) {
                @if page > 1 { a rel="prev" href={ "/" (query(find, page - 1)) } { "← " (texts::PREVIOUS) } }
                span { (texts::page(page, pages)) }
                @if page < pages { a rel="next" href={ "/" (query(find, page + 1)) } { (texts::NEXT) " →" } }
            }
        }
    };
    let page =
        Page { path: "/", live: Some(query(find, page)), ..Page::new(tunnel, Some(session), texts::PEERS) };
    page.response(&body)
}

/// Returns the query of a page of the list.
fn query(find: &str, page: usize) -> String {
    let mut query = Serializer::for_suffix("?".to_owned(), 1);
    query.append_pair("page", &page.to_string());
    if !find.is_empty() {
        query.append_pair("find", find);
    }
    query.finish()
}

fn row(peer: &Peer, now: Duration, has_note: bool) -> Markup {
    let row = peer.row(now);
    html! {
        tr data-peer=(row.id) {
            th scope="row" {
                a href={ "/peers/" (row.id) } { (peer.name()) }
                @let note = peer.setting(PeerComment::Note);
                @if has_note && !note.is_empty() { small { (note) } }
            }
            td data-label=(texts::STATE) { (state(&row)) }
            td data-label=(texts::HANDSHAKE) data-value="handshake" { (row.handshake) }
            td data-label=(texts::ENDPOINT) data-value="endpoint" { (row.endpoint) }
            td .number data-label=(texts::RECEIVED) data-value="received" data-bytes=(row.received) {
                (row.received_text)
            }
            td .number data-label=(texts::SENT) data-value="sent" data-bytes=(row.sent) { (row.sent_text) }
            td .graph { (graph()) }
        }
    }
}

pub(super) fn state(row: &Row) -> Markup {
    html! { span .state data-value="state" data-state=(row.state) { (row.label) } }
}

/// Returns an empty graph, which the script fills.
pub(super) fn graph() -> Markup {
    html! {
        svg viewBox="0 0 60 20" preserveAspectRatio="none" role="img" aria-label=(texts::TRAFFIC) {
            path .received d="" {}
            path .sent d="" {}
        }
    }
}
