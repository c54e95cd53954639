//! The UDP sockets of a tunnel, all on one port: the disconnected ones receive from any address, a
//! connected one belongs to one peer. Each belongs to one worker, which alone reads from it and
//! sends by it. The disconnected sockets of one address are a group (SO_REUSEPORT), in which the
//! kernel chooses by the sender's address and port, so that a sender always reaches the same
//! worker; or, for WireGuard messages, by their contents ([`crate::net::steering`]): the data of
//! each peer goes to one worker, and handshake messages, of which unknown sources may send any
//! number, to a small socket of their own. Small data messages have sockets of their own, too, so
//! that they do not wait behind bulk traffic.
//!
//! All sockets are created by the supervisor: this process has no privilege to mark sockets, or to
//! create any. Those for peers come unbound and unconnected, as a pool of spare ones.
//!
//! A connected socket saves a tenth of the work per datagram, and has a receive buffer that a flood
//! from unknown sources does not fill. But the kernel finds sockets of one address and port by
//! walking a list: each connected socket costs every datagram of the other peers some 6 ns, so a
//! thousand would cost more than the rest of the path. The code that connects them keeps their
//! number small, and gives none to a peer whose bulk traffic waits: its small messages would wait
//! behind it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use nix::errno::Errno;

use super::error::DaemonError;
use super::sockets_in_use::{Connected, Disconnected, SocketInfo, SocketsInUse};
use super::token::{SocketId, Token};
use crate::messages::{BaseSocket, SocketRole};
use crate::net::recv_buffer::LocalAddress;
use crate::net::udp::UdpSocket;

/// Number of datagrams read from a socket before it is closed: more than its receive buffer can
/// hold.
const MAX_DRAIN: usize = 16_384;

/// A draining socket, which is read until it is empty and then closed.
#[derive(Debug)]
struct DrainingSocket {
    id: SocketId,
    socket: Arc<UdpSocket>,
    bound: Option<IpAddr>,
    /// Peer of a connected socket.
    remote: Option<SocketAddr>,
    /// Maximum number of datagrams that are still read from it; 0 once it is empty.
    remaining: usize,
}

/// Number of a draining socket, and the worker that drains it.
pub(super) type WorkerSocket = (usize, SocketId);

/// All sockets of a tunnel. `O` identifies the owner of a connected one.
#[derive(Debug)]
pub struct Sockets<O> {
    in_use: SocketsInUse<O>,
    /// Number of changes of the sockets in use.
    changes: u64,
    draining: Vec<DrainingSocket>,
    /// Spare sockets for IPv4 and for IPv6.
    spares: [Vec<OwnedFd>; 2],
    port: u16,
    /// Firewall mark of outgoing datagrams, 0 for none.
    mark: u32,
    next_id: u32,
}

/// Returns the index of an address family in [`Sockets::spares`].
const fn family(address: IpAddr) -> usize {
    if address.is_ipv4() { 0 } else { 1 }
}

impl<O: Copy + PartialEq> Sockets<O> {
    /// Creates the set from disconnected sockets of the supervisor.
    ///
    /// # Errors
    /// [`DaemonError::UnexpectedMessage`]: they do not match their description.
    pub(super) fn new(
        port: u16,
        sockets: Vec<BaseSocket>,
        descriptors: Vec<OwnedFd>,
    ) -> Result<Self, DaemonError> {
        Self::with_ids_from(0, port, sockets, descriptors)
    }

    fn with_ids_from(
        first_id: u32,
        port: u16,
        described: Vec<BaseSocket>,
        descriptors: Vec<OwnedFd>,
    ) -> Result<Self, DaemonError> {
        let mut sockets = Self {
            in_use: SocketsInUse { disconnected: Vec::with_capacity(described.len()), connected: Vec::new() },
            changes: 0,
            draining: Vec::new(),
            spares: [Vec::new(), Vec::new()],
            port,
            mark: 0,
            next_id: first_id,
        };
        sockets.add(described, descriptors)?;
        Ok(sockets)
    }

