//! Messages between the supervisor and the `names` process. The limits are checked on both sides: a
//! message beyond them is invalid.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::zone::Zone;
use crate::config::{DnsUpstreams, ZoneName};
use crate::resolver::messages::ErrorMessage;
use wontun_proto::allowed_ips::Prefix;

/// Maximum number of peers in a message.
pub const MAX_PEERS: usize = 200;
/// Maximum number of addresses of one peer, and of networks.
pub const MAX_ADDRESSES: usize = 16;
/// Maximum length of a label in bytes.
const MAX_LABEL: usize = 63;

/// A message to the process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToNames {
    /// The first message. Its descriptors are the listening sockets, those for UDP first.
    Start {
        /// True to use seccomp and Landlock.
        is_sandboxed: bool,
        /// Number of sockets for UDP.
        udp: u16,
        /// The name servers for all names but the peers'.
        upstream: DnsUpstreams,
    },
    /// Begins a new zone, which replaces the present one with [`Self::Commit`].
    Zone(ZoneSettings),
    /// Peers of the new zone.
    Peers(Peers),
    /// The new zone is complete.
    Commit,
}

/// A message from the process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromNames {
    /// The process is confined, and answers queries.
    Ready,
    /// The process cannot confine itself, and ends.
    NotReady(ErrorMessage),
    /// A name server over TLS cannot be used for this reason, or answers again.
    Upstream {
        /// Its address.
        server: SocketAddr,
        /// The reason.
        problem: Option<ErrorMessage>,
    },
}

/// A zone without its peers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "UncheckedZone")]
pub struct ZoneSettings {
    domain: ZoneName,
    server: Vec<IpAddr>,
    networks: Vec<(IpAddr, u8)>,
}

#[derive(Deserialize)]
struct UncheckedZone {
    domain: ZoneName,
    server: Vec<IpAddr>,
    networks: Vec<(IpAddr, u8)>,
}

/// Error: a value exceeds its limit, or is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a zone with more or other values than allowed")]
pub struct ZoneError;

impl TryFrom<UncheckedZone> for ZoneSettings {
    type Error = ZoneError;

    fn try_from(zone: UncheckedZone) -> Result<Self, ZoneError> {
        let UncheckedZone { domain, server, networks } = zone;
        let lengths = [server.len(), networks.len()];
        let is_valid = lengths.into_iter().all(|length| length <= MAX_ADDRESSES)
            && networks.iter().all(|(address, length)| Prefix::new(*address, *length).is_some());
        if is_valid { Ok(Self { domain, server, networks }) } else { Err(ZoneError) }
    }
}

impl ZoneSettings {
    /// Returns the settings; of each list the first [`MAX_ADDRESSES`].
    pub fn new(
        domain: ZoneName,
        server: impl IntoIterator<Item = IpAddr>,
        networks: impl IntoIterator<Item = Prefix>,
    ) -> Self {
        let networks = networks.into_iter().take(MAX_ADDRESSES);
        Self {
            domain,
            server: server.into_iter().take(MAX_ADDRESSES).collect(),
            networks: networks.map(|network| (network.network(), network.length())).collect(),
        }
    }

    /// Returns the zone without peers.
    pub(super) fn into_zone(self) -> Zone {
        let networks = self.networks.iter().filter_map(|(address, length)| Prefix::new(*address, *length));
        Zone::new(self.domain, self.server, networks.collect())
    }
}

/// Labels and addresses of at most [`MAX_PEERS`] peers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<(String, Vec<IpAddr>)>")]
pub struct Peers(Vec<(String, Vec<IpAddr>)>);

impl TryFrom<Vec<(String, Vec<IpAddr>)>> for Peers {
    type Error = ZoneError;

    fn try_from(peers: Vec<(String, Vec<IpAddr>)>) -> Result<Self, ZoneError> {
        let is_valid = |(label, addresses): &(String, Vec<IpAddr>)| {
            label.len() <= MAX_LABEL && addresses.len() <= MAX_ADDRESSES
        };
        if peers.len() <= MAX_PEERS && peers.iter().all(is_valid) { Ok(Self(peers)) } else { Err(ZoneError) }
    }
}

impl Peers {
    /// Returns the peers.
    pub(super) fn into_vec(self) -> Vec<(String, Vec<IpAddr>)> {
        self.0
    }
}
