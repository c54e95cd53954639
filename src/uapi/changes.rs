//! Changes that a request or a reloaded configuration makes.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::config::PeerName;
use crate::config::peer_settings::PeerLimits;
use wontun_proto::allowed_ips::Prefix;
use wontun_proto::wireguard::{PresharedKey, PrivateKey, PublicKey};

/// Changes to an interface. Fields that are `None` or `false` change nothing.
///
/// Applied in this order: the key, the port, the mark, the removal of all peers, then each of
/// `peers`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    /// Local private key; `Some(None)` removes it.
    pub private_key: Option<Option<PrivateKey>>,
    /// UDP port; 0 for any free port.
    pub listen_port: Option<u16>,
    /// Firewall mark of the outer packets; 0 for none.
    pub fwmark: Option<u32>,
    /// State of the kill switch, an extension unknown to `wg(8)`: false switches it off until the
    /// tunnel is restarted or it is switched on again.
    pub kill_switch: Option<bool>,
    /// True to remove all peers first.
    pub replace_peers: bool,
    /// Changes to single peers, applied in order. A peer may occur more than once.
    pub peers: Vec<PeerChanges>,
}

/// Changes to one peer, which is created if no peer has this key.
///
/// A peer with the local public key is ignored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerChanges {
    /// Public key of the peer.
    pub public_key: PublicKey,
    /// True to remove the peer; the other fields are ignored then.
    pub remove: bool,
    /// True to ignore the changes if the peer does not exist.
    pub update_only: bool,
    /// True to forget the latest timestamp of the peer's initiations, an extension unknown to
    /// `wg(8)`: for a peer whose clock was once in the future.
    pub forget_timestamp: bool,
    /// Key of a peer that this one succeeds if it is new: its traffic goes on. No request can set
    /// it, only a file that has other keys for a peer.
    pub replaces: Option<PublicKey>,
    /// Name of the peer, an extension unknown to `wg(8)`; `Some(None)` removes it.
    pub name: Option<Option<PeerName>>,
    /// Limits of the peer's traffic. No request can set them, only the file. Most peers have none.
    pub limits: Option<Box<PeerLimits>>,
    /// Preshared key; all zeroes for none.
    pub preshared_key: Option<PresharedKey>,
    /// Endpoint of the peer.
    #[serde(with = "crate::messages::address::optional")]
    pub endpoint: Option<SocketAddr>,
    /// Persistent keepalive interval in seconds; 0 for off. When it is turned on, a keepalive is
    /// sent at once.
    pub persistent_keepalive: Option<u16>,
    /// True to remove all allowed IPs of the peer first.
    pub replace_allowed_ips: bool,
    /// Changes to the allowed IPs, applied in order.
    pub allowed_ips: Vec<AllowedIpChange>,
}

/// A change to the allowed IPs of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AllowedIpChange {
    /// The network.
    pub prefix: Prefix,
    /// True to remove the network from the peer (if it belongs to this peer), false to assign it.
    pub remove: bool,
}

impl PeerChanges {
    /// Returns changes that create the peer with this key and set nothing else.
    pub const fn new(public_key: PublicKey) -> Self {
        Self {
            public_key,
            remove: false,
            update_only: false,
            forget_timestamp: false,
            replaces: None,
            name: None,
            limits: None,
            preshared_key: None,
            endpoint: None,
            persistent_keepalive: None,
            replace_allowed_ips: false,
            allowed_ips: Vec::new(),
        }
    }
}
