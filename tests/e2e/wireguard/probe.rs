//! A peer that is driven by hand: the library's protocol engine over one UDP socket. It is cheap
//! enough for a thousand instances, sees each message, and can send what no WireGuard would.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use blake2::digest::consts::U16;
use blake2::digest::{Digest, FixedOutput, KeyInit, Mac};
use blake2::{Blake2s256, Blake2sMac};
use wontun::net::random::SystemRandom;
use wontun::net::timer;
use wontun_packet::DropReason;
use wontun_proto::wireguard::message::{DATA_HEADER_LEN, INITIATION_LEN, MAC_LEN, RESPONSE_LEN};
use wontun_proto::wireguard::{Endpoint, Incoming, Interface, Outgoing, PeerId, PrivateKey, PublicKey};

use super::settings::Keys;
use crate::packets;
use crate::waiting::{TIMEOUT, uninterrupted};

pub(crate) const INITIATION: u8 = 1;
pub(crate) const RESPONSE: u8 = 2;
pub(crate) const DATA: u8 = 4;

/// One end of a tunnel without a device.
pub(crate) struct Probe {
    interface: Interface,
    peer: PeerId,
    pub(crate) socket: UdpSocket,
    server: SocketAddr,
    inner: Ipv4Addr,
}

impl Probe {
    /// Makes a peer with the keys `keys` and the inner address `inner`, on `socket`; the peer
    /// `public` is at `server`.
    pub(crate) fn new(
        socket: UdpSocket,
        keys: &Keys,
        public: &str,
        server: SocketAddr,
        inner: Ipv4Addr,
    ) -> Self {
        let now = timer::now().unwrap();
        let mut interface = Interface::new(1420, Box::new(SystemRandom::open().unwrap()));
        let private: PrivateKey = keys.private.parse().unwrap();
        interface.set_private_key(Some(private), now);
        let public: PublicKey = public.parse().unwrap();
        let peer = interface.add_peer(public).unwrap();
        interface.set_endpoint(peer, Some(Endpoint::new(server)), now);
        Self { interface, peer, socket, server, inner }
    }

    /// Returns the datagrams that the engine wants to send now.
    fn poll(&mut self) -> Vec<Vec<u8>> {
        let (now, unix) = (timer::now().unwrap(), timer::unix_now());
        let mut datagrams = Vec::new();
        let mut buffer = vec![0; 2048];
        while let Some(transmit) = self.interface.poll_transmit(now, unix, &mut buffer) {
            datagrams.push(buffer[..transmit.len].to_vec());
        }
        datagrams
    }

    /// Returns an initiation, not yet sent.
    pub(crate) fn initiation(&mut self) -> Vec<u8> {
        self.interface.send_keepalive(self.peer, timer::now().unwrap());
        let mut datagrams = self.poll();
        assert_eq!(datagrams.len(), 1);
        assert_eq!((datagrams[0][0], datagrams[0].len()), (INITIATION, INITIATION_LEN));
        datagrams.remove(0)
    }

    pub(crate) fn send(&self, datagram: &[u8]) {
        self.socket.send_to(datagram, self.server).unwrap();
    }

    /// Returns the next datagram from the server, or `None` after `limit`.
    pub(crate) fn receive(&self, limit: Duration) -> Option<Vec<u8>> {
        let mut buffer = vec![0; 65_536];
        self.socket.set_read_timeout(Some(limit.max(Duration::from_micros(1)))).unwrap();
        let (length, from) = uninterrupted(|| self.socket.recv_from(&mut buffer)).ok()?;
        assert_eq!(from, self.server);
        buffer.truncate(length);
        Some(buffer)
    }

    /// Gives the engine a datagram of the server. Returns the packet in it, if there is one, and
    /// the datagrams to send.
    pub(crate) fn take(&mut self, mut datagram: Vec<u8>) -> (Option<Vec<u8>>, Vec<Vec<u8>>) {
        let now = timer::now().unwrap();
        let incoming =
            self.interface.handle_datagram(Endpoint::new(self.server), 0, &mut datagram, now).unwrap();
        let packet = match incoming {
            Incoming::Packet { len, .. } => Some(datagram[DATA_HEADER_LEN..][..len].to_vec()),
            _ => None,
        };
        while let Some(handled) = self.interface.handle_queued(now) {
            // of two initiations that waited together, one is enough
            assert!(matches!(handled, Ok(_) | Err(DropReason::InitiationFlood)), "{handled:?}");
        }
        (packet, self.poll())
    }