    /// Adds disconnected sockets of the same port. Returns the number of previous ones.
    ///
    /// # Errors
    /// [`DaemonError::UnexpectedMessage`]: they do not match their description.
    pub(super) fn add(
        &mut self,
        described: Vec<BaseSocket>,
        descriptors: Vec<OwnedFd>,
    ) -> Result<usize, DaemonError> {
        if described.len() != descriptors.len() {
            return Err(DaemonError::UnexpectedMessage);
        }
        let before = self.in_use.disconnected.len();
        self.changes += 1;
        for (socket, descriptor) in described.into_iter().zip(descriptors) {
            let BaseSocket { worker, role, address, has_gso } = socket;
            let id = self.take_id();
            self.in_use.disconnected.push(Disconnected {
                worker: worker.into(),
                role,
                id,
                socket: Arc::new(UdpSocket::from_parts(descriptor, has_gso)),
                address,
                has_gso,
            });
        }
        Ok(before)
    }

    /// Replaces the disconnected sockets. The previous ones and those of the peers are no longer
    /// used.
    ///
    /// # Errors
    /// As for [`Self::new`].
    pub(super) fn replace(
        &mut self,
        port: u16,
        sockets: Vec<BaseSocket>,
        descriptors: Vec<OwnedFd>,
    ) -> Result<Vec<WorkerSocket>, DaemonError> {
        let mut new = Self::with_ids_from(self.next_id, port, sockets, descriptors)?;
        new.mark = self.mark;
        new.changes += self.changes;
        new.spares = std::mem::take(&mut self.spares);
        let old = std::mem::replace(self, new);
        Ok(self.drain_sockets_of(old))
    }

    /// Adds spare sockets of the supervisor, those for IPv4 first.
    ///
    /// # Errors
    /// [`DaemonError::UnexpectedMessage`]: their number is wrong.
    pub(super) fn add_spares(
        &mut self,
        ipv4: usize,
        ipv6: usize,
        mut descriptors: Vec<OwnedFd>,
    ) -> Result<(), DaemonError> {
        if descriptors.len() != ipv4 + ipv6 {
            return Err(DaemonError::UnexpectedMessage);
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
        let count = |spares: &Vec<_>, any: IpAddr| self.supports_family_of(any).then_some(spares.len());
        [count(ipv4, Ipv4Addr::UNSPECIFIED.into()), count(ipv6, Ipv6Addr::UNSPECIFIED.into())]
    }

    /// Records the mark of outgoing datagrams, 0 for none, which the disconnected sockets have
    /// already. Peers' sockets and spare ones, which have the previous mark, are no longer used.
    pub(super) fn set_mark(&mut self, mark: u32) -> Vec<WorkerSocket> {
        self.mark = mark;
        self.spares = [Vec::new(), Vec::new()];
        self.changes += 1;
        let connected = std::mem::take(&mut self.in_use.connected);
        connected.into_iter().map(|connected| self.start_draining(connected)).collect()
    }

    /// Returns the mark of outgoing datagrams, 0 for none.
    pub(super) const fn mark(&self) -> u32 {
        self.mark
    }

    /// Takes over the sockets of `old`, which are drained and closed.
    fn drain_sockets_of(&mut self, old: Self) -> Vec<WorkerSocket> {
        let mut draining = Vec::new();
        self.draining = old.draining;
        for Disconnected { worker, id, socket, .. } in old.in_use.disconnected {
            self.draining.push(DrainingSocket {
                id,
                socket,
                bound: None,
                remote: None,
                remaining: MAX_DRAIN,
            });
            draining.push((worker, id));
        }
        for connected in old.in_use.connected {
            draining.push(self.start_draining(connected));
        }
        draining
    }

    /// Returns the UDP port of all sockets.
    pub(super) const fn port(&self) -> u16 {
        self.port
    }

    /// Returns the disconnected sockets, their workers and their tokens.
    pub(super) fn disconnected(&self) -> impl Iterator<Item = (usize, Token, &Arc<UdpSocket>)> {
        self.in_use.disconnected.iter().map(|each| {
            let token = match each.role {
                SocketRole::SmallData => Token::SmallData(each.id),
                SocketRole::Data | SocketRole::Handshakes => Token::Socket(each.id),
            };
            (each.worker, token, &each.socket)
        })
    }

    /// Returns all sockets in use and their workers.
    pub(super) fn in_use(&self) -> impl Iterator<Item = (usize, SocketId, &Arc<UdpSocket>)> {
        let connected = self.in_use.connected.iter().map(|each| (each.worker, each.id, &each.socket));
        self.in_use.disconnected.iter().map(|each| (each.worker, each.id, &each.socket)).chain(connected)
    }

    /// Returns the sockets in use.
    pub(super) const fn table(&self) -> &SocketsInUse<O> {
        &self.in_use
    }

    /// Returns the number of changes of the sockets in use.
    pub(super) const fn changes(&self) -> u64 {
        self.changes
    }

    /// Returns the connected socket of a peer, if it has one.
    pub(super) fn connected(&self, owner: O) -> Option<&Connected<O>> {
        self.in_use.connected(owner)
    }

    /// Returns the connected socket of that number.
    pub(super) fn connected_by_id(&self, id: SocketId) -> Option<&Connected<O>> {
        self.in_use.connected_by_id(id)
    }

    /// Returns the owners of connected sockets.
    pub(super) fn owners(&self) -> impl Iterator<Item = O> + '_ {
        self.in_use.connected.iter().map(|connected| connected.owner)
    }

