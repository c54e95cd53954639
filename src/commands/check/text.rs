//! Formats the outcome of a check as text.

use std::fmt::{Display, Write as _};

use super::report::{Plan, Report};
use crate::config::PeerPolicy;
use crate::config::peer_settings::Exclusion;
use crate::config::wg_quick::{Peer, Table};
use crate::net::timer::unix_now;
use crate::supervisor::TunnelPreview;

/// Maximum number of items of one kind, such as routes, that are listed.
const MAX_LISTED: usize = 20;
/// Width of the labels.
const LABEL: usize = 12;
/// Number of the main routing table.
const MAIN: u32 = 254;

/// Formats the outcome: errors and warnings with a line each, then what would be set up.
pub(super) fn format(report: &Report) -> String {
    let mut text = String::new();
    for error in &report.errors {
        // writing to memory does not fail
        let _ = writeln!(text, "error: {}", error.message);
    }
    if report.omitted > 0 {
        let _ = writeln!(text, "error: {} more", report.omitted);
    }
    for warning in &report.warnings {
        let _ = writeln!(text, "warning: {warning}");
    }
    let Some(plan) = &report.plan else { return text };
    let _ = writeln!(text, "{}: no error", report.file.display());
    let _ = writeln!(text, "The tunnel {} would be set up so:", plan.name);
    plan_rows(&mut text, plan);
    text + "Nothing was changed.\n"
}

/// Returns a number of errors, such as `2 errors`.
pub(super) fn errors(count: usize) -> String {
    format!("{count} error{}", if count == 1 { "" } else { "s" })
}

fn plan_rows(text: &mut String, plan: &Plan) {
    let interface = &plan.configuration.interface;
    rows(text, "addresses", interface.addresses.iter());
    if let Some(preview) = &plan.preview {
        rows(text, "MTU", [preview.mtu].iter());
    }
    let port = interface.listen_port.map_or_else(|| "any".to_owned(), |port| port.to_string());
    rows(text, "UDP port", [port].iter());
    rows(text, "peers", plan.configuration.peers.iter().map(peer));
    if let Some(preview) = &plan.preview {
        preview_rows(text, plan, preview);
    }
    let dns = if interface.dns.is_empty() { "unchanged".to_owned() } else { interface.dns.join(", ") };
    rows(text, "DNS", [dns].iter());
    let forwarding = match plan.preview.as_ref().and_then(|preview| preview.nat.as_ref()) {
        None => vec!["off".to_owned()],
        Some(networks) => networks.iter().map(|network| format!("on, with NAT for {network}")).collect(),
    };
    rows(text, "forwarding", forwarding.iter());
    let policy = match plan.options.policy.unwrap_or_default() {
        PeerPolicy::Open => "open",
        PeerPolicy::Isolate => "peers cannot reach each other",
        PeerPolicy::InternetOnly => "peers reach the Internet only",
    };
    rows(text, "policy", [policy].iter());
    let kill_switch = match &plan.kill_switch {
        None => "off".to_owned(),
        Some(options) => {
            let mode = if options.keep { "keep" } else { "on" };
            let allowed: Vec<_> = options.allowed.iter().map(ToString::to_string).collect();
            if allowed.is_empty() {
                mode.to_owned()
            } else {
                format!("{mode}, except {}", allowed.join(", "))
            }
        }
    };
    rows(text, "kill switch", [kill_switch].iter());
}

fn preview_rows(text: &mut String, plan: &Plan, preview: &TunnelPreview) {
    match &preview.routing {
        None => rows(text, "routes", ["none (Table = off)"].iter()),
        Some(routing) => {
            let table = |table: u32| if table == MAIN { "main".to_owned() } else { table.to_string() };
            rows(
                text,
                "routes",
                routing.routes.iter().map(|(number, network)| format!("{network} table {}", table(*number))),
            );
            rows(text, "rules", routing.rules.iter().map(|rule| format!("{} {}", rule.family, rule.rule)));
            rows(
                text,
                "not routed",
                routing.without_ipv6.iter().map(|network| format!("{network}: the kernel has no IPv6")),
            );
            if let Some(mark) = routing.mark {
                rows(text, "mark", [format!("{mark:#x}, of the outer packets")].iter());
            }
            if routing.sets_src_valid_mark {
                rows(text, "settings", ["net.ipv4.conf.all.src_valid_mark = 1"].iter());
            }
        }
    }
    if plan.configuration.interface.table == Table::Auto {
        let unknown = preview
            .names
            .iter()
            .map(|name| format!("{name}: a name, whose address may add rules once it is known"));
        rows(text, "endpoints", unknown);
    }
    rows(text, "nf_tables", preview.tables.iter());
}

fn peer(peer: &Peer) -> String {
    let name = peer.name.as_ref().map_or_else(|| peer.public_key.to_string(), ToString::to_string);
    match (peer.settings().exclusion(unix_now()), &peer.endpoint) {
        (Some(Exclusion::Disabled), _) => format!("{name}, disabled"),
        (Some(Exclusion::Expired), _) => format!("{name}, expired"),
        (Some(Exclusion::Unanswered), _) => format!("{name}, invited"),
        (None, _) if peer.settings().invitation.is_some() => format!("{name}, invited"),
        (None, Some(endpoint)) => format!("{name} at {endpoint}"),
        (None, None) => format!("{name}, which connects by itself"),
    }
}

/// Adds a line for each item, the first of which has the label.
fn rows<T: Display>(text: &mut String, label: &str, items: impl ExactSizeIterator<Item = T>) {
    let count = items.len();
    let mut label = label;
    for item in items.take(MAX_LISTED) {
        let _ = writeln!(text, "  {label:LABEL$} {item}");
        label = "";
    }
    if let Some(more) = count.checked_sub(MAX_LISTED).filter(|more| *more > 0) {
        let _ = writeln!(text, "  {:LABEL$} and {more} more", "");
    }
}
