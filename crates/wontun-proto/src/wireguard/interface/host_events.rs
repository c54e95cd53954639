//! Changes of the host's surroundings: a suspension, another network.

use std::net::SocketAddr;
use std::time::Duration;

use super::Interface;
use crate::time::Instant;
use crate::wireguard::PeerId;

impl Interface {
    /// Drops all sessions and handshakes with their keys after a suspension of the host that lasted
    /// `suspended`, and starts handshakes with the peers that were in use before.
    pub fn handle_suspended(&mut self, suspended: Duration, now: Instant) {
        let ids: Vec<_> = self.peers.ids().collect();
        for id in ids {
            if let Some(mut peer) = self.peers.lock(id) {
                peer.handle_suspended(suspended, &mut self.indices, now);
            }
            self.queue_work(id, now);
        }
    }

    /// Handles a change of the network path to a peer, such as another route or another uplink of
    /// this host: the system chooses the source address of datagrams again and, if `is_reachable`
    /// and the peer is in use, a handshake starts. Until it is answered, initiations are repeated
    /// at intervals of [`EAGER_INTERVAL`](crate::wireguard::EAGER_INTERVAL).
    pub fn handle_path_changed(&mut self, id: PeerId, is_reachable: bool, now: Instant) {
        if let Some(mut peer) = self.peers.lock(id) {
            peer.handle_path_changed(is_reachable, &mut self.indices, now);
        }
        self.queue_work(id, now);
    }

    /// Handles a datagram to a peer that this host has no route for: if it was an initiation, the
    /// next address is tried without a pause.
    pub fn handle_unreachable(&mut self, id: PeerId, remote: SocketAddr, now: Instant) {
        if let Some(mut peer) = self.peers.lock(id) {
            peer.handle_unreachable(remote, now);
        }
        self.queue_work(id, now);
    }
}
