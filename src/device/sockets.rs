//! A tunnel's UDP sockets, all on one port: the disconnected ones hear everybody, a connected one
//! is one peer's alone. Each is one worker's: it alone reads from it and sends by it. The
//! disconnected ones of one address are a group (SO_REUSEPORT), in which the kernel chooses by the
//! sender's address and port, so that a sender is always the same worker's; or, where the datagrams
//! are WireGuard messages, by what they say ([`crate::io::steering`]): each peer's data is one
//! worker's, and handshake messages, which strangers may send as many as they like of, have a small
//! socket of their own.
//!
//! The first socket of an address is bound alone, so that a port that somebody has is refused. From
//! then on all have SO_REUSEPORT: the kernel lets sockets of the same owner share the port, and of
//! nobody else. The owner is who made the socket, so those that exist before the process becomes
//! another user are made in that user's name ([`Identity::owning_sockets`]). SO_REUSEADDR, which
//! knows no owners, is never set.
//!
//! A connected socket saves its owner a tenth of a datagram's work, and has a receive buffer that a flood of strangers
//! does not fill. But the kernel finds sockets of one address and port by going through a list: each connected socket
//! costs every datagram of those who have none some 6 ns, so a thousand would cost more than the rest of the way.
//! Whoever opens them keeps them few.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::num::NonZeroU32;
use std::sync::Arc;

use nix::errno::Errno;

use super::Entrance;
use super::token::SockId;
use crate::config::DEFAULT_PORT;
use crate::io::batch::Route;
use crate::io::mailbox::Local;
use crate::io::udp::{UdpSocket, is_family_missing};
use crate::privileges::Identity;

/// Datagrams read from a socket before it is closed: more than its receive buffer can hold.
const LAST_DRAIN: usize = 16_384;
/// Tries to find a port that is free in both address families.
const PORT_TRIES: u32 = 16;

/// Why there are no sockets.
#[derive(Debug, thiserror::Error)]
pub enum SocketsError {
    /// Someone has the port.
    #[error(
        "UDP port {0} is in use: stop the process that has it (ss -lunp), or choose another (--listen-port, or ListenPort in the file)"
    )]
    PortInUse(u16),
    /// A port below 1024 without CAP_NET_BIND_SERVICE.
    #[error(
        "may not bind UDP port {0}, which is below 1024: choose a higher one (--listen-port, or ListenPort in the file), or start as root"
    )]
    PortPrivileged(u16),
    /// Not an address of this host.
    #[error("--listen {0} is no address of this host: choose one that `ip address` shows, or leave it out")]
    NotLocal(IpAddr),
    /// Anything else.
    #[error("cannot open a UDP socket on {address}: {source}")]
    Other {
        /// Where.
        address: SocketAddr,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// The socket that a datagram goes by, and whose it is if it is a peer's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Via<O> {
    /// Its number.
    pub(super) id: SockId,
    /// The peer that the datagram is for.
    pub(super) owner: Option<O>,
}

/// A socket that hears everybody on one address.
#[derive(Debug)]
struct Disconnected {
    worker: usize,
    /// It has the handshake messages of all, and nothing is sent by it.
    is_for_handshakes: bool,
    id: SockId,
    socket: Arc<UdpSocket>,
    address: IpAddr,
}

/// The socket of a peer.
#[derive(Debug)]
pub(super) struct Connected<O> {
    /// Whose it is.
    owner: O,
    /// Which worker reads it, and sends by it.
    worker: usize,
    /// Its number.
    pub(super) id: SockId,
    /// The socket.
    pub(super) socket: Arc<UdpSocket>,
    /// Where the peer is.
    pub(super) remote: SocketAddr,
    /// The address that our datagrams leave from.
    pub(super) local: Option<IpAddr>,
}

