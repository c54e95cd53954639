//! The sockets of a tunnel that are in use: by which a datagram is sent, and what each receives.
//! [`super::sockets`] owns them; workers have copies with weak references ([`super::view`]).

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Weak};

use super::token::SocketId;
use crate::messages::SocketRole;
use crate::net::send_batch::SendRoute;
use crate::net::udp::UdpSocket;

/// Reference to the socket that a datagram is sent by, and its peer if it is a connected one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketRef<O> {
    /// Number of the socket.
    pub(super) id: SocketId,
    /// Peer that the datagram is for.
    pub(super) owner: Option<O>,
}

/// Properties of the socket that a datagram was received by.
#[derive(Clone, Copy, Debug)]
pub struct SocketInfo {
    /// Number of the socket.
    pub(super) id: SocketId,
    /// Address that it is bound to, if it is a connected one.
    pub(super) bound: Option<IpAddr>,
    /// Set on a draining socket: the address that it was connected to, if it was.
    pub(super) draining: Option<Option<SocketAddr>>,
    /// Messages that it receives: handshake messages take longer than data, and may come from
    /// unknown sources.
    pub(super) role: SocketRole,
}

/// A reference to a socket.
pub(super) trait Handle {
    /// Returns the socket; `None` if it is closed.
    fn socket(&self) -> Option<Arc<UdpSocket>>;
}

impl Handle for Arc<UdpSocket> {
    fn socket(&self) -> Option<Self> {
        Some(Self::clone(self))
    }
}

impl Handle for Weak<UdpSocket> {
    fn socket(&self) -> Option<Arc<UdpSocket>> {
        self.upgrade()
    }
}

/// A socket that receives from any address.
#[derive(Debug)]
pub(super) struct Disconnected<S> {
    /// Worker that reads from it and sends by it.
    pub(super) worker: usize,
    /// Messages that it receives; only one for data is used for sending.
    pub(super) role: SocketRole,
    /// Number of the socket.
    pub(super) id: SocketId,
    /// The socket.
    pub(super) socket: S,
    /// Address that it is bound to.
    pub(super) address: IpAddr,
    /// True if it supported segmentation offload when it was created, which applies to spare
    /// sockets too.
    pub(super) has_gso: bool,
}

/// The connected socket of a peer.
#[derive(Debug)]
pub(super) struct Connected<O, S = Arc<UdpSocket>> {
    /// Peer that it belongs to.
    pub(super) owner: O,
    /// Worker that reads from it and sends by it.
    pub(super) worker: usize,
    /// Number of the socket.
    pub(super) id: SocketId,
    /// The socket.
    pub(super) socket: S,
    /// Endpoint of the peer.
    pub(super) remote: SocketAddr,
    /// Local source address of its datagrams.
    pub(super) local: Option<IpAddr>,
}

/// The sockets in use.
#[derive(Debug)]
pub(super) struct SocketsInUse<O, S = Arc<UdpSocket>> {
    /// Those that receive from any address.
    pub(super) disconnected: Vec<Disconnected<S>>,
    /// Those of peers.
    pub(super) connected: Vec<Connected<O, S>>,
}

impl<O: Copy + PartialEq, S: Handle> SocketsInUse<O, S> {
    /// Returns a worker's disconnected socket for the address family of `address`.
    fn disconnected_for(&self, worker: usize, address: IpAddr) -> Option<&Disconnected<S>> {
        self.disconnected
            .iter()
            .filter(|each| each.worker == worker && each.role == SocketRole::Data)
            .find(|each| each.address.is_ipv4() == address.is_ipv4())
    }

    /// Returns the socket for data messages beside one for small ones.
    pub(super) fn data_beside(&self, small: SocketId) -> Option<SocketId> {
        let small = self.disconnected.iter().find(|each| each.id == small)?;
        let is_beside = |each: &&Disconnected<S>| {
            (each.worker, each.address, each.role) == (small.worker, small.address, SocketRole::Data)
        };
        self.disconnected.iter().find(is_beside).map(|each| each.id)
    }

    /// Returns the route of a worker's datagrams to `remote`, from the local address `local` or one
    /// that the system chooses: by the owner's connected socket if it belongs to this worker and
    /// has these addresses, else by the disconnected one. `None` if that address family is not
    /// listened on.
    pub(super) fn route(
        &self,
        worker: usize,
        owner: Option<O>,
        remote: SocketAddr,
        local: Option<IpAddr>,
        class: u8,
    ) -> Option<SendRoute<SocketRef<O>>> {
        let connected = owner.and_then(|owner| self.connected(owner)).filter(|connected| {
            connected.worker == worker && connected.remote == remote && connected.local == local
        });
        let (id, socket, is_connected) = match connected {
            Some(connected) => (connected.id, &connected.socket, true),
            None => {
                let disconnected = self.disconnected_for(worker, remote.ip())?;
                (disconnected.id, &disconnected.socket, false)
            }
        };
        let socket = socket.socket()?;
        Some(SendRoute { socket, is_connected, remote, local, class, owner: SocketRef { id, owner } })
    }

    /// Returns the connected socket of a peer, if it has one.
    pub(super) fn connected(&self, owner: O) -> Option<&Connected<O, S>> {
        self.connected.iter().find(|connected| connected.owner == owner)
    }

    /// Returns the connected socket of that number.
    pub(super) fn connected_by_id(&self, id: SocketId) -> Option<&Connected<O, S>> {
        self.connected.iter().find(|connected| connected.id == id)
    }

    /// Returns the socket of that number and its properties; `None` if it is not in use.
    pub(super) fn get(&self, id: SocketId) -> Option<(Arc<UdpSocket>, SocketInfo)> {
        if let Some(connected) = self.connected_by_id(id) {
            let socket_info =
                SocketInfo { id, bound: connected.local, draining: None, role: SocketRole::Data };
            return Some((connected.socket.socket()?, socket_info));
        }
        let each = self.disconnected.iter().find(|each| each.id == id)?;
        let socket_info = SocketInfo { id, bound: None, draining: None, role: each.role };
        Some((each.socket.socket()?, socket_info))
    }
}

impl<O: Copy> SocketsInUse<O> {
    /// Returns a copy that does not keep the sockets open.
    pub(super) fn downgrade(&self) -> SocketsInUse<O, Weak<UdpSocket>> {
        let disconnected = self.disconnected.iter().map(|each| Disconnected {
            worker: each.worker,
            role: each.role,
            id: each.id,
            socket: Arc::downgrade(&each.socket),
            address: each.address,
            has_gso: each.has_gso,
        });
        let connected = self.connected.iter().map(|each| Connected {
            owner: each.owner,
            worker: each.worker,
            id: each.id,
            socket: Arc::downgrade(&each.socket),
            remote: each.remote,
            local: each.local,
        });
        SocketsInUse { disconnected: disconnected.collect(), connected: connected.collect() }
    }
}
