//! The UDP sockets of a tunnel, which the supervisor creates and the tunnel process uses: a process
//! without capabilities can neither mark a socket, force its buffers, nor bind a port below 1024.
//!
//! The *base sockets* receive from any address on the tunnel's port. Those of one address are a
//! group (SO_REUSEPORT), one for each worker, in which the kernel chooses by the sender's address
//! and port, or, for WireGuard messages, by their contents ([`crate::net::steering`]). The
//! supervisor keeps a descriptor of each, to mark it when the mark changes. *Spare sockets* are not
//! bound yet; the tunnel process binds and connects one to a single peer. The supervisor keeps none
//! of them, since a connected socket receives until its last descriptor is closed.
//!
//! The first socket of an address is bound alone, so that binding a port in use fails. From then on
//! all have SO_REUSEPORT: the kernel lets sockets of the same owner, and no other, share the port.
//! The owner is the user who created the socket, so sockets created before the process becomes
//! another user are created as that user ([`UserIds::with_socket_owner`]). SO_REUSEADDR, which
//! ignores the owner, is never set.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use tracing::{debug, info};

use crate::config::DEFAULT_PLAIN_PORT;
use crate::exit::{self, ExitCode};
use crate::messages::{BaseSocket, SocketRole, ToTunnel};
use crate::net::udp::{UdpSocket, is_family_missing};
use crate::privileges::UserIds;
use crate::process::MAX_DESCRIPTORS;

/// Number of attempts to find a port that is free in both address families.
const PORT_TRIES: u32 = 16;

/// Reason why the sockets could not be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SocketsError {
    /// Another process uses the port.
    #[error(
        "UDP port {0} is in use: stop the process that has it (ss -lunp), or choose another (--listen-port, or \
         ListenPort in the file)"
    )]
    PortInUse(u16),
    /// The port is below 1024, and CAP_NET_BIND_SERVICE is missing.
    #[error(
        "not permitted to bind UDP port {0}, which is below 1024: choose a higher one (--listen-port, or \
         ListenPort in the file), or start as root"
    )]
    PortPrivileged(u16),
    /// The address is not local to this host.
    #[error("--listen {0} is not an address of this host: choose one that `ip address` shows, or omit it")]
    NotLocal(IpAddr),
    /// Any other error.
    #[error("cannot open a UDP socket on {address}: {source}")]
    Other {
        /// Address to bind.
        address: SocketAddr,
        /// Error of the kernel.
        source: io::Error,
    },
}

impl ExitCode for SocketsError {
    fn exit_code(&self) -> u8 {
        if matches!(self, Self::PortPrivileged(_)) { exit::NO_PERMISSION } else { exit::UNAVAILABLE }
    }
}

/// A base socket.
#[derive(Debug)]
struct Base {
    worker: usize,
    role: SocketRole,
    socket: UdpSocket,
    address: IpAddr,
}

/// All base sockets of a tunnel.
#[derive(Debug)]
pub(super) struct Sockets {
    base: Vec<Base>,
    port: u16,
    mark: Option<NonZeroU32>,
    options: SocketOptions,
}

/// Options that all sockets of a tunnel share.
#[derive(Clone, Copy, Debug)]
pub(super) struct SocketOptions {
    /// Number of workers: each has a disconnected socket of its own for each address.
    pub(super) workers: usize,
    /// True to use segmentation offload for datagrams.
    pub(super) offload: bool,
    /// True to receive each datagram's traffic class.
    pub(super) receives_traffic_class: bool,
    /// True if there are many peers, of which none may delay the others.
    pub(super) has_many_peers: bool,
    /// True for WireGuard messages: handshake messages are received by a socket of their own, and
    /// data messages by the worker that their receiver index belongs to.
    pub(super) steers: bool,
}

impl SocketOptions {
    fn apply(self, socket: &UdpSocket) -> io::Result<()> {
        if self.offload {
            socket.enable_offloads();
        }
        if self.receives_traffic_class {
            socket.enable_traffic_class()?;
        }
        if self.has_many_peers {
            socket.enlarge_send_buffer();
        }
        Ok(())
    }
}