/// A socket that is read to its end and then closed.
#[derive(Debug)]
struct Retired {
    id: SockId,
    socket: Arc<UdpSocket>,
    bound: Option<IpAddr>,
    /// The peer of a connected one.
    remote: Option<SocketAddr>,
    /// Datagrams that are still read from it at most; 0 once it is empty.
    left: usize,
}

/// Sockets that are out of use now: each worker is to read its own a last time.
pub(super) type Leftover = (usize, SockId);

/// All sockets of a tunnel. `O` names who owns a connected one.
#[derive(Debug)]
pub struct Sockets<O> {
    disconnected: Vec<Disconnected>,
    connected: Vec<Connected<O>>,
    retired: Vec<Retired>,
    port: u16,
    mark: Option<NonZeroU32>,
    next_id: u32,
    options: SocketOptions,
}

/// What all sockets of a tunnel are like.
#[derive(Clone, Copy, Debug)]
pub(super) struct SocketOptions {
    /// Workers: each has a disconnected socket of its own for each address.
    pub(super) workers: usize,
    /// Many datagrams may be one for the kernel.
    pub(super) offload: bool,
    /// Each datagram's traffic class is wanted.
    pub(super) tells_class: bool,
    /// None of many peers may keep the others waiting.
    pub(super) has_many_peers: bool,
    /// The datagrams are WireGuard messages: handshake messages have a socket of their own, and
    /// data messages go to the worker that their receiver index leads to.
    pub(super) steers: bool,
}

impl SocketOptions {
    fn apply(self, socket: &UdpSocket) -> io::Result<()> {
        if self.offload {
            socket.offload();
        }
        if self.tells_class {
            socket.receive_class()?;
        }
        if self.has_many_peers {
            socket.send_to_many();
        }
        Ok(())
    }
}

impl<O: Copy + PartialEq> Sockets<O> {
    /// Opens a disconnected socket on each address of `listen`, or on every address of each family
    /// there is. `port` `None` means the default port, or another one if `may_move` and that is
    /// taken. `user` is whom the process becomes later, if it does.
    ///
    /// # Errors
    /// [`SocketsError`], with the remedy.
    pub(super) fn open(
        listen: &[IpAddr],
        port: Option<u16>,
        may_move: bool,
        options: SocketOptions,
        user: Option<Identity>,
    ) -> Result<Self, SocketsError> {
        Identity::owning_sockets(user, || match port {
            Some(0) => Self::bind_any(listen, 0, options),
            Some(port) => Self::bind(listen, port, 0, options),
            None => match Self::bind(listen, DEFAULT_PORT, 0, options) {
                Err(SocketsError::PortInUse(taken)) if may_move => {
                    tracing::info!("port {taken} is taken; a client can do with another");
                    Self::bind_any(listen, 0, options)
                }
                result => result,
            },
        })
    }

    /// Opens disconnected sockets on another port, on every address; 0 for any that is free. Their numbers follow on ours.
    ///
    /// # Errors
    /// [`SocketsError`], with the remedy.
    pub(super) fn reopen(&self, port: u16) -> Result<Self, SocketsError> {
        if port == 0 {
            Self::bind_any(&[], self.next_id, self.options)
        } else {
            Self::bind(&[], port, self.next_id, self.options)
        }
    }

    /// A port that is free in one address family may be taken in the other.
    fn bind_any(listen: &[IpAddr], first_id: u32, options: SocketOptions) -> Result<Self, SocketsError> {
        let mut last = Self::bind(listen, 0, first_id, options);
        for _ in 1..PORT_TRIES {
            if !matches!(last, Err(SocketsError::PortInUse(_))) {
                break;
            }
            last = Self::bind(listen, 0, first_id, options);
        }
        last
    }

