//! A WireGuard session in user space: a socket and the engine of `wontun-proto`, with one peer.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant as Clock};

use crate::net::random::SystemRandom;
use crate::net::timer::{now, unix_now};
use wontun_proto::wireguard::message::{DATA_HEADER_LEN, DATA_OVERHEAD};
use wontun_proto::wireguard::{
    Endpoint, Event, Incoming, Interface, Outgoing, PeerId, PresharedKey, PrivateKey, PublicKey,
};

const MTU: usize = 1420;
/// Header, packet, padding and tag.
const BUFFER: usize = MTU + DATA_OVERHEAD + 16;
/// Minimum time to wait for a datagram; a timeout of zero would be none.
const MIN_WAIT: Duration = Duration::from_millis(1);

/// A session with a server, or the attempt to have one.
pub(super) struct Session {
    interface: Interface,
    peer: PeerId,
    socket: UdpSocket,
    remote: Endpoint,
    buffer: Vec<u8>,
    /// True once a handshake was completed.
    is_connected: bool,
    /// True if the last datagram was refused: no process has the port.
    pub(super) is_refused: bool,
}

impl Session {
    /// Opens a socket to the server at `remote`. Sends nothing.
    ///
    /// # Errors
    /// An error of the kernel: there may be no route to the server.
    pub(super) fn open(
        remote: SocketAddr,
        server: PublicKey,
        private_key: PrivateKey,
        preshared_key: PresharedKey,
    ) -> io::Result<Self> {
        let any = if remote.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind(SocketAddr::new(any, 0))?;
        socket.connect(remote)?;
        let (now, remote) = (now()?, Endpoint::new(remote));
        let random = SystemRandom::open().map_err(io::Error::other)?;
        let mut interface = Interface::new(MTU, Box::new(random));
        interface.set_private_key(Some(private_key), now);
        let peer = interface.add_peer(server).map_err(io::Error::other)?;
        interface.set_preshared_key(peer, preshared_key);
        interface.set_endpoint(peer, Some(remote), now);
        let buffer = vec![0; BUFFER];
        Ok(Self { interface, peer, socket, remote, buffer, is_connected: false, is_refused: false })
    }

    /// Makes a handshake. Returns false if it was not completed until `deadline`.
    ///
    /// # Errors
    /// An error of the kernel.
    pub(super) fn connect(&mut self, deadline: Clock) -> io::Result<bool> {
        self.interface.send_keepalive(self.peer, now()?);
        while !self.is_connected && Clock::now() < deadline {
            self.turn(deadline)?;
        }
        // confirms the session to the server
        self.transmit()?;
        Ok(self.is_connected)
    }

    /// Sends a packet, and returns what `accept` returns for the first packet that it accepts;
    /// `None` if there is none until `deadline`.
    ///
    /// # Errors
    /// An error of the kernel.
    pub(super) fn exchange<T>(
        &mut self,
        packet: &[u8],
        deadline: Clock,
        mut accept: impl FnMut(&[u8]) -> Option<T>,
    ) -> io::Result<Option<T>> {
        let end = DATA_HEADER_LEN + packet.len();
        let room = self.buffer.get_mut(DATA_HEADER_LEN..end);
        room.ok_or(ErrorKind::InvalidInput)?.copy_from_slice(packet);
        match self.interface.handle_packet(self.peer, &mut self.buffer, packet.len(), now()?) {
            Ok(Outgoing::Transmit(transmit)) => self.send(transmit.len)?,
            Ok(Outgoing::Staged) => {}
            Err(reason) => return Err(io::Error::other(reason.name())),
        }
        while Clock::now() < deadline {
            if let Some(accepted) = self.turn(deadline)?.and_then(|packet| accept(&packet)) {
                return Ok(Some(accepted));
            }
        }
        Ok(None)
    }

    /// Sends what is due, and waits for a datagram. Returns the packet in it, if there is one.
    fn turn(&mut self, deadline: Clock) -> io::Result<Option<Vec<u8>>> {
        let time = now()?;
        self.interface.handle_timeout(time);
        self.transmit()?;
        let left = deadline.saturating_duration_since(Clock::now());
        let timer = self.interface.poll_timeout().map(|due| due.since(time));
        let wait = timer.map_or(left, |timer| timer.min(left)).max(MIN_WAIT);
        self.socket.set_read_timeout(Some(wait))?;
        let length = match self.socket.recv(&mut self.buffer) {
            Ok(length) => length,
            Err(error) => {
                return match error.kind() {
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => Ok(None),
                    ErrorKind::ConnectionRefused => {
                        self.is_refused = true;
                        Ok(None)
                    }
                    _ => Err(error),
                };
            }
        };
        let time = now()?;
        let datagram = self.buffer.get_mut(..length).unwrap_or_default();
        let packet = match self.interface.handle_datagram(self.remote, 0, datagram, time) {
            Ok(Incoming::Packet { len, .. }) => {
                self.buffer.get(DATA_HEADER_LEN..).and_then(|rest| rest.get(..len)).map(<[u8]>::to_vec)
            }
            Ok(Incoming::Queued) => {
                while self.interface.handle_queued(time).is_some() {}
                None
            }
            Ok(Incoming::Keepalive(_) | Incoming::Cookie(_)) | Err(_) => None,
        };
        while let Some(event) = self.interface.poll_event() {
            self.is_connected |= matches!(event, Event::HandshakeCompleted { .. });
        }
        Ok(packet)
    }

    /// Sends all datagrams of the engine.
    fn transmit(&mut self) -> io::Result<()> {
        while let Some(transmit) = self.interface.poll_transmit(now()?, unix_now(), &mut self.buffer) {
            self.send(transmit.len)?;
        }
        Ok(())
    }

    fn send(&mut self, length: usize) -> io::Result<()> {
        let datagram = self.buffer.get(..length).unwrap_or_default();
        match self.socket.send(datagram) {
            // of an earlier datagram; this one was not sent, and is repeated
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                self.is_refused = true;
                Ok(())
            }
            result => result.map(drop),
        }
    }
}
