//! A table that drops all packets that leave this host except through the tunnel.
//!
//! The table is `wontun-lock-NAME`, where NAME is the tunnel's name, which its device has at the
//! start. The table keeps that name if the device is renamed, so that the next start of the tunnel
//! finds it; its rules contain the current name of the device.
//!
//! The table is of the family inet, with one chain at the postrouting hook: the last hook that a
//! packet of this host, or a forwarded one, passes, when its output device is known. The chain's
//! priority is behind all others. Packets that no rule accepts are dropped. Accepted are:
//!
//! - packets that leave by the loopback device or by the tunnel, whether that exists or not; but
//!   not to Docker's name server in a container, 127.0.0.11 ([`EMBEDDED_DNS`]): it is a process of
//!   the host that answers on the container's loopback device and queries name servers from the
//!   host, outside of any tunnel of the container. Only the tunnel's own marked queries are
//!   accepted;
//! - packets to the networks that the user allows;
//! - the tunnel's datagrams: UDP from the tunnel's port with the tunnel's mark. A mark alone is not
//!   sufficient, because every process with CAP_NET_RAW may set one (Linux 5.17);
//! - DNS queries, if the tunnel has endpoints that are names: port 53 and the tunnel's mark;
//! - answers that came out of the tunnel, to hosts that this one is the router of (since Linux
//!   5.7);
//! - the packets that a host needs to configure its network, on the link only: DHCP, and IPv6's
//!   router and neighbour discovery with the hop limit 255, which no router forwards unchanged (RFC
//!   4861, section 3.1).
//!
//! Until the tunnel has a port and a mark the table has no rules for them: [`KillSwitch::engage`]
//! needs only the device's name, so that it can come before everything that may fail;
//! [`KillSwitch::allow`] adds these rules.
//!
//! On the link are `ff02::/16`, 255.255.255.255, and every unicast address that is its own next
//! hop. nf_tables cannot compare two registers, so the rule uses a set: it removes the destination
//! from the set, adds the next hop, and looks up the destination. For a packet to a destination
//! behind a router, only the router is in the set.
//!
//! The policy `drop` is not sufficient. When one transaction replaces a chain, the kernel unhooks
//! the old chain before it gives the new one its policy, while the rules of the new one apply from
//! the first moment. Therefore the last rule drops, too.
//!
//! The table belongs to no process: it stays when the process ends, and is removed by
//! [`KillSwitch::remove`] or by `wontun kill-switch off`.

use std::num::NonZeroU32;

use nix::errno::Errno;

use super::error::LinkError;
use super::nft::{
    AddressField, Chain, ChainType, CmpOp, ESTABLISHED_OR_RELATED, Elements, Ensured, Expression, Family,
    Hook, MetaKey, Nft, PayloadBase, Priority, Set, Table, Verdict,
};
use super::ranges;
use super::request_error::RequestError;
use super::tun::{ExistingLink, existing_link};
use wontun_packet::transport::{TCP, UDP};
use wontun_proto::allowed_ips::Prefix;

const PREFIX: &str = "wontun-lock-";
const CHAIN: &str = "leaving";
const REMEDY: &str = "check that the kernel has nf_tables (CONFIG_NF_TABLES, CONFIG_NF_TABLES_INET; modprobe \
 nf_tables \
                      nft_ct)";
/// `IPPROTO_ICMPV6`.
const ICMPV6: u8 = 58;
const DNS_PORT: u16 = 53;
/// Offsets of the ports in the headers of TCP and UDP: RFC 9293, section 3.1; RFC 768.
const SOURCE_PORT: u32 = 0;
const DESTINATION_PORT: u32 = 2;
/// Source and destination port in header order: RFC 2131, section 4.1; RFC 8415, section 7.2.
const DHCP: [u8; 4] = [0, 68, 0, 67];
const DHCPV6: [u8; 4] = [2, 34, 2, 35];
/// ICMPv6 types, router solicitation to neighbour advertisement: RFC 4861, section 4.
const DISCOVERY: [u8; 2] = [133, 136];
/// Offset of the hop limit in the IPv6 header: RFC 8200, section 3.
const IPV6_HOP_LIMIT: u32 = 7;
/// The hop limit of neighbour discovery: RFC 4861, section 3.1.
const MAX_HOPS: u8 = 255;
const BROADCAST: [u8; 4] = [255; 4];
/// The first bytes of link-local multicast addresses (ff02::/16).
const LINK_MULTICAST: [u8; 2] = [0xff, 0x02];
/// The address of Docker's name server in a container.
const EMBEDDED_DNS: [u8; 4] = [127, 0, 0, 11];
/// Indexes of the sets of next hops in the table: IPv4, IPv6.
const NEXT_HOPS: [usize; 2] = [0, 1];

