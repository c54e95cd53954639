//! The state that a tunnel with a file would set up on this host, determined without changing
//! anything and without a privilege: by the code that the start uses.

use std::net::IpAddr;

use nix::net::if_::if_nametoindex;

use super::file;
use super::tables::nat_networks;
use crate::config::access::AccessRules;
use crate::config::wg_quick::{Table, WgQuick};
use crate::config::{FileOptions, KillSwitchOptions, NatMode, PeerAddress, TunName};
use crate::net::timer::unix_now;
use crate::netlink::{
    AccessTable, DesiredRouting, Guard, KillSwitch, Link, LinkError, Nat, RoutingPreview, find_overlaps,
    preview_routing,
};
use wontun_proto::allowed_ips::Prefix;

/// Name of the loopback device, which each network namespace has.
const LOOPBACK: &str = "lo";

/// The state that would be set up.
#[derive(Debug)]
pub(crate) struct TunnelPreview {
    /// MTU of the device in bytes.
    pub(crate) mtu: u32,
    /// The routing; `None` if the file disables it.
    pub(crate) routing: Option<RoutingPreview>,
    /// The names of endpoints, whose addresses may change the routing once they are looked up.
    pub(crate) names: Vec<String>,
    /// The networks for which forwarding and NAT are set up; `None` if they are off.
    pub(crate) nat: Option<Vec<Prefix>>,
    /// The nf_tables tables, with their families.
    pub(crate) tables: Vec<String>,
    /// Warnings, one line each.
    pub(crate) warnings: Vec<String>,
}

/// Returns what a tunnel called `name` would set up, with the peers that have access. Names are not
/// looked up.
///
/// # Errors
/// The kernel's state cannot be read.
pub(crate) fn preview(
    name: &TunName,
    configuration: &WgQuick,
    options: &FileOptions,
    kill_switch: Option<&KillSwitchOptions>,
) -> Result<TunnelPreview, LinkError> {
    let (now, mut configuration) = (unix_now(), configuration.clone());
    configuration.peers.retain(|peer| peer.settings().exclusion(now).is_none());
    let configuration = &configuration;
    let interface = &configuration.interface;
    let (mut endpoints, mut names) = (Vec::new(), Vec::new());
    for endpoint in configuration.peers.iter().filter_map(|peer| peer.endpoint.as_ref()) {
        match endpoint {
            PeerAddress::Socket(address) => endpoints.push(address.ip()),
            PeerAddress::Name { .. } => names.push(endpoint.to_string()),
        }
    }
    let allowed_ips: Vec<Prefix> = allowed_ips(configuration);
    let routing = match interface.table {
        Table::Off => None,
        table => Some(preview_routing(
            name.as_str(),
            if_nametoindex(name.as_str()).ok(),
            &DesiredRouting {
                table,
                fwmark: interface.fwmark,
                allowed_ips: allowed_ips.clone(),
                endpoints: endpoints.iter().map(IpAddr::to_canonical).collect(),
                addresses: interface.addresses.clone(),
                bypasses_dns: false,
            },
        )?),
    };
    let mark = routing.as_ref().map_or(interface.fwmark, |routing| routing.mark);
    // the tunnel's own device may not exist yet
    let mtu = file::mtu(&mut Link::open(LOOPBACK)?, configuration, mark);
    let is_full_tunnel = configuration.is_full_tunnel();
    let nat = (options.nat == NatMode::Auto && !is_full_tunnel)
        .then(|| nat_networks(&interface.addresses, allowed_ips.iter().copied()));
    let mut tables = vec![format!("inet {}", Guard::table_of(name.as_str()))];
    let rules = AccessRules::of_file(configuration, options.policy.unwrap_or_default(), &[]);
    if !rules.needs_no_table() {
        tables.push(format!("inet {}", AccessTable::table_of(name.as_str())));
    }
    tables.extend(nat.as_ref().map(|_| format!("inet {}", Nat::table_of(name.as_str()))));
    tables.extend(kill_switch.map(|_| format!("inet {}", KillSwitch::table_of(name.as_str()))));
    tables.extend(routing.iter().flat_map(|routing| routing.tables.iter().cloned()));
    let mut warnings: Vec<String> = rules.unknown_peers().iter().map(ToString::to_string).collect();
    if interface.table != Table::Off {
        let overlaps = find_overlaps(name.as_str(), &interface.addresses, allowed_ips.iter().copied());
        warnings.extend(overlaps.iter().map(ToString::to_string));
    }
    let leak = configuration.leak_warning().filter(|_| kill_switch.is_none());
    warnings.extend(leak.map(str::to_owned));
    Ok(TunnelPreview { mtu, routing, names, nat, tables, warnings })
}

/// Returns the networks behind the tunnel, each once: one of several peers belongs to the last.
fn allowed_ips(configuration: &WgQuick) -> Vec<Prefix> {
    let all = configuration.peers.iter().flat_map(|peer| &peer.allowed_ips);
    all.copied().collect::<std::collections::BTreeSet<_>>().into_iter().collect()
}
