//! The parts of a list of rules: what sets decide, and what remains for a chain.
//!
//! Of ten thousand peers each may have other rules. A chain for each list would be a hundred
//! thousand rules, which the kernel takes seconds to load. Most rules are about networks, with or
//! without a protocol and ports: these become elements of sets that all lists share, with the peer's
//! address in the key. Lists that differ only in these have one chain.
//!
//! The kernel takes a key of several fields as one value unless told otherwise, and keeps ranges of
//! such values in a tree. Its sets of ranges in several fields (pipapo) are searched by bitmaps of
//! all elements, and before Linux 6.10 are copied for each element that is added.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use crate::config::access::{Remote, Rule};
use crate::config::peer_settings::{Ports, Protocol};
use crate::netlink::nft::{Key, MAX_KEY, next_key};
use crate::netlink::ranges;
use wontun_proto::allowed_ips::Prefix;

/// Length of a protocol or port in a key, in bytes.
pub(super) const WORD: u32 = 4;
const FIELD: usize = WORD as usize;
/// Maximum number of addresses that have a list with elements of its own. If more share a list, its
/// rules are a chain's.
const MAX_USERS: usize = 16;

/// The addresses of the peers that have a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Users {
    /// These.
    Few(Vec<u128>),
    Any,
}

impl Default for Users {
    fn default() -> Self {
        Self::Few(Vec::new())
    }
}

impl Users {
    /// Adds addresses.
    pub(super) fn add(&mut self, addresses: &RangeInclusive<u128>) {
        let Self::Few(own) = self else { return };
        let room = MAX_USERS.saturating_sub(own.len());
        if addresses.end().saturating_sub(*addresses.start()) < room as u128 {
            own.extend(addresses.clone());
        } else {
            *self = Self::Any;
        }
    }
}

/// The fields of the keys of a set, after the peer's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Form {
    /// Addresses.
    Networks,
    /// A protocol, and addresses.
    Protocol,
    /// A protocol, a port, and addresses.
    Port,
    /// A protocol, an address, and ports.
    Ports,
}

impl Form {
    /// Returns the length of a key in bytes.
    pub(super) const fn length(self, v6: bool) -> u32 {
        let fields = match self {
            Self::Networks => 0,
            Self::Protocol => 1,
            Self::Port | Self::Ports => 2,
        };
        fields * WORD + if v6 { 32 } else { 8 }
    }
}

/// A step of the evaluation of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Step {
    /// The packets whose keys are in the set of that form are allowed or denied.
    Lookup {
        is_allowed: bool,
        form: Form,
    },
    Rule(Rule),
}

/// Elements of the sets of one form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Elements {
    pub(super) is_allowed: bool,
    pub(super) form: Form,
    pub(super) ranges: Vec<RangeInclusive<Key>>,
}

/// A list for packets of one family in parts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Parts {
    /// Lists with the same steps have the same chain.
    pub(super) steps: Vec<Step>,
    pub(super) elements: Vec<Elements>,
}

impl Parts {
    /// Returns the parts of a list of these users.
    pub(super) fn new(users: &Users, rules: &[Rule], v6: bool) -> Self {
        match users {
            Users::Few(users) => Self::with_sets(users, rules, v6),
            Users::Any => Self::of_rules(rules, v6),
        }
    }

    /// Returns the parts of a list without sets.
    fn of_rules(rules: &[Rule], v6: bool) -> Self {
        let rules = rules.iter().filter(|rule| rule.is_of_family(v6));
        Self { steps: rules.map(|rule| Step::Rule(*rule)).collect(), elements: Vec::new() }
    }

