//! UDP sockets of two kinds: *disconnected*, which receive from every sender on our port, and
//! *connected*, which carry one peer's traffic and reply from the address that the peer sent to.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};

use super::recv_buffer::{RecvBuffer, SLOT};
use super::steering;
use wontun_sys::datagram::SendMessage;

/// Requested size of the kernel's receive buffer, in bytes. A stream's window must fit while the
/// loop is busy; the usual 208 KiB hold less than a hundred full datagrams.
const RECEIVE_BUFFER: usize = 4 << 20;

/// The same for a socket that receives handshake messages only: it holds a thousand of them, so
/// that many peers can connect at once, and bounds the memory that a flood takes.
const HANDSHAKE_BUFFER: usize = 512 << 10;

/// Requested size of the send buffer of a socket for many peers, in bytes: twenty times what one
/// unresponsive neighbour occupies during address resolution (`neigh/default/unres_qlen_bytes`),
/// which is as much as the usual send buffer.
const SEND_BUFFER: usize = 4 << 20;

/// A non-blocking UDP socket.
#[derive(Debug)]
pub struct UdpSocket {
    socket: Socket,
    /// True if several datagrams are sent as one message (`UDP_SEGMENT`).
    has_gso: AtomicBool,
    /// Bytes that the kernel has accepted.
    sent: AtomicU64,
}

