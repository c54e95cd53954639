//! What a request, or a configuration that was read again, wants to be different.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::config::PeerName;
use crate::routing::Prefix;
use crate::tunnel::wireguard::{PresharedKey, PrivateKey, PublicKey};

/// Changes to an interface. What is `None` or `false` stays as it is.
///
/// To be applied in this order: the key, the port, the mark, the removal of all peers, then each of `peers`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    /// Our key; `Some(None)` removes it.
    pub private_key: Option<Option<PrivateKey>>,
    /// UDP port; 0 for any that is free.
    pub listen_port: Option<u16>,
    /// Mark of the outer packets; 0 for none.
    pub fwmark: Option<u32>,
    /// The kill switch, which `wg(8)` knows nothing of: false switches it off until the tunnel is
    /// started again or it is switched on.
    pub kill_switch: Option<bool>,
    /// Whether all peers go first.
    pub replace_peers: bool,
    /// Changes to single peers. The same peer may be there more than once: they are to be applied one after the
    /// other.
    pub peers: Vec<PeerChanges>,
}

/// Changes to one peer, which is made if there is none with that key.
///
/// One with our own key is passed over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerChanges {
    /// Who it is.
    pub public_key: PublicKey,
    /// Whether it is to go; nothing else matters then.
    pub remove: bool,
    /// Whether it is passed over if there is no such peer.
    pub update_only: bool,
    /// What it is called, which `wg(8)` knows nothing of; `Some(None)` for nothing.
    pub name: Option<Option<PeerName>>,
    /// The key shared with it besides; all zeroes for none.
    pub preshared_key: Option<PresharedKey>,
    /// Where it is.
    #[serde(with = "crate::messages::address::optional")]
    pub endpoint: Option<SocketAddr>,
    /// Seconds after which a silent link gets a keepalive; 0 for never. One that is turned on is sent at once.
    pub persistent_keepalive: Option<u16>,
    /// Whether all its allowed IPs go first.
    pub replace_allowed_ips: bool,
    /// Changes to its allowed IPs, in this order.
    pub allowed_ips: Vec<AllowedIpChange>,
}

/// A change to the allowed IPs of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AllowedIpChange {
    /// The network.
    pub prefix: Prefix,
    /// Whether it is taken from the peer (if it is this peer's) instead of given to it.
    pub remove: bool,
}

impl PeerChanges {
    /// No change to the peer with this key but that there is one.
    pub const fn new(public_key: PublicKey) -> Self {
        Self {
            public_key,
            remove: false,
            update_only: false,
            name: None,
            preshared_key: None,
            endpoint: None,
            persistent_keepalive: None,
            replace_allowed_ips: false,
            allowed_ips: Vec::new(),
        }
    }
}
