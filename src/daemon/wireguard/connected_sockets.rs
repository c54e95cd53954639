//! Connected sockets of peers: their assignment, and their change when a peer moves.
//!
//! The rule: the first [`MAX_CONNECTED`] peers that complete a handshake get a connected socket
//! each, and keep it while they have a session (peers that are expected to answer get it with the
//! first initiation, so that a refusal is noticed, as long as no other needs it); datagrams of all
//! others are sent by the disconnected sockets, with the source address that the peer has sent to.
//! So a client and a small server have the whole gain, and a thousand peers never pay for it:
//! [`crate::daemon::sockets`] describes the cost of a connected socket for the other peers.
//!
//! In a connected socket, small messages wait behind bulk traffic; in the disconnected ones they do
//! not. So a peer whose bulk traffic waits for some turns in a row loses its socket, until it has
//! no session any more, or until a flood of handshake messages begins, which fills the socket that
//! all others share.
//!
//! A connected socket has a fixed source address, and only datagrams from that address are sent by
//! it: those whose source the system chooses are sent by the disconnected sockets, until the peer
//! has answered.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tracing::{debug, info};

use super::peer_log::LineKind;
use super::tunnel::WireGuard;
use crate::daemon::core::Core;
use crate::daemon::error::DaemonError;
use crate::daemon::token::{SocketId, Token};
use crate::net::recv_buffer::LocalAddress;
use wontun_proto::wireguard::{Endpoint, PeerGuard, PeerId, PublicKey};

/// Maximum number of connected sockets of a tunnel.
const MAX_CONNECTED: usize = 8;
/// Time after a flood of handshake messages in which no peer loses its connected socket.
const LOADED: Duration = Duration::from_secs(10);
/// A peer that moves again within this time, such as one that alternates between two uplinks, gets
/// no connected socket.
const MIN_SOCKET_AGE: Duration = Duration::from_secs(1);

impl WireGuard {
    /// Updates the socket of a peer that has moved or has confirmed its endpoint.
    pub(super) fn update_socket(&mut self, core: &mut Core, id: PeerId) -> Result<(), DaemonError> {
        let state = |peer: PeerGuard<'_>| Some((peer.endpoint()?, peer.has_session(core.now)));
        let Some((endpoint, has_session)) = self.engine.peer(id).and_then(state) else { return Ok(()) };
        if endpoint.local.is_none() {
            // the system must choose the source again, and a connected socket keeps its own
            self.disconnect(core, id);
            return Ok(());
        }
        if self.has_bulk.contains(&id) {
            self.disconnect(core, id);
            return Ok(());
        }
        let has_just_moved =
            self.connected_at.get(&id).is_some_and(|at| core.now.since(*at) < MIN_SOCKET_AGE);
        match self.sockets.connected(id) {
            Some(connected) if connected.is_for(endpoint) => return Ok(()),
            _ if has_just_moved => {
                self.disconnect(core, id);
                return Ok(());
            }
            Some(_) => {}
            None if !has_session => return Ok(()),
            None => {
                if self.has_all_connected() && !self.disconnect_idle(core) {
                    return Ok(());
                }
            }
        }
        self.connect(core, id, endpoint)?;
        if self.sockets.connected(id).is_some() {
            self.connected_at.insert(id, core.now);
        }
        Ok(())
    }

    /// Returns true if no further peer can have a connected socket.
    pub(super) fn has_all_connected(&self) -> bool {
        self.sockets.connected_count() >= MAX_CONNECTED
    }

    /// Gives peers with a session connected sockets, as far as the limit allows, after a change of
    /// the mark has removed theirs, or when spare sockets were missing before.
    pub(super) fn connect_peers(&mut self, core: &mut Core) -> Result<(), DaemonError> {
        let count = MAX_CONNECTED.saturating_sub(self.sockets.connected_count());
        let waits = |id: &PeerId| {
            let peer = self.engine.peer(*id);
            peer.is_some_and(|peer| peer.has_session(core.now)) && self.sockets.connected(*id).is_none()
        };
        let ids: Vec<_> = self.engine.peer_ids().filter(waits).take(count).collect();
        ids.into_iter().try_for_each(|id| self.update_socket(core, id))
    }

