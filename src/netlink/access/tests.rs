//! The table is interpreted as the kernel does it, and compared with the rules.

use std::net::IpAddr;
use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::config::PeerPolicy;
use crate::config::access::{AccessRules, Connection, Host};
use crate::config::wg_quick::{Hooks, parse};
use crate::netlink::nft::Key;

const TUNNEL: u32 = 7;
const OTHER: u32 = 2;
const PRIVATE: &str = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=";
/// Addresses of the server.
const SERVER: [&str; 4] = ["10.8.0.1", "fd08::1", "192.168.1.1", "2001:db8::1"];

/// The first packet of a connection.
#[derive(Clone, Copy, Debug)]
struct Packet {
    connection: Connection,
    iif: u32,
    oif: u32,
}

/// The end of the evaluation of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Accept,
    Drop,
    /// The chain has returned, or has ended.
    Continue,
}

impl Packet {
    fn hook(&self) -> Hook {
        match (self.connection.source.is_server, self.connection.destination.is_server) {
            (_, true) => Hook::Input,
            (true, false) => Hook::Output,
            (false, false) => Hook::Forward,
        }
    }

    /// Returns true if the table lets the packet pass.
    fn passes(&self, table: &Table) -> bool {
        let chains =
            table.chains.iter().filter(|chain| chain.hook == self.hook() && chain.kind == ChainType::Filter);
        chains.into_iter().all(|chain| self.evaluate(table, &chain.rules) != Outcome::Drop)
    }

    fn evaluate(&self, table: &Table, rules: &[Vec<Expression>]) -> Outcome {
        for rule in rules {
            match self.rule(table, rule) {
                None => {}
                Some(Step::End(outcome)) => return outcome,
                Some(Step::Jump(chain)) => match self.evaluate(table, &table.regular[chain].rules) {
                    Outcome::Continue => {}
                    outcome => return outcome,
                },
                Some(Step::Goto(chain)) => return self.evaluate(table, &table.regular[chain].rules),
            }
        }
        Outcome::Continue
    }

    fn rule(&self, table: &Table, rule: &[Expression]) -> Option<Step> {
        let Connection { source, destination, protocol, port, is_forwarded } = self.connection;
        let bytes = |address: IpAddr| match address {
            IpAddr::V4(v4) => v4.octets().to_vec(),
            IpAddr::V6(v6) => v6.octets().to_vec(),
        };
        let kind = |host: Host| u32::from(if host.is_server { 2_u8 } else { 1 }).to_ne_bytes().to_vec();
        let mut register = Vec::new();
        for expression in rule {
            match expression {
                Expression::LoadMeta(MetaKey::Iif) => register = self.iif.to_ne_bytes().to_vec(),
                Expression::LoadMeta(MetaKey::Oif) => register = self.oif.to_ne_bytes().to_vec(),
                Expression::LoadMeta(MetaKey::NfProto) => {
                    register = vec![if source.address.is_ipv4() { 2 } else { 10 }];
                }
                Expression::LoadMeta(MetaKey::L4Proto) => register = vec![protocol],
                Expression::LoadCtState => register = 8_u32.to_ne_bytes().to_vec(),
                Expression::LoadCtStatus => register = (u32::from(is_forwarded) << 5).to_ne_bytes().to_vec(),
                Expression::LoadSourceAddressType => register = kind(source),
                Expression::LoadDestinationAddressType => register = kind(destination),
                Expression::LoadPayload { base: PayloadBase::Network, offset, length } => {
                    let is_source = *offset == if source.address.is_ipv4() { 12 } else { 8 };
                    register = bytes(if is_source { source.address } else { destination.address });
                    register.truncate(*length as usize);
                }
                Expression::LoadPayload { offset: 2, length: 2, .. } => {
                    register = port.to_be_bytes().to_vec();
                }
                Expression::LoadMetaField(word, MetaKey::L4Proto) => load(&mut register, *word, &[protocol]),
                Expression::LoadPayloadField { word, base: PayloadBase::Network, offset, .. } => {
                    let is_source = *offset == if source.address.is_ipv4() { 12 } else { 8 };
                    let address = if is_source { source.address } else { destination.address };
                    load(&mut register, *word, &bytes(address));
                }
                Expression::LoadPayloadField { word, offset: 2, length: 2, .. } => {
                    load(&mut register, *word, &port.to_be_bytes());
                }
                Expression::Count(0) => {}
                Expression::Mask(mask) => {
                    register.iter_mut().zip(mask).for_each(|(byte, mask)| *byte &= mask);
                }
                Expression::Compare(comparison, value) => {
                    let is_fulfilled = match comparison {
                        CmpOp::Eq => register == *value,
                        CmpOp::Neq => register != *value,
                        CmpOp::Lt => register < *value,
                        CmpOp::Lte => register <= *value,
                        CmpOp::Gte => register >= *value,
                    };
                    if !is_fulfilled {
                        return None;
                    }
                }
                Expression::Lookup(set) if !found(table, *set, &register) => return None,
                Expression::LookupNone(set) if found(table, *set, &register) => return None,
                Expression::Lookup(_) | Expression::LookupNone(_) => {}
                Expression::LookupChain(set) => {
                    let Elements::Chains(elements) = &table.sets[*set].elements else { panic!() };
                    let key = number(&register);
                    if let Some((_, chain)) = elements.iter().find(|(range, _)| range.contains(&key)) {
                        return Some(Step::Goto(*chain));
                    }
                }
                Expression::Verdict(Verdict::Accept) => return Some(Step::End(Outcome::Accept)),
                Expression::Verdict(Verdict::Drop) => return Some(Step::End(Outcome::Drop)),
                Expression::Return => return Some(Step::End(Outcome::Continue)),
                Expression::Jump(chain) => return Some(Step::Jump(*chain)),
                Expression::Goto(chain) => return Some(Step::Goto(*chain)),
                other => panic!("{other:?}"),
            }
        }
        None
    }
}

