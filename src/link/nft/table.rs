//! What a table of ours can hold.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use crate::routing::Prefix;

/// `IFNAMSIZ`: the kernel compares names of devices as this many bytes.
const NAME_BYTES: usize = 16;

/// Whose packets a table sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::link) enum Family {
    /// Both of the others.
    Inet = 1,
    Ip = 2,
    Ip6 = 10,
}

impl Family {
    /// Returns the family as nft(8) spells it.
    pub(in crate::link) const fn name(self) -> &'static str {
        match self {
            Self::Inet => "inet",
            Self::Ip => "ip",
            Self::Ip6 => "ip6",
        }
    }
}

/// Where a chain hangs in the path of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::link) enum Hook {
    Prerouting = 0,
    Input = 1,
    Forward = 2,
    Postrouting = 4,
}

/// When a chain's turn is among those of its hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::link) enum Priority {
    /// Before connections are tracked.
    Raw = -300,
    /// Before the route is chosen, after connections are tracked.
    Mangle = -150,
    Filter = 0,
    /// Where source addresses are translated.
    SourceNat = 100,
    /// Nobody comes after it.
    Last = i32::MAX as isize,
}

/// What a chain is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::link) enum Kind {
    Filter,
    Nat,
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::link) enum Verdict {
    Drop = 0,
    Accept = 1,
}

/// What is known of a packet besides its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::link) enum Meta {
    Mark = 3,
    /// Where a packet is sent out that was forwarded, kernels before 5.7 do not tell it.
    InputInterfaceName = 6,
    OutputInterfaceName = 7,
    /// A [`Family`], as one byte.
    NetworkProtocol = 15,
    TransportProtocol = 16,
    /// The group of the device that a packet came in by (`ip link set DEVICE group NUMBER`), in the
    /// host's order.
    InputInterfaceGroup = 21,
}

/// Where an offset into a packet is counted from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::link) enum Header {
    Network = 1,
    Transport = 2,
}

/// How a value is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::link) enum Comparison {
    Equal = 0,
    NotEqual = 1,
    /// Less, as bytes.
    Less = 2,
    /// At most, as bytes.
    Most = 3,
    /// At least, as bytes.
    Least = 5,
}

/// A step of a rule. Values go through one register: a load fills it, a comparison that fails ends the rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::link) enum Step {
    LoadMeta(Meta),
    /// Sets it to the value in the register.
    StoreMeta(Meta),
    LoadConnectionMark,
    /// Sets it to the value in the register.
    StoreConnectionMark,
    /// A bit of `IP_CT_*`, such as [`ESTABLISHED_OR_RELATED`].
    LoadConnectionState,
    /// Bits of `IPS_*`, such as [`DESTINATION_TRANSLATED`].
    LoadConnectionStatus,
    /// Bytes of a header.
    LoadHeader {
        header: Header,
        offset: u32,
        length: u32,
    },
    /// The kind of the packet's source address, an `RTN_*`.
    LoadSourceKind,
    /// The next hop of the packet's route, for a packet of that family: a router, or the
    /// destination itself if that is on the link.
    LoadNextHop(Family),
    /// The largest TCP segment that fits the ways to both ends, two bytes in the host's order.
    LoadSegmentSize,
    /// Turns the two bytes in the register into the network's order.
    ToNetworkOrder,
    /// Keeps the bits that are set here.
    Mask(Vec<u8>),
    Compare(Comparison, Vec<u8>),
    /// Goes on if the value is in the set of that number.
    Lookup(usize),
    /// Adds the value to the set of that number, for a second.
    Remember(usize),
    /// Removes the value from the set of that number, if it is there.
    Forget(usize),
    /// Lowers the TCP option "maximum segment size" to the value in the register; never raises or adds it.
    StoreSegmentSize,
    /// Gives the packet the address of the device that it leaves by.
    Masquerade,
    Decide(Verdict),
}

/// What [`Step::LoadConnectionState`] loads of packets that belong to a known connection or tell about one.
pub(in crate::link) const ESTABLISHED_OR_RELATED: u32 = 6;
/// The bit in [`Step::LoadConnectionStatus`] of connections whose destination a rule of this host
/// has translated (`IPS_DST_NAT`).
pub(in crate::link) const DESTINATION_TRANSLATED: u32 = 1 << 5;

/// Which address of a packet is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::link) enum End {
    Source,
    Destination,
}

