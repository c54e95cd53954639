//! The contents of the table:
//!
//! ```text
//! map from4 { type ipv4_addr : verdict; flags interval; elements = { 10.8.0.2 : goto from-1-v4, … } }
//! set from4-allow-port { type integer; flags interval; elements = {
//!     10.8.0.2 . tcp . 443 . 192.0.2.0-192.0.2.255, … as numbers of 16 bytes } }
//! the same for to4, from6, to6; for deny; for other fields
//! counter denied
//! chain forward { type filter hook forward priority filter; policy accept;
//!     ct state & 6 != 0 accept
//!     iif DEVICE jump from
//!     oif DEVICE jump to
//! }
//! chain input { type filter hook input priority filter; policy accept;
//!     iif != DEVICE accept
//!     ct state & 6 != 0 accept
//!     iif DEVICE jump from
//! }
//! chain output { type filter hook output priority filter; policy accept;
//!     oif != DEVICE accept
//!     ct state & 6 != 0 accept
//!     oif DEVICE jump to
//! }
//! chain from { ip saddr vmap @from4; meta nfproto ipv4 drop; ip6 saddr vmap @from6; … }
//! chain to { ip daddr vmap @to4; meta nfproto ipv4 drop; ip6 daddr vmap @to6; … }
//! chain from-1-v4 { the rules of lists, with a return for an accept: then the destination's follow }
//! chain denied { counter name denied drop }
//! ```
//!
//! Lists that differ only in networks have the same chain (`lists.rs`), which looks the peer's address
//! and the fields of the packet up in a set.
//!
//! The map of chains has all addresses, those of the policy too. While the kernel replaces a table,
//! a packet that is evaluated by the rules of before finds the elements of before gone: it is dropped
//! then, and must not pass. The elements of sets stay until no packet is evaluated by them. A family
//! in which no peer has rules has no map, and a `goto` for the policy.
//!
//! The device is matched by its index, which stays when it is renamed. For port forwards there is
//! destination NAT too, and source NAT to the server's address in the tunnel: the answers of peers
//! without a default route would go elsewhere.

use std::borrow::Cow;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

use nix::libc;

use super::lists::{self, Form, Parts, Step, Users, WORD};
use crate::config::access::{AccessRules, Forwarding, ListNumber, Remote, Rule, lan, not_internet};
use crate::config::peer_settings::{Ports, Protocol};
use crate::netlink::nft::{
    AddressField, Chain, ChainType, CmpOp, Counted, Counter, Elements, Expression, Family, Hook, IPS_DST_NAT,
    MetaKey, PayloadBase, Priority, RegularChain, Set, Table, Verdict,
};
use crate::netlink::ranges;

/// Offset of the destination port in the headers of TCP and UDP, and its length.
const DESTINATION_PORT: u32 = 2;
const PORT_LENGTH: u32 = 2;
/// The index that stands for no device.
const NO_DEVICE: u32 = 0;
const RTN_LOCAL: u32 = libc::RTN_LOCAL as u32;

/// Numbers of the chains that all packets of the tunnel pass.
const FROM: usize = 0;
const TO: usize = 1;
/// Number of the chain of the packets that are denied, and of their counter.
const DENIED_CHAIN: usize = 2;
const DENIED_COUNTER: usize = 0;
/// The name of the counter.
pub(super) const DENIED: &str = "denied";

pub(super) fn name(tunnel: &str) -> String {
    format!("wontun-peers-{tunnel}")
}

