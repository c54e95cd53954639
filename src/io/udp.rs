//! UDP sockets of two kinds: *disconnected*, which hear everyone on our port, and *connected*, which carry one
//! peer's traffic and whose replies leave from the address that the peer talked to.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};

use super::mailbox::{Mailbox, SLOT};
use super::steering;
use crate::sys;
use crate::sys::datagram::Message;

/// Bytes asked for the kernel's receive buffer. A stream's window must fit while the loop is elsewhere; the
/// usual 208 KiB hold less than a hundred full datagrams.
const RECEIVE_BUFFER: usize = 4 << 20;

/// The same for a socket that receives handshake messages only: a thousand of them, so that many
/// peers may come at once, and a flood costs no more memory than that.
const HANDSHAKE_BUFFER: usize = 512 << 10;

/// Bytes asked for the send buffer of a socket for many peers: twenty times what one neighbour that does not answer keeps
/// of it while it is looked for (`neigh/default/unres_qlen_bytes`), which is as much as the usual send buffer.
const SEND_BUFFER: usize = 4 << 20;

/// A non-blocking UDP socket.
#[derive(Debug)]
pub struct UdpSocket {
    socket: Socket,
    /// Whether many datagrams are sent as one (UDP_SEGMENT).
    segments: AtomicBool,
}