enum Step {
    End(Outcome),
    Jump(usize),
    Goto(usize),
}

fn number(bytes: &[u8]) -> u128 {
    bytes.iter().fold(0, |number, byte| number << 8 | u128::from(*byte))
}

/// Loads a field of a key; the fields come one after the other.
fn load(register: &mut Vec<u8>, word: u32, value: &[u8]) {
    register.truncate(word as usize * 4);
    assert_eq!(register.len(), word as usize * 4);
    register.extend(value);
    register.resize(register.len().next_multiple_of(4), 0);
}

fn found(table: &Table, set: usize, key: &[u8]) -> bool {
    match &table.sets[set].elements {
        Elements::Ranges(ranges) => ranges.iter().any(|range| range.contains(&number(key))),
        Elements::Keys { length, ranges } => {
            assert_eq!(key.len(), *length as usize);
            let bytes = |bound: &Key| bound[..key.len()].to_vec();
            ranges.iter().any(|range| (bytes(range.start())..=bytes(range.end())).contains(&key.to_vec()))
        }
        other => panic!("{other:?}"),
    }
}

/// Returns two addresses, each of one of the places: the server, peers, nobody in the VPN, a
/// network of a peer, the local network, the Internet.
fn addresses() -> impl Strategy<Value = (IpAddr, IpAddr)> {
    let v4 = [
        "10.8.0.1",
        "10.8.0.2",
        "10.8.0.3",
        "10.8.0.9",
        "192.168.50.7",
        "192.168.1.1",
        "192.168.1.7",
        "192.0.2.7",
        "9.9.9.9",
        "127.0.0.9",
    ];
    let v6 =
        ["fd08::1", "fd08::2", "fd08::3", "fd08::9", "fd00::7", "2001:db8::1", "2001:db8::7", "2620:fe::fe"];
    let pair = |addresses: Vec<&'static str>| {
        let address = prop::sample::select(addresses);
        (address.clone(), address).prop_filter("two hosts", |(source, destination)| source != destination)
    };
    let parse = |text: &str| text.parse().unwrap();
    prop_oneof![pair(v4.to_vec()), pair(v6.to_vec())].prop_map(move |(source, to)| (parse(source), parse(to)))
}