/// Builds the table.
pub(super) fn table(tunnel: &str, device: u32, rules: &AccessRules) -> Table {
    let mut regular = [("from", FROM), ("to", TO), (DENIED, DENIED_CHAIN)]
        .map(|(name, _)| RegularChain { name: name.to_owned(), rules: Vec::new() });
    if let Some(denied) = regular.get_mut(DENIED_CHAIN) {
        denied.rules.push(vec![Expression::Count(DENIED_COUNTER), Expression::Verdict(Verdict::Drop)]);
    }
    let mut builder = Builder {
        device,
        rules,
        sets: Vec::new(),
        regular: regular.to_vec(),
        lists: HashMap::new(),
        chains: HashMap::new(),
    };
    for direction in [Direction::From, Direction::To] {
        let calls = builder.calls(direction);
        if let Some(chain) = builder.regular.get_mut(direction.chain()) {
            chain.rules = calls;
        }
    }
    let Builder { mut sets, regular, .. } = builder;
    for set in &mut sets {
        if let Elements::Keys { ranges, .. } = &mut set.elements {
            ranges.sort_unstable_by_key(|range| *range.start());
        }
    }
    let counters = vec![Counter { name: DENIED, start: Counted::default() }];
    let mut chains = filters(device);
    chains.extend(forwards(device, rules.forwards()));
    Table { family: Family::Inet, name: name(tunnel), sets, counters, chains, regular }
}

/// A list applies to connections from a peer, or to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Direction {
    From,
    To,
}

impl Direction {
    const fn chain(self) -> usize {
        match self {
            Self::From => FROM,
            Self::To => TO,
        }
    }

    /// Returns the packet's address that is the peer's.
    const fn own(self) -> AddressField {
        match self {
            Self::From => AddressField::Source,
            Self::To => AddressField::Destination,
        }
    }

    /// Returns the packet's address that is the other end's.
    const fn remote(self) -> AddressField {
        match self {
            Self::From => AddressField::Destination,
            Self::To => AddressField::Source,
        }
    }

    /// Returns the name of the map from the addresses of peers to chains.
    const fn map(self, v6: bool) -> &'static str {
        match (self, v6) {
            (Self::From, false) => "from4",
            (Self::From, true) => "from6",
            (Self::To, false) => "to4",
            (Self::To, true) => "to6",
        }
    }

    /// Returns the device by which the other end is reached.
    const fn remote_device(self) -> MetaKey {
        match self {
            Self::From => MetaKey::Oif,
            Self::To => MetaKey::Iif,
        }
    }
}

/// A table being built.
struct Builder<'a> {
    device: u32,
    rules: &'a AccessRules,
    sets: Vec<Set>,
    regular: Vec<RegularChain>,
    /// The chains of the lists.
    lists: HashMap<(ListNumber, Direction, bool), usize>,
    /// The chains of the steps of lists.
    chains: HashMap<(Vec<Step>, Direction, bool), usize>,
}

