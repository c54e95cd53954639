//! Configuration files of `wg-quick(8)`: parsing to typed values, and printing.
//!
//! Files are read as `wg-quick` and `wg setconf` read them: keys and sections in any case and any
//! order, `#` begins a comment anywhere in a line, most white space (CRLF too) is ignored, lists
//! may be split over lines. Contradictions that those tools accept silently (a key given twice, two
//! sections of one peer) are errors. The keys `PrivateKeyFile` and `PresharedKeyFile`, the comment
//! `# Name = phone` of a peer and those of its [`PeerSettings`] are extensions. No command in a
//! file is ever run.
//!
//! [`parse`] and [`parse_all`] take the text and open no file. [`load`], [`reload`] and [`check`]
//! read the file and its key files.

pub(crate) mod amnezia;
mod error;
mod field;
mod format;
mod load;
pub(crate) mod outline;
mod parser;
mod value;

use std::collections::HashSet;
use std::net::{IpAddr, Ipv6Addr};
use std::num::{NonZeroU16, NonZeroU32};
use std::path::PathBuf;

pub use error::{ErrorKind, Notice, Warning, WgQuickError};
pub use field::{Field, Section};
pub use load::{LoadError, LoadErrors, Loaded, check, load, reload};
pub(crate) use load::{read_input, read_secret, read_text};
pub use outline::ServerComments;
pub use parser::{Invalid, parse, parse_all};
pub use value::is_space;
pub(crate) use value::items;
pub use wontun_proto::wireguard::{KeyError, PresharedKey, PrivateKey, PublicKey};

use super::peer_settings::PeerSettings;
use super::{Cidr, Network, PeerAddress, PeerName};
use wontun_proto::allowed_ips::Prefix;

/// Handling of the keys that `wg-quick` would run as commands, and of `SaveConfig`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hooks {
    /// Treats them as errors.
    #[default]
    Refuse,
    /// Ignores them, with a warning for each.
    Ignore,
}

/// The result of parsing a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// The configuration.
    pub configuration: WgQuick,
    /// Warnings for the user, by line.
    pub warnings: Vec<Warning>,
    /// Settings of a server in comments of its file.
    pub server: ServerComments,
}

/// A configuration. Its `Debug` output contains no secret; the text of [`Self::to_text`] does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WgQuick {
    /// The local side.
    pub interface: Interface,
    /// The peers in the order of the file, each with a distinct public key. A prefix of several
    /// peers belongs to the last of them.
    pub peers: Vec<Peer>,
}

impl WgQuick {
    /// Returns true if the file itself contains a private or preshared key.
    pub fn has_secrets(&self) -> bool {
        let is_inline =
            |key: &Option<KeySource<PresharedKey>>| key.as_ref().and_then(KeySource::inline).is_some();
        self.interface.private_key.inline().is_some()
            || self.peers.iter().any(|peer| is_inline(&peer.preshared_key))
    }

    /// Returns true for the configuration of a client: it has an endpoint and no port of its own.
    pub fn is_client(&self) -> bool {
        self.interface.listen_port.is_none() && self.peers.iter().any(|peer| peer.endpoint.is_some())
    }

    /// Returns the networks of the device's addresses, without duplicates, that have room for other
    /// hosts: the VPN's, if this is a server.
    pub fn networks(&self) -> Vec<Prefix> {
        let mut networks = Vec::new();
        for cidr in &self.interface.addresses {
            let network = Prefix::of(cidr.address(), cidr.prefix());
            if !is_host(network) && !networks.contains(&network) {
                networks.push(network);
            }
        }
        networks
    }

    /// Returns true if all of IPv4 or all of IPv6 is routed through the tunnel, as /0 or as two /1
    /// prefixes.
    pub fn is_full_tunnel(&self) -> bool {
        self.has_all(false) || self.has_all(true)
    }

    /// Returns true if all of IPv6 (`v6`), or all of IPv4, is routed through the tunnel, as /0 or
    /// as two /1 prefixes.
    fn has_all(&self, v6: bool) -> bool {
        let all = |length: u8| -> HashSet<Prefix> {
            let prefixes = self.peers.iter().flat_map(|peer| &peer.allowed_ips).copied();
            prefixes.filter(|prefix| prefix.length() == length && prefix.network().is_ipv6() == v6).collect()
        };
        !all(0).is_empty() || all(1).len() == 2
    }

    /// Returns a warning if the tunnel is a full tunnel of one address family only, so that the
    /// other family bypasses it. Returns `None` if the routes are not managed, or go to a table of
    /// their own without rules. 2000::/3, the whole IPv6 Internet, counts as all of IPv6: some
    /// files have it instead of ::/0.
    pub fn leak_warning(&self) -> Option<&'static str> {
        if self.interface.table != Table::Auto {
            return None;
        }
        let internet = Prefix::of(Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0).into(), 3);
        let has_internet = || self.peers.iter().any(|peer| peer.allowed_ips.contains(&internet));
        match (self.has_all(false), self.has_all(true) || has_internet()) {
            (true, false) => Some(
                "all of IPv4 goes through the tunnel, but IPv6 bypasses it: add ::/0 to the AllowedIPs that \
                 have 0.0.0.0/0 (the other side drops what it cannot forward), or start with --kill-switch, which blocks \
                 IPv6",
            ),
            (false, true) => Some(
                "all of IPv6 goes through the tunnel, but IPv4 bypasses it: unless that is intended, add \
                 0.0.0.0/0 to the AllowedIPs that have ::/0",
            ),
            _ => None,
        }
    }
}