/// The tunnel's own packets that a kill switch lets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AllowedTraffic {
    /// The mark of the tunnel's sockets.
    pub mark: NonZeroU32,
    /// Their UDP port.
    pub port: u16,
    /// True if marked DNS queries are let through, too.
    pub dns: bool,
}

/// A kill switch in place, installed by any process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FoundKillSwitch {
    /// The name that the tunnel was started with.
    pub tunnel: String,
    /// The current name of its device.
    pub device: String,
}

/// Kill switch of one tunnel device. Dropping it leaves the table in place.
#[derive(Debug)]
pub(crate) struct KillSwitch {
    nft: Nft,
    /// The tunnel's name, which the table's name contains.
    tunnel: String,
    /// The current name of the tunnel's device.
    device: String,
    allowed: Vec<Prefix>,
    traffic: Option<AllowedTraffic>,
    /// True if the table in place was installed by another run and has not been replaced yet.
    is_foreign: bool,
    /// True if [`KillSwitch::set_engaged`] has turned it off: the table is removed and not
    /// installed again.
    is_off: bool,
}

impl KillSwitch {
    /// The mark of the tunnel's sockets if none is configured; wg-quick's value.
    pub(crate) const MARK: NonZeroU32 = NonZeroU32::new(51_820).unwrap();

    /// Drops all packets that leave this host from now on, except through the device called `name`,
    /// which need not exist yet, and to `allowed`. Replaces the table of an earlier run atomically.
    ///
    /// If a table and a device of that name exist, the tunnel may be running already: its table
    /// stays unchanged until [`Self::allow`], so that a second run, which will fail, does not
    /// interrupt the first one.
    ///
    /// # Errors
    /// The kernel has no nf_tables, or the privilege is missing.
    pub(crate) fn engage(name: &str, allowed: &[Prefix]) -> Result<Self, LinkError> {
        let mut nft = open(|| install_action(name))?;
        let found = nft.has(Family::Inet, &table_name(name));
        let found = found.map_err(|failure| LinkError::new(install_action(name), failure, REMEDY))?;
        let is_foreign = found && existing_link(name)? != ExistingLink::Absent;
        let (tunnel, device, allowed) = (name.to_owned(), name.to_owned(), allowed.to_vec());
        let mut switch = Self { nft, tunnel, device, allowed, traffic: None, is_foreign, is_off: false };
        if !is_foreign {
            switch.install()?;
        }
        Ok(switch)
    }

    /// Lets `traffic` through instead of the packets let through before.
    ///
    /// # Errors
    /// As for [`KillSwitch::engage`]; the packets let through before still are.
    pub(crate) fn allow(&mut self, traffic: AllowedTraffic) -> Result<(), LinkError> {
        self.change(Some(traffic))
    }

    /// Stops letting the tunnel's own packets through.
    ///
    /// # Errors
    /// As for [`Self::allow`].
    pub(crate) fn block_tunnel(&mut self) -> Result<(), LinkError> {
        if self.is_foreign { Ok(()) } else { self.change(None) }
    }

    fn change(&mut self, traffic: Option<AllowedTraffic>) -> Result<(), LinkError> {
        let before = std::mem::replace(&mut self.traffic, traffic);
        if self.is_off || before == traffic && !self.is_foreign {
            return Ok(());
        }
        self.install().inspect_err(|_| self.traffic = before)
    }