    /// Returns the parts of a list with elements for these users.
    ///
    /// The first rules that deny and the first that allow use sets. Neighbours with the same
    /// verdict have no order, so that sets come first. Later ones are rules of the chain: those of
    /// a policy.
    fn with_sets(users: &[u128], rules: &[Rule], v6: bool) -> Self {
        let mut parts = Self::default();
        let mut has_sets = [false; 2];
        for run in rules.chunk_by(|one, next| one.is_allowed == next.is_allowed) {
            let Some(is_allowed) = run.first().map(|rule| rule.is_allowed) else { continue };
            let own = run.iter().filter(|rule| rule.is_of_family(v6));
            let [denies, allows] = &mut has_sets;
            let is_used = std::mem::replace(if is_allowed { allows } else { denies }, true);
            let in_sets = |rule: &Rule| if is_used { None } else { keys(users, rule, v6) };
            let mut found: Vec<(Form, RangeInclusive<Key>)> = Vec::new();
            let mut others = Vec::new();
            for rule in own {
                match in_sets(rule) {
                    Some(keys) => found.extend(keys),
                    None => others.push(Step::Rule(*rule)),
                }
            }
            found.sort_unstable_by(|(form, range), (other, next)| {
                (form, range.start(), range.end()).cmp(&(other, next.start(), next.end()))
            });
            for of_form in found.chunk_by(|(form, _), (other, _)| form == other) {
                let Some((form, _)) = of_form.first() else { continue };
                parts.steps.push(Step::Lookup { is_allowed, form: *form });
                let ranges = merged(of_form.iter().map(|(_, range)| range.clone()), form.length(v6));
                parts.elements.push(Elements { is_allowed, form: *form, ranges });
            }
            parts.steps.extend(others);
        }
        parts
    }
}

/// Returns the keys of the packets of these users that a rule matches, with their form; `None` for
/// a rule that sets do not have: one about other than addresses, or about all packets, or about
/// several addresses and several ports.
fn keys(users: &[u128], rule: &Rule, v6: bool) -> Option<Vec<(Form, RangeInclusive<Key>)>> {
    let network = match rule.remote {
        Remote::Network(network) => network,
        Remote::Any if rule.protocol.is_some() || rule.ports.is_some() => {
            Prefix::of(if v6 { [0_u16; 8].into() } else { IpAddr::from([0_u8; 4]) }, 0)
        }
        _ => return None,
    };
    let address = |address: u128| {
        let bytes = address.to_be_bytes();
        bytes.get(if v6 { 0 } else { 12 }..).unwrap_or_default().to_vec()
    };
    let addresses = ranges::range(network);
    let [first, last] = [*addresses.start(), *addresses.end()].map(address);
    let number = |protocol: &Protocol| field(&[protocol.number(v6)]);
    let protocols: Vec<_> = match (&rule.protocol, rule.ports) {
        (Some(protocol), _) => vec![number(protocol)],
        (None, Some(_)) => [Protocol::Tcp, Protocol::Udp].iter().map(number).collect(),
        (None, None) => vec![],
    };
    let ports = rule.ports.map(Ports::range);
    let ports = ports.map(|ports| [*ports.start(), *ports.end()].map(|port| field(&port.to_be_bytes())));
    // the fields of the first key and of the last one
    let fields: Vec<(Form, [Vec<u8>; 2])> = match ports {
        None if protocols.is_empty() => vec![(Form::Networks, [first, last])],
        _ if protocols.is_empty() => return None,
        None => {
            let both = |protocol: &[u8; FIELD]| [&first, &last].map(|end| [&protocol[..], end].concat());
            protocols.iter().map(|protocol| (Form::Protocol, both(protocol))).collect()
        }
        Some([port, to]) if port == to => {
            let both =
                |protocol: &[u8; FIELD]| [&first, &last].map(|end| [&protocol[..], &port, end].concat());
            protocols.iter().map(|protocol| (Form::Port, both(protocol))).collect()
        }
        Some(ports) if first == last => {
            let both = |protocol: &[u8; FIELD]| ports.map(|port| [&protocol[..], &first, &port].concat());
            protocols.iter().map(|protocol| (Form::Ports, both(protocol))).collect()
        }
        Some(_) => return None,
    };
    let of_user = |user: &u128| {
        let own = address(*user);
        let range =
            move |(form, [first, last]): &(Form, [Vec<u8>; 2])| (*form, key(&own, first)..=key(&own, last));
        fields.iter().map(range).collect::<Vec<_>>()
    };
    Some(users.iter().flat_map(of_user).collect())
}

