//! UDP sockets of two kinds: *disconnected*, which hear everyone on our port, and *connected*, which carry one
//! peer's traffic and whose replies leave from the address that the peer talked to.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::num::NonZeroU32;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt};
use socket2::{Domain, MsgHdr, Protocol, SockAddr, Socket, Type};

use super::control_message::Notes;
use crate::sys;

/// Bytes asked for the kernel's receive buffer. A stream's window must fit while the loop is elsewhere; the
/// usual 208 KiB hold less than a hundred full datagrams.
const RECEIVE_BUFFER: usize = 4 << 20;

/// Bytes asked for the send buffer of a socket for many peers: twenty times what one neighbour that does not answer keeps
/// of it while it is looked for (`neigh/default/unres_qlen_bytes`), which is as much as the usual send buffer.
const SEND_BUFFER: usize = 4 << 20;

/// Room for the control messages of one datagram.
pub const CONTROL: usize = 128;

/// The address and interface that a datagram came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Local {
    /// Our address, as a reply's source.
    pub address: IpAddr,
    /// Index of the interface that it came in by.
    pub interface: u32,
}

/// A datagram that was received.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// Its length in bytes.
    pub length: usize,
    /// Who sent it.
    pub from: SocketAddr,
    /// Where it came to; only disconnected sockets tell.
    pub local: Option<Local>,
    /// Its traffic class, DSCP and ECN; zero unless the socket was asked to tell ([`UdpSocket::receive_class`]).
    pub class: u8,
}

/// A non-blocking UDP socket.
#[derive(Debug)]
pub struct UdpSocket(Socket);

