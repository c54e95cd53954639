//! A tunnel's UDP sockets, all on one port: the disconnected ones hear everybody, a connected one
//! is one peer's alone. Each is one worker's: it alone reads from it and sends by it. The
//! disconnected ones of one address are a group (SO_REUSEPORT), in which the kernel chooses by the
//! sender's address and port, so that a sender is always the same worker's; or, where the datagrams
//! are WireGuard messages, by what they say ([`crate::io::steering`]): each peer's data is one
//! worker's, and handshake messages, which strangers may send as many as they like of, have a small
//! socket of their own.
//!
//! All sockets are the supervisor's making: this process has no right to mark them, or to make a
//! socket at all. Those for peers come unbound and unconnected, as a pool of spare ones.
//!
//! A connected socket saves its owner a tenth of a datagram's work, and has a receive buffer that a flood of strangers
//! does not fill. But the kernel finds sockets of one address and port by going through a list: each connected socket
//! costs every datagram of those who have none some 6 ns, so a thousand would cost more than the rest of the way.
//! Whoever opens them keeps them few.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use nix::errno::Errno;

use super::error::DeviceError;
use super::token::SockId;
use crate::io::batch::Route;
use crate::io::mailbox::Local;
use crate::io::udp::UdpSocket;
use crate::messages::BaseSocket;

/// Datagrams read from a socket before it is closed: more than its receive buffer can hold.
const LAST_DRAIN: usize = 16_384;

/// The socket that a datagram goes by, and whose it is if it is a peer's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Via<O> {
    /// Its number.
    pub(super) id: SockId,
    /// The peer that the datagram is for.
    pub(super) owner: Option<O>,
}

/// What is known of the socket that a datagram came by.
#[derive(Clone, Copy, Debug)]
pub struct Entrance {
    /// Its number.
    pub(super) id: SockId,
    /// The address that it is bound to, if it is a connected one.
    pub(super) bound: Option<IpAddr>,
    /// Set on a socket that is out of use, whose last datagrams these are: whom it was connected to, if it was.
    pub(super) retired: Option<Option<SocketAddr>>,
    /// It has handshake messages only, which take longer than data and come from everybody.
    pub(super) is_for_handshakes: bool,
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
    /// Several datagrams could be sent as one message when it was made, which holds for spare ones.
    sends_segments: bool,
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
    /// For IPv4 and for IPv6.
    spares: [Vec<OwnedFd>; 2],
    port: u16,
    /// Mark of outgoing datagrams, 0 for none.
    mark: u32,
    next_id: u32,
}

/// The place of an address family among [`Sockets::spares`].
const fn family(address: IpAddr) -> usize {
    if address.is_ipv4() { 0 } else { 1 }
}

impl<O: Copy + PartialEq> Sockets<O> {
    /// Takes disconnected sockets from the supervisor.
    ///
    /// # Errors
    /// [`DeviceError::Message`]: they are not as described.
    pub(super) fn new(
        port: u16,
        sockets: Vec<BaseSocket>,
        descriptors: Vec<OwnedFd>,
    ) -> Result<Self, DeviceError> {
        Self::with_ids_from(0, port, sockets, descriptors)
    }

    fn with_ids_from(
        first_id: u32,
        port: u16,
        described: Vec<BaseSocket>,
        descriptors: Vec<OwnedFd>,
    ) -> Result<Self, DeviceError> {
        let mut sockets = Self {
            disconnected: Vec::with_capacity(described.len()),
            connected: Vec::new(),
            retired: Vec::new(),
            spares: [Vec::new(), Vec::new()],
            port,
            mark: 0,
            next_id: first_id,
        };
        sockets.add(described, descriptors)?;
        Ok(sockets)
    }

    /// Takes more disconnected sockets of the same port. Returns how many there were before.
    ///
    /// # Errors
    /// [`DeviceError::Message`]: they are not as described.
    pub(super) fn add(
        &mut self,
        described: Vec<BaseSocket>,
        descriptors: Vec<OwnedFd>,
    ) -> Result<usize, DeviceError> {
        if described.len() != descriptors.len() {
            return Err(DeviceError::Message);
        }
        let before = self.disconnected.len();
        for (socket, descriptor) in described.into_iter().zip(descriptors) {
            let BaseSocket { worker, is_for_handshakes, address, sends_segments } = socket;
            let id = self.take_id();
            self.disconnected.push(Disconnected {
                worker: worker.into(),
                is_for_handshakes,
                id,
                socket: Arc::new(UdpSocket::from_parts(descriptor, sends_segments)),
                address,
                sends_segments,
            });
        }
        Ok(before)
    }

