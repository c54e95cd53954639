//! Contents of wontun's tables.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

use nix::libc;

use super::constants::{CT_STATE_ESTABLISHED, CT_STATE_RELATED};
use wontun_proto::allowed_ips::Prefix;

/// The address family of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::netlink) enum Family {
    /// IPv4 and IPv6.
    Inet = libc::NFPROTO_INET as isize,
    Ip = libc::NFPROTO_IPV4 as isize,
    Ip6 = libc::NFPROTO_IPV6 as isize,
}

impl Family {
    /// Returns the family as nft(8) spells it.
    pub(in crate::netlink) const fn name(self) -> &'static str {
        match self {
            Self::Inet => "inet",
            Self::Ip => "ip",
            Self::Ip6 => "ip6",
        }
    }
}

/// The netfilter hook of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::netlink) enum Hook {
    Prerouting = libc::NF_INET_PRE_ROUTING as isize,
    Input = libc::NF_INET_LOCAL_IN as isize,
    Forward = libc::NF_INET_FORWARD as isize,
    Output = libc::NF_INET_LOCAL_OUT as isize,
    Postrouting = libc::NF_INET_POST_ROUTING as isize,
}

/// The priority of a chain at its hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::netlink) enum Priority {
    /// Before connection tracking.
    Raw = libc::NF_IP_PRI_RAW as isize,
    /// After connection tracking, before the routing decision.
    Mangle = libc::NF_IP_PRI_MANGLE as isize,
    /// The priority of destination NAT.
    DestinationNat = libc::NF_IP_PRI_NAT_DST as isize,
    Filter = libc::NF_IP_PRI_FILTER as isize,
    /// The priority of source NAT.
    SourceNat = libc::NF_IP_PRI_NAT_SRC as isize,
    /// After all other chains.
    Last = libc::NF_IP_PRI_LAST as isize,
}

/// The type of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::netlink) enum ChainType {
    Filter,
    Nat,
}

/// The verdict on a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::netlink) enum Verdict {
    Drop = libc::NF_DROP as isize,
    Accept = libc::NF_ACCEPT as isize,
}

/// Metadata of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::netlink) enum MetaKey {
    Mark = libc::NFT_META_MARK as isize,
    /// The index of the input device, 0 if there is none; older kernels end the rule then.
    Iif = libc::NFT_META_IIF as isize,
    /// The index of the output device, 0 if there is none; older kernels end the rule then.
    Oif = libc::NFT_META_OIF as isize,
    /// The name of the input device. For forwarded packets at the postrouting hook, kernels before
    /// 5.7 do not provide it.
    IifName = libc::NFT_META_IIFNAME as isize,
    OifName = libc::NFT_META_OIFNAME as isize,
    /// The address family, a [`Family`] as one byte.
    NfProto = libc::NFT_META_NFPROTO as isize,
    L4Proto = libc::NFT_META_L4PROTO as isize,
    /// The group of the input device (`ip link set DEVICE group NUMBER`), in host byte order.
    IifGroup = libc::NFT_META_IIFGROUP as isize,
}

/// The header to which an offset into a packet refers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::netlink) enum PayloadBase {
    Network = libc::NFT_PAYLOAD_NETWORK_HEADER as isize,
    Transport = libc::NFT_PAYLOAD_TRANSPORT_HEADER as isize,
}

/// A comparison operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::netlink) enum CmpOp {
    Eq = libc::NFT_CMP_EQ as isize,
    Neq = libc::NFT_CMP_NEQ as isize,
    /// Less than, compared as bytes.
    Lt = libc::NFT_CMP_LT as isize,
    /// At most, compared as bytes.
    Lte = libc::NFT_CMP_LTE as isize,
    /// At least, compared as bytes.
    Gte = libc::NFT_CMP_GTE as isize,
}

