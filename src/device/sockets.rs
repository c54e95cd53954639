//! A tunnel's UDP sockets, all on one port: the disconnected ones hear everybody, the connected one is the
//! peer's alone.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

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
        "UDP port {0} is in use: stop the process that has it (ss -lunp), or choose another with --listen-port"
    )]
    PortInUse(u16),
    /// A port below 1024 without CAP_NET_BIND_SERVICE.
    #[error(
        "may not bind UDP port {0}, which is below 1024: choose a higher --listen-port, or start as root"
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

/// The socket of the peer.
#[derive(Debug)]
pub(super) struct Connected {
    /// Its number.
    pub(super) id: SockId,
    /// The socket.
    pub(super) socket: UdpSocket,
    /// The address that our datagrams leave from.
    pub(super) local: Option<IpAddr>,
}

/// All sockets of a tunnel.
#[derive(Debug)]
pub(super) struct Sockets {
    disconnected: Vec<(SockId, UdpSocket, IpAddr)>,
    connected: Option<Connected>,
    port: u16,
    next_id: u32,
}

impl Sockets {
    /// Opens a disconnected socket on each address of `listen`, or on every address of each family there is.
    /// `port` `None` means the default port, or another one if `may_move` and that is taken.
    ///
    /// # Errors
    /// [`SocketsError`], with the remedy.
    pub(super) fn open(listen: &[IpAddr], port: Option<u16>, may_move: bool) -> Result<Self, SocketsError> {
        match Self::bind(listen, port.unwrap_or(DEFAULT_PORT)) {
            Err(SocketsError::PortInUse(taken)) if port.is_none() && may_move => {
                tracing::info!("port {taken} is taken; a client can do with another");
            }
            result => return result,
        }
        let mut last = Self::bind(listen, 0);
        for _ in 1..PORT_TRIES {
            if !matches!(last, Err(SocketsError::PortInUse(_))) {
                break;
            }
            last = Self::bind(listen, 0);
        }
        last
    }

    fn bind(listen: &[IpAddr], port: u16) -> Result<Self, SocketsError> {
        let everywhere = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
        let addresses = if listen.is_empty() { &everywhere } else { listen };
        let mut sockets = Self { disconnected: Vec::new(), connected: None, port, next_id: 0 };
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

    /// The UDP port that all of them have.
    pub(super) const fn port(&self) -> u16 {
        self.port
    }

    /// The disconnected sockets.
    pub(super) fn disconnected(&self) -> impl Iterator<Item = (SockId, &UdpSocket)> {
        self.disconnected.iter().map(|(id, socket, _)| (*id, socket))
    }

    /// The peer's socket, if there is one.
    pub(super) const fn connected(&self) -> Option<&Connected> {
        self.connected.as_ref()
    }

    /// The socket of that number, unless it is closed by now.
    pub(super) fn get(&self, id: SockId) -> Option<&UdpSocket> {
        match &self.connected {
            Some(connected) if connected.id == id => Some(&connected.socket),
            _ => self.disconnected().find(|(other, _)| *other == id).map(|(_, socket)| socket),
        }
    }

    /// Whether we listen on addresses of the family that `address` has.
    pub(super) fn speaks(&self, address: IpAddr) -> bool {
        self.disconnected.iter().any(|(_, _, listen)| listen.is_ipv4() == address.is_ipv4())
    }

    /// Makes a connected socket for `peer` that sends from `local`, or from where the kernel's routes say, and
    /// gives back the socket whose place it took, still open: what waits in it is to be read before it is dropped.
    ///
    /// # Errors
    /// The kernel's; then everything is as before.
    pub(super) fn connect(
        &mut self,
        peer: SocketAddr,
        local: Option<Local>,
    ) -> io::Result<Option<UdpSocket>> {
        self.share_port(true)?;
        let result = self.connect_shared(peer, local);
        let unshared = self.share_port(false);
        let connected = result?;
        unshared?;
        Ok(self.connected.replace(connected).map(|old| old.socket))
    }

    fn connect_shared(&mut self, peer: SocketAddr, local: Option<Local>) -> io::Result<Connected> {
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
        let socket = UdpSocket::connect(from, peer)?;
        socket.share_port(false)?;
        let local = socket.local_addr().ok().map(|address| address.ip());
        Ok(Connected { id: self.take_id(), socket, local })
    }

    fn share_port(&self, share: bool) -> io::Result<()> {
        let connected = self.connected.iter().map(|connected| &connected.socket);
        for socket in self.disconnected.iter().map(|(_, socket, _)| socket).chain(connected) {
            socket.share_port(share)?;
        }
        Ok(())
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
