//! Evaluation of other programs' rules for the first packet of a connection: a datagram to a UDP
//! port of this host, or a TCP packet that this host forwards.
//!
//! A condition that is not understood is taken as fulfilled: a rule that may accept the packet
//! counts as accepting it.

use std::collections::{BTreeMap, BTreeSet};

use nix::libc;

use super::constants::*;
use super::listing::{number, text};
use super::set::{Decision, Element, Key, Lookup};
use super::table::{MetaKey, PayloadBase};
use crate::netlink::message::{attribute, attributes};
use wontun_packet::transport::{TCP, UDP};

const CT_STATE: u32 = libc::NFT_CT_STATE as u32;
const CT_STATUS: u32 = libc::NFT_CT_STATUS as u32;
const META_IIF: u32 = libc::NFT_META_IIF as u32;
const CMP_EQ: u32 = libc::NFT_CMP_EQ as u32;
const CMP_NEQ: u32 = libc::NFT_CMP_NEQ as u32;
const CMP_LT: u32 = libc::NFT_CMP_LT as u32;
const CMP_LTE: u32 = libc::NFT_CMP_LTE as u32;
const CMP_GT: u32 = libc::NFT_CMP_GT as u32;
const CMP_GTE: u32 = libc::NFT_CMP_GTE as u32;
/// The index of the loopback device (`LOOPBACK_IFINDEX` in net/flow.h).
const LOOPBACK: [u8; 4] = 1_u32.to_ne_bytes();
/// Byte range of the states in the data of an xt_conntrack match.
const XT_STATES: std::ops::Range<usize> = 150..152;
/// Maximum number of header bytes that a rule loads.
const MAX_LOAD: usize = 64;

/// The packet for which rules are evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::netlink) enum Packet<'a> {
    /// A datagram to this host, from any device except the loopback device and the tunnel's.
    Input {
        /// The tunnel's device.
        device: &'a str,
        /// The UDP port.
        port: u16,
    },
    /// A TCP packet forwarded from this device to another one.
    Forward(&'a str),
}

/// A rule evaluated for a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::netlink) struct FoundRule {
    pub(in crate::netlink) chain: String,
    /// The chains that may be evaluated next.
    pub(in crate::netlink) next: Vec<String>,
    /// True if the rule may accept the packet.
    pub(in crate::netlink) accepts: bool,
    /// True if the rule names the input device of the packet.
    pub(in crate::netlink) names_device: bool,
    /// True if the rule drops or rejects all packets.
    pub(in crate::netlink) drops_all: bool,
    /// Lookups to be resolved by [`Self::resolve`].
    lookups: Vec<Lookup>,
}

/// Contents of a register, as far as they are known for the packet.
#[derive(Clone, Debug)]
enum Register<'a> {
    /// Bytes; `None` for each unknown byte.
    Bytes(Vec<Option<u8>>),
    /// The name of the input device: any except the loopback device's and this one.
    Device(&'a str),
    /// The index of the input device.
    DeviceIndex,
    /// Bits of the connection's state; after a mask only those selected.
    State(u32),
    /// The status of a connection, which is 0 for a new one.
    Status,
    Unknown,
}

/// Returns true if a rule reachable from the base chain `base` may accept the packet. If
/// `names_device` is true, only rules count that name the packet's device or are reached by such a
/// rule.
pub(in crate::netlink) fn may_accept(base: &str, rules: &[FoundRule], names_device: bool) -> bool {
    let mut seen = BTreeSet::from([(base, false)]);
    let mut next = vec![(base, false)];
    while let Some((chain, is_named)) = next.pop() {
        for rule in rules.iter().filter(|rule| rule.chain == chain) {
            let is_named = is_named || rule.names_device;
            if rule.accepts && (is_named || !names_device) {
                return true;
            }
            let steps = rule.next.iter().map(|chain| (chain.as_str(), is_named));
            next.extend(steps.filter(|step| seen.insert(*step)));
        }
    }
    false
}

/// Returns true if the last rule of `chain` drops all packets that reach it.
pub(in crate::netlink) fn ends_with_drop(chain: &str, rules: &[FoundRule]) -> bool {
    rules.iter().rfind(|rule| rule.chain == chain).is_some_and(|rule| rule.drops_all)
}

impl<'a> Packet<'a> {
    const fn protocol(self) -> u8 {
        match self {
            Self::Input { .. } => UDP,
            Self::Forward(_) => TCP,
        }
    }

