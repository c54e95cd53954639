//! Rules of others as they meet a datagram to a UDP port of this host, the first of its connection.
//!
//! Where a condition is not understood, the datagram is taken to fulfil it: a rule that may let it
//! in is believed to.

use super::listing::{HEADER, number, text};
use super::table::{Header, Meta, Verdict};
use crate::link::message::{attribute, attributes};

/// `NFT_JUMP` and `NFT_GOTO`, from linux/netfilter/nf_tables.h.
const JUMP: u32 = 0xffff_fffd;
const GOTO: u32 = 0xffff_fffc;
/// `NFT_CT_STATE` and `NFT_CT_STATUS`.
const CT_STATE: u32 = 0;
const CT_STATUS: u32 = 2;
/// `NFT_META_IIF`, and the loopback's index.
const META_IIF: u32 = 4;
const LOOPBACK: [u8; 4] = 1_u32.to_ne_bytes();
/// The bit of new connections in the state, here and in xt_conntrack.
const NEW: u32 = 8;
/// Where xt_conntrack's match has the states that it asks for.
const XT_STATES: std::ops::Range<usize> = 150..152;
const UDP: u8 = 17;

/// A rule, for one port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::link) struct InputRule {
    pub(in crate::link) chain: String,
    /// The chain whose rules come next.
    pub(in crate::link) next: Option<String>,
    /// It may accept the datagram.
    pub(in crate::link) accepts: bool,
    /// It drops or rejects whatever comes.
    pub(in crate::link) drops_all: bool,
}

/// Contents of the register, as far as they are known of the datagram.
#[derive(Clone, Debug)]
enum Loaded {
    Bytes(Vec<u8>),
    /// The name of the device that it came in by: any but the loopback's.
    Device,
    /// The index of that device.
    DeviceIndex,
    /// Bits of the connection's state; after a mask these only.
    State(u32),
    /// A new connection has none.
    Status,
    Unknown,
}

impl InputRule {
    /// Reads an `NFT_MSG_NEWRULE` for datagrams to `port`.
    pub(super) fn parse(body: &[u8], port: u16) -> Option<Self> {
        let rule = body.get(HEADER..)?;
        let mut found = Self { chain: text(rule, 2)?, next: None, accepts: false, drops_all: false };
        let (mut loaded, mut fulfils, mut is_conditional) = (Loaded::Unknown, true, false);
        for expression in attributes(&attribute(rule, 4).unwrap_or_default(), 1) {
            let data = attribute(&expression, 2).unwrap_or_default();
            match text(&expression, 1).unwrap_or_default().as_str() {
                "meta" => loaded = from_meta(&data),
                "payload" => loaded = from_payload(&data, port),
                "ct" => {
                    loaded = match number(&data, 2) {
                        Some(CT_STATE) => Loaded::State(NEW),
                        Some(CT_STATUS) => Loaded::Status,
                        _ => Loaded::Unknown,
                    };
                }
                "bitwise" => {
                    loaded = match loaded {
                        Loaded::State(bits) => {
                            let mask = value(&data, 4).first_chunk().copied().map(u32::from_ne_bytes);
                            Loaded::State(bits & mask.unwrap_or(NEW))
                        }
                        Loaded::Status => Loaded::Status,
                        _ => Loaded::Unknown,
                    };
                }
                "cmp" => {
                    is_conditional = true;
                    fulfils &= loaded.compares(number(&data, 2), &value(&data, 3));
                }
                // sets of states have those of known connections
                "lookup" => {
                    is_conditional = true;
                    fulfils &= !matches!(loaded, Loaded::State(_) | Loaded::Status);
                }
                "match" => {
                    is_conditional = true;
                    let info = attribute(&data, 3).unwrap_or_default();
                    fulfils &= fulfils_match(&text(&data, 1).unwrap_or_default(), &info, port);
                }
                "immediate" => {
                    let verdict = attribute(&data, 2).and_then(|data| attribute(&data, 2));
                    let Some(verdict) = verdict else { continue };
                    match number(&verdict, 1) {
                        Some(JUMP | GOTO) => found.next = text(&verdict, 2).filter(|_| fulfils),
                        Some(code) if code == Verdict::Accept as u32 => found.accepts = fulfils,
                        Some(code) if code == Verdict::Drop as u32 => found.drops_all = !is_conditional,
                        _ => {}
                    }
                }
                "reject" => found.drops_all = !is_conditional,
                "counter" | "log" => {}
                _ => is_conditional = true,
            }
        }
        Some(found)
    }
}