impl Sockets {
    /// Opens base sockets on each address of `listen`, or on the wildcard address of each available
    /// family. `port` `None` means the default port, or another one if `may_move` and that is in
    /// use. `user` is the user that the process becomes later, if it does.
    ///
    /// # Errors
    /// [`SocketsError`], with the remedy.
    pub(super) fn open(
        listen: &[IpAddr],
        port: Option<u16>,
        may_move: bool,
        options: SocketOptions,
        user: Option<UserIds>,
    ) -> Result<Self, SocketsError> {
        UserIds::with_socket_owner(user, || match port {
            Some(0) => Self::bind_any(listen, options),
            Some(port) => Self::bind(listen, port, options),
            None => match Self::bind(listen, DEFAULT_PLAIN_PORT, options) {
                Err(SocketsError::PortInUse(taken)) if may_move => {
                    info!("port {taken} is in use; a client may use another one");
                    Self::bind_any(listen, options)
                }
                result => result,
            },
        })
    }

    /// Opens base sockets on another port, on the wildcard addresses; 0 for any free port.
    ///
    /// # Errors
    /// [`SocketsError`], with the remedy.
    pub(super) fn reopen(&self, port: u16) -> Result<Self, SocketsError> {
        if port == 0 { Self::bind_any(&[], self.options) } else { Self::bind(&[], port, self.options) }
    }

    /// Binds any port that is free in all families: one that is free in one may be in use in the
    /// other.
    fn bind_any(listen: &[IpAddr], options: SocketOptions) -> Result<Self, SocketsError> {
        let mut last = Self::bind(listen, 0, options);
        for _ in 1..PORT_TRIES {
            if !matches!(last, Err(SocketsError::PortInUse(_))) {
                break;
            }
            last = Self::bind(listen, 0, options);
        }
        last
    }

    fn bind(listen: &[IpAddr], port: u16, options: SocketOptions) -> Result<Self, SocketsError> {
        let everywhere = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
        let addresses = if listen.is_empty() { &everywhere } else { listen };
        let mut sockets = Self { base: Vec::new(), port, mark: None, options };
        for &address in addresses {
            match sockets.bind_for_all(address) {
                Ok(()) => {}
                Err(error) if listen.is_empty() && address.is_ipv6() && is_family_missing(&error) => {
                    debug!(%error, "this host has no IPv6");
                }
                Err(error) => return Err(bind_error(error, SocketAddr::new(address, sockets.port))),
            }
        }
        Ok(sockets)
    }

    /// Opens the sockets on one address: one for each worker; for WireGuard messages also the one
    /// for handshake messages, and one for each worker's small data messages. The first is bound
    /// without sharing, so that a second process fails; then the others join.
    fn bind_for_all(&mut self, address: IpAddr) -> io::Result<()> {
        let workers = self.options.workers;
        let data = (0..workers).map(|worker| (worker, SocketRole::Data));
        let small = (0..workers).map(|worker| (worker, SocketRole::SmallData));
        // on the last worker, which has no additional tasks; this is the order in which the kernel
        // counts them
        let handshakes = (workers.saturating_sub(1), SocketRole::Handshakes);
        let steers = self.options.steers;
        let first = self.base.len();
        let roles = steers.then_some(handshakes).into_iter().chain(data).chain(small.filter(|_| steers));
        for (worker, role) in roles {
            let local = SocketAddr::new(address, self.port);
            let is_first = self.base.len() == first;
            let socket = if is_first { UdpSocket::bind(local) } else { UdpSocket::join(local) }?;
            // port 0 made the kernel choose one, which the others must use too
            self.port = socket.local_addr()?.port();
            self.options.apply(&socket)?;
            if role == SocketRole::Handshakes {
                socket.set_handshake_receive_buffer();
            }
            self.base.push(Base { worker, role, socket, address });
        }
        if steers {
            self.steer(first);
        }
        Ok(())
    }

    /// Makes the kernel distinguish messages to the group whose first socket is number `first`. If
    /// that is not supported, closes the sockets for handshake and small messages, and senders are
    /// spread over the others.
    fn steer(&mut self, first: usize) {
        let receivers = u32::try_from(self.options.workers).unwrap_or(u32::MAX);
        let result = self.base.get(first).map_or(Ok(()), |each| each.socket.steer(receivers));
        if let Err(error) = result {
            debug!(%error, "cannot steer handshake messages to a separate socket");
            let group = self.base.split_off(first);
            self.base.extend(group.into_iter().filter(|each| each.role == SocketRole::Data));
        }
    }

