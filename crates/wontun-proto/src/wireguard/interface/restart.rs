//! State of an interface that is kept over a restart. The caller stores it, and reads it with
//! [`Peer::confirmed_endpoint`], [`Peer::latest_timestamp`] and [`Interface::sent_timestamp`].
//!
//! [`Peer::confirmed_endpoint`]: crate::wireguard::Peer::confirmed_endpoint
//! [`Peer::latest_timestamp`]: crate::wireguard::Peer::latest_timestamp

use super::Interface;
use crate::time::Instant;
use crate::wireguard::{Endpoint, PeerId, Timestamp};

impl Interface {
    /// Returns the latest timestamp of the initiations sent, or the one passed to
    /// [`Self::skip_timestamps`] if that is later.
    pub fn sent_timestamp(&self) -> Option<Timestamp> {
        self.timestamps.last()
    }

    /// Makes later initiations have timestamps later than `sent`, which an earlier run may have
    /// sent: peers reject others.
    pub fn skip_timestamps(&mut self, sent: Timestamp) {
        self.timestamps.skip_to(sent);
    }

    /// Restores what an earlier run has known of a peer: its endpoint, which is used unless one is
    /// configured, and the latest timestamp of its initiations, so that recorded ones are rejected.
    pub fn restore_peer(&mut self, id: PeerId, endpoint: Option<Endpoint>, latest: Option<Timestamp>) {
        if let Some(mut peer) = self.peers.lock(id) {
            peer.restore(endpoint, latest);
        }
    }

    /// Sends an initiation to a peer now, and one more if it is not answered, unless there is a
    /// session or a handshake. A peer that does not answer is not reported: it may be gone.
    pub fn greet(&mut self, id: PeerId, now: Instant) {
        if let Some(mut peer) = self.peers.lock(id) {
            peer.greet(now);
        }
        self.queue_work(id, now);
    }

    /// Forgets the latest timestamp of a peer's initiations, for a peer whose clock was once in the
    /// future. Recorded initiations are accepted until the peer has sent a new one.
    pub fn forget_timestamp(&mut self, id: PeerId) {
        if let Some(mut peer) = self.peers.lock(id) {
            peer.forget_timestamp();
        }
        self.queue_events(id);
    }
}