    /// Completes a handshake as the initiator.
    pub(crate) fn shake_hands(&mut self) {
        let initiation = self.initiation();
        self.send(&initiation);
        self.finish_handshake();
    }

    /// Waits for the response, and confirms it.
    pub(crate) fn finish_handshake(&mut self) {
        let response = self.receive(TIMEOUT).expect("no response");
        assert_eq!((response[0], response.len()), (RESPONSE, RESPONSE_LEN));
        let (_, confirmation) = self.take(response);
        assert_eq!(confirmation.len(), 1);
        self.send(&confirmation[0]);
    }

    /// Returns an encrypted echo request to 10.9.0.1, not yet sent.
    pub(crate) fn echo_request(&mut self, number: u16) -> Vec<u8> {
        let packet = echo(8, self.inner, Ipv4Addr::new(10, 9, 0, 1), number);
        let mut buffer = vec![0; 2048];
        buffer[DATA_HEADER_LEN..][..packet.len()].copy_from_slice(&packet);
        let now = timer::now().unwrap();
        match self.interface.handle_packet(self.peer, &mut buffer, packet.len(), now) {
            Ok(Outgoing::Transmit(transmit)) => buffer[..transmit.len].to_vec(),
            other => panic!("no session: {other:?}"),
        }
    }

    /// Waits for the answer to that request.
    pub(crate) fn expect_echo(&mut self, number: u16) {
        let expected = echo(0, Ipv4Addr::new(10, 9, 0, 1), self.inner, number);
        let deadline = Instant::now() + TIMEOUT;
        while let Some(datagram) = self.receive(deadline.saturating_duration_since(Instant::now())) {
            // A server that has received nothing for a while initiates a handshake.
            let (packet, replies) = self.take(datagram);
            replies.iter().for_each(|reply| self.send(reply));
            let Some(packet) = packet else { continue };
            // The responder chose identification and checksum of the IP header.
            if packet[12..] == expected[12..] {
                return;
            }
        }
        panic!("no answer to echo request {number}");
    }

    /// Handles what has arrived and the timers that are due, without waiting. Returns true if the
    /// answer to the echo request of that number is among it.
    pub(crate) fn step(&mut self, number: u16) -> bool {
        let expected = echo(0, Ipv4Addr::new(10, 9, 0, 1), self.inner, number);
        self.socket.set_nonblocking(true).unwrap();
        let mut is_answered = false;
        let mut buffer = [0; 2048];
        while let Ok((length, _)) = self.socket.recv_from(&mut buffer) {
            let (packet, replies) = self.take(buffer[..length].to_vec());
            replies.iter().for_each(|reply| self.send(reply));
            is_answered |= packet.is_some_and(|packet| packet[12..] == expected[12..]);
        }
        self.interface.handle_timeout(timer::now().unwrap());
        for datagram in self.poll() {
            self.send(&datagram);
        }
        self.socket.set_nonblocking(false).unwrap();
        is_answered
    }

    /// Sends a ping through the tunnel and waits for the answer.
    pub(crate) fn ping(&mut self, number: u16) {
        let request = self.echo_request(number);
        self.send(&request);
        self.expect_echo(number);
    }
}

fn echo(kind: u8, from: Ipv4Addr, to: Ipv4Addr, number: u16) -> Vec<u8> {
    let mut message = vec![kind, 0, 0, 0, 0x77, 0x77];
    message.extend(number.to_be_bytes());
    message.extend([0x55; 48]);
    let sum: u32 = message.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    let sum = !(((sum & 0xffff) + (sum >> 16)) as u16);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    packets::ipv4(1, from, to, &message)
}

/// Recomputes mac1 of an initiation or response for a receiver with the key `public`, and clears
/// mac2.
pub(crate) fn sign(message: &mut [u8], public: &PublicKey) {
    let mut hasher = Blake2s256::new();
    hasher.update(b"mac1----");
    hasher.update(public.as_bytes());
    let (body, macs) = message.split_at_mut(message.len() - 2 * MAC_LEN);
    let mut mac = <Blake2sMac<U16> as KeyInit>::new_from_slice(&hasher.finalize()).unwrap();
    Mac::update(&mut mac, body);
    macs[..MAC_LEN].copy_from_slice(&mac.finalize_fixed());
    macs[MAC_LEN..].fill(0);
}