    /// Returns the UDP port of all sockets.
    pub(super) const fn port(&self) -> u16 {
        self.port
    }

    /// Returns true if there are base sockets of the address family of `address`.
    pub(super) fn has_family(&self, address: IpAddr) -> bool {
        self.base.iter().any(|each| each.address.is_ipv4() == address.is_ipv4())
    }

    /// Sets the mark (`SO_MARK`) of the base sockets, and of spare sockets created from now on.
    ///
    /// # Errors
    /// An error of the kernel.
    pub(super) fn set_mark(&mut self, mark: Option<NonZeroU32>) -> io::Result<()> {
        self.mark = mark;
        self.base.iter().try_for_each(|each| each.socket.set_mark(mark))
    }

    /// Uses the base sockets of another process, which have this port and mark.
    pub(super) fn adopt(
        port: u16,
        mark: Option<NonZeroU32>,
        options: SocketOptions,
        sockets: Vec<(BaseSocket, OwnedFd)>,
    ) -> Self {
        let base = sockets.into_iter().map(|(described, descriptor)| Base {
            worker: described.worker.into(),
            role: described.role,
            socket: UdpSocket::from_parts(descriptor, described.has_gso),
            address: described.address,
        });
        Self { base: base.collect(), port, mark, options }
    }

    /// Returns duplicates of the base sockets, for another process.
    ///
    /// # Errors
    /// An error of the kernel, such as too many open files.
    pub(super) fn share(&self) -> io::Result<Vec<(BaseSocket, OwnedFd)>> {
        let describe = |each: &Base| BaseSocket {
            worker: u16::try_from(each.worker).unwrap_or(u16::MAX),
            role: each.role,
            address: each.address,
            has_gso: each.socket.has_gso(),
        };
        self.base.iter().map(|each| Ok((describe(each), each.socket.try_clone_fd()?))).collect()
    }

    /// Returns the base sockets as messages, each with its descriptors.
    ///
    /// # Errors
    /// An error of the kernel, such as too many open files.
    pub(super) fn messages(&self) -> io::Result<Vec<(ToTunnel, Vec<OwnedFd>)>> {
        let mut messages = Vec::new();
        let mut rest = self.share()?;
        while !rest.is_empty() {
            let (sockets, descriptors) = rest.drain(..rest.len().min(MAX_DESCRIPTORS)).unzip();
            let message = if messages.is_empty() {
                ToTunnel::Sockets { port: self.port, sockets }
            } else {
                ToTunnel::MoreSockets(sockets)
            };
            messages.push((message, descriptors));
        }
        Ok(messages)
    }

    /// Like [`Self::spare`], for a process that becomes `user` later.
    ///
    /// # Errors
    /// As for [`Self::spare`].
    pub(super) fn first_spare(
        &self,
        count: u8,
        user: Option<UserIds>,
    ) -> io::Result<(ToTunnel, Vec<OwnedFd>)> {
        UserIds::with_socket_owner(user, || self.spare(count, count))
    }

    /// Returns a message with `ipv4` and `ipv6` spare sockets, and its descriptors; families
    /// without base sockets are skipped.
    ///
    /// # Errors
    /// An error of the kernel, such as too many open files.
    pub(super) fn spare(&self, ipv4: u8, ipv6: u8) -> io::Result<(ToTunnel, Vec<OwnedFd>)> {
        let mut descriptors = Vec::new();
        let mut make = |address: IpAddr, count: u8| {
            let count = if self.has_family(address) { count } else { 0 };
            for _ in 0..count {
                let socket = UdpSocket::unbound(address.is_ipv4())?;
                if self.mark.is_some() {
                    socket.set_mark(self.mark)?;
                }
                self.options.apply(&socket)?;
                descriptors.push(socket.into_fd());
            }
            Ok::<u8, io::Error>(count)
        };
        let ipv4 = make(Ipv4Addr::UNSPECIFIED.into(), ipv4)?;
        let ipv6 = make(Ipv6Addr::UNSPECIFIED.into(), ipv6)?;
        Ok((ToTunnel::SpareSockets { ipv4, ipv6 }, descriptors))
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
