//! A peer that is not yet in the server's file.

use std::net::IpAddr;

use super::address::host;
use crate::config::PeerName;
use wontun_proto::allowed_ips::Prefix;
use wontun_proto::wireguard::{PresharedKey, PublicKey};

/// A peer to add to the server's file.
#[derive(Clone, Debug)]
pub struct NewPeer {
    /// Name of the peer.
    pub name: PeerName,
    /// Public key of the peer.
    pub public_key: PublicKey,
    /// Key shared with the server in addition to the key pairs.
    pub preshared_key: PresharedKey,
    /// Addresses of the peer: one of each family that the server has a network of.
    pub addresses: Vec<IpAddr>,
}

impl NewPeer {
    /// Returns the allowed IPs of the peer in the server's file.
    pub fn allowed_ips(&self) -> impl Iterator<Item = Prefix> {
        self.addresses.iter().map(|&address| host(address))
    }
}
