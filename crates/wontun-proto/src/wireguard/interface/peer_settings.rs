//! Settings of peers: preshared key, source address, keepalives.

use std::time::Duration;

use super::Interface;
use crate::time::Instant;
use crate::wireguard::{Endpoint, PeerId, PresharedKey};

impl Interface {
    /// Sets the preshared key of a peer, which the next handshake uses. All zeroes means none.
    pub fn set_preshared_key(&mut self, id: PeerId, preshared: PresharedKey) {
        if let Some(mut peer) = self.peers.lock(id) {
            peer.set_preshared_key(preshared);
        }
    }

    /// Lets the system choose the source address of datagrams to a peer again, if its endpoint is
    /// still one that `is_lost` selects.
    pub fn set_any_source(&mut self, id: PeerId, is_lost: impl FnOnce(Endpoint) -> bool) {
        if let Some(mut peer) = self.peers.lock(id)
            && peer.endpoint().is_some_and(is_lost)
        {
            peer.set_any_source();
        }
    }

    /// Sets the silence after which a keepalive is sent to a peer; `None` or zero disables it.
    pub fn set_persistent_keepalive(&mut self, id: PeerId, interval: Option<Duration>, now: Instant) {
        if let Some(mut peer) = self.peers.lock(id) {
            peer.set_persistent_keepalive(interval);
        }
        self.queue_work(id, now);
    }

    /// Sends a keepalive to a peer now, which starts a handshake if there is no session.
    pub fn send_keepalive(&mut self, id: PeerId, now: Instant) {
        if let Some(mut peer) = self.peers.lock(id) {
            peer.request_keepalive();
        }
        self.queue_work(id, now);
    }
}