    /// Sets the new name of the tunnel's device. No packets leave by it until the table is
    /// replaced, in one transaction.
    ///
    /// # Errors
    /// As for [`KillSwitch::engage`]; the packets let through before still are.
    pub(crate) fn set_device(&mut self, device: &str) -> Result<(), LinkError> {
        if self.device == device {
            return Ok(());
        }
        let before = std::mem::replace(&mut self.device, device.to_owned());
        if self.is_off || self.is_foreign {
            return Ok(());
        }
        self.install().inspect_err(|_| self.device = before)
    }

    /// Restores the table if another program has deleted or changed it, and returns its name
    /// then. Does nothing if the kill switch was turned off.
    ///
    /// # Errors
    /// As for [`KillSwitch::engage`].
    pub(crate) fn repair(&mut self) -> Result<Option<String>, LinkError> {
        if self.is_off || self.is_foreign {
            return Ok(None);
        }
        let wanted = table(&self.tunnel, &self.device, &self.allowed, self.traffic);
        let found = self.nft.ensure(&wanted).map_err(|failure| {
            LinkError::new(format!("restore the kill switch of {}", self.tunnel), failure, REMEDY)
        })?;
        Ok((found == Ensured::Repaired).then(|| format!("inet {}", wanted.name)))
    }

    /// Installs the table, or removes it until it is engaged again.
    ///
    /// # Errors
    /// As for [`KillSwitch::engage`]; the state is unchanged then.
    pub(crate) fn set_engaged(&mut self, is_engaged: bool) -> Result<(), LinkError> {
        if is_engaged {
            self.install()?;
        } else {
            delete_table(&mut self.nft, &self.tunnel)?;
        }
        self.is_off = !is_engaged;
        Ok(())
    }

    /// Returns true unless the kill switch was turned off.
    pub(crate) const fn is_engaged(&self) -> bool {
        !self.is_off
    }

    /// Removes the table, which lets all packets out again.
    ///
    /// # Errors
    /// Netlink fails; the table stays in place then.
    pub(crate) fn remove(mut self) -> Result<(), LinkError> {
        delete_table(&mut self.nft, &self.tunnel).map(drop)
    }

    /// Installs the table, replacing an existing one.
    ///
    /// # Errors
    /// As for [`KillSwitch::engage`].
    pub(crate) fn install(&mut self) -> Result<(), LinkError> {
        let wanted = table(&self.tunnel, &self.device, &self.allowed, self.traffic);
        let outcome = self.nft.replace(&wanted);
        outcome.map_err(|failure| LinkError::new(install_action(&self.tunnel), failure, REMEDY))?;
        self.is_foreign = false;
        Ok(())
    }

    /// Returns true if a kill switch of the tunnel called `name` is in place, installed by any
    /// process.
    ///
    /// # Errors
    /// Netlink fails.
    pub(crate) fn is_in_place(name: &str) -> Result<bool, LinkError> {
        let action = || format!("look for a kill switch of {name}");
        let found = open(action)?.has(Family::Inet, &table_name(name));
        found.map_err(|failure| LinkError::new(action(), failure, REMEDY))
    }

    /// Returns the name of the table of the tunnel called `name`.
    pub(crate) fn table_of(name: &str) -> String {
        table_name(name)
    }

    /// Returns the kill switches that are in place.
    ///
    /// # Errors
    /// Netlink fails.
    pub(crate) fn list() -> Result<Vec<FoundKillSwitch>, LinkError> {
        let failed = |failure| LinkError::new("look for kill switches".to_owned(), failure, REMEDY);
        let mut nft = open(|| "look for kill switches".to_owned())?;
        let mut all = Vec::new();
        for table in nft.tables(Family::Inet).map_err(failed)? {
            let Some(tunnel) = table.strip_prefix(PREFIX) else { continue };
            let device = nft.input_device(&table, CHAIN).map_err(failed)?;
            all.push(FoundKillSwitch {
                tunnel: tunnel.to_owned(),
                device: device.unwrap_or_else(|| tunnel.to_owned()),
            });
        }
        Ok(all)
    }

    /// Removes the kill switch of the tunnel called `name`, installed by any process. Returns false
    /// if there was none.
    ///
    /// # Errors
    /// The privilege is missing, or netlink fails.
    pub(crate) fn remove_by_name(name: &str) -> Result<bool, LinkError> {
        delete_table(&mut open(|| format!("remove the kill switch of {name}"))?, name)
    }
}