    fn bind(
        listen: &[IpAddr],
        port: u16,
        first_id: u32,
        options: SocketOptions,
    ) -> Result<Self, SocketsError> {
        let everywhere = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
        let addresses = if listen.is_empty() { &everywhere } else { listen };
        let mut sockets = Self {
            disconnected: Vec::new(),
            connected: Vec::new(),
            retired: Vec::new(),
            port,
            mark: None,
            next_id: first_id,
            options,
        };
        for &address in addresses {
            match sockets.bind_for_all(address) {
                Ok(()) => {}
                Err(error) if listen.is_empty() && address.is_ipv6() && is_family_missing(&error) => {
                    tracing::debug!(%error, "this host has no IPv6");
                }
                Err(error) => return Err(bind_error(error, SocketAddr::new(address, sockets.port))),
            }
        }
        Ok(sockets)
    }

    /// A socket for each worker on one address, and the one for handshake messages. The first has
    /// the address to itself while it is bound, so that a second process is refused; then the
    /// others join.
    fn bind_for_all(&mut self, address: IpAddr) -> io::Result<()> {
        let workers = self.options.workers;
        // the last worker has no chores; the kernel counts this socket first
        let handshakes = self.options.steers.then_some((workers.saturating_sub(1), true));
        let first = self.disconnected.len();
        for (worker, is_for_handshakes) in
            handshakes.into_iter().chain((0..workers).map(|worker| (worker, false)))
        {
            let local = SocketAddr::new(address, self.port);
            let is_first = self.disconnected.len() == first;
            let socket = if is_first { UdpSocket::bind(local) } else { UdpSocket::join(local) }?;
            // port 0 let the kernel choose one, which the others must have too
            self.port = socket.local_addr()?.port();
            self.options.apply(&socket)?;
            if is_for_handshakes {
                socket.receive_handshakes();
            }
            let (id, socket) = (self.take_id(), Arc::new(socket));
            self.disconnected.push(Disconnected { worker, is_for_handshakes, id, socket, address });
        }
        if handshakes.is_some() {
            self.steer(first);
        }
        Ok(())
    }

    /// Has the kernel tell messages apart that come to the group whose first socket is number
    /// `first`. Where it cannot, the socket for handshake messages is closed, and senders are
    /// spread over the others.
    fn steer(&mut self, first: usize) {
        let receivers = u32::try_from(self.options.workers).unwrap_or(u32::MAX);
        let result = self.disconnected.get(first).map_or(Ok(()), |each| each.socket.steer(receivers));
        if let Err(error) = result {
            tracing::debug!(%error, "handshake messages have no socket of their own");
            self.disconnected.remove(first);
        }
    }

    /// Takes the place of `old`, whose sockets are out of use then.
    pub(super) fn succeed(&mut self, old: Self) -> Vec<Leftover> {
        let mut leftovers = Vec::new();
        self.retired = old.retired;
        for Disconnected { worker, id, socket, .. } in old.disconnected {
            self.retired.push(Retired { id, socket, bound: None, remote: None, left: LAST_DRAIN });
            leftovers.push((worker, id));
        }
        for connected in old.connected {
            leftovers.push(self.retire(connected));
        }
        leftovers
    }

    /// The UDP port that all of them have.
    pub(super) const fn port(&self) -> u16 {
        self.port
    }

    /// The disconnected sockets, and which worker's each is.
    pub(super) fn disconnected(&self) -> impl Iterator<Item = (usize, SockId, &Arc<UdpSocket>)> {
        self.disconnected.iter().map(|each| (each.worker, each.id, &each.socket))
    }

    /// All sockets in use, and which worker's each is.
    pub(super) fn in_use(&self) -> impl Iterator<Item = (usize, SockId, &Arc<UdpSocket>)> {
        let connected = self.connected.iter().map(|each| (each.worker, each.id, &each.socket));
        self.disconnected().chain(connected)
    }

