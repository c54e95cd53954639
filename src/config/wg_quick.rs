//! The file of `wg-quick(8)`, as typed values and back.
//!
//! What `wg-quick` and `wg setconf` take is taken in the same meaning: keys and sections in any case and any
//! order, `#` begins a comment wherever it stands, white space (CRLF too) hardly matters, lists may be spread
//! over lines. What they take without a word although it says two things (a key given twice, two sections of one
//! peer) is refused. `PrivateKeyFile` and `PresharedKeyFile` come on top, and the comment `# Name = phone` of a peer.
//! Nothing of a file is ever run.
//!
//! [`parse`] takes the text and opens nothing; [`load`] and [`load_again`] read the file and those in which it keeps keys.

pub(crate) mod amnezia;
mod error;
mod field;
mod load;
pub(crate) mod outline;
mod parser;
mod print;
mod value;

use std::collections::HashSet;
use std::net::Ipv6Addr;
use std::num::{NonZeroU16, NonZeroU32};
use std::path::PathBuf;

pub use crate::tunnel::wireguard::{KeyError, PresharedKey, PrivateKey, PublicKey};
pub use error::{Fault, Notice, Warning, WgQuickError};
pub use field::{Field, Section};
pub use load::{LoadError, Loaded, load, load_again};
pub(crate) use load::{private_key, read_once, read_text};
pub use parser::parse;
pub use value::is_space;
pub(crate) use value::items;

use super::{Cidr, PeerAddress, PeerName};
use crate::routing::Prefix;

/// What happens to the keys that `wg-quick` would run as commands, and to `SaveConfig`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hooks {
    /// They are an error.
    #[default]
    Refuse,
    /// They are left out, with a warning each.
    Ignore,
}

/// What a file gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// What it says.
    pub configuration: WgQuick,
    /// What the user should know of it, in the order of its lines.
    pub warnings: Vec<Warning>,
}

/// A configuration. `Debug` shows no secret; [`Self::print`] does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WgQuick {
    /// This side.
    pub interface: Interface,
    /// The other sides, each with a public key of its own, in the file's order: a prefix that two of them have is
    /// the last one's.
    pub peers: Vec<Peer>,
}

impl WgQuick {
    /// Whether keys that nobody else may know stand in the file itself.
    pub fn has_secrets(&self) -> bool {
        let is_inline =
            |key: &Option<KeySource<PresharedKey>>| key.as_ref().and_then(KeySource::inline).is_some();
        self.interface.private_key.inline().is_some()
            || self.peers.iter().any(|peer| is_inline(&peer.preshared_key))
    }

    /// Whether all of IPv4, or all of IPv6, goes through the tunnel, be it in halves.
    pub fn is_full_tunnel(&self) -> bool {
        self.has_all(false) || self.has_all(true)
    }

    /// Returns true if all of IPv6, or else all of IPv4, goes through the tunnel, be it in halves.
    fn has_all(&self, v6: bool) -> bool {
        let all = |length: u8| -> HashSet<Prefix> {
            let prefixes = self.peers.iter().flat_map(|peer| &peer.allowed_ips).copied();
            prefixes.filter(|prefix| prefix.length() == length && prefix.network().is_ipv6() == v6).collect()
        };
        !all(0).is_empty() || all(1).len() == 2
    }

    /// Returns the warning about a full tunnel of one family, beside which the other one leaves
    /// this host as if there were no tunnel. None where the routes are somebody else's, or go into
    /// a table of their own without rules. All that the Internet has of IPv6 is 2000::/3, which
    /// some files have in place of ::/0.
    pub fn past_full_tunnel(&self) -> Option<&'static str> {
        if self.interface.table != Table::Auto {
            return None;
        }
        let internet = Prefix::of(Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0).into(), 3);
        let has_internet = || self.peers.iter().any(|peer| peer.allowed_ips.contains(&internet));
        match (self.has_all(false), self.has_all(true) || has_internet()) {
            (true, false) => Some(
                "all of IPv4 goes through the tunnel, and IPv6 leaves this host past it: add ::/0 to the AllowedIPs that \
                 have 0.0.0.0/0 (what the other side cannot forward, it drops), or start with --kill-switch, which holds \
                 IPv6 back",
            ),
            (false, true) => Some(
                "all of IPv6 goes through the tunnel, and IPv4 leaves this host past it: unless that is wanted, add \
                 0.0.0.0/0 to the AllowedIPs that have ::/0",
            ),
            _ => None,
        }
    }
}

/// This side of the tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Our secret.
    pub private_key: KeySource<PrivateKey>,
    /// UDP port to listen on; `None` (or 0 in the file) for any.
    pub listen_port: Option<NonZeroU16>,
    /// Mark of the outer packets; `None` (or `off` or 0 in the file) for none.
    pub fwmark: Option<NonZeroU32>,
    /// Addresses of the device, each once.
    pub addresses: Vec<Cidr>,
    /// MTU of the device in bytes, from 68, or 1280 with an IPv6 address; `None` for the default.
    pub mtu: Option<u32>,
    /// Where the routes go.
    pub table: Table,
    /// Name servers and search domains, as written.
    pub dns: Vec<String>,
}

/// The other side of the tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// What it is called: the first of its comments `# Name = phone`. `None` also for one that is no [`PeerName`].
    pub name: Option<PeerName>,
    /// Who it is.
    pub public_key: PublicKey,
    /// What is shared with it besides.
    pub preshared_key: Option<KeySource<PresharedKey>>,
    /// What it may send from and gets sent to, each once.
    pub allowed_ips: Vec<Prefix>,
    /// Where it is, unless it is to make itself known.
    pub endpoint: Option<PeerAddress>,
    /// Seconds after which a silent link gets a keepalive; `None` (or `off` or 0 in the file) for never.
    pub persistent_keepalive: Option<NonZeroU16>,
}

/// Where a secret is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource<K> {
    /// In the configuration.
    Inline(K),
    /// In a file of its own, in base64, as `wg set` reads one. The path is as written: never empty, and what a
    /// relative one starts from is the caller's choice.
    File(PathBuf),
}

impl<K> KeySource<K> {
    /// The secret, if it is in the configuration itself, as it is after [`load`].
    pub const fn inline(&self) -> Option<&K> {
        match self {
            Self::Inline(key) => Some(key),
            Self::File(_) => None,
        }
    }
}

/// Which routing table the allowed IPs go to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Table {
    /// The main one, and for default routes one of their own with rules.
    #[default]
    Auto,
    /// None: no routes are set.
    Off,
    /// This one, without rules. 254 is the main table.
    Number(NonZeroU32),
}

#[cfg(test)]
mod tests;