impl UdpSocket {
    /// Binds a disconnected socket to `address`, exclusively: if another socket has it, of any
    /// owner, the error is "address in use". Afterwards sockets of the same owner, and no others,
    /// can share it ([`Self::join`], [`Self::connect`]).
    ///
    /// # Errors
    /// Errors of the kernel.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = Self::new(address)?;
        socket.socket.bind(&address.into())?;
        // after the bind, which is exclusive without it
        socket.socket.set_reuse_port(true)?;
        socket.enable_packet_info(address)?;
        Ok(socket)
    }

    /// Binds another disconnected socket to the `address` of one that [`Self::bind`] returned. The
    /// kernel distributes senders over all of them.
    ///
    /// # Errors
    /// Errors of the kernel.
    pub fn join(address: SocketAddr) -> io::Result<Self> {
        let socket = Self::new(address)?;
        socket.socket.set_reuse_port(true)?;
        socket.socket.bind(&address.into())?;
        socket.enable_packet_info(address)?;
        Ok(socket)
    }

    /// Returns a socket that is neither bound nor connected, for sharing a port with those of
    /// [`Self::bind`]: a spare one for a peer ([`Self::connect`]).
    ///
    /// # Errors
    /// Errors of the kernel.
    pub fn unbound(is_ipv4: bool) -> io::Result<Self> {
        let address: IpAddr =
            if is_ipv4 { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = Self::new(SocketAddr::new(address, 0))?;
        socket.socket.set_reuse_port(true)?;
        Ok(socket)
    }

    /// Creates a socket from a descriptor that another process opened and configured.
    pub fn from_parts(socket: OwnedFd, has_gso: bool) -> Self {
        Self { socket: socket.into(), has_gso: AtomicBool::new(has_gso), sent: AtomicU64::new(0) }
    }

    /// Returns a duplicate of the socket's descriptor, for another process.
    ///
    /// # Errors
    /// Errors of the kernel, such as too many open files.
    pub fn try_clone_fd(&self) -> io::Result<OwnedFd> {
        self.socket.as_fd().try_clone_to_owned()
    }

    /// Returns the socket's descriptor.
    pub fn into_fd(self) -> OwnedFd {
        self.socket.into()
    }

    /// Connects a socket of [`Self::unbound`] from `local`, a specific address with the port of a
    /// socket that [`Self::bind`] returned, to `peer`.
    ///
    /// Until it is connected the socket receives everything that is sent to `local`, so the caller
    /// must check the source of each datagram. A wildcard is refused: the kernel would distribute
    /// the senders of the whole port over this socket, too.
    ///
    /// # Errors
    /// Errors of the kernel; `InvalidInput` for a wildcard.
    pub fn connect(&self, local: SocketAddr, peer: SocketAddr) -> io::Result<()> {
        if local.ip().is_unspecified() {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        self.socket.bind(&local.into())?;
        self.socket.connect(&peer.into())
    }

    /// Makes a connected socket receive nothing any more; what it has received can still be read.
    /// It must not be used for sending afterwards.
    ///
    /// # Errors
    /// Errors of the kernel.
    pub fn stop_receiving(&self) -> io::Result<()> {
        // a socket without a peer would receive what all others send to its address
        self.socket.connect(&self.socket.local_addr()?)
    }

    /// Returns the source address that routing selects for datagrams to `peer` from this socket of
    /// [`Self::unbound`], which is unconnected again afterwards; the port is meaningless.
    ///
    /// # Errors
    /// Errors of the kernel, such as `NetworkUnreachable`.
    pub fn select_source_address(&self, peer: SocketAddr) -> io::Result<SocketAddr> {
        let connected = self.socket.connect(&peer.into());
        let source = connected.and_then(|()| socket_address(&self.socket));
        // this releases its port, too
        rustix::net::connect_unspec(&self.socket)?;
        source
    }

    /// Makes the kernel report the destination address of each datagram (IP_PKTINFO).
    fn enable_packet_info(&self, address: SocketAddr) -> io::Result<()> {
        match address {
            SocketAddr::V4(_) => setsockopt(&self.socket, sockopt::Ipv4PacketInfo, &true)?,
            SocketAddr::V6(_) => setsockopt(&self.socket, sockopt::Ipv6RecvPacketInfo, &true)?,
        }
        Ok(())
    }

    /// Reduces the receive buffer to the size for handshake messages.
    pub fn set_handshake_receive_buffer(&self) {
        self.set_receive_buffer(HANDSHAKE_BUFFER);
    }

    /// Makes the kernel choose the socket within this one's group by the content of a WireGuard
    /// message, for a group of one socket for handshake messages and `receivers` more; see
    /// [`steering`].
    ///
    /// # Errors
    /// Errors of the kernel, for example if it does not support such programs.
    pub fn steer(&self, receivers: u32) -> io::Result<()> {
        wontun_sys::socket::attach_reuseport_filter(&self.socket, &steering::program(receivers))
    }

    fn set_receive_buffer(&self, bytes: usize) {
        // the forced size may exceed net.core.rmem_max, with CAP_NET_ADMIN; a smaller buffer is
        // accepted
        if setsockopt(&self.socket, sockopt::RcvBufForce, &bytes).is_err() {
            let _ = self.socket.set_recv_buffer_size(bytes);
        }
    }

    fn new(address: SocketAddr) -> io::Result<Self> {
        let socket =
            Socket::new(Domain::for_address(address), Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        } else {
            wontun_sys::socket::disable_pmtu_discovery(&socket)?;
        }
        let socket = Self { socket, has_gso: AtomicBool::new(false), sent: AtomicU64::new(0) };
        socket.set_receive_buffer(RECEIVE_BUFFER);
        Ok(socket)
    }

    /// Returns the memory that the socket's queues use.
    ///
    /// # Errors
    /// Errors of the kernel.
    pub fn memory(&self) -> io::Result<wontun_sys::socket::Memory> {
        wontun_sys::socket::memory(&self.socket)
    }

    /// Sets the mark of outgoing packets, for routing rules and firewalls (`SO_MARK`); `None` for
    /// no mark.
    ///
    /// # Errors
    /// `EPERM` without CAP_NET_ADMIN.
    pub fn set_mark(&self, mark: Option<NonZeroU32>) -> io::Result<()> {
        self.socket.set_mark(mark.map_or(0, NonZeroU32::get))
    }

    /// Enlarges the send buffer, so that packets waiting for a few unresponsive neighbours do not
    /// fill it and block the datagrams of all other peers. As with the receive buffer, a smaller
    /// size is accepted.
    pub fn enlarge_send_buffer(&self) {
        if setsockopt(&self.socket, sockopt::SndBufForce, &SEND_BUFFER).is_err() {
            let _ = self.socket.set_send_buffer_size(SEND_BUFFER);
        }
    }

    /// Enables reporting of [`GroBatch::class`](super::recv_buffer::GroBatch::class).
    ///
    /// # Errors
    /// Errors of the kernel.
    pub fn enable_traffic_class(&self) -> io::Result<()> {
        if self.socket.domain()? == Domain::IPV6 {
            setsockopt(&self.socket, sockopt::Ipv6RecvTClass, &true)?;
        } else {
            setsockopt(&self.socket, sockopt::IpRecvTos, &true)?;
        }
        Ok(())
    }

    /// Returns the address that the socket is bound to.
    ///
    /// # Errors
    /// Errors of the kernel.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        socket_address(&self.socket)
    }

    /// Enables receive coalescing (`UDP_GRO`), and segmentation on sending where it is requested.
    /// Features that the kernel does not have are not used.
    pub fn enable_offloads(&self) {
        let _ = setsockopt(&self.socket, sockopt::UdpGroSegment, &true);
        // zero: no segment size except in control messages; this only tests whether the kernel
        // knows the option
        let segments = setsockopt(&self.socket, sockopt::UdpGsoSegment, &0).is_ok();
        self.has_gso.store(segments, Ordering::Relaxed);
    }

    /// Returns true if several datagrams may be sent as one message with a segment size.
    pub fn has_gso(&self) -> bool {
        self.has_gso.load(Ordering::Relaxed)
    }

    /// Disables segmentation, for a socket whose messages the kernel cannot split: each datagram is
    /// sent by itself from now on.
    pub fn disable_gso(&self) {
        self.has_gso.store(false, Ordering::Relaxed);
    }

    /// Receives at most `count` messages into `recv_buffer`, and returns their number, at least
    /// one.
    ///
    /// # Errors
    /// Errors of the kernel, including those of datagrams sent earlier; see
    /// [`crate::net::error_class::of_socket`].
    pub fn receive(&self, recv_buffer: &mut RecvBuffer, count: usize) -> io::Result<usize> {
        let (bytes, metas) = recv_buffer.slots(count);
        wontun_sys::datagram::receive(&self.socket, bytes, SLOT, metas)
    }

    /// Sends some of `messages`, in order, and returns the number sent, at least one.
    ///
    /// An error caused by an earlier datagram is reported here instead of sending; the second
    /// attempt sends.
    ///
    /// # Errors
    /// Errors of the kernel for the first message; see [`crate::net::error_class::of_socket`]. With
    /// a source address that is no longer assigned to this host: `SourceAddressLost`.
    pub fn send(&self, messages: &[SendMessage<'_>]) -> io::Result<usize> {
        let count = wontun_sys::datagram::send(&self.socket, messages)?;
        let pieces = messages.iter().take(count).flat_map(|message| message.pieces);
        self.sent.fetch_add(pieces.map(|piece| piece.len() as u64).sum(), Ordering::Relaxed);
        Ok(count)
    }

    /// Returns the number of bytes that the kernel has accepted for sending, of all threads.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

impl AsFd for UdpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn socket_address(socket: &Socket) -> io::Result<SocketAddr> {
    socket.local_addr()?.as_socket().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

/// Returns true if the kernel does not support this address family, as on a host without IPv6.
pub fn is_family_missing(error: &io::Error) -> bool {
    use nix::errno::Errno;
    matches!(error.raw_os_error().map(Errno::from_raw), Some(Errno::EAFNOSUPPORT | Errno::EADDRNOTAVAIL))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::recv_buffer::GroBatch;

    fn any_port(address: &str) -> SocketAddr {
        SocketAddr::new(address.parse().unwrap(), 0)
    }

    fn receive(socket: &UdpSocket) -> io::Result<(GroBatch, Vec<u8>)> {
        let mut recv_buffer = RecvBuffer::default();
        assert_eq!(socket.receive(&mut recv_buffer, 1)?, 1);
        let batch = recv_buffer.batch(0).unwrap();
        let bytes = batch.ranges().flat_map(|place| recv_buffer.bytes()[place].to_vec()).collect();
        Ok((batch, bytes))
    }

    #[test]
    fn a_disconnected_socket_tells_where_a_datagram_came_to() {
        let server = UdpSocket::bind(any_port("0.0.0.0")).unwrap();
        let port = server.local_addr().unwrap().port();
        let client = std::net::UdpSocket::bind("127.0.0.2:0").unwrap();
        client.send_to(b"hello?", ("127.0.0.3", port)).unwrap();
        let (batch, bytes) = receive(&server).unwrap();
        assert_eq!(bytes, b"hello?");
        assert_eq!(batch.from, client.local_addr().unwrap());
        assert_eq!(batch.local.unwrap().address, "127.0.0.3".parse::<IpAddr>().unwrap());
        assert!(batch.local.unwrap().interface > 0);
        assert_eq!(receive(&server).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn an_empty_datagram_is_one() {
        let server = UdpSocket::bind(any_port("127.0.0.1")).unwrap();
        let client = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        client.send_to(&[], server.local_addr().unwrap()).unwrap();
        assert_eq!(receive(&server).unwrap().0.length, 0);
    }

    #[test]
    fn a_connected_socket_receives_its_peers_datagrams_and_no_others() {
        let server = UdpSocket::bind(any_port("0.0.0.0")).unwrap();
        let port = server.local_addr().unwrap().port();
        let local = SocketAddr::new("127.0.0.1".parse().unwrap(), port);
        let client = std::net::UdpSocket::bind("127.0.0.2:0").unwrap();
        let peer = client.local_addr().unwrap();
        let wildcard = SocketAddr::new("0.0.0.0".parse().unwrap(), port);
        let connected = UdpSocket::unbound(true).unwrap();
        assert_eq!(connected.connect(wildcard, peer).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        connected.connect(local, peer).unwrap();
        assert_eq!(connected.local_addr().unwrap(), local);
        for address in [wildcard, local] {
            // SO_REUSEADDR has no effect while it is off for one of the two
            let other = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
            other.set_reuse_address(true).unwrap();
            assert_eq!(other.bind(&address.into()).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        }

        // the connected socket receives the peer's datagrams, the other those of all other senders
        client.send_to(b"peer", local).unwrap();
        std::net::UdpSocket::bind("127.0.0.4:0").unwrap().send_to(b"stranger", local).unwrap();
        assert_eq!(receive(&connected).unwrap().1, b"peer");
        assert_eq!(receive(&server).unwrap().1, b"stranger");
        let pieces = [io::IoSlice::new(b"reply")];
        connected.send(&[SendMessage { name: None, pieces: &pieces, control: &[] }]).unwrap();
        let mut buffer = [0; 16];
        assert_eq!(client.recv_from(&mut buffer).unwrap(), (5, local));
    }

    #[test]
    fn the_source_towards_a_peer_is_what_the_routes_choose() {
        for address in ["127.0.0.1", "::1"] {
            let peer = SocketAddr::new(address.parse().unwrap(), 9);
            let spare = UdpSocket::unbound(peer.is_ipv4()).unwrap();
            for _ in 0..2 {
                assert_eq!(spare.select_source_address(peer).unwrap().ip(), peer.ip());
                assert_eq!(spare.local_addr().unwrap().port(), 0, "as before");
            }
            // it can be used for a peer afterwards
            let base = UdpSocket::bind(any_port(address)).unwrap();
            let local = base.local_addr().unwrap();
            let handed = UdpSocket::from_parts(spare.try_clone_fd().unwrap(), false);
            handed.connect(local, peer).unwrap();
            assert_eq!(spare.local_addr().unwrap(), local);
        }
    }

    #[test]
    fn sockets_beside_each_other_share_a_port_and_nobody_else_joins() {
        let first = UdpSocket::bind(any_port("127.0.0.1")).unwrap();
        let address = first.local_addr().unwrap();
        assert_eq!(UdpSocket::bind(address).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        let second = UdpSocket::join(address).unwrap();
        assert_eq!(UdpSocket::bind(address).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        // each sender is assigned to one socket, and many are distributed over both
        let mut counts = [0; 2];
        for _ in 0..64 {
            let sender = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
            sender.send_to(b"one", address).unwrap();
            sender.send_to(b"two!", address).unwrap();
            let taken = [&first, &second]
                .map(|socket| receive(socket).is_ok() as usize + receive(socket).is_ok() as usize);
            assert!(taken.contains(&2), "{taken:?}");
            (0..2).for_each(|place| counts[place] += taken[place]);
        }
        assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
    }
}
