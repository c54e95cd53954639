//! The nf_tables rules of the table.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::netlink::forwarding::DroppedPackets;
use crate::netlink::nft::{
    AddressField, Chain, ChainType, CmpOp, Elements, Expression, Family, Hook, IPS_DST_NAT, MetaKey,
    PayloadBase, Priority, Set, Table, Verdict,
};
use crate::netlink::ranges;
use wontun_packet::transport::TCP;
use wontun_proto::allowed_ips::Prefix;

/// Prefix of a table's name; the tunnel's name follows.
pub(super) const PREFIX: &str = "wontun-nat-";
/// The sets of the VPN's networks, of IPv4 and IPv6.
const VPN_SETS: [&str; 2] = ["v4", "v6"];
/// The chain of packets between the tunnel and other devices.
pub(super) const FORWARD: &str = "forward";
/// The chain that drops packets that neither come from the tunnel nor go to it.
pub(super) const OTHERS: &str = "others";

/// Offset of the flags in the TCP header, and flags: RFC 9293, section 3.1.
const TCP_FLAGS: u32 = 13;
const SYN: u8 = 1 << 1;
const RST: u8 = 1 << 2;

/// Parameters of a table.
#[derive(Debug)]
pub(super) struct TableParams<'a> {
    pub(super) tunnel: &'a str,
    pub(super) device: &'a str,
    /// The VPN's own networks; not empty.
    pub(super) networks: &'a [Prefix],
    /// Networks of peers, packets to which another table decides about.
    pub(super) reachable: &'a [Prefix],
    /// Link-local networks that peers may reach.
    pub(super) allowed: &'a [Prefix],
    /// Packets to drop, of IPv4 and IPv6.
    pub(super) dropped: [&'a DroppedPackets; 2],
    /// The devices of other tunnels with NAT.
    pub(super) tunnels: &'a BTreeSet<String>,
}

pub(super) fn table_name(tunnel: &str) -> String {
    format!("{PREFIX}{tunnel}")
}

pub(super) fn has_family(table: &Table, v6: bool) -> bool {
    let family = if v6 { Family::Ip6 } else { Family::Ip };
    table.sets.iter().any(|set| set.family == family && VPN_SETS.contains(&&*set.name))
}

/// Builds the table for a device and the networks behind it.
pub(super) fn table(wanted: &TableParams<'_>) -> Table {
    let device = wanted.device;
    let of = |names: [&'static str; 2], networks: &[Prefix]| -> Vec<Set> {
        [(false, Family::Ip), (true, Family::Ip6)]
            .into_iter()
            .zip(names)
            .map(|((v6, family), name)| (name, family, ranges::merged(networks, v6)))
            .filter(|(_, _, ranges)| !ranges.is_empty())
            .map(|(name, family, ranges)| Set {
                name: name.into(),
                family,
                elements: Elements::Ranges(ranges),
            })
            .collect()
    };
    let mut sets = of(VPN_SETS, wanted.networks);
    let vpn = sets.len();
    let translate: Vec<_> =
        sets.iter().enumerate().map(|(number, set)| masquerade(device, number, set.family)).collect();
    sets.extend(of(["reachable4", "reachable6"], wanted.reachable));
    let forward = Chain {
        name: FORWARD,
        kind: ChainType::Filter,
        hook: Hook::Forward,
        priority: Priority::Filter,
        policy: Verdict::Accept,
        rules: forward(device, &sets, vpn, wanted.allowed),
    };
    let postrouting = Chain {
        name: "postrouting",
        kind: ChainType::Nat,
        hook: Hook::Postrouting,
        priority: Priority::SourceNat,
        policy: Verdict::Accept,
        rules: translate,
    };
    let mut chains = vec![forward, postrouting];
    let dropped = others(wanted);
    if !dropped.is_empty() {
        chains.push(Chain {
            name: OTHERS,
            kind: ChainType::Filter,
            hook: Hook::Forward,
            priority: Priority::Filter,
            policy: Verdict::Accept,
            rules: dropped,
        });
    }
    Table {
        family: Family::Inet,
        name: table_name(wanted.tunnel),
        sets,
        counters: vec![],
        chains,
        regular: vec![],
    }
}