    /// Connects a new socket of the worker that the peer's data is steered to; the previous one is
    /// drained and closed. Without a spare socket, the disconnected ones are used.
    pub(super) fn connect(
        &mut self,
        core: &mut Core,
        id: PeerId,
        endpoint: Endpoint,
    ) -> Result<(), DaemonError> {
        let local = endpoint.local.map(|address| LocalAddress { address, interface: scope(endpoint.remote) });
        let worker = self.engine.receiver(id) as usize;
        let connected = self.sockets.connect(worker, id, endpoint.remote, local);
        core.request_sockets(&self.sockets);
        let old = match connected {
            Ok(old) => old,
            Err(error) => {
                if let Some(suppressed) = self.peer_log.allow(id, LineKind::Socket, core.now) {
                    let (peer, endpoint) = (self.peer_name(id), endpoint.remote);
                    debug!(peer, %error, %endpoint, suppressed, "no connected socket for a peer");
                }
                self.disconnect(core, id);
                return Ok(());
            }
        };
        if let Some(connected) = self.sockets.connected(id) {
            let token = Token::Socket(connected.id);
            core.register(worker, connected.socket.as_ref(), token)?;
        }
        core.drain_sockets(old);
        Ok(())
    }

    /// Stops using a peer's connected socket.
    pub(super) fn disconnect(&mut self, core: &mut Core, id: PeerId) {
        let draining = self.sockets.disconnect(id);
        core.drain_sockets(draining);
    }

    /// Handles the loss of a local address: peers answered from there are answered from the address
    /// that the routes choose, by the disconnected sockets, until an answer confirms the new
    /// address.
    pub(super) fn handle_source_lost(&mut self, core: &mut Core, address: IpAddr) {
        let bound: Vec<_> = self.sockets.owners_bound_to(address).collect();
        for id in bound {
            self.disconnect(core, id);
            let is_lost = |local: IpAddr| local == address;
            self.engine.set_any_source(id, |endpoint| endpoint.local.is_some_and(is_lost));
        }
    }

    /// Handles a change of the path to a peer: its datagrams leave from the address that the routes
    /// choose now, and a handshake shows that the new path works, if there is one.
    pub(super) fn handle_path_changed(&mut self, core: &mut Core, key: &PublicKey, is_reachable: bool) {
        let Some(id) = self.engine.peer_id(key) else { return };
        if let Some(suppressed) = self.peer_log.allow(id, LineKind::Path, core.now) {
            let peer = self.peer_name(id);
            if is_reachable {
                info!(peer, suppressed, "the route to a peer has changed: starting a handshake");
            } else {
                info!(peer, suppressed, "there is no route to a peer any more: waiting for one");
            }
        }
        self.disconnect(core, id);
        // the next handshake is reported, even if it is completed by the same path
        self.reported_paths.remove(&id);
        self.engine.handle_path_changed(id, is_reachable, core.now);
        self.resolver.suspect(id, core.now);
    }

    /// Gives up a peer's connected socket in which bulk traffic waits, until the peer has no
    /// session any more. Returns false if that would help nothing.
    pub(super) fn release_connected(&mut self, core: &mut Core, id: SocketId) -> bool {
        let owner = self.sockets.connected_by_id(id).map(|connected| connected.owner);
        let is_loaded = self.loaded_at.is_some_and(|at| core.now.since(at) < LOADED);
        let helps = self.sockets.has_small_data() && !is_loaded;
        let Some(peer) = owner.filter(|_| helps) else { return false };
        self.has_bulk.insert(peer);
        self.disconnect(core, peer);
        true
    }

    /// Handles a flood of handshake messages, which fills the socket that all of them arrive in: as
    /// many peers as possible get a connected socket again, which it does not fill.
    pub(super) fn handle_load(&mut self, core: &mut Core) -> Result<(), DaemonError> {
        self.loaded_at = Some(core.now);
        for peer in std::mem::take(&mut self.has_bulk) {
            self.update_socket(core, peer)?;
        }
        Ok(())
    }

    /// Frees the connected socket of a peer without a session. Returns true if there was one.
    fn disconnect_idle(&mut self, core: &mut Core) -> bool {
        let has_session = |id| self.engine.peer(id).is_some_and(|peer| peer.has_session(core.now));
        let idle = self.sockets.owners().find(|id| !has_session(*id));
        if let Some(id) = idle {
            self.disconnect(core, id);
        }
        idle.is_some()
    }
}

/// Returns the interface of a link-local address; 0 for any other address.
fn scope(remote: SocketAddr) -> u32 {
    match remote {
        SocketAddr::V6(remote) => remote.scope_id(),
        SocketAddr::V4(_) => 0,
    }
}

impl crate::daemon::sockets_in_use::Connected<PeerId> {
    /// Returns true if the socket has the addresses of `endpoint`.
    pub(super) fn is_for(&self, endpoint: Endpoint) -> bool {
        (self.remote, self.local) == (endpoint.remote, endpoint.local)
    }
}
