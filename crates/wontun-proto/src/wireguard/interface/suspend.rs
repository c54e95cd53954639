//! Ending sessions when the machine was suspended.

use super::Interface;
use crate::time::Instant;

impl Interface {
    /// Drops all sessions and handshakes with their keys, and starts handshakes with the peers that
    /// had a session.
    pub fn drop_sessions(&mut self, now: Instant) {
        let ids: Vec<_> = self.peers.ids().collect();
        for id in ids {
            if let Some(peer) = self.peers.get_mut(id) {
                peer.drop_sessions(&mut self.indices, now);
            }
            self.queue_work(id, now);
        }
    }
}
