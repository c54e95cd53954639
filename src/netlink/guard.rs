//! A table that drops packets with the VPN's addresses that come in by another device than the
//! tunnel, and, with client isolation, packets between a server's peers.
//!
//! The table is `wontun-guard-NAME`, with the name that the tunnel was started with, of the family
//! inet:
//!
//! - `prerouting` drops packets that come in by another device than the tunnel if their source is
//!   in the networks of the tunnel's own addresses, or their destination is one of these addresses.
//!   The kernel does neither: its reverse path filter is loose or off on most hosts, and a host
//!   answers for each of its addresses on all devices. Allowed IPs are not considered, since those
//!   of a full tunnel are all addresses. Packets that come in by loopback are this host's own, and
//!   packets that come in by another tunnel of wontun have passed that tunnel's allowed IPs;
//! - `forward`, if peers are isolated, drops packets from the tunnel to the tunnel.
//!
//! A network in which another device has an address cannot be guarded, nor an address that another
//! device has. Link-local addresses are excluded, since each link has its own.

use std::net::IpAddr;

use super::error::LinkError;
use super::interfaces::{Interface, TUNNEL_GROUP, interfaces};
use super::nft::{
    AddressField, Chain, ChainType, CmpOp, Elements, Ensured, Expression, Family, Hook, MetaKey, Nft,
    Priority, Set, Table, Verdict,
};
use super::ranges;
use super::request_error::RequestError;
use super::socket::NetlinkSocket;
use crate::config::Cidr;
use wontun_proto::allowed_ips::Prefix;

const LOOPBACK: &str = "lo";
const REMEDY: &str =
    "check that the kernel has nf_tables (CONFIG_NF_TABLES, CONFIG_NF_TABLES_INET; modprobe nf_tables)";

/// Guard of one tunnel device. Dropping it removes the table.
#[derive(Debug)]
pub(crate) struct Guard {
    /// The tunnel's name, which the table's name contains.
    tunnel: String,
    /// The current name of the tunnel's device.
    device: String,
    isolates: bool,
    /// The nf_tables socket; opened on first use.
    nft: Option<Nft>,
    netlink: Option<NetlinkSocket>,
    /// The table that was installed; it is in place unless another program has removed it.
    table: Option<Table>,
    reported: Vec<GuardWarning>,
}

/// A gap in the guard. Displays as one line with the reason.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum GuardWarning {
    /// Another device has an address in the tunnel's network.
    #[error(
        "the network {network} of {device} is also a network of {other}: packets received by {other} with such \
         a source address cannot be distinguished from the VPN's; give the tunnel a separate network"
    )]
    Network {
        /// The tunnel device's name.
        device: String,
        /// The tunnel's network.
        network: Prefix,
        /// The other device's name.
        other: String,
    },
    /// Another device has the tunnel's address.
    #[error(
        "{other} also has the address {address} of {device}, which is therefore reachable from outside the tunnel"
    )]
    Address {
        /// The tunnel device's name.
        device: String,
        /// The address.
        address: IpAddr,
        /// The other device's name.
        other: String,
    },
    /// The table could not be installed; the reason.
    #[error(
        "{0}: until then, hosts on this host's other networks can spoof the VPN's addresses, and reach the \
         tunnel's own address"
    )]
    Nftables(String),
}

impl Guard {
    /// Returns the name of the table of the tunnel called `name`.
    pub(crate) fn table_of(name: &str) -> String {
        table_name(name)
    }

    /// Creates a guard for the device called `name` in this thread's network namespace. The device
    /// need not exist yet. Changes nothing in the kernel.
    pub(crate) fn new(name: &str, isolates: bool) -> Self {
        Self {
            tunnel: name.to_owned(),
            device: name.to_owned(),
            isolates,
            nft: None,
            netlink: None,
            table: None,
            reported: Vec::new(),
        }
    }

    /// Sets the new name of the tunnel's device, which the next [`Self::apply`] puts into the
    /// table.
    pub(crate) fn set_device(&mut self, device: &str) {
        device.clone_into(&mut self.device);
    }

    /// Installs the table for a tunnel with these addresses, replacing an existing one. Returns the
    /// warnings that the last call did not return.
    ///
    /// # Errors
    /// The kernel has no nf_tables, or the privilege is missing. [`Self::new_warnings`] reports it
    /// once.
    pub(crate) fn apply(&mut self, addresses: &[Cidr]) -> Result<Vec<GuardWarning>, LinkError> {
        let mut warnings = Vec::new();
        let wanted = self.wanted(addresses, &mut warnings);
        self.install(&wanted).map_err(|failure| {
            LinkError::new(format!("install the nftables table {}", wanted.name), failure, REMEDY)
        })?;
        Ok(self.new_warnings(warnings))
    }

