//! A tunnel's UDP sockets, all on one port: the disconnected ones hear everybody, a connected one is one peer's alone.
//!
//! A connected socket saves its owner a tenth of a datagram's work, and has a receive buffer that a flood of strangers
//! does not fill. But the kernel finds sockets of one address and port by going through a list: each connected socket
//! costs every datagram of those who have none some 6 ns, so a thousand would cost more than the rest of the way.
//! Whoever opens them keeps them few.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::num::NonZeroU32;

use nix::errno::Errno;

use super::token::SockId;
use crate::config::DEFAULT_PORT;
use crate::io::udp::{Local, UdpSocket, is_family_missing};

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

/// The socket of a peer.
#[derive(Debug)]
pub(super) struct Connected<O> {
    /// Whose it is.
    owner: O,
    /// Its number.
    pub(super) id: SockId,
    /// The socket.
    pub(super) socket: UdpSocket,
    /// Where the peer is.
    pub(super) remote: SocketAddr,
    /// The address that our datagrams leave from.
    pub(super) local: Option<IpAddr>,
}

/// All sockets of a tunnel. `O` names who owns a connected one.
#[derive(Debug)]
pub(super) struct Sockets<O> {
    disconnected: Vec<(SockId, UdpSocket, IpAddr)>,
    connected: Vec<Connected<O>>,
    port: u16,
    mark: Option<NonZeroU32>,
    /// Each datagram's traffic class is wanted.
    tells_class: bool,
    has_many_peers: bool,
    next_id: u32,
}

impl<O: Copy + PartialEq> Sockets<O> {
    /// Opens a disconnected socket on each address of `listen`, or on every address of each family there is.
    /// `port` `None` means the default port, or another one if `may_move` and that is taken.
    ///
    /// # Errors
    /// [`SocketsError`], with the remedy.
    pub(super) fn open(listen: &[IpAddr], port: Option<u16>, may_move: bool) -> Result<Self, SocketsError> {
        match port {
            Some(0) => Self::bind_any(listen, 0),
            Some(port) => Self::bind(listen, port, 0),
            None => match Self::bind(listen, DEFAULT_PORT, 0) {
                Err(SocketsError::PortInUse(taken)) if may_move => {
                    tracing::info!("port {taken} is taken; a client can do with another");
                    Self::bind_any(listen, 0)
                }
                result => result,
            },
        }
    }

    /// Opens disconnected sockets on another port, on every address; 0 for any that is free. Their numbers follow on ours.
    ///
    /// # Errors
    /// [`SocketsError`], with the remedy.
    pub(super) fn reopen(&self, port: u16) -> Result<Self, SocketsError> {
        if port == 0 { Self::bind_any(&[], self.next_id) } else { Self::bind(&[], port, self.next_id) }
    }

    /// A port that is free in one address family may be taken in the other.
    fn bind_any(listen: &[IpAddr], first_id: u32) -> Result<Self, SocketsError> {
        let mut last = Self::bind(listen, 0, first_id);
        for _ in 1..PORT_TRIES {
            if !matches!(last, Err(SocketsError::PortInUse(_))) {
                break;
            }
            last = Self::bind(listen, 0, first_id);
        }
        last
    }

    fn bind(listen: &[IpAddr], port: u16, first_id: u32) -> Result<Self, SocketsError> {
        let everywhere = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
        let addresses = if listen.is_empty() { &everywhere } else { listen };
        let mut sockets = Self {
            disconnected: Vec::new(),
            connected: Vec::new(),
            port,
            mark: None,
            tells_class: false,
            has_many_peers: false,
            next_id: first_id,
        };
        for &address in addresses {
            let full = SocketAddr::new(address, sockets.port);
            match UdpSocket::bind(full) {
                Ok(socket) => {
                    // port 0 let the kernel choose one, which the next family must have too
                    let other = |source| SocketsError::Other { address: full, source };
                    sockets.port = socket.local_addr().map_err(other)?.port();
                    let id = sockets.take_id();
                    sockets.disconnected.push((id, socket, address));
                }
                Err(error) if listen.is_empty() && address.is_ipv6() && is_family_missing(&error) => {
                    tracing::debug!(%error, "this host has no IPv6");
                }
                Err(error) => return Err(bind_error(error, full)),
            }
        }
        Ok(sockets)
    }

    /// All of them, to be read a last time and closed.
    pub(super) fn into_sockets(self) -> impl Iterator<Item = UdpSocket> {
        let connected = self.connected.into_iter().map(|connected| connected.socket);
        self.disconnected.into_iter().map(|(_, socket, _)| socket).chain(connected)
    }

    /// The UDP port that all of them have.
    pub(super) const fn port(&self) -> u16 {
        self.port
    }

