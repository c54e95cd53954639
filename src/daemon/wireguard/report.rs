//! Reports the peers' addresses to the supervisor.

use super::tunnel::WireGuard;
use crate::daemon::core::Core;
use crate::messages::FromTunnel;
use wontun_proto::wireguard::PeerId;

impl WireGuard {
    /// Reports the peer's address to the supervisor, if it differs from the one that it knows.
    pub(super) fn report_endpoint(&mut self, core: &mut Core, id: PeerId) {
        let Some(peer) = self.engine.peer(id) else { return };
        let Some(endpoint) = peer.endpoint() else { return };
        let (key, confirmed) = (*peer.public_key(), peer.confirmed_address());
        let (address, now) = (endpoint.remote.ip(), core.now);
        // a datagram from another address may be what confirms the previous one
        while let Some((address, is_confirmed)) =
            self.endpoint_reports.take_report(id, address, confirmed, now)
        {
            core.send(&FromTunnel::Endpoint { peer: key, address, is_confirmed });
        }
    }

    /// Reports to the supervisor the path by which a handshake was completed, if it has changed.
    pub(super) fn report_path(&mut self, core: &mut Core, id: PeerId) {
        let Some(peer) = self.engine.peer(id) else { return };
        let Some(endpoint) = peer.endpoint() else { return };
        let (remote, local) = (endpoint.remote.ip(), endpoint.local);
        if self.reported_paths.insert(id, (remote, local)) != Some((remote, local)) {
            core.send(&FromTunnel::Path { peer: Some(*peer.public_key()), remote, local });
        }
    }
}