impl UdpSocket {
    /// A disconnected socket on `address`, which nobody else may have: a second process gets "address in use".
    ///
    /// # Errors
    /// The kernel's.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = Self::new(address)?;
        socket.0.bind(&address.into())?;
        match address {
            SocketAddr::V4(_) => setsockopt(&socket.0, sockopt::Ipv4PacketInfo, &true)?,
            SocketAddr::V6(_) => setsockopt(&socket.0, sockopt::Ipv6RecvPacketInfo, &true)?,
        }
        Ok(socket)
    }

    /// A connected socket from `local` to `peer`. The sockets that have the port already must share it
    /// ([`Self::share_port`]) for the time of the call, and the new one shares it until told otherwise.
    ///
    /// Between bind and connect a stranger's datagram can be queued, so each arrival's source is to be checked.
    ///
    /// # Errors
    /// The kernel's.
    pub fn connect(local: SocketAddr, peer: SocketAddr, mark: Option<NonZeroU32>) -> io::Result<Self> {
        let socket = Self::new(local)?;
        if mark.is_some() {
            // before connect, which chooses a route and a source address
            socket.set_mark(mark)?;
        }
        socket.share_port(true)?;
        socket.0.bind(&local.into())?;
        socket.0.connect(&peer.into())?;
        Ok(socket)
    }

    fn new(address: SocketAddr) -> io::Result<Self> {
        let socket =
            Socket::new(Domain::for_address(address), Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        } else {
            sys::socket::allow_fragments(&socket)?;
        }
        // the forced size passes net.core.rmem_max, which CAP_NET_ADMIN allows; what is granted will do
        if setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
            let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
        }
        Ok(Self(socket))
    }

    /// Whether another socket that shares too may be bound to the same port (SO_REUSEADDR). Left on, any
    /// user's process could take our datagrams by binding to a more specific address.
    ///
    /// # Errors
    /// The kernel's.
    pub fn share_port(&self, share: bool) -> io::Result<()> {
        self.0.set_reuse_address(share)
    }

    /// Marks what is sent from now on, for routing rules and firewalls (`SO_MARK`); `None` for no mark.
    ///
    /// # Errors
    /// `EPERM` without CAP_NET_ADMIN.
    pub fn set_mark(&self, mark: Option<NonZeroU32>) -> io::Result<()> {
        self.0.set_mark(mark.map_or(0, NonZeroU32::get))
    }

    /// Makes the send buffer so large that a few peers whose neighbour is gone do not fill it with what waits for them, and
    /// stop everybody's datagrams. As with the receive buffer, what is granted will do.
    pub fn send_to_many(&self) {
        if setsockopt(&self.0, sockopt::SndBufForce, &SEND_BUFFER).is_err() {
            let _ = self.0.set_send_buffer_size(SEND_BUFFER);
        }
    }

    /// From now on [`Arrival::class`] is told.
    ///
    /// # Errors
    /// The kernel's.
    pub fn receive_class(&self) -> io::Result<()> {
        if self.0.domain()? == Domain::IPV6 {
            setsockopt(&self.0, sockopt::Ipv6RecvTClass, &true)?;
        } else {
            setsockopt(&self.0, sockopt::IpRecvTos, &true)?;
        }
        Ok(())
    }

    /// The address that the socket is bound to.
    ///
    /// # Errors
    /// The kernel's.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()?.as_socket().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
    }

    /// Receives one datagram into `buffer`, which holds the largest there can be. `control` takes the kernel's
    /// notes, [`CONTROL`] bytes of them.
    ///
    /// # Errors
    /// The kernel's, among them those of datagrams sent earlier; see [`crate::io::fault::of_socket`].
    pub fn receive(&self, buffer: &mut [u8], control: &mut [u8]) -> io::Result<Arrival> {
        let mut slices = [IoSliceMut::new(buffer)];
        let message =
            recvmsg::<SockaddrStorage>(self.0.as_raw_fd(), &mut slices, Some(control), MsgFlags::empty())?;
        let from = message.address.as_ref().and_then(socket_address).ok_or(nix::errno::Errno::EPROTO)?;
        let (mut local, mut class) = (None, 0);
        // notes that did not fit are no reason to lose the datagram
        for note in message.cmsgs().into_iter().flatten() {
            match note {
                ControlMessageOwned::Ipv4PacketInfo(info) => {
                    local = Some(Local {
                        address: IpAddr::from(u32::from_be(info.ipi_spec_dst.s_addr).to_be_bytes()),
                        interface: info.ipi_ifindex.cast_unsigned(),
                    });
                }
                ControlMessageOwned::Ipv6PacketInfo(info) => {
                    local = Some(Local {
                        address: IpAddr::from(info.ipi6_addr.s6_addr),
                        interface: info.ipi6_ifindex,
                    });
                }
                ControlMessageOwned::Ipv4Tos(tos) => class = tos,
                // 32 bits of which the kernel uses eight (RFC 3542)
                ControlMessageOwned::Ipv6TClass(told) => [class, ..] = told.to_le_bytes(),
                _ => {}
            }
        }
        Ok(Arrival { length: message.bytes, from, local, class })
    }

    /// Sends one datagram to the peer that the socket is connected to.
    ///
    /// An error that an earlier datagram earned is reported here instead of sending; the second try sends.
    ///
    /// # Errors
    /// The kernel's; see [`crate::io::fault::of_socket`].
    pub fn send(&self, datagram: &[u8]) -> io::Result<()> {
        self.0.send(datagram).map(drop)
    }

    /// Sends one datagram, to `remote` or, by a connected socket, to its peer; from the address `local` of ours or
    /// from where the routes say; with the traffic class `class`.
    ///
    /// # Errors
    /// The kernel's; see [`crate::io::fault::of_socket`]. With an address that is no longer ours: `SourceGone`.
    pub fn send_with(
        &self,
        datagram: &[u8],
        remote: Option<SocketAddr>,
        local: Option<IpAddr>,
        class: u8,
        is_v6: bool,
    ) -> io::Result<()> {
        let mut notes = Notes::default();
        if let Some(local) = local {
            let scope = match remote {
                Some(SocketAddr::V6(remote)) => remote.scope_id(),
                _ => 0,
            };
            notes.push_source(local, scope);
        }
        if class != 0 {
            notes.push_class(class, is_v6);
        }
        let buffers = [IoSlice::new(datagram)];
        let remote = remote.map(SockAddr::from);
        let mut message = MsgHdr::new().with_buffers(&buffers);
        if let Some(remote) = &remote {
            message = message.with_addr(remote);
        }
        if !notes.as_bytes().is_empty() {
            message = message.with_control(notes.as_bytes());
        }
        self.0.sendmsg(&message, 0).map(drop)
    }
}