    /// Takes other disconnected sockets from the supervisor. Those before and the peers' are out of
    /// use then.
    ///
    /// # Errors
    /// As for [`Self::new`].
    pub(super) fn replace(
        &mut self,
        port: u16,
        sockets: Vec<BaseSocket>,
        descriptors: Vec<OwnedFd>,
    ) -> Result<Vec<Leftover>, DeviceError> {
        let mut new = Self::with_ids_from(self.next_id, port, sockets, descriptors)?;
        new.mark = self.mark;
        new.spares = std::mem::take(&mut self.spares);
        let old = std::mem::replace(self, new);
        Ok(self.succeed(old))
    }

    /// Takes spare sockets from the supervisor, those for IPv4 first.
    ///
    /// # Errors
    /// [`DeviceError::Message`]: there are more or fewer.
    pub(super) fn add_spares(
        &mut self,
        ipv4: usize,
        ipv6: usize,
        mut descriptors: Vec<OwnedFd>,
    ) -> Result<(), DeviceError> {
        if descriptors.len() != ipv4 + ipv6 {
            return Err(DeviceError::Message);
        }
        let [of_ipv4, of_ipv6] = &mut self.spares;
        of_ipv6.extend(descriptors.drain(ipv4..));
        of_ipv4.extend(descriptors);
        Ok(())
    }

    /// Returns the number of spare sockets for IPv4 and IPv6; `None` for a family that is not
    /// listened on.
    pub(super) fn spares(&self) -> [Option<usize>; 2] {
        let [ipv4, ipv6] = &self.spares;
        let count = |spares: &Vec<_>, any: IpAddr| self.speaks(any).then_some(spares.len());
        [count(ipv4, Ipv4Addr::UNSPECIFIED.into()), count(ipv6, Ipv6Addr::UNSPECIFIED.into())]
    }

    /// Takes note of the mark of outgoing datagrams, 0 for none, which the disconnected sockets
    /// have already. Peers' sockets and spare ones, which have the mark of before, are out of use.
    pub(super) fn set_mark(&mut self, mark: u32) -> Vec<Leftover> {
        self.mark = mark;
        self.spares = [Vec::new(), Vec::new()];
        let connected = std::mem::take(&mut self.connected);
        connected.into_iter().map(|connected| self.retire(connected)).collect()
    }

    /// Returns the mark of outgoing datagrams, 0 for none.
    pub(super) const fn mark(&self) -> u32 {
        self.mark
    }

