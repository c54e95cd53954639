//! The page of a peer.

use std::time::Duration;

use maud::{Markup, html};

use super::super::http::Response;
use super::super::messages::{Field, Principal};
use super::super::sign_in::Session;
use super::super::snapshot::Peer;
use super::super::texts;
use super::form::Form;
use super::layout::{Page, token};
use super::list::{graph, state};
use super::problem::Problem;
use super::traffic::periods;
use crate::config::peer_settings::PeerComment;

/// The settings of a peer, as they are shown together.
pub(super) const ACCESS: [Field; 3] = [
    Field::Setting(PeerComment::Note),
    Field::Setting(PeerComment::Owner),
    Field::Setting(PeerComment::Expires),
];
pub(super) const RULES: [Field; 4] = [
    Field::Setting(PeerComment::Allow),
    Field::Setting(PeerComment::Deny),
    Field::Setting(PeerComment::AllowFrom),
    Field::Setting(PeerComment::Forward),
];
pub(super) const LIMITS: [Field; 4] = [
    Field::Setting(PeerComment::RateUp),
    Field::Setting(PeerComment::RateDown),
    Field::Setting(PeerComment::Quota),
    Field::Setting(PeerComment::OverQuota),
];
pub(super) const CLIENT: [Field; 4] = [
    Field::Setting(PeerComment::ClientRoutes),
    Field::Setting(PeerComment::ClientDns),
    Field::Setting(PeerComment::ClientMtu),
    Field::Setting(PeerComment::ClientKeepalive),
];

/// The outcome of a form that was sent, for the page.
#[derive(Debug, Default)]
pub(in crate::admin) struct PeerResult {
    pub(in crate::admin) problem: Option<Problem>,
    pub(in crate::admin) form: Form,
    /// Result of a test of a connection: true if it is allowed, and the rule that decides.
    pub(in crate::admin) verdict: Option<(bool, String)>,
}

/// Returns the page of a peer; for its owner without what only the administrator may see and do.
pub(in crate::admin) fn peer(
    tunnel: &str,
    session: &Session,
    peer: &Peer,
    now: Duration,
    result: &PeerResult,
) -> Response {
    let row = peer.row(now);
    let path = format!("/peers/{}", row.id);
    let name = peer.name();
    let PeerResult { problem, form, verdict } = result;
    let is_admin = *session.principal() == Principal::Admin;
    let body = html! {
        p { a href="/" { "← " (texts::BACK) } }
        section data-peer=(row.id) {
            h1 { (name) }
            dl {
                dt { (texts::STATE) } dd { (state(&row)) }
                dt { (texts::HANDSHAKE) } dd data-value="handshake" { (row.handshake) }
                dt { (texts::ENDPOINT) } dd data-value="endpoint" { (row.endpoint) }
                dt { (texts::ADDRESSES) } dd { (peer.networks()) }
                dt { (texts::RECEIVED) } dd data-value="received" data-bytes=(row.received) { (row.received_text) }
                dt { (texts::SENT) } dd data-value="sent" data-bytes=(row.sent) { (row.sent_text) }
                dt { (texts::PUBLIC_KEY) } dd { code { (peer.file.key) } }
            }
            div .graph .large { (graph()) }
            p .hint { (texts::UPDATED) }
            h2 { (texts::TRAFFIC_BY_TIME) }
            (periods(peer.live.as_ref().and_then(|live| live.traffic.as_ref())))
        }
        @if !is_admin { div .cards { (renew(session, &path)) } } @else { div .cards {
            (settings(peer, session, form, texts::ACCESS, "", &ACCESS))
            (settings(peer, session, form, texts::RULES, texts::RULES_HELP, &RULES))
            (settings(peer, session, form, texts::LIMITS, texts::LIMITS_HELP, &LIMITS))
            (networks(peer, session, form))
            (settings(peer, session, form, texts::CLIENT, texts::CLIENT_HELP, &CLIENT))
            form .card method="post" action={ (path) "/test" } {
                (token(session))
                h2 { (texts::TEST) }
                p .hint { (texts::TEST_HELP) }
                (form.field(Field::Target, ""))
                (direction(form))
                @if let Some((is_allowed, text)) = verdict {
                    p .verdict role="status" data-allowed=(is_allowed) {
                        strong { (if *is_allowed { texts::ALLOWED } else { texts::DENIED }) } br; (text)
                    }
                }
                button { (texts::TEST_NOW) }
            }
            form .card method="post" action={ (path) "/rename" } {
                (token(session))
                h2 { (texts::RENAME) }
                (form.field(Field::Name, &name))
                button { (texts::RENAME) }
            }
            form .card method="post" action={ (path) (if peer.is_disabled() { "/enable" } else { "/disable" }) } {
                (token(session))
                button { (if peer.is_disabled() { texts::ENABLE } else { texts::DISABLE }) }
            }
            (renew(session, &path))
            details .card {
                summary { (texts::REMOVE) }
                form method="post" action={ (path) "/remove" } {
                    (token(session))
                    p { (texts::REMOVE_HELP) }
                    button .danger { (texts::REMOVE_NOW) }
                }
            }
        } }
    };
    let page = Page {
        problem: problem.as_ref(),
        live: Some(format!("?peer={}", row.id)),
        ..Page::new(tunnel, Some(session), &name)
    };
    page.response(&body)
}