/// A step of a rule. All values use one register: a load sets it, a failed comparison ends the
/// rule. A key of several fields is loaded into words of the register, one field after the other.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::netlink) enum Expression {
    LoadMeta(MetaKey),
    /// Sets the metadata to the value in the register.
    StoreMeta(MetaKey),
    LoadCtMark,
    /// Sets the connection mark to the value in the register.
    StoreCtMark,
    /// Loads a bit of `IP_CT_*`, such as [`ESTABLISHED_OR_RELATED`].
    LoadCtState,
    /// Loads bits of `IPS_*`, such as [`IPS_DST_NAT`].
    LoadCtStatus,
    /// Loads bytes of a header.
    LoadPayload {
        base: PayloadBase,
        offset: u32,
        length: u32,
    },
    /// Loads metadata into the word of the register with that number, 0 for the first.
    LoadMetaField(u32, MetaKey),
    /// Loads bytes of a header from the word of the register with that number on.
    LoadPayloadField {
        word: u32,
        base: PayloadBase,
        offset: u32,
        length: u32,
    },
    /// Loads the type of the packet's source address, an `RTN_*`.
    LoadSourceAddressType,
    /// Loads the type of the packet's destination address, an `RTN_*`.
    LoadDestinationAddressType,
    /// Loads the next hop of the packet's route, for a packet of that family: a router, or the
    /// destination itself if that is on the link.
    LoadNextHop(Family),
    /// Loads the maximum TCP segment size that fits the routes to both ends, two bytes in host byte
    /// order.
    LoadTcpMss,
    /// Converts the two bytes in the register to network byte order.
    ToNetworkOrder,
    /// Clears the bits that are not set here.
    Mask(Vec<u8>),
    Compare(CmpOp, Vec<u8>),
    /// Continues if the value is in the set with that number.
    Lookup(usize),
    /// Continues if the value is not in the set with that number.
    LookupNone(usize),
    /// Goes to the chain that the set with that number, of [`Elements::Chains`], has for the value;
    /// continues if it has none.
    LookupChain(usize),
    /// Adds the value to the set with that number, for one second.
    DynsetUpdate(usize),
    /// Removes the value from the set with that number, if present.
    DynsetDelete(usize),
    /// Lowers the TCP option "maximum segment size" to the value in the register; never raises or
    /// adds it.
    StoreTcpMss,
    /// Translates the packet's source address to that of the output device.
    Masquerade,
    /// Loads a constant.
    Load(Vec<u8>),
    /// Loads a constant into the second register.
    LoadSecond(Vec<u8>),
    /// Translates the destination of packets of that family to the address in the register, and the
    /// port in the second register.
    DestinationNat(Family),
    /// Counts the packet in the counter with that number.
    Count(usize),
    Verdict(Verdict),
    /// Evaluates the regular chain with that number, and continues behind this rule.
    Jump(usize),
    /// Continues in the regular chain with that number, which returns to where this one was called.
    Goto(usize),
    /// Ends the chain, and continues where it was called.
    Return,
}

/// The bits loaded by [`Expression::LoadCtState`] for packets that belong to a known connection
/// or relate to one.
pub(in crate::netlink) const ESTABLISHED_OR_RELATED: u32 = CT_STATE_ESTABLISHED | CT_STATE_RELATED;
/// The bit loaded by [`Expression::LoadCtStatus`] for connections whose destination was
/// translated by a rule of this host (`IPS_DST_NAT`).
pub(in crate::netlink) const IPS_DST_NAT: u32 = super::constants::IPS_DST_NAT;

/// The address of a packet to examine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::netlink) enum AddressField {
    Source,
    Destination,
}

impl Expression {
    /// Matches packets of IPv6 if `v6` is true, else of IPv4.
    pub(in crate::netlink) fn family(v6: bool) -> [Self; 2] {
        let family = if v6 { Family::Ip6 } else { Family::Ip };
        [Self::LoadMeta(MetaKey::NfProto), Self::equal(&[family as u8])]
    }

