//! Formats the outcome of a check as JSON, as described in docs/src/reference/json.md.

use serde::Serialize;

use super::report::{Plan, Report};
use crate::config::PeerPolicy;
use crate::json::document;
use wontun_proto::allowed_ips::Prefix;

/// The document of `wontun check`.
#[derive(Serialize)]
struct Document<'a> {
    file: String,
    errors: Vec<Error<'a>>,
    omitted_errors: usize,
    warnings: &'a [String],
    plan: Option<PlanDocument>,
}

#[derive(Serialize)]
struct Error<'a> {
    line: Option<usize>,
    message: &'a str,
}

#[derive(Serialize)]
struct PlanDocument {
    tunnel: String,
    addresses: Vec<String>,
    mtu: Option<u32>,
    listen_port: Option<u16>,
    fwmark: Option<u32>,
    routes: Option<Vec<Route>>,
    rules: Vec<Rule>,
    settings: Vec<&'static str>,
    nf_tables: Vec<String>,
    unresolved_endpoints: Vec<String>,
    dns: Vec<String>,
    nat_networks: Option<Vec<String>>,
    isolates_peers: bool,
    policy: String,
    kill_switch: &'static str,
    kill_switch_allow: Vec<String>,
}

#[derive(Serialize)]
struct Route {
    network: String,
    table: u32,
}

#[derive(Serialize)]
struct Rule {
    family: &'static str,
    rule: String,
}

/// Formats the outcome.
pub(super) fn format(report: &Report) -> String {
    let errors = report.errors.iter().map(|error| Error { line: error.line, message: &error.message });
    document(&Document {
        file: report.file.display().to_string(),
        errors: errors.collect(),
        omitted_errors: report.omitted,
        warnings: &report.warnings,
        plan: report.plan.as_ref().map(plan),
    })
}

fn plan(plan: &Plan) -> PlanDocument {
    fn strings<T: ToString>(items: &[T]) -> Vec<String> {
        items.iter().map(ToString::to_string).collect()
    }
    let interface = &plan.configuration.interface;
    let preview = plan.preview.as_ref();
    let routing = preview.and_then(|preview| preview.routing.as_ref());
    let route = |(table, network): &(u32, Prefix)| Route { network: network.to_string(), table: *table };
    PlanDocument {
        tunnel: plan.name.to_string(),
        addresses: strings(&interface.addresses),
        mtu: preview.map(|preview| preview.mtu),
        listen_port: interface.listen_port.map(Into::into),
        fwmark: routing.map_or(interface.fwmark, |routing| routing.mark).map(Into::into),
        routes: routing.map(|routing| routing.routes.iter().map(route).collect()),
        rules: routing
            .into_iter()
            .flat_map(|routing| &routing.rules)
            .map(|rule| Rule { family: rule.family, rule: rule.rule.clone() })
            .collect(),
        settings: routing
            .filter(|routing| routing.sets_src_valid_mark)
            .map(|_| "net.ipv4.conf.all.src_valid_mark=1")
            .into_iter()
            .collect(),
        nf_tables: preview.map(|preview| preview.tables.clone()).unwrap_or_default(),
        unresolved_endpoints: preview.map(|preview| preview.names.clone()).unwrap_or_default(),
        dns: interface.dns.clone(),
        nat_networks: preview.and_then(|preview| preview.nat.as_deref()).map(strings),
        isolates_peers: plan.options.policy.unwrap_or_default() != PeerPolicy::Open,
        policy: plan.options.policy.unwrap_or_default().to_string(),
        kill_switch: match &plan.kill_switch {
            None => "off",
            Some(options) if options.keep => "keep",
            Some(_) => "on",
        },
        kill_switch_allow: plan
            .kill_switch
            .as_ref()
            .map(|options| strings(&options.allowed))
            .unwrap_or_default(),
    }
}