impl Builder<'_> {
    /// Returns the rules that find the list of a packet's peer.
    fn calls(&mut self, direction: Direction) -> Vec<Vec<Expression>> {
        let sides = self.rules.policy_lists();
        let policy = match direction {
            Direction::From => sides.from,
            Direction::To => sides.to,
        };
        let mut calls = Vec::new();
        for v6 in [false, true] {
            let ranges = self.rules.ranges(v6).into_iter().map(|range| {
                let list = match direction {
                    Direction::From => range.owner.from,
                    Direction::To => range.owner.to,
                };
                (range.addresses, list)
            });
            let ranges = merged(ranges.collect());
            let mut users: HashMap<ListNumber, Users> = HashMap::new();
            ranges.iter().for_each(|(range, list)| users.entry(*list).or_default().add(range));
            let chain = |(range, list): (RangeInclusive<u128>, _)| {
                (range, self.list(list, users.get(&list), direction, v6))
            };
            let chains = merged(ranges.into_iter().map(chain).collect());
            let mut call = Expression::family(v6).to_vec();
            if !chains.is_empty() {
                let set = self.set(direction.map(v6).into(), v6, Elements::Chains(chains));
                call.push(Expression::address(direction.own(), v6, length(v6)));
                call.push(Expression::LookupChain(set));
                calls.push(call);
                calls.push([&Expression::family(v6)[..], &[Expression::Goto(DENIED_CHAIN)]].concat());
            } else if self.rules.list(policy) != [Rule::ALLOW_ALL] {
                call.push(Expression::Goto(self.list(policy, None, direction, v6)));
                calls.push(call);
            }
        }
        calls
    }

    /// Returns the chain of a list of these users, `None` for any.
    fn list(&mut self, list: ListNumber, users: Option<&Users>, direction: Direction, v6: bool) -> usize {
        if let Some(found) = self.lists.get(&(list, direction, v6)) {
            return *found;
        }
        let parts = Parts::new(users.unwrap_or(&Users::Any), self.rules.list(list), v6);
        for lists::Elements { is_allowed, form, ranges: own } in parts.elements {
            let set = self.keys(direction, v6, is_allowed, form);
            if let Some(Set { elements: Elements::Keys { ranges, .. }, .. }) = self.sets.get_mut(set) {
                ranges.extend(own);
            }
        }
        let chain = self.chain(parts.steps, direction, v6);
        self.lists.insert((list, direction, v6), chain);
        chain
    }

    /// Returns the chain of these steps.
    fn chain(&mut self, steps: Vec<Step>, direction: Direction, v6: bool) -> usize {
        let key = (steps, direction, v6);
        if let Some(number) = self.chains.get(&key) {
            return *number;
        }
        let mut rules = Vec::new();
        for step in &key.0 {
            match step {
                Step::Lookup { is_allowed, form } => {
                    rules.push(self.lookup(*is_allowed, *form, direction, v6));
                }
                Step::Rule(rule) => rules.extend(self.rule(rule, direction, v6)),
            }
        }
        if key.0.last() != Some(&Step::Rule(Rule::DENY_ALL)) {
            rules.push(vec![Expression::Goto(DENIED_CHAIN)]);
        }
        let number = self.regular.len();
        let (word, family) =
            (if direction == Direction::From { "from" } else { "to" }, if v6 { "v6" } else { "v4" });
        let name = format!("{word}-{}-{family}", number - DENIED_CHAIN);
        self.regular.push(RegularChain { name, rules });
        self.chains.insert(key, number);
        number
    }

    /// Returns a rule for the packets that the set of that form has.
    fn lookup(&mut self, is_allowed: bool, form: Form, direction: Direction, v6: bool) -> Vec<Expression> {
        let words = length(v6) / WORD;
        let address = |word| match Expression::address(direction.remote(), v6, length(v6)) {
            Expression::LoadPayload { base, offset, length } => {
                Expression::LoadPayloadField { word, base, offset, length }
            }
            other => other,
        };
        let port = |word| Expression::LoadPayloadField {
            word,
            base: PayloadBase::Transport,
            offset: DESTINATION_PORT,
            length: PORT_LENGTH,
        };
        let protocol = Expression::LoadMetaField(words, MetaKey::L4Proto);
        let mut rule = vec![Expression::address(direction.own(), v6, length(v6))];
        match form {
            Form::Networks => rule.push(address(words)),
            Form::Protocol => rule.extend([protocol, address(words + 1)]),
            Form::Port => rule.extend([protocol, port(words + 1), address(words + 2)]),
            Form::Ports => rule.extend([protocol, address(words + 1), port(words * 2 + 1)]),
        }
        rule.push(Expression::Lookup(self.keys(direction, v6, is_allowed, form)));
        rule.push(if is_allowed { Expression::Return } else { Expression::Goto(DENIED_CHAIN) });
        rule
    }

    /// Returns a rule for packets of one family; two if it is for TCP and UDP.
    fn rule(&mut self, rule: &Rule, direction: Direction, v6: bool) -> Vec<Vec<Expression>> {
        let mut remote = Vec::new();
        match rule.remote {
            Remote::Any => {}
            Remote::Server => {
                remote.push(match direction {
                    Direction::From => Expression::LoadDestinationAddressType,
                    Direction::To => Expression::LoadSourceAddressType,
                });
                remote.push(Expression::equal(&RTN_LOCAL.to_ne_bytes()));
            }
            Remote::Tunnel => {
                remote.extend(device_is(direction.remote_device(), CmpOp::Eq, self.device));
            }
            Remote::Lan => {
                remote.extend(self.outside(direction, v6));
                let set = self.group(if v6 { "lan6" } else { "lan4" }, v6, lan);
                remote.push(Expression::Lookup(set));
            }
            Remote::Internet => {
                remote.extend(self.outside(direction, v6));
                let name = if v6 { "not-internet6" } else { "not-internet4" };
                let set = self.group(name, v6, not_internet);
                remote.push(Expression::LookupNone(set));
            }
            Remote::Network(network) => {
                remote.extend(Expression::in_network_of_family(direction.remote(), network));
            }
            Remote::Forwarded => remote.extend(Expression::any_bit(Expression::LoadCtStatus, IPS_DST_NAT)),
        }
        let verdict = if rule.is_allowed { Expression::Return } else { Expression::Goto(DENIED_CHAIN) };
        let protocols: &[Option<Protocol>] = match (rule.protocol, rule.ports) {
            (None, Some(_)) => &[Some(Protocol::Tcp), Some(Protocol::Udp)],
            (protocol, _) => &[protocol],
        };
        let of_protocol = |protocol: &Option<Protocol>| {
            let mut expressions = remote.clone();
            expressions.extend(transport(*protocol, rule.ports, v6));
            expressions.push(verdict.clone());
            expressions
        };
        protocols.iter().map(of_protocol).collect()
    }

    /// Matches packets whose other end is reached by another device than the tunnel, and is not
    /// this host, and loads its address.
    fn outside(&self, direction: Direction, v6: bool) -> Vec<Expression> {
        let mut expressions = device_is(direction.remote_device(), CmpOp::Neq, self.device).to_vec();
        expressions.push(Expression::Compare(CmpOp::Neq, NO_DEVICE.to_ne_bytes().to_vec()));
        expressions.push(Expression::address(direction.remote(), v6, length(v6)));
        expressions
    }

    /// Returns the set of a group's networks.
    fn group(
        &mut self,
        name: &'static str,
        v6: bool,
        networks: fn(bool) -> Vec<wontun_proto::allowed_ips::Prefix>,
    ) -> usize {
        self.set(name.into(), v6, Elements::Ranges(ranges::merged(&networks(v6), v6)))
    }

    /// Returns the set of the keys of that form that are allowed or denied.
    fn keys(&mut self, direction: Direction, v6: bool, is_allowed: bool, form: Form) -> usize {
        let verdict = if is_allowed { "allow" } else { "deny" };
        let fields = match form {
            Form::Networks => "network",
            Form::Protocol => "protocol",
            Form::Port => "port",
            Form::Ports => "ports",
        };
        let name = format!("{}-{verdict}-{fields}", direction.map(v6));
        self.set(name.into(), v6, Elements::Keys { length: form.length(v6), ranges: Vec::new() })
    }

    /// Returns the set of that name, which is made with these elements if there is none.
    fn set(&mut self, name: Cow<'static, str>, v6: bool, elements: Elements) -> usize {
        if let Some(number) = self.sets.iter().position(|set| set.name == name) {
            return number;
        }
        let family = if v6 { Family::Ip6 } else { Family::Ip };
        self.sets.push(Set { name, family, elements });
        self.sets.len() - 1
    }
}

