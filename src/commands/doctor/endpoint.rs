//! The peers' endpoints.

use std::net::IpAddr;

use crate::config::PeerAddress;
use crate::config::wg_quick::{Peer, WgQuick};

/// Maximum number of endpoints that are looked at, of addresses and of names.
pub(super) const MAX_LOOKED_AT: usize = 4;

/// The address of a peer.
pub(super) struct Endpoint {
    /// Name of the peer, or its public key.
    pub(super) peer: String,
    pub(super) address: IpAddr,
}

/// Returns the endpoints that are addresses, the first few.
pub(super) fn endpoints(configuration: Option<&WgQuick>) -> Vec<Endpoint> {
    let peers = configuration.into_iter().flat_map(|configuration| &configuration.peers);
    let endpoint = |peer: &Peer| match &peer.endpoint {
        Some(PeerAddress::Socket(address)) => Some(Endpoint { peer: name(peer), address: address.ip() }),
        _ => None,
    };
    peers.filter_map(endpoint).take(MAX_LOOKED_AT).collect()
}

/// Returns the name of a peer, or its public key.
pub(super) fn name(peer: &Peer) -> String {
    peer.name.as_ref().map_or_else(|| peer.public_key.to_string(), ToString::to_string)
}