    /// A worker's disconnected socket for addresses of the family that `address` has.
    pub(super) fn disconnected_for(
        &self,
        worker: usize,
        address: IpAddr,
    ) -> Option<(SockId, &Arc<UdpSocket>)> {
        let mut fitting = self
            .disconnected
            .iter()
            .filter(|each| each.worker == worker && !each.is_for_handshakes)
            .filter(|each| each.address.is_ipv4() == address.is_ipv4());
        fitting.next().map(|each| (each.id, &each.socket))
    }

    /// The way of a worker's datagrams to `remote`, from our address `local` or from where the system chooses: by the
    /// owner's own socket if it is this worker's and leads there, else by the disconnected one. `None` if we do not listen
    /// on addresses of that family.
    pub(super) fn route(
        &self,
        worker: usize,
        owner: Option<O>,
        remote: SocketAddr,
        local: Option<IpAddr>,
        class: u8,
    ) -> Option<Route<Via<O>>> {
        let own = owner.and_then(|owner| self.connected(owner)).filter(|connected| {
            connected.worker == worker && connected.remote == remote && connected.local == local
        });
        let (id, socket, is_connected) = match own {
            Some(own) => (own.id, &own.socket, true),
            None => {
                let (id, socket) = self.disconnected_for(worker, remote.ip())?;
                (id, socket, false)
            }
        };
        let socket = Arc::clone(socket);
        Some(Route { socket, is_connected, remote, local, class, owner: Via { id, owner } })
    }

    /// A peer's socket, if it has one.
    pub(super) fn connected(&self, owner: O) -> Option<&Connected<O>> {
        self.connected.iter().find(|connected| connected.owner == owner)
    }

