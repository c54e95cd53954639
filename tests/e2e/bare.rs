//! A peer that speaks only the bare protocol, driven by hand: one UDP socket, datagrams in and out.
//! It sees everything that wontun puts on the wire, and can send what wontun never would.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use crate::lab::Host;
use crate::packets;
use crate::waiting::{TIMEOUT, uninterrupted};

pub(crate) const HELLO: &[u8] = b"hello?";
pub(crate) const PORT: u16 = 19988;

/// The default inner addresses of wontun.
pub(crate) const INNER_SERVER: Ipv4Addr = Ipv4Addr::new(10, 8, 0, 1);
pub(crate) const INNER_CLIENT: Ipv4Addr = Ipv4Addr::new(10, 8, 0, 3);

#[derive(Debug)]
pub(crate) struct RawPeer {
    socket: UdpSocket,
}

impl RawPeer {
    /// Binds `address` of `host`; port 19988 is wontun's.
    pub(crate) fn new(host: &Host, address: impl Into<IpAddr>, port: u16) -> Self {
        Self { socket: host.udp(SocketAddr::new(address.into(), port)) }
    }

    /// Makes a bare client on `host`'s IPv4 address.
    pub(crate) fn client(host: &Host) -> Self {
        Self::new(host, host.v4, PORT)
    }

    pub(crate) fn send(&self, datagram: &[u8], to: impl Into<SocketAddr>) {
        let to = to.into();
        // An error here answers an earlier datagram (port unreachable); this datagram was not sent
        // then.
        for _ in 0..3 {
            if self.socket.send_to(datagram, to).is_ok() {
                return;
            }
        }
        panic!("cannot send {} bytes to {to}", datagram.len());
    }

    /// Returns true if this is the server's peer: packets that a socket on the server's inner
    /// address sends through its tun arrive here.
    pub(crate) fn is_peer_of(&self, server: &Host) -> bool {
        let inner = server.udp((INNER_SERVER, 0));
        self.drain();
        for attempt in 0..5_u8 {
            let mark = [b'm', attempt];
            inner.send_to(&mark, (INNER_CLIENT, 7)).unwrap();
            let deadline = Instant::now() + Duration::from_millis(100);
            while let Some((datagram, _)) = self.receive(deadline.saturating_duration_since(Instant::now())) {
                if datagram.ends_with(&mark) && packets::is_well_formed(&datagram) {
                    return true;
                }
            }
        }
        false
    }

    /// Returns the next datagram and its sender, or `None` after `limit`.
    pub(crate) fn receive(&self, limit: Duration) -> Option<(Vec<u8>, SocketAddr)> {
        let deadline = Instant::now() + limit;
        let mut buffer = vec![0; 65_536];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            self.socket.set_read_timeout(Some(left)).unwrap();
            // An error is a time-out, or an ICMP answer to an earlier datagram: read again.
            if let Ok((length, from)) = self.socket.recv_from(&mut buffer) {
                buffer.truncate(length);
                return Some((buffer, from));
            }
        }
    }

    /// Returns everything that arrives within `limit`, each datagram with its time since the start.
    pub(crate) fn receive_for(&self, limit: Duration) -> Vec<(Duration, Vec<u8>, SocketAddr)> {
        let start = Instant::now();
        let mut heard = Vec::new();
        while let Some((datagram, from)) = self.receive(limit.saturating_sub(start.elapsed())) {
            heard.push((start.elapsed(), datagram, from));
        }
        heard
    }

    /// Waits for a `hello?` and returns its sender.
    pub(crate) fn wait_for_hello(&self) -> SocketAddr {
        let deadline = Instant::now() + TIMEOUT;
        while let Some((datagram, from)) = self.receive(deadline.saturating_duration_since(Instant::now())) {
            if datagram == HELLO {
                return from;
            }
        }
        panic!("no hello? within {TIMEOUT:?}");
    }

    /// Discards what has arrived so far.
    pub(crate) fn drain(&self) {
        self.socket.set_nonblocking(true).unwrap();
        let mut buffer = [0; 16];
        while uninterrupted(|| self.socket.recv_from(&mut buffer)).is_ok() {}
        self.socket.set_nonblocking(false).unwrap();
    }
}

/// Sends UDP datagrams with any source address, from a raw socket: an attacker who can spoof the
/// peer's address.
#[derive(Debug)]
pub(crate) struct Spoofer {
    socket: Socket,
}

impl Spoofer {
    pub(crate) fn new(host: &Host) -> Self {
        // Protocol 255 is IPPROTO_RAW: the packets carry their own IPv4 header.
        let raw = Protocol::from(255);
        Self { socket: host.inside(|| Socket::new(Domain::IPV4, Type::RAW, Some(raw))).unwrap() }
    }

    /// Sends one datagram. The payload must be below 1400 bytes: the kernel does not fragment such
    /// packets.
    pub(crate) fn send(&self, source: SocketAddrV4, destination: SocketAddrV4, payload: &[u8]) {
        let packet = packets::udp4(source, destination, payload);
        let to = SocketAddr::from((*destination.ip(), 0)).into();
        let sent = self.socket.send_to(&packet, &to).unwrap();
        assert_eq!(sent, packet.len());
    }
}