    /// The disconnected sockets.
    pub(super) fn disconnected(&self) -> impl Iterator<Item = (SockId, &UdpSocket)> {
        self.disconnected.iter().map(|(id, socket, _)| (*id, socket))
    }

    /// The disconnected socket for addresses of the family that `address` has.
    pub(super) fn disconnected_for(&self, address: IpAddr) -> Option<(SockId, &UdpSocket)> {
        let mut family =
            self.disconnected.iter().filter(|(_, _, listen)| listen.is_ipv4() == address.is_ipv4());
        family.next().map(|(id, socket, _)| (*id, socket))
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

    /// The socket of that number, and the address that it is bound to if it is a connected one; `None` if it is
    /// closed by now.
    pub(super) fn get(&self, id: SockId) -> Option<(&UdpSocket, Option<IpAddr>)> {
        let connected = self.connected.iter().find(|connected| connected.id == id);
        match connected {
            Some(connected) => Some((&connected.socket, connected.local)),
            None => self.disconnected().find(|(other, _)| *other == id).map(|(_, socket)| (socket, None)),
        }
    }

    /// Whether we listen on addresses of the family that `address` has.
    pub(super) fn speaks(&self, address: IpAddr) -> bool {
        self.disconnected.iter().any(|(_, _, listen)| listen.is_ipv4() == address.is_ipv4())
    }

    /// Makes a connected socket for `owner` at `peer` that sends from `local`, or from where the kernel's routes say,
    /// and gives back the socket whose place it took, still open: what waits in it is to be read before it is dropped.
    ///
    /// # Errors
    /// The kernel's; then everything is as before.
    pub(super) fn connect(
        &mut self,
        owner: O,
        peer: SocketAddr,
        local: Option<Local>,
    ) -> io::Result<Option<UdpSocket>> {
        self.share_port(true)?;
        let result = self.connect_shared(owner, peer, local);
        let unshared = self.share_port(false);
        let connected = result?;
        unshared?;
        let old = self.disconnect(owner);
        self.connected.push(connected);
        Ok(old)
    }

    /// Takes a peer's socket out of use, still open.
    pub(super) fn disconnect(&mut self, owner: O) -> Option<UdpSocket> {
        let place = self.connected.iter().position(|connected| connected.owner == owner)?;
        Some(self.connected.swap_remove(place).socket)
    }

    fn connect_shared(
        &mut self,
        owner: O,
        peer: SocketAddr,
        local: Option<Local>,
    ) -> io::Result<Connected<O>> {
        let family = |address: &IpAddr| address.is_ipv4() == peer.is_ipv4();
        let listen = self.disconnected.iter().map(|(_, _, address)| *address).find(family);
        let address = local
            .map(|local| local.address)
            .or(listen)
            .ok_or_else(|| io::Error::from(Errno::EAFNOSUPPORT))?;
        let from = match (address, local) {
            (IpAddr::V6(v6), Some(local)) if v6.is_unicast_link_local() => {
                SocketAddrV6::new(v6, self.port, 0, local.interface).into()
            }
            _ => SocketAddr::new(address, self.port),
        };
        let socket = UdpSocket::connect(from, peer, self.mark)?;
        socket.share_port(false)?;
        if self.tells_class {
            socket.receive_class()?;
        }
        if self.has_many_peers {
            socket.send_to_many();
        }
        let local = socket.local_addr().ok().map(|address| address.ip());
        Ok(Connected { owner, id: self.take_id(), socket, remote: peer, local })
    }

    /// Gives the datagrams of all sockets, those to come included, a mark that routing rules can tell (`SO_MARK`).
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn set_mark(&mut self, mark: Option<NonZeroU32>) -> io::Result<()> {
        self.mark = mark;
        self.all().try_for_each(|socket| socket.set_mark(mark))
    }

    /// Has all sockets, those to come included, tell each datagram's traffic class.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn receive_class(&mut self) -> io::Result<()> {
        self.tells_class = true;
        self.all().try_for_each(UdpSocket::receive_class)
    }

    /// The sockets, those to come included, are for many peers, of which none may keep the others waiting.
    pub(super) fn send_to_many(&mut self) {
        self.has_many_peers = true;
        self.all().for_each(UdpSocket::send_to_many);
    }

    fn all(&self) -> impl Iterator<Item = &UdpSocket> {
        let connected = self.connected.iter().map(|connected| &connected.socket);
        self.disconnected.iter().map(|(_, socket, _)| socket).chain(connected)
    }

    fn share_port(&self, share: bool) -> io::Result<()> {
        self.all().try_for_each(|socket| socket.share_port(share))
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