impl UdpSocket {
    /// Binds a disconnected socket to `address`, which no other socket may have: if one does,
    /// whoever owns it, the error is "address in use". Afterwards sockets of the same owner, and no
    /// others, can share it ([`Self::join`], [`Self::connect`]).
    ///
    /// # Errors
    /// The kernel's.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = Self::new(address)?;
        socket.socket.bind(&address.into())?;
        // after the bind, which is exclusive without it
        socket.socket.set_reuse_port(true)?;
        socket.tell_local(address)?;
        Ok(socket)
    }

    /// Binds another disconnected socket to the `address` of one that [`Self::bind`] returned. The
    /// kernel spreads senders over all of them.
    ///
    /// # Errors
    /// The kernel's.
    pub fn join(address: SocketAddr) -> io::Result<Self> {
        let socket = Self::new(address)?;
        socket.socket.set_reuse_port(true)?;
        socket.socket.bind(&address.into())?;
        socket.tell_local(address)?;
        Ok(socket)
    }

    /// Returns a socket that is neither bound nor connected, to share a port with those of
    /// [`Self::bind`]: a spare one for a peer ([`Self::connect`]).
    ///
    /// # Errors
    /// The kernel's.
    pub fn unbound(is_ipv4: bool) -> io::Result<Self> {
        let address: IpAddr =
            if is_ipv4 { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = Self::new(SocketAddr::new(address, 0))?;
        socket.socket.set_reuse_port(true)?;
        Ok(socket)
    }

    /// Takes a socket that another process has made and set up.
    pub fn from_parts(socket: OwnedFd, sends_segments: bool) -> Self {
        Self { socket: socket.into(), segments: AtomicBool::new(sends_segments) }
    }

    /// Returns another descriptor of the socket, for another process.
    ///
    /// # Errors
    /// The kernel's, such as too many open files.
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
    /// Until it is connected the socket receives all that is sent to `local`, so the source of
    /// each arrival is to be checked. A wildcard is refused: the kernel would spread the senders of
    /// the whole port over this socket, too.
    ///
    /// # Errors
    /// The kernel's; `InvalidInput` for a wildcard.
    pub fn connect(&self, local: SocketAddr, peer: SocketAddr) -> io::Result<()> {
        if local.ip().is_unspecified() {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        self.socket.bind(&local.into())?;
        self.socket.connect(&peer.into())
    }

    /// Returns the address that the routes choose as the source of datagrams to `peer` from this
    /// socket of [`Self::unbound`], which is as before afterwards; the port means nothing.
    ///
    /// # Errors
    /// The kernel's, such as `NetworkUnreachable`.
    pub fn source_towards(&self, peer: SocketAddr) -> io::Result<SocketAddr> {
        let connected = self.socket.connect(&peer.into());
        let source = connected.and_then(|()| socket_address(&self.socket));
        // its port, too, is given back by that
        rustix::net::connect_unspec(&self.socket)?;
        source
    }

    /// Has each arrival carry the address that it came to.
    fn tell_local(&self, address: SocketAddr) -> io::Result<()> {
        match address {
            SocketAddr::V4(_) => setsockopt(&self.socket, sockopt::Ipv4PacketInfo, &true)?,
            SocketAddr::V6(_) => setsockopt(&self.socket, sockopt::Ipv6RecvPacketInfo, &true)?,
        }
        Ok(())
    }

    /// Makes the receive buffer as small as a socket for handshake messages needs it.
    pub fn receive_handshakes(&self) {
        self.set_receive_buffer(HANDSHAKE_BUFFER);
    }

    /// Has the kernel choose the socket of this one's group by what a WireGuard message says, for a
    /// group of one socket for handshake messages and `receivers` more; see [`steering`].
    ///
    /// # Errors
    /// The kernel's, where it has no such thing.
    pub fn steer(&self, receivers: u32) -> io::Result<()> {
        sys::socket::choose_by(&self.socket, &steering::program(receivers))
    }

    fn set_receive_buffer(&self, bytes: usize) {
        // the forced size passes net.core.rmem_max, which CAP_NET_ADMIN allows; what is granted
        // will do
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
            sys::socket::allow_fragments(&socket)?;
        }
        let socket = Self { socket, segments: AtomicBool::new(false) };
        socket.set_receive_buffer(RECEIVE_BUFFER);
        Ok(socket)
    }

    /// What the socket's queues hold.
    ///
    /// # Errors
    /// The kernel's.
    pub fn memory(&self) -> io::Result<sys::socket::Memory> {
        sys::socket::memory(&self.socket)
    }

    /// Marks what is sent from now on, for routing rules and firewalls (`SO_MARK`); `None` for no mark.
    ///
    /// # Errors
    /// `EPERM` without CAP_NET_ADMIN.
    pub fn set_mark(&self, mark: Option<NonZeroU32>) -> io::Result<()> {
        self.socket.set_mark(mark.map_or(0, NonZeroU32::get))
    }

    /// Makes the send buffer so large that a few peers whose neighbour is gone do not fill it with what waits for them, and
    /// stop everybody's datagrams. As with the receive buffer, what is granted will do.
    pub fn send_to_many(&self) {
        if setsockopt(&self.socket, sockopt::SndBufForce, &SEND_BUFFER).is_err() {
            let _ = self.socket.set_send_buffer_size(SEND_BUFFER);
        }
    }

    /// From now on [`Arrival::class`](super::mailbox::Arrival::class) is told.
    ///
    /// # Errors
    /// The kernel's.
    pub fn receive_class(&self) -> io::Result<()> {
        if self.socket.domain()? == Domain::IPV6 {
            setsockopt(&self.socket, sockopt::Ipv6RecvTClass, &true)?;
        } else {
            setsockopt(&self.socket, sockopt::IpRecvTos, &true)?;
        }
        Ok(())
    }

    /// The address that the socket is bound to.
    ///
    /// # Errors
    /// The kernel's.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        socket_address(&self.socket)
    }

    /// From now on datagrams of one sender may come as one, and go as one where that is asked for. What of it the kernel
    /// does not have is done without.
    pub fn offload(&self) {
        let _ = setsockopt(&self.socket, sockopt::UdpGroSegment, &true);
        // zero: no segment size but what each message says; whether the kernel knows the option is what counts
        let segments = setsockopt(&self.socket, sockopt::UdpGsoSegment, &0).is_ok();
        self.segments.store(segments, Ordering::Relaxed);
    }

    /// Whether several datagrams may be sent as one message with a segment size.
    pub fn sends_segments(&self) -> bool {
        self.segments.load(Ordering::Relaxed)
    }

    /// What this socket sends cannot be cut by the kernel, so each datagram goes alone from now on.
    pub fn stop_segments(&self) {
        self.segments.store(false, Ordering::Relaxed);
    }

    /// Receives at most `count` arrivals into `mailbox`, and gives how many there were, at least one.
    ///
    /// # Errors
    /// The kernel's, among them those of datagrams sent earlier; see [`crate::io::fault::of_socket`].
    pub fn receive(&self, mailbox: &mut Mailbox, count: usize) -> io::Result<usize> {
        let (bytes, notes) = mailbox.room(count);
        sys::datagram::receive(&self.socket, bytes, SLOT, notes)
    }

    /// Sends some of `messages`, in their order, and gives how many went out, at least one.
    ///
    /// An error that an earlier datagram earned is reported here instead of sending; the second try sends.
    ///
    /// # Errors
    /// The kernel's about the first message; see [`crate::io::fault::of_socket`]. With a source address that is no
    /// longer ours: `SourceGone`.
    pub fn send(&self, messages: &[Message<'_>]) -> io::Result<usize> {
        sys::datagram::send(&self.socket, messages)
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

/// Whether the kernel has this address family at all, as a host without IPv6 does not.
pub fn is_family_missing(error: &io::Error) -> bool {
    use nix::errno::Errno;
    matches!(error.raw_os_error().map(Errno::from_raw), Some(Errno::EAFNOSUPPORT | Errno::EADDRNOTAVAIL))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::mailbox::Arrival;

    fn any_port(address: &str) -> SocketAddr {
        SocketAddr::new(address.parse().unwrap(), 0)
    }

    fn receive(socket: &UdpSocket) -> io::Result<(Arrival, Vec<u8>)> {
        let mut mailbox = Mailbox::default();
        assert_eq!(socket.receive(&mut mailbox, 1)?, 1);
        let arrival = mailbox.arrival(0).unwrap();
        let bytes = arrival.places().flat_map(|place| mailbox.bytes()[place].to_vec()).collect();
        Ok((arrival, bytes))
    }

    #[test]
    fn a_disconnected_socket_tells_where_a_datagram_came_to() {
        let server = UdpSocket::bind(any_port("0.0.0.0")).unwrap();
        let port = server.local_addr().unwrap().port();
        let client = std::net::UdpSocket::bind("127.0.0.2:0").unwrap();
        client.send_to(b"hello?", ("127.0.0.3", port)).unwrap();
        let (arrival, bytes) = receive(&server).unwrap();
        assert_eq!(bytes, b"hello?");
        assert_eq!(arrival.from, client.local_addr().unwrap());
        assert_eq!(arrival.local.unwrap().address, "127.0.0.3".parse::<IpAddr>().unwrap());
        assert!(arrival.local.unwrap().interface > 0);
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
            // SO_REUSEADDR is of no use to anybody while it is off for one of the two
            let other = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
            other.set_reuse_address(true).unwrap();
            assert_eq!(other.bind(&address.into()).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        }

        // the peer's datagrams come to the connected one, everyone else's to the other
        client.send_to(b"peer", local).unwrap();
        std::net::UdpSocket::bind("127.0.0.4:0").unwrap().send_to(b"stranger", local).unwrap();
        assert_eq!(receive(&connected).unwrap().1, b"peer");
        assert_eq!(receive(&server).unwrap().1, b"stranger");
        let pieces = [io::IoSlice::new(b"reply")];
        connected.send(&[Message { name: None, pieces: &pieces, control: &[] }]).unwrap();
        let mut buffer = [0; 16];
        assert_eq!(client.recv_from(&mut buffer).unwrap(), (5, local));
    }

    #[test]
    fn the_source_towards_a_peer_is_what_the_routes_choose() {
        for address in ["127.0.0.1", "::1"] {
            let peer = SocketAddr::new(address.parse().unwrap(), 9);
            let spare = UdpSocket::unbound(peer.is_ipv4()).unwrap();
            for _ in 0..2 {
                assert_eq!(spare.source_towards(peer).unwrap().ip(), peer.ip());
                assert_eq!(spare.local_addr().unwrap().port(), 0, "as before");
            }
            // it can be a peer's afterwards
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
        // each sender is one socket's, and many are spread over both
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