    /// Removes another table of the tunnel, which a killed run left behind.
    pub(crate) fn remove_leftover(&mut self, name: &str) {
        if let Ok(nft) = self.nft() {
            let _ = nft.delete(Family::Inet, name);
        }
    }

    /// Stores `warnings` and returns those that were not in the last list.
    pub(crate) fn new_warnings(&mut self, warnings: Vec<GuardWarning>) -> Vec<GuardWarning> {
        let new = warnings.iter().filter(|warning| !self.reported.contains(warning)).cloned().collect();
        self.reported = warnings;
        new
    }

    /// Sets whether the guard isolates peers from each other, from the next [`Self::apply`] on.
    pub(crate) const fn set_isolates(&mut self, isolates: bool) {
        self.isolates = isolates;
    }

    /// Returns the current warnings.
    pub(crate) fn warnings(&self) -> &[GuardWarning] {
        &self.reported
    }

    /// Returns the name of the tunnel device.
    pub(crate) fn device(&self) -> &str {
        &self.device
    }

    /// Returns true if the guard isolates peers from each other.
    pub(crate) const fn isolates(&self) -> bool {
        self.isolates
    }

    /// Builds the table for these addresses, without those that conflict with the host's other
    /// devices.
    fn wanted(&mut self, addresses: &[Cidr], warnings: &mut Vec<GuardWarning>) -> Table {
        let interfaces = self.interfaces();
        let others = interfaces.iter().filter(|interface| interface.name != self.device);
        let others: Vec<&Interface> = others.filter(|interface| !interface.is_tunnel).collect();
        let (mut networks, mut own) = (Vec::new(), Vec::new());
        for cidr in addresses.iter().filter(|cidr| !is_link_local(cidr.address())) {
            let address = cidr.address();
            match others.iter().find(|other| other.addresses.iter().any(|a| a.address == address)) {
                None => own.extend(Prefix::new(address, if address.is_ipv4() { 32 } else { 128 })),
                Some(other) => warnings.push(GuardWarning::Address {
                    device: self.device.clone(),
                    address,
                    other: other.name.clone(),
                }),
            }
            // a prefix length of 0 covers all addresses, not only the VPN's
            let Some(network) = Prefix::new(address, cidr.prefix()).filter(|network| network.length() > 0)
            else {
                continue;
            };
            let mut lan = others.iter().filter(|other| !other.is_loopback);
            match lan.find(|other| other.addresses.iter().any(|a| network.overlaps(a.network))) {
                None => networks.push(network),
                Some(other) => warnings.push(GuardWarning::Network {
                    device: self.device.clone(),
                    network,
                    other: other.name.clone(),
                }),
            }
        }
        table(&self.tunnel, &self.device, &networks, &own, self.isolates)
    }

    /// Returns the host's devices; empty if they cannot be read.
    fn interfaces(&mut self) -> Vec<Interface> {
        if self.netlink.is_none() {
            self.netlink = NetlinkSocket::open().ok();
        }
        self.netlink.as_mut().and_then(|netlink| interfaces(netlink).ok()).unwrap_or_default()
    }

    fn install(&mut self, wanted: &Table) -> Result<(), RequestError> {
        let mut current = self.table.take();
        let outcome = self.nft().and_then(|nft| nft.update(&mut current, wanted));
        self.table = current;
        outcome.map(drop)
    }

    /// Restores the table if another program has deleted or changed it, and returns its name
    /// then. A failure is reported by the next [`Guard::apply`].
    pub(crate) fn repair(&mut self) -> Option<String> {
        let wanted = self.table.clone()?;
        let found = self.nft().and_then(|nft| nft.ensure(&wanted)).ok()?;
        (found == Ensured::Repaired).then(|| format!("inet {}", wanted.name))
    }

    /// Returns true if the table is in place unchanged, or is not wanted.
    pub(crate) fn is_intact(&mut self) -> bool {
        let Some(wanted) = self.table.clone() else { return true };
        self.nft().is_ok_and(|nft| nft.is_intact(&wanted).unwrap_or(true))
    }

