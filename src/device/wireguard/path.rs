//! The peers' own sockets: who gets one, and how it follows a peer that moves.
//!
//! The rule: the first [`MAX_CONNECTED`] peers that complete a handshake get a connected socket each, and keep it while
//! they have a session; everybody else's datagrams go by the disconnected sockets, with the source address that the
//! peer talked to. So a client and a small server have the whole gain, and a thousand peers never pay for it: see
//! [`crate::device::sockets`] for what a connected socket costs those who have none.
//!
//! A connected socket has a source address of its own. It carries what is to leave from there and nothing else: what the
//! system is to choose a source for goes by the disconnected sockets, until the peer has answered.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tracing::debug;

use super::peer_log::Line;
use super::tunnel::WireGuard;
use crate::device::core::Core;
use crate::device::error::DeviceError;
use crate::device::token::Token;
use crate::io::mailbox::Local;
use crate::tunnel::wireguard::{Endpoint, PeerId};

/// Connected sockets of one tunnel.
const MAX_CONNECTED: usize = 8;
/// A peer that moves again so soon, as one behind two uplinks with each datagram, does without.
const SETTLED: Duration = Duration::from_secs(1);

impl WireGuard {
    /// A peer is somewhere else, or has just shown that it is there: its socket follows.
    pub(super) fn follow(&mut self, core: &mut Core, id: PeerId) -> Result<(), DeviceError> {
        let Some(peer) = self.engine.peer(id) else { return Ok(()) };
        let Some(endpoint) = peer.endpoint() else { return Ok(()) };
        if endpoint.local.is_none() {
            // the system is to choose the source anew, and a connected socket keeps the one it has
            self.disconnect(core, id);
            return Ok(());
        }
        let is_restless = self.connected_at.get(&id).is_some_and(|at| core.now.since(*at) < SETTLED);
        match self.sockets.connected(id) {
            Some(connected) if connected.is_for(endpoint) => return Ok(()),
            _ if is_restless => {
                self.disconnect(core, id);
                return Ok(());
            }
            Some(_) => {}
            None if !peer.has_session(core.now) => return Ok(()),
            None => {
                if self.sockets.connected_count() >= MAX_CONNECTED && !self.disconnect_idle(core) {
                    return Ok(());
                }
            }
        }
        self.connect(core, id, endpoint)
    }

    /// Gives peers that have a session and no socket of their own one, as far as there are some:
    /// another mark has put theirs out of use, or there was no spare one.
    pub(super) fn connect_peers(&mut self, core: &mut Core) -> Result<(), DeviceError> {
        let count = MAX_CONNECTED.saturating_sub(self.sockets.connected_count());
        let waits = |id: &PeerId| {
            let peer = self.engine.peer(*id);
            peer.is_some_and(|peer| peer.has_session(core.now)) && self.sockets.connected(*id).is_none()
        };
        let ids: Vec<_> = self.engine.peer_ids().filter(waits).take(count).collect();
        ids.into_iter().try_for_each(|id| self.follow(core, id))
    }

    /// Takes a new connected socket into use; the one before is emptied and closed. Where there is none to be had, the
    /// disconnected ones do. It is the worker's that the peer's data goes to anyway.
    fn connect(&mut self, core: &mut Core, id: PeerId, endpoint: Endpoint) -> Result<(), DeviceError> {
        let local = endpoint.local.map(|address| Local { address, interface: scope(endpoint.remote) });
        let worker = self.engine.receiver(id) as usize;
        let connected = self.sockets.connect(worker, id, endpoint.remote, local);
        core.ask_sockets(&self.sockets);
        let old = match connected {
            Ok(old) => old,
            Err(error) => {
                if let Some(suppressed) = self.peer_log.allow(id, Line::Socket, core.now) {
                    let (peer, endpoint) = (self.peer_name(id), endpoint.remote);
                    debug!(peer, %error, %endpoint, suppressed, "no socket of its own for a peer");
                }
                self.disconnect(core, id);
                return Ok(());
            }
        };
        self.connected_at.insert(id, core.now);
        if let Some(connected) = self.sockets.connected(id) {
            let token = Token::Sock(connected.id);
            core.register(worker, connected.socket.as_ref(), token)?;
        }
        core.drain_last(old);
        Ok(())
    }

    /// Takes a peer's own socket out of use.
    pub(super) fn disconnect(&mut self, core: &mut Core, id: PeerId) {
        let leftover = self.sockets.disconnect(id);
        core.drain_last(leftover);
    }

    /// An address of ours is gone: whoever was answered from there is answered from where the routes say, by the
    /// disconnected sockets, until an answer shows which address is the right one now.
    pub(super) fn leave_source(&mut self, core: &mut Core, address: IpAddr) {
        let bound: Vec<_> = self.sockets.owners_bound_to(address).collect();
        for id in bound {
            self.disconnect(core, id);
            self.engine.set_any_source(id);
        }
    }

    /// Frees the socket of a peer that has no session any more; tells whether there was one.
    fn disconnect_idle(&mut self, core: &mut Core) -> bool {
        let has_session = |id| self.engine.peer(id).is_some_and(|peer| peer.has_session(core.now));
        let idle = self.sockets.owners().find(|id| !has_session(*id));
        if let Some(id) = idle {
            self.disconnect(core, id);
        }
        idle.is_some()
    }
}

/// The interface that a link-local address is on; 0 for every other.
fn scope(remote: SocketAddr) -> u32 {
    match remote {
        SocketAddr::V6(remote) => remote.scope_id(),
        SocketAddr::V4(_) => 0,
    }
}

impl crate::device::sockets::Connected<PeerId> {
    /// Whether it leads there, from there.
    pub(super) fn is_for(&self, endpoint: Endpoint) -> bool {
        (self.remote, self.local) == (endpoint.remote, endpoint.local)
    }
}
