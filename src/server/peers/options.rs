//! Options of a new peer.

use std::net::IpAddr;

use crate::config::peer_settings::PeerSettings;
use crate::config::{Network, PeerName};
use wontun_proto::allowed_ips::Prefix;
use wontun_proto::wireguard::PublicKey;

/// Options of a new peer.
#[derive(Clone, Debug)]
pub(crate) struct NewPeerOptions {
    /// Name of the peer.
    pub name: PeerName,
    /// Public key of the peer, if it generated its own keys.
    pub public_key: Option<PublicKey>,
    /// Chosen addresses in the VPN, at most one of each family; of a family without one the next
    /// free address is allocated.
    pub addresses: Vec<IpAddr>,
    /// Networks behind the peer.
    pub sites: Vec<Network>,
    /// True to route everything through the tunnel, false for the networks of the VPN only.
    pub full_tunnel: bool,
    /// Settings of the peer and of its file.
    pub settings: PeerSettings,
}

/// Reach of the IPv6 packets of a server's clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ipv6Reach {
    /// To the Internet, or as if.
    Internet,
    /// To the VPN only: a full tunnel has no IPv6 then, so that its applications use IPv4.
    Vpn,
}

impl Ipv6Reach {
    /// Returns true if the full tunnel of a server with these networks has IPv6. Without IPv4 there
    /// is nothing else.
    pub(super) fn has_routes(self, networks: &[Prefix]) -> bool {
        self == Self::Internet || networks.iter().all(|network| network.network().is_ipv6())
    }
}
