//! Targets of rules: addresses, names of peers and groups, with protocols and ports.

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::ops::RangeInclusive;
use std::str::FromStr;

use crate::config::PeerName;
use wontun_proto::allowed_ips::Prefix;

pub(super) const EXPECTED: &str = "a network, an address, a peer's name, 'any', 'internet', 'lan', 'server', 'peers' or \
     'dns', with ':PORT' or ':PORT-PORT' and '/tcp', '/udp' or '/icmp': 192.0.2.7:443/tcp";

/// A list without targets, which an absent comment is not.
pub(super) const NONE: &str = "none";

/// The target of a rule: a destination of the peer's connections, or a source of connections
/// to it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// The addresses.
    pub destination: Destination,
    /// The protocol; `None` for all, or, with ports, for TCP and UDP.
    pub protocol: Option<Protocol>,
    /// The destination ports; `None` for all.
    pub ports: Option<Ports>,
}

/// Addresses of a target.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Destination {
    /// All addresses.
    Any,
    /// All global addresses.
    Internet,
    /// Private and link-local addresses outside of the VPN.
    Lan,
    /// The server itself.
    Server,
    /// All other peers.
    Peers,
    /// Name servers of the clients and of the server, port 53.
    Dns,
    /// A network or an address.
    Network(Prefix),
    /// The allowed IPs of another peer.
    Peer(PeerName),
}

/// A transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP for IPv4, ICMPv6 for IPv6.
    Icmp,
}

/// A range of ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ports {
    first: NonZeroU16,
    last: NonZeroU16,
}

impl Ports {
    /// The port of DNS.
    pub const DNS: Self = match NonZeroU16::new(53) {
        Some(port) => Self::single(port),
        None => Self { first: NonZeroU16::MIN, last: NonZeroU16::MIN },
    };

    /// Returns one port.
    pub const fn single(port: NonZeroU16) -> Self {
        Self { first: port, last: port }
    }

    /// Returns the ports.
    pub const fn range(self) -> RangeInclusive<u16> {
        self.first.get()..=self.last.get()
    }
}

impl FromStr for Ports {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let port = |text: &str| text.parse::<NonZeroU16>().map_err(|_| EXPECTED);
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last) = (port(first)?, port(last)?);
        if first <= last { Ok(Self { first, last }) } else { Err(EXPECTED) }
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.first.fmt(f)?;
        if self.first == self.last { Ok(()) } else { write!(f, "-{}", self.last) }
    }
}

impl Protocol {
    /// Returns the protocol with this name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Tcp, Self::Udp, Self::Icmp].into_iter().find(|one| one.name().eq_ignore_ascii_case(name))
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Icmp => "icmp",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Destination {
    /// The groups, by their names.
    const GROUPS: [(&'static str, Self); 6] = [
        ("any", Self::Any),
        ("internet", Self::Internet),
        ("lan", Self::Lan),
        ("server", Self::Server),
        ("peers", Self::Peers),
        ("dns", Self::Dns),
    ];

    /// Returns the group with this name.
    fn group(name: &str) -> Option<Self> {
        Self::GROUPS.into_iter().find(|(group, _)| group.eq_ignore_ascii_case(name)).map(|(_, one)| one)
    }

    /// Returns true if a name must be written `@NAME`, since it would be read as something else.
    fn is_ambiguous(name: &str) -> bool {
        Self::group(name).is_some()
            || name.eq_ignore_ascii_case(NONE)
            || is_numeric(name)
            || name.starts_with(['@', '['])
            || name.contains([':', '/'])
    }
}

impl FromStr for Destination {
    type Err = &'static str;

    /// Parses a destination without port and protocol.
    fn from_str(text: &str) -> Result<Self, &'static str> {
        if let Some(name) = text.strip_prefix('@') {
            return name.parse().map(Self::Peer).map_err(|_| EXPECTED);
        }
        if let Some(known) = Self::group(text).or_else(|| network(text).map(Self::Network)) {
            return Ok(known);
        }
        // an address that is none is not a name
        if is_numeric(text) { Err(EXPECTED) } else { text.parse().map(Self::Peer).map_err(|_| EXPECTED) }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(network) => write_network(f, *network, false),
            Self::Peer(name) if Self::is_ambiguous(name.as_str()) => write!(f, "@{name}"),
            Self::Peer(name) => name.fmt(f),
            group => Self::GROUPS
                .iter()
                .find(|(_, one)| one == group)
                .map_or(Ok(()), |(name, _)| f.write_str(name)),
        }
    }
}

/// Returns true for an address, a network and what looks like one.
fn is_numeric(text: &str) -> bool {
    text.contains(['.', ':', '/'])
        && text.chars().all(|letter| letter.is_ascii_hexdigit() || ".:/".contains(letter))
}

/// Parses a network or an address; host bits are cleared.
fn network(text: &str) -> Option<Prefix> {
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().ok()?;
    let full = if address.is_ipv4() { 32 } else { 128 };
    let length = length.map_or(Some(full), |length| length.parse().ok())?;
    (length <= full).then(|| Prefix::of(address, length))
}

/// Writes a network, a single address without its length; with `brackets`, as a port needs them.
fn write_network(f: &mut fmt::Formatter<'_>, network: Prefix, brackets: bool) -> fmt::Result {
    let address = network.network();
    let (open, close) = if brackets && address.is_ipv6() { ("[", "]") } else { ("", "") };
    let full = if address.is_ipv4() { 32 } else { 128 };
    if network.length() == full {
        write!(f, "{open}{address}{close}")
    } else {
        write!(f, "{open}{network}{close}")
    }
}

impl FromStr for Target {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let (text, protocol) = match text.rsplit_once('/') {
            Some((before, last)) if Protocol::named(last).is_some() => (before, Protocol::named(last)),
            _ => (text, None),
        };
        let (destination, ports) = if let Some(inside) = text.strip_prefix('[') {
            let (address, rest) = inside.split_once(']').ok_or(EXPECTED)?;
            let network = network(address).filter(|network| network.network().is_ipv6()).ok_or(EXPECTED)?;
            let ports = match rest {
                "" => None,
                rest => Some(rest.strip_prefix(':').ok_or(EXPECTED)?.parse()?),
            };
            (Destination::Network(network), ports)
        } else {
            match text.rsplit_once(':') {
                // an IPv6 address without brackets
                _ if network(text).is_some() => (text.parse()?, None),
                Some((before, ports)) => (before.parse()?, Some(ports.parse()?)),
                None => (text.parse()?, None),
            }
        };
        let ports_of_icmp = protocol == Some(Protocol::Icmp) && ports.is_some();
        let ports_of_dns = destination == Destination::Dns && (ports.is_some() || protocol.is_some());
        if ports_of_icmp || ports_of_dns {
            return Err(EXPECTED);
        }
        Ok(Self { destination, protocol, ports })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.destination, &self.ports) {
            (Destination::Network(network), Some(ports)) => {
                write_network(f, *network, true)?;
                write!(f, ":{ports}")?;
            }
            (destination, Some(ports)) => write!(f, "{destination}:{ports}")?,
            (destination, None) => destination.fmt(f)?,
        }
        self.protocol.map_or(Ok(()), |protocol| write!(f, "/{protocol}"))
    }
}