fn install_action(name: &str) -> String {
    format!("install the kill switch of {name}")
}

fn open(action: impl Fn() -> String) -> Result<Nft, LinkError> {
    Nft::open().map_err(|error| match error.raw_os_error().map(Errno::from_raw) {
        Some(errno @ Errno::EPROTONOSUPPORT) => {
            LinkError::new(action(), RequestError::Refused { errno, extack: None }, REMEDY)
        }
        _ => LinkError::new(action(), RequestError::Socket(error), REMEDY),
    })
}

fn delete_table(nft: &mut Nft, tunnel: &str) -> Result<bool, LinkError> {
    let outcome = nft.delete(Family::Inet, &table_name(tunnel));
    outcome.map_err(|f| LinkError::new(format!("remove the kill switch of {tunnel}"), f, REMEDY))
}

fn table_name(tunnel: &str) -> String {
    format!("{PREFIX}{tunnel}")
}

fn table(tunnel: &str, device: &str, allowed: &[Prefix], traffic: Option<AllowedTraffic>) -> Table {
    let set = |name: &'static str, family, elements| Set { name: name.into(), family, elements };
    let mut sets = vec![
        set("next-hops-v4", Family::Ip, Elements::Dynamic),
        set("next-hops-v6", Family::Ip6, Elements::Dynamic),
    ];
    let match_oif = |name| Expression::device(MetaKey::OifName, CmpOp::Eq, name).to_vec();
    // the user's networks come first: 127.0.0.11 may be one of them
    let mut rules = Vec::new();
    for (name, family) in [("allowed-v4", Family::Ip), ("allowed-v6", Family::Ip6)] {
        let ranges = ranges::merged(allowed, family == Family::Ip6);
        if !ranges.is_empty() {
            let mut rule = match_family(family);
            rule.extend([destination(family), Expression::Lookup(sets.len())]);
            rules.push((rule, Verdict::Accept));
            sets.push(set(name, family, Elements::Ranges(ranges)));
        }
    }
    let embedded_dns = || {
        let address = [destination(Family::Ip), Expression::equal(&EMBEDDED_DNS)];
        [match_oif("lo"), match_family(Family::Ip), address.to_vec()].concat()
    };
    if let Some(traffic) = traffic.filter(|traffic| traffic.dns) {
        rules.push(([embedded_dns(), match_mark(traffic.mark).to_vec()].concat(), Verdict::Accept));
    }
    rules.push((embedded_dns(), Verdict::Drop));
    let accepted = [match_oif("lo"), match_oif(device)]
        .into_iter()
        .chain(traffic.into_iter().flat_map(tunnel_rules))
        .chain([match_replies(device)])
        .chain(link_rules());
    rules.extend(accepted.map(|rule| (rule, Verdict::Accept)));
    rules.push((Vec::new(), Verdict::Drop));
    let rules = rules.into_iter().map(|(mut rule, verdict)| {
        rule.push(Expression::Verdict(verdict));
        rule
    });
    let leaving = Chain {
        name: CHAIN,
        kind: ChainType::Filter,
        hook: Hook::Postrouting,
        priority: Priority::Last,
        policy: Verdict::Drop,
        rules: rules.collect(),
    };
    Table {
        family: Family::Inet,
        name: table_name(tunnel),
        sets,
        counters: vec![],
        chains: vec![leaving],
        regular: vec![],
    }
}

/// Returns the conditions for the tunnel's own packets, one item per rule.
fn tunnel_rules(traffic: AllowedTraffic) -> impl Iterator<Item = Vec<Expression>> {
    let rule = move |protocol, offset, port: u16| {
        let mut rule = match_mark(traffic.mark).to_vec();
        rule.extend([
            Expression::LoadMeta(MetaKey::L4Proto),
            Expression::equal(&[protocol]),
            Expression::LoadPayload { base: PayloadBase::Transport, offset, length: 2 },
            Expression::equal(&port.to_be_bytes()),
        ]);
        rule
    };
    let (source, destination) = (SOURCE_PORT, DESTINATION_PORT);
    let datagrams = rule(UDP, source, traffic.port);
    let questions = [UDP, TCP].map(|protocol| rule(protocol, destination, DNS_PORT));
    std::iter::once(datagrams).chain(questions.into_iter().filter(move |_| traffic.dns))
}