/// Returns the form for new keys.
fn renew(session: &Session, path: &str) -> Markup {
    html! {
        details .card {
            summary { (texts::RENEW) }
            form method="post" action={ (path) "/renew" } {
                (token(session))
                p { (texts::RENEW_HELP) }
                button { (texts::RENEW_NOW) }
            }
        }
    }
}

/// Returns a form with these settings.
fn settings(
    peer: &Peer,
    session: &Session,
    form: &Form,
    title: &str,
    hint: &str,
    fields: &[Field],
) -> Markup {
    let fields = html! { @for &field in fields { (setting(peer, form, field)) } };
    card(peer, session, title, hint, &fields)
}

/// Returns the form with the addresses, and the networks behind the peer.
fn networks(peer: &Peer, session: &Session, form: &Form) -> Markup {
    let title = texts::ADDRESSES;
    let Some((addresses, sites)) = peer.addresses_and_sites() else {
        return html! { section .card { h2 { (title) } p .hint { (texts::LONG) } } };
    };
    let fields = html! { (form.field(Field::Address, &addresses)) (form.field(Field::Site, &sites)) };
    card(peer, session, title, texts::ADDRESSES_HELP, &fields)
}

/// Returns a form that changes the peer.
fn card(peer: &Peer, session: &Session, title: &str, hint: &str, fields: &Markup) -> Markup {
    html! {
        form .card method="post" action={ "/peers/" (super::super::snapshot::id(&peer.file.key)) "/set" } {
            (token(session))
            h2 { (title) }
            @if !hint.is_empty() { p .hint { (hint) } }
            (fields)
            button { (texts::SAVE) }
        }
    }
}

fn setting(peer: &Peer, form: &Form, field: Field) -> Markup {
    match field {
        Field::Setting(setting) if peer.file.long_settings.contains(&setting) => html! {
            p { (texts::label(field)) } p .hint { (texts::LONG) }
        },
        Field::Setting(setting) => form.field(field, peer.setting(setting)),
        _ => form.field(field, ""),
    }
}

fn direction(form: &Form) -> Markup {
    let is_from = form.get("direction") == Some("from");
    html! {
        fieldset {
            legend { (texts::DIRECTION) }
            label .choice { input type="radio" name="direction" value="to" checked[!is_from]; (texts::TEST_TO) }
            label .choice { input type="radio" name="direction" value="from" checked[is_from]; (texts::TEST_FROM) }
        }
    }
}
