//! Reports the peers' addresses to the supervisor.

use super::tunnel::WireGuard;
use crate::device::core::Core;
use crate::messages::FromTunnel;
use crate::tunnel::wireguard::PeerId;

impl WireGuard {
    /// Tells the supervisor the peer's address, if that is another than it knows.
    pub(super) fn report_endpoint(&mut self, core: &mut Core, id: PeerId) {
        let Some(peer) = self.engine.peer(id) else { return };
        let Some(endpoint) = peer.endpoint() else { return };
        let (key, confirmed) = (*peer.public_key(), peer.confirmed_address());
        let (address, now) = (endpoint.remote.ip(), core.now);
        // a datagram from elsewhere may be what confirms the address before
        while let Some((address, is_confirmed)) = self.endpoints.take_report(id, address, confirmed, now) {
            core.send(&FromTunnel::Endpoint { peer: key, address, is_confirmed });
        }
    }

    /// Tells the supervisor where a handshake with a peer that has a name was completed, if that is
    /// elsewhere than before.
    pub(super) fn report_reached(&mut self, core: &mut Core, id: PeerId) {
        let Some(name) = self.names.names.get_mut(&id) else { return };
        let Some(peer) = self.engine.peer(id) else { return };
        let address = peer.endpoint().map(|endpoint| endpoint.remote.ip());
        if let Some(address) = address
            && name.reached.replace(address) != Some(address)
        {
            core.send(&FromTunnel::Reached { peer: *peer.public_key(), address });
        }
    }
}