    /// Returns the owners of connected sockets bound to `address`.
    pub(super) fn owners_bound_to(&self, address: IpAddr) -> impl Iterator<Item = O> + '_ {
        let bound = self.in_use.connected.iter().filter(move |connected| connected.local == Some(address));
        bound.map(|connected| connected.owner)
    }

    /// Returns the number of connected sockets.
    pub(super) fn connected_count(&self) -> usize {
        self.in_use.connected.len()
    }

    /// Returns the socket of that number and its properties; `None` if it is closed by now.
    pub(super) fn get(&self, id: SocketId) -> Option<(Arc<UdpSocket>, SocketInfo)> {
        if let Some(found) = self.in_use.get(id) {
            return Some(found);
        }
        let draining = self.draining.iter().find(|draining| draining.id == id)?;
        let socket_info =
            SocketInfo { id, bound: draining.bound, draining: Some(draining.remote), role: SocketRole::Data };
        Some((Arc::clone(&draining.socket), socket_info))
    }

    /// Records that `taken` datagrams were read from a draining socket; `is_empty` if those were
    /// all. It is closed once it is empty, or after a maximum number of datagrams.
    pub(super) fn record_drained(&mut self, id: SocketId, taken: usize, is_empty: bool) {
        if let Some(draining) = self.draining.iter_mut().find(|draining| draining.id == id) {
            draining.remaining = if is_empty { 0 } else { draining.remaining.saturating_sub(taken) };
        }
        self.close_drained();
    }

    /// Closes drained sockets, except those that a batch still has to be sent by.
    fn close_drained(&mut self) {
        self.draining.retain(|draining| draining.remaining > 0 || Arc::strong_count(&draining.socket) > 1);
    }

    /// Returns true if the address family of `address` is listened on.
    pub(super) fn supports_family_of(&self, address: IpAddr) -> bool {
        self.in_use.disconnected.iter().any(|each| each.address.is_ipv4() == address.is_ipv4())
    }

    /// Connects a spare socket to `peer`, as `worker`'s for `owner`, from `local` or from the
    /// address that the kernel's routes choose. Returns the socket that it replaces, which must be
    /// drained.
    ///
    /// # Errors
    /// An error of the kernel, or `WouldBlock` if there is no spare socket; then nothing has
    /// changed.
    pub(super) fn connect(
        &mut self,
        worker: usize,
        owner: O,
        peer: SocketAddr,
        local: Option<LocalAddress>,
    ) -> io::Result<Option<WorkerSocket>> {
        self.close_drained();
        let of_family = |each: &&Disconnected<Arc<UdpSocket>>| each.address.is_ipv4() == peer.is_ipv4();
        let base = self.in_use.disconnected.iter().find(of_family);
        let base = base.ok_or_else(|| io::Error::from(Errno::EAFNOSUPPORT))?;
        let (listen, has_gso) = (base.address, base.has_gso);
        let spare = self.spares.get_mut(family(peer.ip())).and_then(Vec::pop);
        let spare = spare
            .ok_or_else(|| io::Error::new(io::ErrorKind::WouldBlock, "no spare UDP socket available yet"))?;
        let socket = UdpSocket::from_parts(spare, has_gso);
        let source = self.source(&socket, listen, peer, local);
        if let Err(error) = source.and_then(|source| socket.connect(source, peer)) {
            // it can be used again unless it is bound
            if socket.local_addr().is_ok_and(|address| address.port() == 0)
                && let Some(spares) = self.spares.get_mut(family(peer.ip()))
            {
                spares.push(socket.into_fd());
            }
            return Err(error);
        }
        let local = socket.local_addr().ok().map(|address| address.ip());
        let old = self.disconnect(owner);
        self.add_connected(owner, worker, peer, local, socket);
        Ok(old)
    }

    /// Returns true if there are sockets for small data messages.
    pub(super) fn has_small_data(&self) -> bool {
        self.in_use.disconnected.iter().any(|each| each.role == SocketRole::SmallData)
    }

    /// Returns the connected sockets.
    pub(super) fn all_connected(&self) -> impl Iterator<Item = &Connected<O>> {
        self.in_use.connected.iter()
    }

    /// Uses `socket`, which is connected, as `worker`'s for `owner`.
    pub(super) fn add_connected(
        &mut self,
        owner: O,
        worker: usize,
        remote: SocketAddr,
        local: Option<IpAddr>,
        socket: UdpSocket,
    ) {
        let id = self.take_id();
        self.changes += 1;
        let socket = Arc::new(socket);
        self.in_use.connected.push(Connected { owner, worker, id, socket, remote, local });
    }

    /// Stops using a peer's connected socket, which must be drained.
    pub(super) fn disconnect(&mut self, owner: O) -> Option<WorkerSocket> {
        let place = self.in_use.connected.iter().position(|connected| connected.owner == owner)?;
        self.changes += 1;
        let connected = self.in_use.connected.swap_remove(place);
        Some(self.start_draining(connected))
    }

    fn start_draining(&mut self, connected: Connected<O>) -> WorkerSocket {
        let Connected { worker, id, socket, remote, local, .. } = connected;
        self.draining.push(DrainingSocket {
            id,
            socket,
            bound: local,
            remote: Some(remote),
            remaining: MAX_DRAIN,
        });
        (worker, id)
    }

    /// Returns the address that a connected socket to `peer` is bound to: `local`, or else
    /// `listen`, the address that is listened on, or else, if that is a wildcard, the one that the
    /// routes choose for `spare`.
    fn source(
        &self,
        spare: &UdpSocket,
        listen: IpAddr,
        peer: SocketAddr,
        local: Option<LocalAddress>,
    ) -> io::Result<SocketAddr> {
        if let Some(LocalAddress { address, interface }) = local {
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
        let mut source = spare.select_source_address(peer)?;
        source.set_port(self.port);
        Ok(source)
    }

    const fn take_id(&mut self) -> SocketId {
        let id = SocketId(self.next_id);
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
            role: SocketRole::Data,
            address: "127.0.0.1".parse().unwrap(),
            has_gso: true,
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
        assert!(matches!(sockets.add_spares(2, 1, spares(2)), Err(DaemonError::UnexpectedMessage)));
        sockets.add_spares(2, 0, spares(2)).unwrap();
        assert!(sockets.connect(0, 1, peer, None).unwrap().is_none());
        let connected = sockets.connected(1).unwrap();
        assert_eq!(
            connected.socket.local_addr().unwrap(),
            SocketAddr::new("127.0.0.1".parse().unwrap(), port)
        );
        assert!(connected.socket.has_gso());
        let first = connected.id;
        assert_eq!(sockets.connect(0, 1, "127.0.0.3:9".parse().unwrap(), None).unwrap(), Some((0, first)));
        assert_eq!(sockets.spares(), [Some(0), None]);
        assert!(sockets.get(first).unwrap().1.draining.is_some(), "read to its end");
        sockets.record_drained(first, 0, true);
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
        let handed = new.in_use.disconnected[0].socket.try_clone_fd().unwrap();
        let described = BaseSocket {
            worker: 0,
            role: SocketRole::Data,
            address: "127.0.0.1".parse().unwrap(),
            has_gso: false,
        };
        assert!(matches!(
            sockets.replace(port, vec![described], Vec::new()),
            Err(DaemonError::UnexpectedMessage)
        ));
        assert_eq!(sockets.replace(port, vec![described], vec![handed]).unwrap(), before);
        assert_eq!((sockets.port(), sockets.spares(), sockets.connected_count()), (port, [Some(1), None], 0));
        assert!(sockets.in_use().all(|(_, id, _)| before.iter().all(|(_, old)| *old != id)), "other numbers");
    }
}