/// Compares the index of the packet's input or output device.
fn device_is(which: MetaKey, comparison: CmpOp, index: u32) -> [Expression; 2] {
    [Expression::LoadMeta(which), Expression::Compare(comparison, index.to_ne_bytes().to_vec())]
}

/// Returns the length of an address.
const fn length(v6: bool) -> u32 {
    if v6 { 16 } else { 4 }
}

/// Makes neighbours that have the same value one range.
fn merged<T: PartialEq>(ranges: Vec<(RangeInclusive<u128>, T)>) -> Vec<(RangeInclusive<u128>, T)> {
    let mut merged: Vec<(RangeInclusive<u128>, T)> = Vec::new();
    for (range, value) in ranges {
        match merged.last_mut() {
            Some((last, other)) if *other == value && last.end().checked_add(1) == Some(*range.start()) => {
                *last = *last.start()..=*range.end();
            }
            _ => merged.push((range, value)),
        }
    }
    merged
}

/// Matches packets of a protocol to these ports.
fn transport(protocol: Option<Protocol>, ports: Option<Ports>, v6: bool) -> Vec<Expression> {
    let mut expressions = Vec::new();
    if let Some(protocol) = protocol {
        expressions.push(Expression::LoadMeta(MetaKey::L4Proto));
        expressions.push(Expression::equal(&[protocol.number(v6)]));
    }
    if let Some(ports) = ports {
        let (first, last) = (ports.range().start().to_be_bytes(), ports.range().end().to_be_bytes());
        expressions.push(Expression::LoadPayload {
            base: PayloadBase::Transport,
            offset: DESTINATION_PORT,
            length: PORT_LENGTH,
        });
        if first == last {
            expressions.push(Expression::equal(&first));
        } else {
            expressions.push(Expression::Compare(CmpOp::Gte, first.to_vec()));
            expressions.push(Expression::Compare(CmpOp::Lte, last.to_vec()));
        }
    }
    expressions
}

