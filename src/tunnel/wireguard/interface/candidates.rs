//! Peers that may be at several addresses.

use std::net::SocketAddr;

use super::Interface;
use crate::time::Instant;
use crate::tunnel::wireguard::{Endpoint, PeerId};

impl Interface {
    /// Sets where a peer is, and that it is nowhere else.
    pub fn set_endpoint(&mut self, id: PeerId, endpoint: Option<Endpoint>, now: Instant) {
        if let Some(peer) = self.peers.get_mut(id) {
            peer.set_candidates(&[], &mut self.indices);
            peer.set_endpoint(endpoint);
        }
        self.note(id, now);
    }

    /// Sets the addresses that a peer may be at, the preferred one first. Its endpoint is tried
    /// first, and each unanswered initiation is followed by one to the next of them. With less than
    /// two, only its endpoint is tried.
    pub fn set_candidates(&mut self, id: PeerId, remotes: &[SocketAddr]) {
        if let Some(peer) = self.peers.get_mut(id) {
            peer.set_candidates(remotes, &mut self.indices);
        }
    }
}