impl Step {
    /// Goes on for packets of the address family of `v6`.
    pub(in crate::link) fn family(v6: bool) -> [Self; 2] {
        let family = if v6 { Family::Ip6 } else { Family::Ip };
        [Self::LoadMeta(Meta::NetworkProtocol), Self::equal(&[family as u8])]
    }

    /// Loads the first `length` bytes of an address.
    pub(in crate::link) const fn address(end: End, v6: bool, length: u32) -> Self {
        let offset = match (end, v6) {
            (End::Source, false) => 12,
            (End::Destination, false) => 16,
            (End::Source, true) => 8,
            (End::Destination, true) => 24,
        };
        Self::LoadHeader { header: Header::Network, offset, length }
    }

    /// Goes on for packets of the family of set number `set` with an address in it.
    pub(in crate::link) fn in_set(end: End, v6: bool, set: usize) -> Vec<Self> {
        let [load, compare] = Self::family(v6);
        vec![load, compare, Self::address(end, v6, if v6 { 16 } else { 4 }), Self::Lookup(set)]
    }

    /// Goes on for packets with an address in `network`.
    pub(in crate::link) fn in_network(end: End, network: Prefix) -> Vec<Self> {
        let (bytes, v6) = match network.network() {
            IpAddr::V4(address) => (address.octets().to_vec(), false),
            IpAddr::V6(address) => (address.octets().to_vec(), true),
        };
        let length = usize::from(network.length());
        let mut rule = Self::family(v6).to_vec();
        if length % 8 == 0 {
            let whole = bytes.get(..length / 8).unwrap_or_default();
            rule.push(Self::address(end, v6, u32::from(network.length() / 8)));
            rule.push(Self::equal(whole));
        } else {
            let mask = (0..bytes.len()).map(|index| {
                let bits = length.saturating_sub(index * 8).min(8);
                0xff_u8.checked_shl(8 - u32::try_from(bits).unwrap_or(8)).unwrap_or(0)
            });
            rule.push(Self::address(end, v6, if v6 { 16 } else { 4 }));
            rule.push(Self::Mask(mask.collect()));
            rule.push(Self::equal(&bytes));
        }
        rule
    }

    /// Goes on for packets of a known connection, or about one.
    pub(in crate::link) fn is_known() -> [Self; 3] {
        Self::any_bit(Self::LoadConnectionState, ESTABLISHED_OR_RELATED)
    }

    /// Goes on if `load` gives a number with one of `bits`.
    pub(in crate::link) fn any_bit(load: Self, bits: u32) -> [Self; 3] {
        [load, Self::Mask(bits.to_ne_bytes().to_vec()), Self::Compare(Comparison::NotEqual, vec![0; 4])]
    }

    pub(in crate::link) fn equal(value: &[u8]) -> Self {
        Self::Compare(Comparison::Equal, value.to_vec())
    }

    /// The packet came from, or goes to, the device of that name.
    pub(in crate::link) fn device(which: Meta, comparison: Comparison, name: &str) -> [Self; 2] {
        let mut bytes = name.as_bytes().to_vec();
        bytes.resize(NAME_BYTES, 0);
        [Self::LoadMeta(which), Self::Compare(comparison, bytes)]
    }
}

/// A base chain with its rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::link) struct Chain {
    pub(in crate::link) name: &'static str,
    pub(in crate::link) kind: Kind,
    pub(in crate::link) hook: Hook,
    pub(in crate::link) priority: Priority,
    /// What becomes of a packet that no rule decides about.
    pub(in crate::link) policy: Verdict,
    pub(in crate::link) rules: Vec<Vec<Step>>,
}

/// A set of addresses of one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::link) struct Set {
    pub(in crate::link) name: &'static str,
    /// Not [`Family::Inet`].
    pub(in crate::link) family: Family,
    pub(in crate::link) elements: Elements,
}

/// The elements of a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::link) enum Elements {
    /// Ranges in ascending order that neither overlap nor touch. IPv4 addresses are in the last 32
    /// bits.
    Ranges(Vec<RangeInclusive<u128>>),
    /// Addresses that rules add and remove: [`Step::Remember`], [`Step::Forget`].
    Dynamic,
}

/// A table, all of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::link) struct Table {
    pub(in crate::link) family: Family,
    pub(in crate::link) name: String,
    /// [`Step::Lookup`] counts them from 0.
    pub(in crate::link) sets: Vec<Set>,
    pub(in crate::link) chains: Vec<Chain>,
}