/// Builds these rules:
///
/// ```text
/// iifname DEVICE oifname DEVICE accept
/// iifname DEVICE ip daddr ALLOWED accept
/// iifname DEVICE ip daddr 169.254.0.0/16 drop
/// iifname DEVICE ip6 daddr & ffc0:: == fe80:: drop
/// oifname DEVICE ct state & 6 != 0 accept
/// oifname DEVICE ct status & 32 != 0 accept
/// oifname DEVICE ip daddr @reachable4 accept
/// oifname DEVICE ip6 daddr @reachable6 accept
/// oifname DEVICE ip daddr @v4 drop
/// oifname DEVICE ip6 daddr @v6 drop
/// ```
///
/// with the rules for the MSS in front. The first `vpn` sets are those of the VPN's networks.
fn forward(device: &str, sets: &[Set], vpn: usize, allowed: &[Prefix]) -> Vec<Vec<Expression>> {
    let (from, to) = (MetaKey::IifName, MetaKey::OifName);
    let rule = |which: MetaKey, expressions: &[Expression], verdict| {
        [&Expression::device(which, CmpOp::Eq, device), expressions, &[Expression::Verdict(verdict)]].concat()
    };
    let mut rules = vec![clamp(device, from), clamp(device, to)];
    rules.push(rule(from, &Expression::device(to, CmpOp::Eq, device), Verdict::Accept));
    for network in allowed {
        rules.push(rule(from, &Expression::in_network(AddressField::Destination, *network), Verdict::Accept));
    }
    for network in link_local() {
        rules.push(rule(from, &Expression::in_network(AddressField::Destination, network), Verdict::Drop));
    }
    rules.push(rule(to, &Expression::is_known(), Verdict::Accept));
    let translated = Expression::any_bit(Expression::LoadCtStatus, IPS_DST_NAT);
    rules.push(rule(to, &translated, Verdict::Accept));
    for (number, set) in sets.iter().enumerate().skip(vpn) {
        let inside = Expression::in_set(AddressField::Destination, set.family == Family::Ip6, number);
        rules.push(rule(to, &inside, Verdict::Accept));
    }
    for (number, set) in sets.iter().enumerate().take(vpn) {
        let inside = Expression::in_set(AddressField::Destination, set.family == Family::Ip6, number);
        rules.push(rule(to, &inside, Verdict::Drop));
    }
    rules
}

fn link_local() -> impl Iterator<Item = Prefix> {
    let v4 = Prefix::new(IpAddr::V4(Ipv4Addr::new(169, 254, 0, 0)), 16);
    let v6 = Prefix::new(IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0)), 10);
    [v4, v6].into_iter().flatten()
}

/// Builds these rules:
///
/// ```text
/// iifname DEVICE accept
/// oifname DEVICE accept
/// oifname OTHER-TUNNEL accept
/// ct state & 6 != 0 accept
/// meta nfproto ipv4 iifname HELD drop
/// meta nfproto ipv6 drop
/// ```
///
/// The list is empty if no packets are to be dropped.
fn others(wanted: &TableParams<'_>) -> Vec<Vec<Expression>> {
    let mut drops = Vec::new();
    for (v6, dropped) in [false, true].into_iter().zip(wanted.dropped) {
        let drop = Expression::Verdict(Verdict::Drop);
        for device in &dropped.devices {
            let from = Expression::device(MetaKey::IifName, CmpOp::Eq, device);
            drops.push([&Expression::family(v6)[..], &from, std::slice::from_ref(&drop)].concat());
        }
        if dropped.all {
            drops.push([&Expression::family(v6)[..], &[drop]].concat());
        }
    }
    if drops.is_empty() {
        return drops;
    }
    let accept = |expressions: &[Expression]| [expressions, &[Expression::Verdict(Verdict::Accept)]].concat();
    let tunnels = wanted.tunnels.iter().map(String::as_str);
    let to = [wanted.device].into_iter().chain(tunnels);
    let mut rules = vec![accept(&Expression::device(MetaKey::IifName, CmpOp::Eq, wanted.device))];
    rules.extend(to.map(|name| accept(&Expression::device(MetaKey::OifName, CmpOp::Eq, name))));
    rules.push(accept(&Expression::is_known()));
    rules.extend(drops);
    rules
}