/// Returns the base chains that filter.
fn filters(device: u32) -> Vec<Chain> {
    let known = [&Expression::is_known()[..], &[Expression::Verdict(Verdict::Accept)]].concat();
    let call = |which, chain| [&device_is(which, CmpOp::Eq, device)[..], &[Expression::Jump(chain)]].concat();
    let other =
        |which| [&device_is(which, CmpOp::Neq, device)[..], &[Expression::Verdict(Verdict::Accept)]].concat();
    let (from, to) = (MetaKey::Iif, MetaKey::Oif);
    let chain = |name, hook, rules| Chain {
        name,
        kind: ChainType::Filter,
        hook,
        priority: Priority::Filter,
        policy: Verdict::Accept,
        rules,
    };
    vec![
        chain("forward", Hook::Forward, vec![known.clone(), call(from, FROM), call(to, TO)]),
        chain("input", Hook::Input, vec![other(from), known.clone(), call(from, FROM)]),
        chain("output", Hook::Output, vec![other(to), known, call(to, TO)]),
    ]
}

/// Returns the base chains that translate addresses; none without port forwards.
fn forwards(device: u32, forwards: &[Forwarding]) -> Vec<Chain> {
    let (mut prerouting, mut postrouting) = (Vec::new(), Vec::new());
    for Forwarding { forward, addresses } in forwards {
        for address in addresses {
            let v6 = address.is_ipv6();
            let protocol = Some(forward.protocol);
            let mut rule = Expression::family(v6).to_vec();
            rule.push(Expression::LoadDestinationAddressType);
            rule.push(Expression::equal(&RTN_LOCAL.to_ne_bytes()));
            rule.extend(transport(protocol, Some(Ports::single(forward.port)), v6));
            rule.extend(Expression::destination_nat(SocketAddr::new(*address, forward.to.get())));
            prerouting.push(rule);
            let mut rule = device_is(MetaKey::Oif, CmpOp::Eq, device).to_vec();
            rule.extend(Expression::any_bit(Expression::LoadCtStatus, IPS_DST_NAT));
            rule.extend(Expression::family(v6));
            rule.push(Expression::address(AddressField::Destination, v6, length(v6)));
            rule.push(match address {
                IpAddr::V4(address) => Expression::equal(&address.octets()),
                IpAddr::V6(address) => Expression::equal(&address.octets()),
            });
            rule.extend(transport(protocol, Some(Ports::single(forward.to)), v6));
            rule.push(Expression::Masquerade);
            postrouting.push(rule);
        }
    }
    if prerouting.is_empty() {
        return Vec::new();
    }
    let chain = |name, hook, priority, rules| Chain {
        name,
        kind: ChainType::Nat,
        hook,
        priority,
        policy: Verdict::Accept,
        rules,
    };
    vec![
        chain("prerouting", Hook::Prerouting, Priority::DestinationNat, prerouting),
        chain("postrouting", Hook::Postrouting, Priority::SourceNat, postrouting),
    ]
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