    fn meta(self, data: &[u8]) -> Register<'a> {
        match (number(data, NFTA_META_KEY), self) {
            (Some(key), _) if key == MetaKey::L4Proto as u32 => known(&[self.protocol()]),
            (Some(key), Self::Input { device, .. }) if key == MetaKey::IifName as u32 => {
                Register::Device(device)
            }
            (Some(key), Self::Forward(device)) if key == MetaKey::IifName as u32 => {
                let mut name = device.as_bytes().to_vec();
                name.resize(libc::IFNAMSIZ, 0);
                known(&name)
            }
            (Some(META_IIF), _) => Register::DeviceIndex,
            _ => Register::Unknown,
        }
    }

    fn payload(self, data: &[u8]) -> Register<'a> {
        let [base, offset, length] = [NFTA_PAYLOAD_BASE, NFTA_PAYLOAD_OFFSET, NFTA_PAYLOAD_LEN]
            .map(|kind| number(data, kind).unwrap_or(u32::MAX));
        if base == PayloadBase::Network as u32 && length == 1 && matches!(offset, 6 | 9) {
            // the protocol fields of IPv6 and IPv4
            return known(&[self.protocol()]);
        }
        let (Self::Input { port, .. }, true) = (self, base == PayloadBase::Transport as u32) else {
            return Register::Unknown;
        };
        let (Ok(offset), Ok(length)) = (usize::try_from(offset), usize::try_from(length)) else {
            return Register::Unknown;
        };
        // the source port comes first, and both are loaded together where a rule compares both
        let [high, low] = port.to_be_bytes();
        let header = [None, None, Some(high), Some(low)].into_iter().chain(std::iter::repeat(None));
        Register::Bytes(header.skip(offset.min(MAX_LOAD)).take(length.min(MAX_LOAD)).collect())
    }

    /// Returns true if the packet may fulfil a match of iptables.
    fn fulfils_match(self, name: &str, info: &[u8]) -> bool {
        let word = |range: std::ops::Range<usize>| {
            info.get(range).and_then(|bytes| bytes.first_chunk()).copied().map(u16::from_ne_bytes)
        };
        match (name, self) {
            ("tcp", Self::Input { .. }) | ("udp", Self::Forward(_)) | ("icmp" | "icmp6" | "sctp", _) => false,
            ("udp", Self::Input { port, .. }) => match (word(4..6), word(6..8), info.get(8)) {
                // the range of ports, and a bit that inverts the match
                (Some(first), Some(last), Some(inverted)) => {
                    (first..=last).contains(&port) != (inverted & 2 != 0)
                }
                _ => true,
            },
            ("conntrack", _) => {
                word(XT_STATES).is_none_or(|states| u32::from(states) & CT_STATE_NEW != 0 || states == 0)
            }
            ("state", _) => {
                info.first_chunk().is_none_or(|states| u32::from_ne_bytes(*states) & CT_STATE_NEW != 0)
            }
            _ => true,
        }
    }
}

impl FoundRule {
    /// Creates a rule of `chain` without a verdict.
    pub(in crate::netlink) const fn new(chain: String) -> Self {
        Self {
            chain,
            next: Vec::new(),
            accepts: false,
            names_device: false,
            drops_all: false,
            lookups: Vec::new(),
        }
    }