fn match_mark(mark: NonZeroU32) -> [Expression; 2] {
    [Expression::LoadMeta(MetaKey::Mark), Expression::equal(&mark.get().to_ne_bytes())]
}

/// Returns the conditions for answers that came out of the tunnel.
fn match_replies(device: &str) -> Vec<Expression> {
    let mut rule = Expression::device(MetaKey::IifName, CmpOp::Eq, device).to_vec();
    rule.extend([
        Expression::LoadCtState,
        Expression::Mask(ESTABLISHED_OR_RELATED.to_ne_bytes().to_vec()),
        Expression::Compare(CmpOp::Neq, vec![0; 4]),
    ]);
    rule
}

/// Returns the conditions for DHCP, DHCPv6 and neighbour discovery, each to all hosts on the link
/// and to one host on it.
fn link_rules() -> Vec<Vec<Expression>> {
    let ports = |family, ports: [u8; 4]| {
        let mut rule = transport(family, UDP, 4);
        rule.push(Expression::equal(&ports));
        rule
    };
    let [first, last] = DISCOVERY;
    let mut discovery = transport(Family::Ip6, ICMPV6, 1);
    discovery.extend([
        Expression::Compare(CmpOp::Gte, vec![first]),
        Expression::Compare(CmpOp::Lte, vec![last]),
        Expression::LoadPayload { base: PayloadBase::Network, offset: IPV6_HOP_LIMIT, length: 1 },
        Expression::equal(&[MAX_HOPS]),
    ]);
    let to_all = [destination(Family::Ip), Expression::equal(&BROADCAST)];
    let to_all_v6 =
        [Expression::address(AddressField::Destination, true, 2), Expression::equal(&LINK_MULTICAST)];
    let (dhcp, dhcpv6) = (ports(Family::Ip, DHCP), ports(Family::Ip6, DHCPV6));
    vec![
        [&dhcp[..], &to_all].concat(),
        [&dhcp[..], &to_neighbour(Family::Ip)].concat(),
        [&dhcpv6[..], &to_all_v6].concat(),
        [&dhcpv6[..], &to_neighbour(Family::Ip6)].concat(),
        [&discovery[..], &to_all_v6].concat(),
        [&discovery[..], &to_neighbour(Family::Ip6)].concat(),
    ]
}

/// Matches packets to one host on the link, as the module's documentation describes.
fn to_neighbour(family: Family) -> [Expression; 8] {
    let ([next_hops, _], multicast) = if family == Family::Ip {
        (NEXT_HOPS, vec![224, 0, 0, 0])
    } else {
        let [v4, v6] = NEXT_HOPS;
        ([v6, v4], [&[0xff][..], &[0; 15]].concat())
    };
    [
        destination(family),
        Expression::Compare(CmpOp::Lt, multicast),
        destination(family),
        Expression::DynsetDelete(next_hops),
        Expression::LoadNextHop(family),
        Expression::DynsetUpdate(next_hops),
        destination(family),
        Expression::Lookup(next_hops),
    ]
}

fn destination(family: Family) -> Expression {
    let (is_v6, length) = if family == Family::Ip { (false, 4) } else { (true, 16) };
    Expression::address(AddressField::Destination, is_v6, length)
}

fn match_family(family: Family) -> Vec<Expression> {
    vec![Expression::LoadMeta(MetaKey::NfProto), Expression::equal(&[family as u8])]
}