impl Loaded {
    /// Compares it by the kernel's `NFT_CMP_*`.
    fn compares(&self, comparison: Option<u32>, wanted: &[u8]) -> bool {
        let (is_equal, is_known) = match self {
            Self::Bytes(bytes) => {
                let order = bytes.as_slice().cmp(wanted);
                return match comparison {
                    Some(0) => order.is_eq(),
                    Some(1) => order.is_ne(),
                    Some(2) => order.is_lt(),
                    Some(3) => order.is_le(),
                    Some(4) => order.is_gt(),
                    Some(5) => order.is_ge(),
                    _ => true,
                };
            }
            Self::State(bits) => (wanted.first_chunk() == Some(&bits.to_ne_bytes()), true),
            Self::Status => (wanted.iter().all(|byte| *byte == 0), true),
            // it is not the loopback, and may be any other
            Self::Device => (false, wanted.split(|byte| *byte == 0).next() == Some(b"lo")),
            Self::DeviceIndex => (false, wanted == LOOPBACK),
            Self::Unknown => (false, false),
        };
        match comparison {
            _ if !is_known => true,
            Some(0) => is_equal,
            Some(1) => !is_equal,
            _ => true,
        }
    }
}

fn from_meta(data: &[u8]) -> Loaded {
    match number(data, 2) {
        Some(key) if key == Meta::TransportProtocol as u32 => Loaded::Bytes(vec![UDP]),
        Some(key) if key == Meta::InputInterfaceName as u32 => Loaded::Device,
        Some(META_IIF) => Loaded::DeviceIndex,
        _ => Loaded::Unknown,
    }
}

fn from_payload(data: &[u8], port: u16) -> Loaded {
    let [base, offset, length] = [2, 3, 4].map(|kind| number(data, kind).unwrap_or(u32::MAX));
    if (base, offset, length) == (Header::Transport as u32, 2, 2) {
        Loaded::Bytes(port.to_be_bytes().to_vec())
    } else if base == Header::Network as u32 && length == 1 && matches!(offset, 6 | 9) {
        // IPv6's and IPv4's protocol
        Loaded::Bytes(vec![UDP])
    } else {
        Loaded::Unknown
    }
}

/// Returns true if the datagram may fulfil a match of iptables.
fn fulfils_match(name: &str, info: &[u8], port: u16) -> bool {
    let word = |place: std::ops::Range<usize>| {
        info.get(place).and_then(|bytes| bytes.first_chunk()).copied().map(u16::from_ne_bytes)
    };
    match name {
        "tcp" | "icmp" | "icmp6" | "sctp" => false,
        "udp" => match (word(4..6), word(6..8), info.get(8)) {
            // the ports, and a bit that turns it round
            (Some(first), Some(last), Some(inverted)) => {
                (first..=last).contains(&port) != (inverted & 2 != 0)
            }
            _ => true,
        },
        "conntrack" => word(XT_STATES).is_none_or(|states| u32::from(states) & NEW != 0 || states == 0),
        "state" => info.first_chunk().is_none_or(|states| u32::from_ne_bytes(*states) & NEW != 0),
        _ => true,
    }
}