    /// Parses an `NFT_MSG_NEWRULE` for that packet. Call [`Self::resolve`] afterwards.
    pub(super) fn parse(body: &[u8], packet: Packet<'_>) -> Option<Self> {
        let rule = body.get(NFGENMSG_LEN..)?;
        let mut found = Self::new(text(rule, NFTA_RULE_CHAIN)?);
        let (mut register, mut fulfils, mut is_conditional) = (Register::Unknown, true, false);
        let mut is_device = false;
        for expression in
            attributes(&attribute(rule, NFTA_RULE_EXPRESSIONS).unwrap_or_default(), NFTA_LIST_ELEM)
        {
            let data = attribute(&expression, NFTA_EXPR_DATA).unwrap_or_default();
            match text(&expression, NFTA_EXPR_NAME).unwrap_or_default().as_str() {
                "meta" => {
                    register = packet.meta(&data);
                    is_device = number(&data, NFTA_META_KEY) == Some(MetaKey::IifName as u32);
                }
                "payload" => (register, is_device) = (packet.payload(&data), false),
                "ct" => {
                    is_device = false;
                    register = match number(&data, NFTA_CT_KEY) {
                        Some(CT_STATE) => Register::State(CT_STATE_NEW),
                        Some(CT_STATUS) => Register::Status,
                        _ => Register::Unknown,
                    };
                }
                "bitwise" => {
                    register = match register {
                        Register::State(bits) => {
                            let mask = value(&data, NFTA_BITWISE_MASK)
                                .first_chunk()
                                .copied()
                                .map(u32::from_ne_bytes);
                            Register::State(bits & mask.unwrap_or(CT_STATE_NEW))
                        }
                        Register::Status => Register::Status,
                        _ => Register::Unknown,
                    };
                }
                "cmp" => {
                    is_conditional = true;
                    let comparison = number(&data, NFTA_CMP_OP);
                    fulfils &= register.compares(comparison, &value(&data, NFTA_CMP_DATA));
                    found.names_device |= is_device && fulfils && comparison == Some(CMP_EQ);
                }
                "lookup" => {
                    is_conditional = true;
                    let lookup = Lookup::parse(&data, register.key(), is_device).filter(|_| fulfils);
                    found.lookups.extend(lookup);
                }
                "match" => {
                    is_conditional = true;
                    let info = attribute(&data, NFTA_MATCH_INFO).unwrap_or_default();
                    fulfils &= packet.fulfils_match(&text(&data, NFTA_MATCH_NAME).unwrap_or_default(), &info);
                }
                "immediate" => {
                    match attribute(&data, NFTA_IMMEDIATE_DATA).and_then(|data| Decision::parse(&data)) {
                        Some(Decision::Drop) => found.drops_all = !is_conditional,
                        Some(decision) if fulfils => found.decide(&decision),
                        Some(_) | None => {}
                    }
                }
                "reject" => found.drops_all = !is_conditional,
                "counter" | "log" => {}
                _ => is_conditional = true,
            }
        }
        Some(found)
    }

    fn decide(&mut self, decision: &Decision) {
        match decision {
            Decision::Accept => self.accepts = true,
            Decision::Chain(chain) => self.next.push(chain.clone()),
            Decision::Drop => {}
        }
    }

    /// Returns the names of the sets and maps needed to decide if the rule accepts the packet.
    pub(super) fn sets(&self) -> impl Iterator<Item = &str> {
        let decides =
            self.accepts || !self.next.is_empty() || self.lookups.iter().any(|lookup| lookup.is_map);
        let lookups = self.lookups.iter().filter(move |lookup| decides && lookup.is_worth_reading());
        lookups.map(|lookup| lookup.set.as_str())
    }

    /// Resolves the rule's lookups with the elements of the sets and maps. A map that is not known
    /// counts as accepting the packet.
    pub(super) fn resolve(&mut self, sets: &BTreeMap<String, Option<Vec<Element>>>) {
        for lookup in std::mem::take(&mut self.lookups) {
            let elements = sets.get(&lookup.set).and_then(Option::as_deref);
            let Some(elements) = elements else {
                self.accepts |= lookup.is_map;
                continue;
            };
            if lookup.is_map {
                let decisions = lookup.decisions(elements);
                self.names_device |= lookup.names_device() && !decisions.is_empty();
                decisions.into_iter().for_each(|decision| self.decide(decision));
            } else if lookup.may_fulfil(elements) {
                self.names_device |= lookup.names_device();
            } else {
                (self.accepts, self.next) = (false, Vec::new());
                return;
            }
        }
    }
}

impl Register<'_> {
    /// Returns the value to look up in sets.
    fn key(&self) -> Key {
        match self {
            Self::Bytes(bytes) => match bytes.iter().copied().collect() {
                Some(bytes) => Key::Known(bytes),
                None => Key::AnyBut(Vec::new()),
            },
            Self::State(bits) => Key::Known(bits.to_ne_bytes().to_vec()),
            Self::Status => Key::Known(vec![0; 4]),
            Self::Device(own) => Key::AnyBut(["lo", own].map(|name| name.as_bytes().to_vec()).to_vec()),
            Self::DeviceIndex => Key::AnyBut(vec![LOOPBACK.to_vec()]),
            Self::Unknown => Key::AnyBut(Vec::new()),
        }
    }

    /// Compares the contents with `wanted` by the kernel's `NFT_CMP_*`.
    fn compares(&self, comparison: Option<u32>, wanted: &[u8]) -> bool {
        let (is_equal, is_known) = match self {
            Self::Bytes(bytes) => return compare_bytes(bytes, comparison, wanted),
            Self::State(bits) => (wanted.first_chunk() == Some(&bits.to_ne_bytes()), true),
            Self::Status => (wanted.iter().all(|byte| *byte == 0), true),
            // the value is known not to be one of these, and may be any other
            Self::Device(tunnel) => {
                let name = wanted.split(|byte| *byte == 0).next().unwrap_or_default();
                (false, wanted.last() == Some(&0) && (name == b"lo" || name == tunnel.as_bytes()))
            }
            Self::DeviceIndex => (false, wanted == LOOPBACK),
            Self::Unknown => (false, false),
        };
        match comparison {
            _ if !is_known => true,
            Some(CMP_EQ) => is_equal,
            Some(CMP_NEQ) => !is_equal,
            _ => true,
        }
    }
}