    /// Loads the first `length` bytes of an address.
    pub(in crate::netlink) const fn address(field: AddressField, v6: bool, length: u32) -> Self {
        let offset = match (field, v6) {
            // RFC 791, section 3.1; RFC 8200, section 3
            (AddressField::Source, false) => 12,
            (AddressField::Destination, false) => 16,
            (AddressField::Source, true) => 8,
            (AddressField::Destination, true) => 24,
        };
        Self::LoadPayload { base: PayloadBase::Network, offset, length }
    }

    /// Matches packets with an address in the set with number `set`, which is of the family given
    /// by `v6`.
    pub(in crate::netlink) fn in_set(field: AddressField, v6: bool, set: usize) -> Vec<Self> {
        let [load, compare] = Self::family(v6);
        vec![load, compare, Self::address(field, v6, if v6 { 16 } else { 4 }), Self::Lookup(set)]
    }

    /// Matches packets with an address in `network`.
    pub(in crate::netlink) fn in_network(field: AddressField, network: Prefix) -> Vec<Self> {
        let mut rule = Self::family(network.network().is_ipv6()).to_vec();
        rule.extend(Self::in_network_of_family(field, network));
        rule
    }

    /// Matches packets with an address in `network`, if they are known to be of its family.
    pub(in crate::netlink) fn in_network_of_family(field: AddressField, network: Prefix) -> Vec<Self> {
        let (bytes, v6) = match network.network() {
            IpAddr::V4(address) => (address.octets().to_vec(), false),
            IpAddr::V6(address) => (address.octets().to_vec(), true),
        };
        let length = usize::from(network.length());
        let mut rule = Vec::new();
        if length == 0 {
            return rule;
        }
        if length % 8 == 0 {
            let whole = bytes.get(..length / 8).unwrap_or_default();
            rule.push(Self::address(field, v6, u32::from(network.length() / 8)));
            rule.push(Self::equal(whole));
        } else {
            let mask = (0..bytes.len()).map(|index| {
                let bits = length.saturating_sub(index * 8).min(8);
                0xff_u8.checked_shl(8 - u32::try_from(bits).unwrap_or(8)).unwrap_or(0)
            });
            rule.push(Self::address(field, v6, if v6 { 16 } else { 4 }));
            rule.push(Self::Mask(mask.collect()));
            rule.push(Self::equal(&bytes));
        }
        rule
    }

    /// Translates the packet's destination.
    pub(in crate::netlink) fn destination_nat(to: SocketAddr) -> [Self; 3] {
        let (address, family) = match to.ip() {
            IpAddr::V4(address) => (address.octets().to_vec(), Family::Ip),
            IpAddr::V6(address) => (address.octets().to_vec(), Family::Ip6),
        };
        [
            Self::Load(address),
            Self::LoadSecond(to.port().to_be_bytes().to_vec()),
            Self::DestinationNat(family),
        ]
    }

    /// Matches packets that belong to a known connection or relate to one.
    pub(in crate::netlink) fn is_known() -> [Self; 3] {
        Self::any_bit(Self::LoadCtState, ESTABLISHED_OR_RELATED)
    }

    /// Matches if the value loaded by `load` has any of `bits`.
    pub(in crate::netlink) fn any_bit(load: Self, bits: u32) -> [Self; 3] {
        [load, Self::Mask(bits.to_ne_bytes().to_vec()), Self::Compare(CmpOp::Neq, vec![0; 4])]
    }

    pub(in crate::netlink) fn equal(value: &[u8]) -> Self {
        Self::Compare(CmpOp::Eq, value.to_vec())
    }

    /// Compares the name of the packet's input or output device with `name`.
    pub(in crate::netlink) fn device(which: MetaKey, comparison: CmpOp, name: &str) -> [Self; 2] {
        let mut bytes = name.as_bytes().to_vec();
        bytes.resize(libc::IFNAMSIZ, 0);
        [Self::LoadMeta(which), Self::Compare(comparison, bytes)]
    }
}