/// The bytes in a nested `NFTA_DATA_VALUE`.
fn value(data: &[u8], kind: u16) -> Vec<u8> {
    attribute(data, kind).and_then(|data| attribute(&data, 1)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::batch::tests::messages;
    use super::super::table::{Chain, Comparison, Family, Hook, Kind, Priority, Step, Table};
    use super::*;

    fn parsed(rule: Vec<Step>, port: u16) -> InputRule {
        let (kind, priority, policy) = (Kind::Filter, Priority::Filter, Verdict::Drop);
        let chains =
            vec![Chain { name: "INPUT", kind, hook: Hook::Input, priority, policy, rules: vec![rule] }];
        let table = Table { family: Family::Ip, name: "filter".to_owned(), sets: vec![], chains };
        let message = messages(&table).into_iter().last().unwrap();
        InputRule::parse(&message.1, port).unwrap()
    }

    fn port(comparison: Comparison, port: u16) -> [Step; 2] {
        let load = Step::LoadHeader { header: Header::Transport, offset: 2, length: 2 };
        [load, Step::Compare(comparison, port.to_be_bytes().to_vec())]
    }

    fn protocol(number: u8) -> [Step; 2] {
        [Step::LoadMeta(Meta::TransportProtocol), Step::equal(&[number])]
    }

    #[test]
    fn what_may_let_the_port_in() {
        let from = |name: &str| Step::device(Meta::InputInterfaceName, Comparison::Equal, name);
        let state = |bits: u32| Step::any_bit(Step::LoadConnectionState, bits);
        for (conditions, expected) in [
            (vec![], true),
            ([protocol(17), port(Comparison::Equal, 51820)].concat(), true),
            ([protocol(17), port(Comparison::Equal, 53)].concat(), false),
            ([protocol(6), port(Comparison::Equal, 51820)].concat(), false),
            ([port(Comparison::Least, 50000), port(Comparison::Most, 60000)].concat(), true),
            ([port(Comparison::Least, 1), port(Comparison::Most, 1023)].concat(), false),
            (port(Comparison::NotEqual, 22).to_vec(), true),
            (protocol(1).to_vec(), false),
            (from("lo").to_vec(), false),
            (from("eth0").to_vec(), true),
            (state(6).to_vec(), false),
            (state(8 | 2).to_vec(), true),
            (Step::any_bit(Step::LoadConnectionStatus, 32).to_vec(), false),
            (vec![Step::LoadConnectionMark, Step::equal(&[0; 4])], true),
        ] {
            let rule = [conditions.clone(), vec![Step::Decide(Verdict::Accept)]].concat();
            assert_eq!(parsed(rule, 51820).accepts, expected, "{conditions:?}");
            let rule = [conditions.clone(), vec![Step::Decide(Verdict::Drop)]].concat();
            let found = parsed(rule, 51820);
            assert_eq!((found.accepts, found.drops_all), (false, conditions.is_empty()), "{conditions:?}");
        }
    }

    #[test]
    fn matches_of_iptables() {
        let udp = |first: u16, last: u16, inverted: u8| {
            let ports = [0, u16::MAX, first, last].map(u16::to_ne_bytes).concat();
            [ports, vec![inverted, 0]].concat()
        };
        assert!(fulfils_match("udp", &udp(51820, 51820, 0), 51820));
        assert!(fulfils_match("udp", &udp(53, 53, 2), 51820));
        assert!(!fulfils_match("udp", &udp(53, 53, 0), 51820));
        assert!(!fulfils_match("tcp", &[], 51820));
        assert!(fulfils_match("comment", b"wireguard", 51820));
        let conntrack = |states: u16| {
            let mut info = vec![0; 160];
            info[XT_STATES].copy_from_slice(&states.to_ne_bytes());
            info
        };
        assert!(!fulfils_match("conntrack", &conntrack(6), 51820));
        assert!(fulfils_match("conntrack", &conntrack(8), 51820));
        assert!(!fulfils_match("state", &6_u32.to_ne_bytes(), 51820));
    }

    proptest! {
        #[test]
        fn any_body_is_survived(body in prop::collection::vec(any::<u8>(), 0..200), name in "udp|conntrack|state") {
            let _ = InputRule::parse(&body, 51820);
            let _ = fulfils_match(&name, &body, 51820);
        }
    }
}