/// Returns a protocol or port as a field.
fn field(value: &[u8]) -> [u8; FIELD] {
    let mut field = [0; FIELD];
    field.iter_mut().zip(value).for_each(|(byte, value)| *byte = *value);
    field
}

/// Returns the key of a peer's address and these fields.
fn key(own: &[u8], fields: &[u8]) -> Key {
    let mut key = [0; MAX_KEY];
    key.iter_mut().zip(own.iter().chain(fields)).for_each(|(byte, value)| *byte = *value);
    key
}

/// Makes ranges that overlap or touch one; they are in ascending order.
fn merged(ranges: impl Iterator<Item = RangeInclusive<Key>>, length: u32) -> Vec<RangeInclusive<Key>> {
    let mut merged: Vec<RangeInclusive<Key>> = Vec::new();
    for range in ranges {
        match merged.last_mut() {
            Some(last)
                if range.start() <= last.end()
                    || next_key(last.end(), length as usize).as_ref() == Some(range.start()) =>
            {
                let end = *last.end().max(range.end());
                *last = *last.start()..=end;
            }
            _ => merged.push(range),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Rule {
        let (address, length) = text.split_once('/').unwrap();
        let prefix = Prefix::new(address.parse().unwrap(), length.parse().unwrap()).unwrap();
        Rule::about(Remote::Network(prefix), true)
    }

    #[test]
    fn lists_that_differ_in_networks_have_the_same_steps() {
        let tcp = |text: &str| Rule { protocol: Some(Protocol::Tcp), ..network(text) };
        let dns = |text: &str| Rule { ports: Some(Ports::DNS), ..network(text) };
        let server = Rule::about(Remote::Server, true);
        let lists = [
            [network("10.0.0.0/25"), server, network("10.0.0.128/25"), dns("9.9.9.9/32"), Rule::DENY_ALL],
            [dns("1.1.1.1/32"), dns("8.8.0.0/16"), network("10.1.0.0/16"), server, Rule::DENY_ALL],
            [tcp("10.0.0.0/8"), network("10.1.0.0/16"), dns("8.8.0.0/16"), server, Rule::DENY_ALL],
        ];
        let user = |number: u128| {
            let mut users = Users::default();
            users.add(&(number..=number));
            users
        };
        let parts: Vec<_> =
            (1..).zip(&lists).map(|(number, list)| Parts::new(&user(number), list, false)).collect();
        let [one, other, third] = &parts[..] else { panic!() };
        let lookup = |form| Step::Lookup { is_allowed: true, form };
        let rest = [Step::Rule(server), Step::Rule(Rule::DENY_ALL)];
        assert_eq!(one.steps, [&[lookup(Form::Networks), lookup(Form::Port)][..], &rest].concat());
        assert_eq!(one.steps, other.steps);
        assert_eq!(third.steps.len(), one.steps.len() + 1);
        // the two halves are one range, and the two protocols are not
        let counts: Vec<_> = one.elements.iter().map(|elements| elements.ranges.len()).collect();
        assert_eq!(counts, [1, 2]);
        let expected = key(&[0, 0, 0, 1], &[10, 0, 0, 0])..=key(&[0, 0, 0, 1], &[10, 0, 0, 255]);
        assert_eq!(one.elements[0].ranges, [expected]);
        assert_eq!(Parts::new(&user(1), &lists[0], true).steps, rest);
        // what many peers share, or a network behind one, is a chain's
        let mut network = user(1);
        network.add(&(2..=17));
        assert_eq!(network, Users::Any);
        assert_eq!(Parts::new(&network, &lists[0], false).elements, []);
    }
}