fn target() -> impl Strategy<Value = String> {
    "(any|internet|lan|server|peers|a|b|c|10\\.8\\.0\\.0/24|192\\.0\\.2\\.0/29|192\\.168\\.0\\.0/17|fd08::/64|2001:db8::/29|9\\.9\\.9\\.9)(/tcp|/udp|/icmp)?|dns|(any|server|b|192\\.0\\.2\\.7|\\[2001:db8::/32\\]):(53|80-90|443)(/tcp|/udp)?"
}

fn comments() -> impl Strategy<Value = String> {
    let list = |key: &'static str| {
        prop::option::of(prop::collection::vec(target(), 0..3)).prop_map(move |targets| match targets {
            Some(targets) if targets.is_empty() => format!("# {key} = none\n"),
            Some(targets) => format!("# {key} = {}\n", targets.join(", ")),
            None => String::new(),
        })
    };
    (list("Allow"), list("Deny"), list("AllowFrom"), prop::option::of(Just("# Forward = 443/tcp\n")))
        .prop_map(|(allow, deny, from, forward)| allow + &deny + &from + forward.unwrap_or_default())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn the_table_lets_pass_what_the_rules_allow(
        policy in prop::sample::select(vec![PeerPolicy::Open, PeerPolicy::Isolate, PeerPolicy::InternetOnly]),
        peers in [comments(), comments()],
        (source, destination) in addresses(),
        protocol in prop::sample::select(vec![1_u8, 6, 17, 58, 132]),
        port in prop::sample::select(vec![0_u16, 53, 79, 80, 90, 91, 443]),
        is_forwarded: bool,
    ) {
        let mut text = format!("[Interface]\nPrivateKey = {PRIVATE}\nAddress = 10.8.0.1/24, fd08::1/64\n");
        for (number, (name, comments)) in (2..).zip(["a", "b"].into_iter().zip(&peers)) {
            let key = wontun_proto::wireguard::PublicKey::from_bytes([number; 32]);
            let site = if name == "b" { ", 192.168.50.0/24" } else { "" };
            let comments = if name == "b" { comments.replace("Forward = 443/tcp", "Forward = 8443/tcp=443") } else { comments.clone() };
            text += &format!("[Peer]\n# Name = {name}\n{comments}PublicKey = {key}\nAllowedIPs = 10.8.0.{number}/32, fd08::{number}/128{site}\n");
        }
        let file = parse(Path::new("x"), text.as_bytes(), Hooks::Refuse).unwrap().configuration;
        let dns = ["10.8.0.1".parse().unwrap(), "9.9.9.9".parse().unwrap()];
        let rules = AccessRules::of_file(&file, policy, &dns);
        let host = |address: IpAddr| Host { address, is_server: SERVER.contains(&address.to_string().as_str()) };
        let connection = Connection { source: host(source), destination: host(destination), protocol, port, is_forwarded };
        let device = |address: IpAddr| {
            let networks = ["10.8.0.0/24", "fd08::/64", "192.168.50.0/24"];
            let is_inside = networks.iter().any(|network| {
                let (network, length) = network.split_once('/').unwrap();
                wontun_proto::allowed_ips::Prefix::of(network.parse::<IpAddr>().unwrap(), length.parse().unwrap()).contains(address)
            });
            if is_inside { TUNNEL } else { OTHER }
        };
        let packet = Packet {
            connection,
            iif: if connection.source.is_server { 0 } else { device(source) },
            oif: if connection.destination.is_server { 0 } else { device(destination) },
        };
        let table = table("tun0", TUNNEL, &rules);
        prop_assert_eq!(packet.passes(&table), rules.decide(&connection), "{}\n{:?}", text, packet);
        prop_assert_eq!(rules.explain(&file, &dns, &connection).is_allowed, rules.decide(&connection), "{}", text);
    }
}