    fn nft(&mut self) -> Result<&mut Nft, RequestError> {
        match &mut self.nft {
            Some(nft) => Ok(nft),
            none => Ok(none.insert(Nft::open().map_err(RequestError::opening)?)),
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if self.table.take().is_some() {
            let name = table_name(&self.tunnel);
            if let Ok(nft) = self.nft() {
                let _ = nft.delete(Family::Inet, &name);
            }
        }
    }
}

fn table_name(tunnel: &str) -> String {
    format!("wontun-guard-{tunnel}")
}

/// Returns true for IPv6 link-local addresses, which are valid on one link only.
const fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

/// Builds this table:
///
/// ```text
/// chain prerouting { type filter hook prerouting priority raw; policy accept;
///     iifname { DEVICE, "lo" } accept
///     iifgroup 51820 accept
///     ip saddr @v4 drop
///     ip6 saddr @v6 drop
///     ip daddr @own4 drop
///     ip6 daddr @own6 drop
/// }
/// chain forward { type filter hook forward priority filter; policy accept;
///     iifname DEVICE oifname DEVICE drop
/// }
/// ```
///
/// without the rules for sets that would be empty, and with the first rule split into two.
fn table(tunnel: &str, device: &str, networks: &[Prefix], own: &[Prefix], isolates: bool) -> Table {
    let (input, output) = (MetaKey::IifName, MetaKey::OifName);
    let group = [Expression::LoadMeta(MetaKey::IifGroup), Expression::equal(&TUNNEL_GROUP.to_ne_bytes())];
    let by = |name: &str| Expression::device(input, CmpOp::Eq, name).to_vec();
    let mut rules = vec![by(device), by(LOOPBACK), group.to_vec()];
    rules.iter_mut().for_each(|rule| rule.push(Expression::Verdict(Verdict::Accept)));
    let mut sets: Vec<Set> = Vec::new();
    for (name, prefixes, v6, field) in [
        ("v4", networks, false, AddressField::Source),
        ("v6", networks, true, AddressField::Source),
        ("own4", own, false, AddressField::Destination),
        ("own6", own, true, AddressField::Destination),
    ] {
        let ranges = ranges::merged(prefixes, v6);
        if ranges.is_empty() {
            continue;
        }
        let mut rule = Expression::in_set(field, v6, sets.len());
        rule.push(Expression::Verdict(Verdict::Drop));
        rules.push(rule);
        sets.push(Set {
            name: name.into(),
            family: if v6 { Family::Ip6 } else { Family::Ip },
            elements: Elements::Ranges(ranges),
        });
    }
    let chain = |name, hook, priority, rules| Chain {
        name,
        kind: ChainType::Filter,
        hook,
        priority,
        policy: Verdict::Accept,
        rules,
    };
    let mut chains = vec![chain("prerouting", Hook::Prerouting, Priority::Raw, rules)];
    if isolates {
        let back = Expression::device(output, CmpOp::Eq, device);
        let rule = [&by(device)[..], &back, &[Expression::Verdict(Verdict::Drop)]].concat();
        chains.push(chain("forward", Hook::Forward, Priority::Filter, vec![rule]));
    }
    Table { family: Family::Inet, name: table_name(tunnel), sets, counters: vec![], chains, regular: vec![] }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::nft::tests::{captured, hex};

    /// The bytes that nft(8) sends for the rules in the comment of `table`. The sets are compared
    /// in `nft`.
    const CAPTURED: &str = include_str!("guard_as_nft_sends_it.hex");
    const NEWCHAIN: u16 = 0xa03;
    const NEWRULE: u16 = 0xa06;

    fn prefix(text: &str) -> Prefix {
        let (address, length) = text.split_once('/').unwrap();
        Prefix::new(address.parse().unwrap(), length.parse().unwrap()).unwrap()
    }

    #[test]
    fn the_bytes_are_nfts() {
        let networks = ["10.8.0.0/24", "fd08::/64"].map(prefix);
        let own = ["10.8.0.1/32", "fd08::1/128"].map(prefix);
        let sent = hex(&table("tun0", "tun0", &networks, &own, true));
        let chains_and_rules: Vec<_> =
            sent.into_iter().filter(|(kind, _)| matches!(*kind, NEWCHAIN | NEWRULE)).collect();
        assert_eq!(chains_and_rules, captured(CAPTURED));
    }

    #[test]
    fn a_family_without_addresses_has_no_rules() {
        let v4 = table("tun0", "tun0", &[prefix("10.8.0.0/24")], &[prefix("10.8.0.1/32")], false);
        assert_eq!((v4.chains.len(), v4.chains[0].rules.len(), v4.sets.len()), (1, 5, 2));
        assert_eq!(table("tun0", "tun0", &[], &[], false).chains[0].rules.len(), 3);
    }

    #[test]
    fn a_warning_is_one_line() {
        let network = GuardWarning::Network {
            device: "tun0".to_owned(),
            network: prefix("10.8.0.0/24"),
            other: "eth0".to_owned(),
        };
        let line = network.to_string();
        assert!(
            line.contains("10.8.0.0/24 of tun0 is also a network of eth0") && !line.contains("  "),
            "{line}"
        );
    }
}