/// Matches packets of one family and protocol, and loads the first `length` bytes of the transport
/// header.
fn transport(family: Family, protocol: u8, length: u32) -> Vec<Expression> {
    let mut expressions = match_family(family);
    expressions.extend([
        Expression::LoadMeta(MetaKey::L4Proto),
        Expression::equal(&[protocol]),
        Expression::LoadPayload { base: PayloadBase::Transport, offset: 0, length },
    ]);
    expressions
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::nft::tests::{captured, hex};

    /// The bytes that nft(8) 1.0.6 sends for this table, without the user data that it attaches to
    /// a set:
    ///
    /// ```text
    /// set next-hops-v4 { type ipv4_addr; size 65535; flags dynamic,timeout; }
    /// set next-hops-v6 { type ipv6_addr; size 65535; flags dynamic,timeout; }
    /// chain leaving { type filter hook postrouting priority 2147483647; policy drop;
    ///     oifname "lo" ip daddr 127.0.0.11 meta mark 51820 accept
    ///     oifname "lo" ip daddr 127.0.0.11 drop
    ///     oifname "lo" accept
    ///     oifname "tun0" accept
    ///     meta mark 51820 meta l4proto udp th sport 40000 accept
    ///     meta mark 51820 meta l4proto udp th dport 53 accept
    ///     meta mark 51820 meta l4proto tcp th dport 53 accept
    ///     iifname "tun0" ct state & 6 != 0 accept
    ///     meta nfproto ipv4 meta l4proto udp @th,0,32 0x440043 ip daddr 255.255.255.255 accept
    ///     meta nfproto ipv4 meta l4proto udp @th,0,32 0x440043 ip daddr < 224.0.0.0
    ///       delete @next-hops-v4 { ip daddr } update @next-hops-v4 { rt ip nexthop timeout 1s }
    ///       ip daddr @next-hops-v4 accept
    ///     meta nfproto ipv6 meta l4proto udp @th,0,32 0x2220223 @nh,192,16 0xff02 accept
    ///     meta nfproto ipv6 meta l4proto udp @th,0,32 0x2220223 ip6 daddr < ff00::
    ///       delete @next-hops-v6 { ip6 daddr } update @next-hops-v6 { rt ip6 nexthop timeout 1s }
    ///       ip6 daddr @next-hops-v6 accept
    ///     meta nfproto ipv6 icmpv6 type 133-136 ip6 hoplimit 255 @nh,192,16 0xff02 accept
    ///     meta nfproto ipv6 icmpv6 type 133-136 ip6 hoplimit 255 ip6 daddr < ff00::
    ///       delete @next-hops-v6 { ip6 daddr } update @next-hops-v6 { rt ip6 nexthop timeout 1s }
    ///       ip6 daddr @next-hops-v6 accept
    ///     drop
    /// }
    /// ```
    const CAPTURED: &str = include_str!("kill_switch_as_nft_sends_it.hex");
    const PASS: AllowedTraffic = AllowedTraffic { mark: KillSwitch::MARK, port: 40_000, dns: true };

    fn rules(allowed: &[Prefix], traffic: Option<AllowedTraffic>) -> Vec<Vec<Expression>> {
        table("tun0", "tun0", allowed, traffic).chains[0].rules.clone()
    }

    #[test]
    fn the_bytes_are_nfts() {
        let sent = hex(&table("tun0", "tun0", &[], Some(PASS)));
        assert_eq!(sent[1..], captured(CAPTURED));
    }

    #[test]
    fn what_the_tunnel_does_not_need_has_no_rule() {
        let mut all = rules(&[], Some(PASS));
        all.drain(5..7);
        all.remove(0);
        assert_eq!(rules(&[], Some(AllowedTraffic { dns: false, ..PASS })), all);
        all.remove(3);
        assert_eq!(rules(&[], None), all);
    }

    #[test]
    fn each_family_that_is_allowed_has_a_rule() {
        let allowed =
            ["192.0.2.0", "2001:db8::"].map(|network| Prefix::new(network.parse().unwrap(), 32).unwrap());
        let none = rules(&[], None).len();
        assert_eq!(rules(&allowed[..1], None).len(), none + 1);
        assert_eq!(rules(&allowed, None).len(), none + 2);
        let rule = &rules(&allowed[1..], None)[0];
        assert_eq!(
            rule[1..],
            [
                Expression::equal(&[10]),
                destination(Family::Ip6),
                Expression::Lookup(2),
                Expression::Verdict(Verdict::Accept)
            ]
        );
    }
}