impl AsFd for UdpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Whether the kernel has this address family at all, as a host without IPv6 does not.
pub fn is_family_missing(error: &io::Error) -> bool {
    use nix::errno::Errno;
    matches!(error.raw_os_error().map(Errno::from_raw), Some(Errno::EAFNOSUPPORT | Errno::EADDRNOTAVAIL))
}

fn socket_address(address: &SockaddrStorage) -> Option<SocketAddr> {
    if let Some(v4) = address.as_sockaddr_in() {
        Some(SocketAddrV4::from(*v4).into())
    } else {
        let v6 = SocketAddrV6::from(*address.as_sockaddr_in6()?);
        // the flow label may change from datagram to datagram and does not tell peers apart
        Some(SocketAddrV6::new(*v6.ip(), v6.port(), 0, v6.scope_id()).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any_port(address: &str) -> SocketAddr {
        SocketAddr::new(address.parse().unwrap(), 0)
    }

    fn receive(socket: &UdpSocket) -> io::Result<(Arrival, Vec<u8>)> {
        let (mut buffer, mut control) = (vec![0; 65_536], [0; CONTROL]);
        let arrival = socket.receive(&mut buffer, &mut control)?;
        buffer.truncate(arrival.length);
        Ok((arrival, buffer))
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
    fn the_port_is_shared_only_while_told_to() {
        let server = UdpSocket::bind(any_port("0.0.0.0")).unwrap();
        let port = server.local_addr().unwrap().port();
        let local = SocketAddr::new("127.0.0.1".parse().unwrap(), port);
        let client = std::net::UdpSocket::bind("127.0.0.2:0").unwrap();
        let peer = client.local_addr().unwrap();
        assert_eq!(UdpSocket::connect(local, peer, None).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        server.share_port(true).unwrap();
        let connected = UdpSocket::connect(local, peer, None).unwrap();
        server.share_port(false).unwrap();
        connected.share_port(false).unwrap();
        assert_eq!(UdpSocket::connect(local, peer, None).unwrap_err().kind(), io::ErrorKind::AddrInUse);

        // the peer's datagrams come to the connected one, everyone else's to the other
        client.send_to(b"peer", local).unwrap();
        std::net::UdpSocket::bind("127.0.0.4:0").unwrap().send_to(b"stranger", local).unwrap();
        assert_eq!(receive(&connected).unwrap().1, b"peer");
        assert_eq!(receive(&server).unwrap().1, b"stranger");
        connected.send(b"reply").unwrap();
        let mut buffer = [0; 16];
        assert_eq!(client.recv_from(&mut buffer).unwrap(), (5, local));
    }

    #[test]
    fn a_datagram_leaves_with_the_source_and_class_asked_for() {
        for (any, near, far) in [("0.0.0.0", "127.0.0.9", "127.0.0.8"), ("::", "::1", "::1")] {
            let (sender, receiver) =
                (UdpSocket::bind(any_port(any)).unwrap(), UdpSocket::bind(any_port(far)).unwrap());
            receiver.receive_class().unwrap();
            let is_v6 = any == "::";
            let local = near.parse().unwrap();
            for class in [0, 0x88, 0x03] {
                sender.send_with(b"x", receiver.local_addr().ok(), Some(local), class, is_v6).unwrap();
                let arrival = receive(&receiver).unwrap().0;
                assert_eq!((arrival.from.ip(), arrival.class), (local, class));
            }
            sender.send_with(b"x", receiver.local_addr().ok(), None, 0, is_v6).unwrap();
            assert_eq!(receive(&receiver).unwrap().0.class, 0);
            // TEST-NET addresses (RFC 5737, RFC 3849) are not this host's
            let gone = if is_v6 { "2001:db8::1" } else { "192.0.2.1" };
            let error =
                sender.send_with(b"x", receiver.local_addr().ok(), gone.parse().ok(), 0, is_v6).unwrap_err();
            assert_eq!(crate::io::fault::of_socket(&error), crate::io::fault::Fault::SourceGone);
        }
    }
}
