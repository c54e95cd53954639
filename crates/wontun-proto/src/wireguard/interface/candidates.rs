//! Peers with several possible addresses.

use std::net::SocketAddr;

use super::Interface;
use crate::time::Instant;
use crate::wireguard::{Endpoint, PeerId};

impl Interface {
    /// Sets the endpoint of a peer as its only address.
    pub fn set_endpoint(&mut self, id: PeerId, endpoint: Option<Endpoint>, now: Instant) {
        if let Some(mut peer) = self.peers.lock(id) {
            peer.set_candidates(&[], &mut self.indices);
            peer.set_endpoint(endpoint);
        }
        self.queue_work(id, now);
    }

    /// Sets the addresses of a peer's name as by [`Self::set_candidates`]. The first becomes the
    /// endpoint, unless the current one is among them; returns true if it did.
    pub fn set_addresses(&mut self, id: PeerId, remotes: &[SocketAddr], now: Instant) -> bool {
        let (Some(first), Some(mut peer)) = (remotes.first(), self.peers.lock(id)) else { return false };
        let is_new = peer.endpoint().is_none_or(|current| !remotes.contains(&current.remote));
        if is_new {
            peer.set_candidates(&[], &mut self.indices);
            peer.set_endpoint(Some(Endpoint::new(*first)));
        }
        peer.set_candidates(remotes, &mut self.indices);
        drop(peer);
        self.queue_work(id, now);
        is_new
    }

    /// Sets the possible addresses of a peer, the preferred one first. The current endpoint is
    /// tried first, and each unanswered initiation is followed by one to the next address. With
    /// fewer than two addresses, only the endpoint is tried.
    pub fn set_candidates(&mut self, id: PeerId, remotes: &[SocketAddr]) {
        if let Some(mut peer) = self.peers.lock(id) {
            peer.set_candidates(remotes, &mut self.indices);
        }
    }
}