/// A base chain with its rules.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::netlink) struct Chain {
    pub(in crate::netlink) name: &'static str,
    pub(in crate::netlink) kind: ChainType,
    pub(in crate::netlink) hook: Hook,
    pub(in crate::netlink) priority: Priority,
    /// The verdict on packets about which no rule decides.
    pub(in crate::netlink) policy: Verdict,
    pub(in crate::netlink) rules: Vec<Vec<Expression>>,
}

/// A chain that rules of other chains call.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::netlink) struct RegularChain {
    pub(in crate::netlink) name: String,
    pub(in crate::netlink) rules: Vec<Vec<Expression>>,
}

/// A set of addresses of one family, or of keys.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::netlink) struct Set {
    pub(in crate::netlink) name: Cow<'static, str>,
    /// The family of the addresses, not [`Family::Inet`].
    pub(in crate::netlink) family: Family,
    pub(in crate::netlink) elements: Elements,
}

/// A key of several fields, each of whole words, with zeros behind it.
pub(in crate::netlink) type Key = [u8; MAX_KEY];

/// Maximum length of a [`Key`]: two IPv6 addresses and two words.
pub(in crate::netlink) const MAX_KEY: usize = 40;

/// Returns the key of `length` bytes that follows; `None` after the last one.
pub(in crate::netlink) fn next_key(key: &Key, length: usize) -> Option<Key> {
    let mut next = *key;
    for byte in next.get_mut(..length)?.iter_mut().rev() {
        *byte = byte.wrapping_add(1);
        if *byte != 0 {
            return Some(next);
        }
    }
    None
}

/// A counter of packets and bytes, which rules share.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::netlink) struct Counter {
    pub(in crate::netlink) name: &'static str,
    /// The packets and bytes with which it begins.
    pub(in crate::netlink) start: Counted,
}

/// Counted packets and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Counted {
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
}

/// The elements of a set.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::netlink) enum Elements {
    /// Ranges in ascending order that neither overlap nor touch. IPv4 addresses are in the last 32
    /// bits.
    Ranges(Vec<RangeInclusive<u128>>),
    /// As [`Self::Ranges`], except that they may touch; with the number of the regular chain for
    /// each.
    Chains(Vec<(RangeInclusive<u128>, usize)>),
    /// Ranges of keys of `length` bytes in ascending order that do not overlap. The kernel compares
    /// a key as one value, so that a range is one of its last field only.
    Keys { length: u32, ranges: Vec<RangeInclusive<Key>> },
    /// Addresses that rules add and remove: [`Expression::DynsetUpdate`],
    /// [`Expression::DynsetDelete`].
    Dynamic,
}

/// The complete definition of a table.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::netlink) struct Table {
    pub(in crate::netlink) family: Family,
    pub(in crate::netlink) name: String,
    /// The sets, whose indexes [`Expression::Lookup`] uses.
    pub(in crate::netlink) sets: Vec<Set>,
    /// The counters, whose indexes [`Expression::Count`] uses.
    pub(in crate::netlink) counters: Vec<Counter>,
    pub(in crate::netlink) chains: Vec<Chain>,
    /// The other chains, whose indexes [`Expression::Jump`] uses.
    pub(in crate::netlink) regular: Vec<RegularChain>,
}

impl Table {
    /// Returns the table without its rules and elements, by which it is found and compared.
    pub(in crate::netlink) fn outline(&self) -> Self {
        let empty =
            |set: &Set| Set { name: set.name.clone(), family: set.family, elements: set.elements.outline() };
        Self {
            family: self.family,
            name: self.name.clone(),
            sets: self.sets.iter().map(empty).collect(),
            counters: Vec::new(),
            chains: Vec::new(),
            regular: Vec::new(),
        }
    }
}

impl Elements {
    fn outline(&self) -> Self {
        match self {
            Self::Ranges(_) => Self::Ranges(Vec::new()),
            Self::Chains(_) => Self::Chains(Vec::new()),
            Self::Keys { length, .. } => Self::Keys { length: *length, ranges: Vec::new() },
            Self::Dynamic => Self::Dynamic,
        }
    }
}