/// Compares as many bytes as `wanted` has.
fn compare_bytes(bytes: &[Option<u8>], comparison: Option<u32>, wanted: &[u8]) -> bool {
    let bytes: Vec<_> = bytes.iter().copied().take(wanted.len()).collect();
    let differs = bytes.iter().zip(wanted).any(|(byte, wanted)| byte.is_some_and(|byte| byte != *wanted));
    let Some(bytes) = bytes.into_iter().collect::<Option<Vec<u8>>>() else {
        return comparison != Some(CMP_EQ) || !differs;
    };
    let order = bytes.as_slice().cmp(wanted);
    match comparison {
        Some(CMP_EQ) => order.is_eq(),
        Some(CMP_NEQ) => order.is_ne(),
        Some(CMP_LT) => order.is_lt(),
        Some(CMP_LTE) => order.is_le(),
        Some(CMP_GT) => order.is_gt(),
        Some(CMP_GTE) => order.is_ge(),
        _ => true,
    }
}

fn known(bytes: &[u8]) -> Register<'static> {
    Register::Bytes(bytes.iter().copied().map(Some).collect())
}

/// Returns the bytes in a nested `NFTA_DATA_VALUE`.
fn value(data: &[u8], kind: u16) -> Vec<u8> {
    attribute(data, kind).and_then(|data| attribute(&data, NFTA_DATA_VALUE)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::batch::tests::messages;
    use super::super::table::{Chain, ChainType, CmpOp, Expression, Family, Hook, Priority, Table, Verdict};
    use super::*;
    use crate::netlink::message::tests::nla;

    const INPUT: Packet<'_> = Packet::Input { device: "tun0", port: 51820 };

    fn parsed(rule: Vec<Expression>, packet: Packet<'_>) -> FoundRule {
        let (kind, priority, policy) = (ChainType::Filter, Priority::Filter, Verdict::Drop);
        let chains =
            vec![Chain { name: "INPUT", kind, hook: Hook::Input, priority, policy, rules: vec![rule] }];
        let table = Table {
            family: Family::Ip,
            name: "filter".to_owned(),
            sets: vec![],
            counters: vec![],
            chains,
            regular: vec![],
        };
        let message = messages(&table).into_iter().last().unwrap();
        FoundRule::parse(&message.1, packet).unwrap()
    }

    fn port(comparison: CmpOp, port: u16) -> [Expression; 2] {
        let load = Expression::LoadPayload { base: PayloadBase::Transport, offset: 2, length: 2 };
        [load, Expression::Compare(comparison, port.to_be_bytes().to_vec())]
    }

    fn protocol(number: u8) -> [Expression; 2] {
        [Expression::LoadMeta(MetaKey::L4Proto), Expression::equal(&[number])]
    }

    #[test]
    fn what_may_let_the_port_in() {
        let from = |name: &str| Expression::device(MetaKey::IifName, CmpOp::Eq, name);
        let state = |bits: u32| Expression::any_bit(Expression::LoadCtState, bits);
        for (conditions, expected) in [
            (vec![], true),
            ([protocol(17), port(CmpOp::Eq, 51820)].concat(), true),
            ([protocol(17), port(CmpOp::Eq, 53)].concat(), false),
            ([protocol(6), port(CmpOp::Eq, 51820)].concat(), false),
            ([port(CmpOp::Gte, 50000), port(CmpOp::Lte, 60000)].concat(), true),
            ([port(CmpOp::Gte, 1), port(CmpOp::Lte, 1023)].concat(), false),
            (port(CmpOp::Neq, 22).to_vec(), true),
            (protocol(1).to_vec(), false),
            (from("lo").to_vec(), false),
            (from("eth0").to_vec(), true),
            (from("tun0").to_vec(), false),
            (state(6).to_vec(), false),
            (state(8 | 2).to_vec(), true),
            (Expression::any_bit(Expression::LoadCtStatus, 32).to_vec(), false),
            (vec![Expression::LoadCtMark, Expression::equal(&[0; 4])], true),
        ] {
            let rule = [conditions.clone(), vec![Expression::Verdict(Verdict::Accept)]].concat();
            assert_eq!(parsed(rule, INPUT).accepts, expected, "{conditions:?}");
            let rule = [conditions.clone(), vec![Expression::Verdict(Verdict::Drop)]].concat();
            let found = parsed(rule, INPUT);
            assert_eq!((found.accepts, found.drops_all), (false, conditions.is_empty()), "{conditions:?}");
        }
    }

    /// `udp sport 67 udp dport 68 accept`, whose ports nft(8) and iptables load together.
    #[test]
    fn both_ports_at_once() {
        let load = Expression::LoadPayload { base: PayloadBase::Transport, offset: 0, length: 4 };
        let accepts = |ports: [u8; 4]| {
            let rule = vec![load.clone(), Expression::equal(&ports), Expression::Verdict(Verdict::Accept)];
            parsed(rule, INPUT).accepts
        };
        assert!(!accepts([0, 67, 0, 68]));
        assert!(accepts([0, 67, 0xca, 0x6c]), "51820 from a port that is not known");
    }

    #[test]
    fn rules_about_forwarded_packets() {
        let forward = |conditions: Vec<Expression>| {
            let rule = [conditions, vec![Expression::Verdict(Verdict::Accept)]].concat();
            let found = parsed(rule, Packet::Forward("tun0"));
            (found.accepts, found.names_device)
        };
        let device = |meta, comparison, name: &str| Expression::device(meta, comparison, name).to_vec();
        let from = |comparison, name: &str| device(MetaKey::IifName, comparison, name);
        assert_eq!(forward(vec![]), (true, false));
        assert_eq!(forward(from(CmpOp::Eq, "tun0")), (true, true));
        assert_eq!(forward(from(CmpOp::Eq, "tun01")), (false, false));
        assert_eq!(forward(from(CmpOp::Neq, "tun0")), (false, false));
        assert_eq!(forward(from(CmpOp::Neq, "eth0")), (true, false));
        let to = device(MetaKey::OifName, CmpOp::Eq, "tun0");
        assert_eq!(forward(to), (true, false));
        // as iptables encodes `-i tun0` and `-i tun+`
        for name in [&b"tun0\0"[..], b"tun"] {
            let steps = vec![Expression::LoadMeta(MetaKey::IifName), Expression::equal(name)];
            assert_eq!(forward(steps), (true, true));
        }
        assert_eq!(forward(protocol(1).to_vec()), (false, false));
        assert_eq!(forward(Expression::any_bit(Expression::LoadCtState, 6).to_vec()), (false, false));
    }

    fn rule(chain: &str, next: Option<&str>, accepts: bool, drops_all: bool) -> FoundRule {
        let mut rule = FoundRule::new(chain.to_owned());
        rule.next.extend(next.map(str::to_owned));
        (rule.accepts, rule.drops_all) = (accepts, drops_all);
        rule
    }

    #[test]
    fn only_rules_that_are_reached_let_through() {
        let other = rule("FORWARD", None, true, false);
        let into_user = rule("INPUT", Some("user"), false, false);
        let back = rule("user", Some("INPUT"), false, false);
        let open = rule("user", None, true, false);
        let may_accept = |rules: &[FoundRule]| may_accept("INPUT", rules, false);
        assert!(!may_accept(&[]) && !may_accept(&[other]));
        assert!(!may_accept(&[into_user.clone(), back.clone()]), "a circle ends");
        assert!(may_accept(&[into_user.clone(), back, open.clone()]));
        assert!(!may_accept(std::slice::from_ref(&open)));
        let named = FoundRule { names_device: true, ..into_user.clone() };
        assert!(!super::may_accept("INPUT", &[into_user.clone(), open.clone()], true));
        assert!(super::may_accept("INPUT", &[into_user.clone(), open.clone(), named, open], true));
        // the last rule of firewalld
        let reject = rule("INPUT", None, false, true);
        assert!(ends_with_drop("INPUT", &[into_user.clone(), reject.clone()]));
        assert!(!ends_with_drop("INPUT", &[reject, into_user]) && !ends_with_drop("INPUT", &[]));
    }

    /// `udp dport vmap @map`, `ct state vmap @map` and `iifname @devices accept`.
    #[test]
    fn lookups_are_resolved() {
        let text = |kind: u16, text: &str| nla(kind, format!("{text}\0").as_bytes());
        let number = |kind: u16, number: u32| nla(kind, &number.to_be_bytes());
        let expression = |name: &str, data: &[u8]| nla(1, &[text(1, name), nla(2, data)].concat());
        let element = |key: &[u8], verdict: Option<Verdict>| {
            let verdict = verdict.map(|verdict| nla(2, &nla(2, &number(1, verdict as u32))));
            nla(1, &[nla(1, &nla(1, key)), verdict.unwrap_or_default()].concat())
        };
        let sets = |elements: &[Vec<u8>]| {
            let body = [vec![0; NFGENMSG_LEN], nla(3, &elements.concat())].concat();
            BTreeMap::from([("set".to_owned(), Element::parse(&body))])
        };
        let map = [text(1, "set"), number(2, 1), number(3, 0)].concat();
        let set = [text(1, "set"), number(2, 1)].concat();
        let accept = expression("immediate", &nla(2, &nla(2, &number(1, Verdict::Accept as u32))));
        let resolved = |packet, load: &[u8], lookup: &[u8], decision: &[u8], sets: &BTreeMap<_, _>| {
            let list = [load, &expression("lookup", lookup), decision].concat();
            let body = [vec![0; NFGENMSG_LEN], text(2, "INPUT"), nla(4, &list)].concat();
            let mut rule = FoundRule::parse(&body, packet).unwrap();
            rule.resolve(sets);
            (rule.accepts, rule.names_device)
        };
        let port = expression("payload", &[number(2, 2), number(3, 2), number(4, 2)].concat());
        let in_map = |load: &[u8], sets: &BTreeMap<_, _>| resolved(INPUT, load, &map, &[], sets).0;
        let ports = sets(&[
            element(&51820_u16.to_be_bytes(), Some(Verdict::Accept)),
            element(&[0, 53], Some(Verdict::Drop)),
        ]);
        assert!(in_map(&port, &ports));
        assert!(!in_map(&port, &sets(&[element(&[0, 53], Some(Verdict::Accept))])));
        assert!(in_map(&port, &BTreeMap::new()), "a map that is not known");
        let state = expression("ct", &number(2, CT_STATE));
        assert!(!in_map(&state, &sets(&[element(&2_u32.to_ne_bytes(), Some(Verdict::Accept))])));
        let device = expression("meta", &number(2, MetaKey::IifName as u32));
        let name = |name: &str| {
            let mut name = name.as_bytes().to_vec();
            name.resize(16, 0);
            name
        };
        let devices = sets(&[element(&name("tun0"), None), element(&name("lo"), None)]);
        assert_eq!(resolved(INPUT, &device, &set, &accept, &devices), (false, false));
        let forward = Packet::Forward("tun0");
        assert_eq!(resolved(forward, &device, &set, &accept, &devices), (true, true));
        let others = sets(&[element(&name("eth0"), None)]);
        assert_eq!(resolved(INPUT, &device, &set, &accept, &others), (true, false));
        assert_eq!(resolved(forward, &device, &set, &accept, &others), (false, false));
    }

    #[test]
    fn matches_of_iptables() {
        let udp = |first: u16, last: u16, inverted: u8| {
            let ports = [0, u16::MAX, first, last].map(u16::to_ne_bytes).concat();
            [ports, vec![inverted, 0]].concat()
        };
        assert!(INPUT.fulfils_match("udp", &udp(51820, 51820, 0)));
        assert!(INPUT.fulfils_match("udp", &udp(53, 53, 2)));
        assert!(!INPUT.fulfils_match("udp", &udp(53, 53, 0)));
        assert!(!INPUT.fulfils_match("tcp", &[]));
        assert!(INPUT.fulfils_match("comment", b"wireguard"));
        let conntrack = |states: u16| {
            let mut info = vec![0; 160];
            info[XT_STATES].copy_from_slice(&states.to_ne_bytes());
            info
        };
        assert!(!INPUT.fulfils_match("conntrack", &conntrack(6)));
        assert!(INPUT.fulfils_match("conntrack", &conntrack(8)));
        assert!(!INPUT.fulfils_match("state", &6_u32.to_ne_bytes()));
    }

    proptest! {
        #[test]
        fn any_body_is_survived(body in prop::collection::vec(any::<u8>(), 0..200), name in "udp|conntrack|state") {
            for packet in [INPUT, Packet::Forward("tun0")] {
                let _ = FoundRule::parse(&body, packet);
                let _ = packet.fulfils_match(&name, &body);
            }
        }
    }
}