    /// Takes the place of `old`, whose sockets are out of use then.
    fn succeed(&mut self, old: Self) -> Vec<Leftover> {
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

    /// Connects a spare socket to `peer`, as `worker`'s for `owner`, from `local` or from where the
    /// kernel's routes say. The one whose place it takes is out of use then, and is to be read a
    /// last time.
    ///
    /// # Errors
    /// The kernel's, or `WouldBlock` if there is no spare socket; then everything is as before.
    pub(super) fn connect(
        &mut self,
        worker: usize,
        owner: O,
        peer: SocketAddr,
        local: Option<Local>,
    ) -> io::Result<Option<Leftover>> {
        self.close_finished();
        let of_family = |each: &&Disconnected| each.address.is_ipv4() == peer.is_ipv4();
        let base = self.disconnected.iter().find(of_family);
        let base = base.ok_or_else(|| io::Error::from(Errno::EAFNOSUPPORT))?;
        let (listen, sends_segments) = (base.address, base.sends_segments);
        let spare = self.spares.get_mut(family(peer.ip())).and_then(Vec::pop);
        let spare =
            spare.ok_or_else(|| io::Error::new(io::ErrorKind::WouldBlock, "no spare UDP socket yet"))?;
        let socket = UdpSocket::from_parts(spare, sends_segments);
        let source = self.source(&socket, listen, peer, local);
        if let Err(error) = source.and_then(|source| socket.connect(source, peer)) {
            // as good as before unless it is bound
            if socket.local_addr().is_ok_and(|address| address.port() == 0)
                && let Some(spares) = self.spares.get_mut(family(peer.ip()))
            {
                spares.push(socket.into_fd());
            }
            return Err(error);
        }
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

    /// Returns the address that a connected socket to `peer` is bound to: `local`, or else
    /// `listen`, the address that we listen on, or else, where that is a wildcard, the one that the
    /// routes choose for `spare`.
    fn source(
        &self,
        spare: &UdpSocket,
        listen: IpAddr,
        peer: SocketAddr,
        local: Option<Local>,
    ) -> io::Result<SocketAddr> {
        if let Some(Local { address, interface }) = local {
            return Ok(match address {
                IpAddr::V6(v6) if v6.is_unicast_link_local() => {
                    SocketAddrV6::new(v6, self.port, 0, interface).into()
                }
                _ => SocketAddr::new(address, self.port),
            });
        }
        if !listen.is_unspecified() {
            return Ok(SocketAddr::new(listen, self.port));
        }
        let mut source = spare.source_towards(peer)?;
        source.set_port(self.port);
        Ok(source)
    }

    const fn take_id(&mut self) -> SockId {
        let id = SockId(self.next_id);
        self.next_id = self.next_id.wrapping_add(1);
        id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base() -> (Sockets<u8>, u16) {
        let socket = UdpSocket::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let port = socket.local_addr().unwrap().port();
        let described = BaseSocket {
            worker: 0,
            is_for_handshakes: false,
            address: "127.0.0.1".parse().unwrap(),
            sends_segments: true,
        };
        let sockets = Sockets::new(port, vec![described], vec![socket.try_clone_fd().unwrap()]).unwrap();
        (sockets, port)
    }

    fn spares(count: usize) -> Vec<OwnedFd> {
        (0..count).map(|_| UdpSocket::unbound(true).unwrap().try_clone_fd().unwrap()).collect()
    }

    #[test]
    fn peers_have_spare_sockets_and_without_one_nothing_changes() {
        let (mut sockets, port) = base();
        let peer = "127.0.0.2:9".parse().unwrap();
        assert_eq!(sockets.spares(), [Some(0), None], "IPv6 is not listened on");
        assert_eq!(sockets.connect(0, 1, peer, None).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert!(matches!(sockets.add_spares(2, 1, spares(2)), Err(DeviceError::Message)));
        sockets.add_spares(2, 0, spares(2)).unwrap();
        assert!(sockets.connect(0, 1, peer, None).unwrap().is_none());
        let connected = sockets.connected(1).unwrap();
        assert_eq!(
            connected.socket.local_addr().unwrap(),
            SocketAddr::new("127.0.0.1".parse().unwrap(), port)
        );
        assert!(connected.socket.sends_segments());
        let first = connected.id;
        assert_eq!(sockets.connect(0, 1, "127.0.0.3:9".parse().unwrap(), None).unwrap(), Some((0, first)));
        assert_eq!(sockets.spares(), [Some(0), None]);
        assert!(sockets.get(first).unwrap().1.retired.is_some(), "read to its end");
        sockets.finish(first, 0, true);
        assert!(sockets.get(first).is_none());
    }

    #[test]
    fn another_mark_puts_peers_sockets_and_spare_ones_out_of_use() {
        let (mut sockets, _) = base();
        sockets.add_spares(2, 0, spares(2)).unwrap();
        sockets.connect(3, 1, "127.0.0.2:9".parse().unwrap(), None).unwrap();
        let id = sockets.connected(1).unwrap().id;
        assert_eq!(sockets.set_mark(7), [(3, id)]);
        assert_eq!((sockets.mark(), sockets.connected_count(), sockets.spares()), (7, 0, [Some(0), None]));
    }

    #[test]
    fn other_sockets_take_the_place_of_those_before() {
        let (mut sockets, _) = base();
        sockets.add_spares(2, 0, spares(2)).unwrap();
        sockets.connect(0, 1, "127.0.0.2:9".parse().unwrap(), None).unwrap();
        let before: Vec<_> = sockets.in_use().map(|(worker, id, _)| (worker, id)).collect();
        let (new, port) = base();
        let handed = new.disconnected[0].socket.try_clone_fd().unwrap();
        let described = BaseSocket {
            worker: 0,
            is_for_handshakes: false,
            address: "127.0.0.1".parse().unwrap(),
            sends_segments: false,
        };
        assert!(matches!(sockets.replace(port, vec![described], Vec::new()), Err(DeviceError::Message)));
        assert_eq!(sockets.replace(port, vec![described], vec![handed]).unwrap(), before);
        assert_eq!((sockets.port(), sockets.spares(), sockets.connected_count()), (port, [Some(1), None], 0));
        assert!(sockets.in_use().all(|(_, id, _)| before.iter().all(|(_, old)| *old != id)), "other numbers");
    }
}
