//! A peer before it is in the server's file.

use std::net::IpAddr;

use super::address::host;
use crate::config::PeerName;
use crate::routing::Prefix;
use crate::tunnel::wireguard::{PresharedKey, PublicKey};

/// A peer that is to be in the server's file.
#[derive(Clone, Debug)]
pub struct NewPeer {
    /// What it is called.
    pub name: PeerName,
    /// Its public key.
    pub public_key: PublicKey,
    /// What it shares with the server besides.
    pub preshared_key: PresharedKey,
    /// Its addresses: one of each family that the server has a network of.
    pub addresses: Vec<IpAddr>,
}

impl NewPeer {
    /// What the server takes from it and sends to it.
    pub fn allowed_ips(&self) -> impl Iterator<Item = Prefix> {
        self.addresses.iter().map(|&address| host(address))
    }
}
