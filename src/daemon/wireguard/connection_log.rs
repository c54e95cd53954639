//! Log of peers that connect and disconnect.

use tracing::info;

use super::connections::Connection;
use super::tunnel::WireGuard;
use crate::daemon::core::Core;
use wontun_proto::wireguard::{PeerId, REJECT_AFTER_TIME};

impl WireGuard {
    /// Handles a completed handshake: logs the event if the peer was not connected.
    pub(super) fn handle_connected(&mut self, core: &Core, peer: PeerId) {
        let counters = self.engine.peer(peer).map(|peer| peer.transfer()).unwrap_or_default();
        if !self.connections.handle_handshake(peer, counters, core.now) {
            return;
        }
        if let Some(suppressed) = self.connections.allow(core.now) {
            let (public_key, endpoint) = self.identity_of(peer);
            let peer = self.peer_name(peer);
            info!(event = "connect", peer, public_key, endpoint, suppressed, "a peer has connected");
        }
    }

    /// Considers peers connected whose sessions another process had.
    pub(super) fn adopt_connections(&mut self, core: &Core) {
        for id in self.engine.peer_ids() {
            if let Some(peer) = self.engine.peer(id).filter(|peer| peer.has_session(core.now)) {
                self.connections.handle_handshake(id, peer.transfer(), core.now);
            }
        }
    }

    /// Logs an event for each peer whose session has ended. With its next one it may have a
    /// connected socket again.
    pub(super) fn handle_ended_sessions(&mut self, core: &Core) {
        for id in self.connections.take_due(core.now) {
            let session = self.engine.peer(id).filter(|peer| peer.has_session(core.now));
            match session.and_then(|peer| peer.last_handshake()) {
                Some(last) => self.connections.set_check(id, last + REJECT_AFTER_TIME, core.now),
                None => {
                    self.has_bulk.remove(&id);
                    self.handle_disconnected(core, id, "silent");
                }
            }
        }
    }

    /// Logs that a peer is not connected any more, if it was.
    pub(super) fn handle_disconnected(&mut self, core: &Core, peer: PeerId, reason: &str) {
        let Some(Connection { since, before, .. }) = self.connections.remove(peer) else { return };
        let Some(suppressed) = self.connections.allow(core.now) else { return };
        let counters = self.engine.peer(peer).map(|peer| peer.transfer()).unwrap_or_default();
        let (public_key, endpoint) = self.identity_of(peer);
        let peer = self.peer_name(peer);
        info!(
            event = "disconnect",
            peer,
            public_key,
            endpoint,
            reason,
            seconds = core.now.since(since).as_secs(),
            received_bytes = counters.received.saturating_sub(before.received),
            sent_bytes = counters.sent.saturating_sub(before.sent),
            suppressed,
            "a peer has disconnected"
        );
    }

    /// Returns the public key of a peer, and its address if events have it.
    fn identity_of(&self, peer: PeerId) -> (Option<String>, Option<String>) {
        let Some(peer) = self.engine.peer(peer) else { return (None, None) };
        let endpoint = peer.endpoint().filter(|_| self.connections.shows_addresses);
        (Some(peer.public_key().to_string()), endpoint.map(|endpoint| endpoint.remote.to_string()))
    }
}
