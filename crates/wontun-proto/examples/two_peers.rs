//! Two WireGuard peers in one program, on a virtual clock: no socket, no thread, no waiting.
//! `cargo run -p wontun-proto --example two_peers`.
//!
//! One peer sends a packet every ten seconds for an hour. The engines make the handshakes, replace
//! their keys every two minutes, and answer with keepalives.
#![allow(clippy::print_stdout, reason = "that is what an example does")]

use std::error::Error;
use std::time::Duration;

use ring::rand::SecureRandom;
use wontun_proto::time::Instant;
use wontun_proto::wireguard::message::{DATA_HEADER_LEN, DATA_OVERHEAD};
use wontun_proto::wireguard::{
    DropReason, Endpoint, Incoming, Interface, Outgoing, PeerId, PrivateKey, Random,
};

const MTU: usize = 1420;
/// Header, packet, padding and tag.
const BUFFER: usize = MTU + DATA_OVERHEAD + 16;
/// Wall-clock time at the start: initiations have timestamps.
const START: Duration = Duration::from_secs(1_800_000_000);

/// Randomness of the operating system.
struct SystemRandom(ring::rand::SystemRandom);

impl Random for SystemRandom {
    fn fill(&mut self, out: &mut [u8]) {
        // the engine cannot go on without randomness, and neither can this example
        if self.0.fill(out).is_err() {
            std::process::abort();
        }
    }
}

/// One host: its engine, its address, and the other host as its only peer.
struct Host {
    interface: Interface,
    peer: PeerId,
    address: Endpoint,
}

/// Counts of what crossed the network.
#[derive(Debug, Default)]
struct Summary {
    packets: u32,
    datagrams: u32,
    handshakes: u32,
}

/// Both hosts, and the time.
struct Network {
    hosts: [Host; 2],
    now: Instant,
    summary: Summary,
}

impl Network {
    fn new() -> Result<Self, Box<dyn Error>> {
        let now = Instant::from_boot(Duration::from_secs(1));
        let mut keys = SystemRandom(ring::rand::SystemRandom::new());
        let [a, b] = [PrivateKey::generate(&mut keys), PrivateKey::generate(&mut keys)];
        let [at_a, at_b] = ["192.0.2.1:51820", "192.0.2.2:51820"].map(str::parse);
        let (at_a, at_b) = (Endpoint::new(at_a?), Endpoint::new(at_b?));
        let host = |own: &PrivateKey, other: &PrivateKey, address, remote| -> Result<Host, Box<dyn Error>> {
            let random = SystemRandom(ring::rand::SystemRandom::new());
            let mut interface = Interface::new(MTU, Box::new(random));
            interface.set_private_key(Some(own.clone()), now);
            let peer = interface.add_peer(other.public_key())?;
            interface.set_endpoint(peer, Some(remote), now);
            Ok(Host { interface, peer, address })
        };
        let hosts = [host(&a, &b, at_a, at_b)?, host(&b, &a, at_b, at_a)?];
        Ok(Self { hosts, now, summary: Summary::default() })
    }

    /// Sends a packet from the first host to the second.
    fn send(&mut self, packet: &[u8]) -> Result<(), DropReason> {
        let mut buffer = [0; BUFFER];
        let end = DATA_HEADER_LEN + packet.len();
        buffer.get_mut(DATA_HEADER_LEN..end).ok_or(DropReason::Buffer)?.copy_from_slice(packet);
        let [sender, receiver] = &mut self.hosts;
        match sender.interface.handle_packet(sender.peer, &mut buffer, packet.len(), self.now)? {
            Outgoing::Transmit(transmit) => {
                let datagram = buffer.get_mut(..transmit.len).ok_or(DropReason::Buffer)?;
                receive(receiver, sender.address, datagram, self.now, &mut self.summary)
            }
            // it waits for the handshake that this call began
            Outgoing::Staged => Ok(()),
        }
    }

    /// Delivers datagrams until neither host has one to send.
    fn exchange(&mut self) -> Result<(), DropReason> {
        let mut buffer = [0; BUFFER];
        let mut is_idle = false;
        while !is_idle {
            is_idle = true;
            for _ in 0..2 {
                let [sender, receiver] = &mut self.hosts;
                let unix = START + self.now.since_boot();
                while let Some(transmit) = sender.interface.poll_transmit(self.now, unix, &mut buffer) {
                    is_idle = false;
                    let datagram = buffer.get_mut(..transmit.len).ok_or(DropReason::Buffer)?;
                    receive(receiver, sender.address, datagram, self.now, &mut self.summary)?;
                }
                self.hosts.swap(0, 1);
            }
        }
        Ok(())
    }

    /// Moves the clock to `then`, and handles each timer at its time.
    fn run_until(&mut self, then: Instant) -> Result<(), DropReason> {
        self.exchange()?;
        while let Some(due) = self.hosts.iter().filter_map(|host| host.interface.poll_timeout()).min()
            && due <= then
        {
            self.now = self.now.max(due);
            self.hosts.iter_mut().for_each(|host| host.interface.handle_timeout(self.now));
            self.exchange()?;
        }
        self.now = then;
        Ok(())
    }
}

/// Handles a datagram that arrived at a host.
fn receive(
    host: &mut Host,
    from: Endpoint,
    datagram: &mut [u8],
    now: Instant,
    summary: &mut Summary,
) -> Result<(), DropReason> {
    summary.datagrams += 1;
    match host.interface.handle_datagram(from, 0, datagram, now)? {
        // a router would compare the packet's source with the peer's allowed IPs here
        Incoming::Packet { .. } => summary.packets += 1,
        Incoming::Queued => {
            // a server does a few of these per turn of its event loop
            while let Some(handled) = host.interface.handle_queued(now) {
                handled?;
                summary.handshakes += 1;
            }
        }
        Incoming::Keepalive(_) | Incoming::Cookie(_) => {}
    }
    Ok(())
}

/// Runs for an hour of virtual time.
fn run() -> Result<Summary, Box<dyn Error>> {
    let mut network = Network::new()?;
    // the first bytes of an IPv4 packet: the engine pads by the length that is written in it
    let packet = [0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0, 1, 0, 2, 0, 8, 0, 0];
    for _ in 0..360 {
        network.send(&packet).map_err(|reason| format!("a packet is dropped: {}", reason.name()))?;
        network
            .run_until(network.now + Duration::from_secs(10))
            .map_err(|reason| format!("a datagram is dropped: {}", reason.name()))?;
    }
    Ok(network.summary)
}

fn main() -> Result<(), Box<dyn Error>> {
    let Summary { packets, datagrams, handshakes } = run()?;
    println!("an hour: {packets} packets, {datagrams} datagrams, {handshakes} handshake messages");
    Ok(())
}

#[test]
fn every_packet_arrives_and_keys_are_replaced() {
    let summary = run().unwrap();
    assert_eq!(summary.packets, 360);
    // an initiation and a response every two minutes
    assert!((50..=64).contains(&summary.handshakes), "{summary:?}");
}