/// Builds `ip saddr @v4 oifname != DEVICE masquerade`.
fn masquerade(device: &str, set: usize, family: Family) -> Vec<Expression> {
    let mut rule = Expression::in_set(AddressField::Source, family == Family::Ip6, set);
    rule.extend(Expression::device(MetaKey::OifName, CmpOp::Neq, device));
    rule.push(Expression::Masquerade);
    rule
}

/// Builds `iifname DEVICE tcp flags syn / syn,rst tcp option maxseg size set rt mtu`, or the same
/// with `oifname`.
fn clamp(device: &str, which: MetaKey) -> Vec<Expression> {
    let mut rule = Expression::device(which, CmpOp::Eq, device).to_vec();
    rule.extend([
        Expression::LoadMeta(MetaKey::L4Proto),
        Expression::equal(&[TCP]),
        Expression::LoadPayload { base: PayloadBase::Transport, offset: TCP_FLAGS, length: 1 },
        Expression::Mask(vec![SYN | RST]),
        Expression::equal(&[SYN]),
        Expression::LoadTcpMss,
        Expression::ToNetworkOrder,
        Expression::StoreTcpMss,
    ]);
    rule
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::nft::tests::{captured, hex};

    /// The bytes that nft(8) sends for the rules in the comments above. The sets are compared in
    /// `nft`.
    const CAPTURED: &str = include_str!("nat_as_nft_sends_it.hex");
    const NEWCHAIN: u16 = 0xa03;
    const NEWRULE: u16 = 0xa06;

    fn prefix(text: &str) -> Prefix {
        let (address, length) = text.split_once('/').unwrap();
        Prefix::new(address.parse().unwrap(), length.parse().unwrap()).unwrap()
    }

    fn wanted<'a>(
        networks: &'a [Prefix],
        dropped: [&'a DroppedPackets; 2],
        tunnels: &'a BTreeSet<String>,
    ) -> TableParams<'a> {
        TableParams {
            tunnel: "tun0",
            device: "tun0",
            networks,
            reachable: &[],
            allowed: &[],
            dropped,
            tunnels,
        }
    }

    #[test]
    fn the_bytes_are_nfts() {
        let networks = ["10.8.0.0/24", "10.9.0.0/16", "255.0.0.0/8", "fd08::/64"].map(prefix);
        let allowed = ["169.254.169.254/32", "fe80::a00/120"].map(prefix);
        let [v4, v6] = [
            DroppedPackets { devices: names(&["eth0"]), all: false },
            DroppedPackets { all: true, ..DroppedPackets::default() },
        ];
        let tunnels = names(&["tun1"]);
        let sent = hex(&table(&TableParams { allowed: &allowed, ..wanted(&networks, [&v4, &v6], &tunnels) }));
        let chains_and_rules: Vec<_> =
            sent.into_iter().filter(|(kind, _)| matches!(*kind, NEWCHAIN | NEWRULE)).collect();
        assert_eq!(chains_and_rules, captured(CAPTURED));
    }

    #[test]
    fn a_family_without_networks_is_left_alone() {
        let (none, tunnels) = (DroppedPackets::default(), BTreeSet::new());
        let only_v6 = table(&wanted(&[prefix("fd08::/64")], [&none; 2], &tunnels));
        assert!(has_family(&only_v6, true) && !has_family(&only_v6, false));
        assert_eq!(only_v6.chains[1].rules.len(), 1);
        assert!(only_v6.chains[1].rules[0].contains(&Expression::Lookup(0)));
        assert_eq!(only_v6.chains.len(), 2, "nothing is dropped");
    }

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(ToString::to_string).collect()
    }
}