    /// Who has a socket of its own.
    pub(super) fn owners(&self) -> impl Iterator<Item = O> + '_ {
        self.connected.iter().map(|connected| connected.owner)
    }

    /// Whose own socket sends from `address`.
    pub(super) fn owners_bound_to(&self, address: IpAddr) -> impl Iterator<Item = O> + '_ {
        let bound = self.connected.iter().filter(move |connected| connected.local == Some(address));
        bound.map(|connected| connected.owner)
    }

    /// How many have a socket of their own.
    pub(super) fn connected_count(&self) -> usize {
        self.connected.len()
    }

    /// The socket of that number, and what is known of it; `None` if it is closed by now.
    pub(super) fn get(&self, id: SockId) -> Option<(Arc<UdpSocket>, Entrance)> {
        if let Some(connected) = self.connected.iter().find(|connected| connected.id == id) {
            let entrance = Entrance { id, bound: connected.local, retired: None, is_for_handshakes: false };
            return Some((Arc::clone(&connected.socket), entrance));
        }
        if let Some(each) = self.disconnected.iter().find(|each| each.id == id) {
            let is_for_handshakes = each.is_for_handshakes;
            return Some((
                Arc::clone(&each.socket),
                Entrance { id, bound: None, retired: None, is_for_handshakes },
            ));
        }
        let retired = self.retired.iter().find(|retired| retired.id == id)?;
        let entrance =
            Entrance { id, bound: retired.bound, retired: Some(retired.remote), is_for_handshakes: false };
        Some((Arc::clone(&retired.socket), entrance))
    }

    /// So many datagrams were read from a socket that is out of use; `is_empty` if that was all. It is closed once it is
    /// empty, or if it does not become so.
    pub(super) fn finish(&mut self, id: SockId, taken: usize, is_empty: bool) {
        if let Some(retired) = self.retired.iter_mut().find(|retired| retired.id == id) {
            retired.left = if is_empty { 0 } else { retired.left.saturating_sub(taken) };
        }
        self.close_finished();
    }

    /// One that a batch still waits to be sent by has to stay.
    fn close_finished(&mut self) {
        self.retired.retain(|retired| retired.left > 0 || Arc::strong_count(&retired.socket) > 1);
    }

    /// Whether we listen on addresses of the family that `address` has.
    pub(super) fn speaks(&self, address: IpAddr) -> bool {
        self.disconnected.iter().any(|each| each.address.is_ipv4() == address.is_ipv4())
    }

    /// Makes a connected socket of `worker`'s for `owner` at `peer` that sends from `local`, or from where the kernel's
    /// routes say. The one whose place it takes is out of use then, and is to be read a last time.
    ///
    /// # Errors
    /// The kernel's; then everything is as before.
    pub(super) fn connect(
        &mut self,
        worker: usize,
        owner: O,
        peer: SocketAddr,
        local: Option<Local>,
    ) -> io::Result<Option<Leftover>> {
        self.close_finished();
        let from = self.source(peer, local)?;
        let socket = UdpSocket::connect(from, peer, self.mark)?;
        self.options.apply(&socket)?;
        let local = socket.local_addr().ok().map(|address| address.ip());
        let old = self.disconnect(owner);
        let id = self.take_id();
        self.connected.push(Connected { owner, worker, id, socket: Arc::new(socket), remote: peer, local });
        Ok(old)
    }

    /// Takes a peer's socket out of use; it is to be read a last time.
    pub(super) fn disconnect(&mut self, owner: O) -> Option<Leftover> {
        let place = self.connected.iter().position(|connected| connected.owner == owner)?;
        let connected = self.connected.swap_remove(place);
        Some(self.retire(connected))
    }

    fn retire(&mut self, connected: Connected<O>) -> Leftover {
        let Connected { worker, id, socket, remote, local, .. } = connected;
        self.retired.push(Retired { id, socket, bound: local, remote: Some(remote), left: LAST_DRAIN });
        (worker, id)
    }

    /// Returns the address that a connected socket to `peer` is bound to: `local`, or else to the
    /// address that we listen on, or else, where that is a wildcard, to the one that the routes
    /// choose.
    fn source(&self, peer: SocketAddr, local: Option<Local>) -> io::Result<SocketAddr> {
        if let Some(Local { address, interface }) = local {
            return Ok(match address {
                IpAddr::V6(v6) if v6.is_unicast_link_local() => {
                    SocketAddrV6::new(v6, self.port, 0, interface).into()
                }
                _ => SocketAddr::new(address, self.port),
            });
        }
        let family = |address: &IpAddr| address.is_ipv4() == peer.is_ipv4();
        let listen = self.disconnected.iter().map(|each| each.address).find(family);
        let listen = listen.ok_or_else(|| io::Error::from(Errno::EAFNOSUPPORT))?;
        if !listen.is_unspecified() {
            return Ok(SocketAddr::new(listen, self.port));
        }
        let mut source = UdpSocket::source_towards(peer, self.mark)?;
        source.set_port(self.port);
        Ok(source)
    }

    /// Gives the datagrams of all sockets, those to come included, a mark that routing rules can tell (`SO_MARK`).
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn set_mark(&mut self, mark: Option<NonZeroU32>) -> io::Result<()> {
        self.mark = mark;
        self.all().try_for_each(|socket| socket.set_mark(mark))
    }

    fn all(&self) -> impl Iterator<Item = &UdpSocket> {
        let connected = self.connected.iter().map(|connected| connected.socket.as_ref());
        let retired = self.retired.iter().map(|retired| retired.socket.as_ref());
        self.disconnected.iter().map(|each| each.socket.as_ref()).chain(connected).chain(retired)
    }

    const fn take_id(&mut self) -> SockId {
        let id = SockId(self.next_id);
        self.next_id = self.next_id.wrapping_add(1);
        id
    }
}

fn bind_error(error: io::Error, address: SocketAddr) -> SocketsError {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EADDRINUSE) => SocketsError::PortInUse(address.port()),
        Some(Errno::EACCES) => SocketsError::PortPrivileged(address.port()),
        Some(Errno::EADDRNOTAVAIL | Errno::EAFNOSUPPORT) => SocketsError::NotLocal(address.ip()),
        _ => SocketsError::Other { address, source: error },
    }
}