/// The `[Interface]` section: the local side of the tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// The local private key.
    pub private_key: KeySource<PrivateKey>,
    /// UDP port to listen on; `None` (0 in the file) for any port.
    pub listen_port: Option<NonZeroU16>,
    /// Firewall mark of the outer packets; `None` (`off` or 0 in the file) for no mark.
    pub fwmark: Option<NonZeroU32>,
    /// Addresses of the device, without duplicates.
    pub addresses: Vec<Cidr>,
    /// MTU of the device in bytes, at least 68, or 1280 with an IPv6 address; `None` for the
    /// default.
    pub mtu: Option<u32>,
    /// Routing table of the allowed IPs.
    pub table: Table,
    /// Name servers and search domains, as written.
    pub dns: Vec<String>,
}

/// A `[Peer]` section: a remote side of the tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Name of the peer: its first comment `# Name = phone`. `None` if there is none or it is not a
    /// valid `PeerName`.
    pub name: Option<PeerName>,
    /// Public key of the peer.
    pub public_key: PublicKey,
    /// Key shared with the peer in addition to the key pairs.
    pub preshared_key: Option<KeySource<PresharedKey>>,
    /// Networks that the peer may send from and that are routed to it, without duplicates.
    pub allowed_ips: Vec<Prefix>,
    /// Address of the peer; `None` if it is learned from the peer's packets.
    pub endpoint: Option<PeerAddress>,
    /// Seconds without traffic after which a keepalive is sent; `None` (`off` or 0 in the file) for
    /// no keepalives.
    pub persistent_keepalive: Option<NonZeroU16>,
    /// Settings from its comments; `None` if there are none.
    pub settings: Option<Box<PeerSettings>>,
}

impl Peer {
    /// Returns the settings from its comments.
    pub fn settings(&self) -> &PeerSettings {
        const NONE: &PeerSettings = &PeerSettings::NONE;
        self.settings.as_deref().unwrap_or(NONE)
    }

    /// Returns the addresses in the VPN: the single hosts in its networks.
    pub fn addresses(&self, networks: &[Prefix]) -> Vec<IpAddr> {
        let own = self.allowed_ips.iter().filter(|prefix| is_address(**prefix, networks));
        own.map(|prefix| prefix.network()).collect()
    }

    /// Returns the networks behind the peer: its allowed IPs without its addresses in the VPN.
    pub fn sites(&self, networks: &[Prefix]) -> Vec<Network> {
        let sites = self.allowed_ips.iter().filter(|prefix| !is_address(**prefix, networks));
        sites.map(|prefix| Network::from(*prefix)).collect()
    }

    /// Returns the allowed IPs in the running tunnel: of an invitation, the first address of each
    /// family, since the networks behind the device come with it.
    pub fn tunnel_networks(&self) -> Vec<Prefix> {
        if self.settings().invitation.is_none() {
            return self.allowed_ips.clone();
        }
        let first = |v6: bool, bits| {
            let is_address = |prefix: &&Prefix| prefix.network().is_ipv6() == v6 && prefix.length() == bits;
            self.allowed_ips.iter().find(is_address).copied()
        };
        [first(false, 32), first(true, 128)].into_iter().flatten().collect()
    }
}

/// Returns true if a prefix is a single host in these networks.
fn is_address(prefix: Prefix, networks: &[Prefix]) -> bool {
    is_host(prefix) && networks.iter().any(|network| network.contains(prefix.network()))
}

/// Returns true for a /32 of IPv4 and a /128 of IPv6.
const fn is_host(prefix: Prefix) -> bool {
    prefix.length() == if prefix.network().is_ipv4() { 32 } else { 128 }
}

/// The source of a secret key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource<K> {
    /// The configuration itself contains the key.
    Inline(K),
    /// Path of a file that contains the key in base64, as `wg set` reads it. The path is as written
    /// and not empty; the caller chooses the base of a relative path.
    File(PathBuf),
}

impl<K> KeySource<K> {
    /// Returns the key if the configuration contains it, which is always so after [`load`].
    pub const fn inline(&self) -> Option<&K> {
        match self {
            Self::Inline(key) => Some(key),
            Self::File(_) => None,
        }
    }
}

/// Routing table of the allowed IPs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Table {
    /// The main table; default routes go to a table of their own, with rules.
    #[default]
    Auto,
    /// No routes are set.
    Off,
    /// The table with this number, without rules. 254 is the main table.
    Number(NonZeroU32),
}

#[cfg(test)]
mod tests;
