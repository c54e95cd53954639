//! The page of the server: health, traffic, drops, settings and changes.

use std::net::IpAddr;

use maud::{Markup, html};

use super::super::http::Response;
use super::super::messages::{ChangeRecord, Field, Principal, ServerSetting, SettingText};
use super::super::sign_in::Session;
use super::super::snapshot::{Snapshot, Tunnel};
use super::super::texts;
use super::form::Form;
use super::layout::{Page, token};
use super::problem::Problem;
use super::traffic::periods;

/// The contents of the files, and the outcome of a form that was sent, for the page.
#[derive(Debug, Default)]
pub(in crate::admin) struct ServerResult {
    pub(in crate::admin) problem: Option<Problem>,
    pub(in crate::admin) form: Form,
    /// The settings in the file; none if it cannot be read.
    pub(in crate::admin) settings: Vec<(ServerSetting, SettingText)>,
    /// The latest changes, the newest first.
    pub(in crate::admin) changes: Vec<ChangeRecord>,
}

/// Returns the page of the server.
pub(in crate::admin) fn server(
    tunnel: &str,
    session: &Session,
    snapshot: &Snapshot,
    result: &ServerResult,
) -> Response {
    let ServerResult { problem, form, settings, changes } = result;
    let body = html! {
        h1 { (texts::SERVER) }
        section {
            h2 { (texts::HEALTH) }
            (health(snapshot))
            @if let Some(tunnel) = &snapshot.tunnel {
                dl {
                    dt { (texts::VERSION) } dd { (tunnel.version) }
                    dt { (texts::PORT) } dd { (tunnel.listen_port) }
                    @if let Some(key) = &tunnel.public_key { dt { (texts::PUBLIC_KEY) } dd { code { (key) } } }
                }
            }
        }
        section {
            h2 { (texts::TRAFFIC_BY_TIME) }
            (periods(snapshot.traffic().as_ref()))
        }
        section {
            h2 { (texts::DROPPED) }
            (counts(&snapshot.dropped))
        }
        @if !snapshot.repairs.is_empty() {
            section {
                h2 { (texts::REPAIRS) }
                (counts(&snapshot.repairs))
            }
        }
        @if !settings.is_empty() {
            form .card method="post" action="/server" {
                (token(session))
                h2 { (texts::SETTINGS) }
                p .hint { (texts::SETTINGS_HELP) }
                @for (setting, value) in settings { (form.field(Field::Server(*setting), value.as_str())) }
                button { (texts::SAVE) }
            }
        }
        section {
            h2 { (texts::CHANGES) }
            @if changes.is_empty() { p { (texts::NO_CHANGES) } } @else { (table(changes, snapshot)) }
            p .hint { (texts::CHANGES_HELP) }
        }
    };
    let page = Page {
        path: "/server",
        problem: problem.as_ref(),
        ..Page::new(tunnel, Some(session), texts::SERVER)
    };
    page.response(&body)
}

fn health(snapshot: &Snapshot) -> Markup {
    let mut problems: Vec<&str> = snapshot.problems.iter().map(String::as_str).collect();
    match &snapshot.tunnel {
        None => problems.push(texts::SILENT),
        Some(Tunnel { is_up: false, .. }) => problems.push(texts::DOWN),
        Some(_) => {}
    }
    html! {
        @if problems.is_empty() { p { (texts::HEALTHY) } } @else {
            ul .problem { @for problem in problems { li { (problem) } } }
        }
    }
}

fn counts(counts: &[(String, u64)]) -> Markup {
    html! {
        @if counts.is_empty() { p { (texts::NOTHING_DROPPED) } } @else {
            dl { @for (name, count) in counts { dt { code { (name) } } dd { (count) } } }
        }
    }
}

fn table(changes: &[ChangeRecord], snapshot: &Snapshot) -> Markup {
    let who = |from: &IpAddr, by: &Principal| {
        let name =
            if from.is_loopback() { Some(texts::THIS_HOST.to_owned()) } else { snapshot.name_at(*from) };
        let place = name.map_or_else(|| from.to_string(), |name| format!("{name} ({from})"));
        match by {
            Principal::Admin | Principal::Token(_) | Principal::Invitation => place,
            Principal::Owner(owner) => format!("{owner}, {place}"),
        }
    };
    html! {
        table .changes {
            thead { tr {
                th scope="col" { (texts::WHEN) }
                th scope="col" { (texts::WHO) }
                th scope="col" { (texts::WHAT) }
            } }
            tbody { @for ChangeRecord { at, from, by, text } in changes { tr {
                td { (texts::time(*at)) } td {
                    (who(from, by))
                    @if let Principal::Token(token) = by { ", " (texts::TOKEN) " " code { (token) } }
                } td { (text.as_str()) }
            } } }
        }
    }
}
