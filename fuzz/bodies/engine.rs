//! Two WireGuard engines with a link, clock and configuration that a script of bytes controls.
//! Shared by the fuzzer and by the ordinary test that replays its corpus.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use super::script::{byte, take};
use arbitrary::Unstructured;
use wontun_proto::time::Instant;
use wontun_proto::wireguard::{
    Endpoint, Incoming, Interface, MAX_QUEUED, MAX_STAGED, Outgoing, PeerId, PresharedKey, PrivateKey, Random,
};

const MTU: usize = 1420;
const BUFFER: usize = 2048;
/// Number of datagrams that stay recorded for replay.
const RECORDED: usize = 64;
/// Largest number of steps of a script that are executed; interesting behaviour needs fewer.
const MAX_STEPS: usize = 400;

/// SplitMix64: runs must be reproducible, not unpredictable.
struct Numbers(u64);

impl Random for Numbers {
    fn fill(&mut self, out: &mut [u8]) {
        for byte in out {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            *byte = (mixed ^ mixed >> 27).to_be_bytes()[0];
        }
    }
}

/// Returns the private key of `host`.
fn key(host: usize) -> PrivateKey {
    PrivateKey::from_bytes(&[[3; 32], [5; 32], [7; 32]][host])
}

/// Returns the endpoint of a host, or an unknown one.
fn address(choice: u8) -> Endpoint {
    Endpoint::new(([192, 0, 2, choice >> 1], 1000 + u16::from(choice & 1)).into())
}

fn last_digit(host: usize) -> u8 {
    u8::from(host == 1)
}

fn home(host: usize) -> Endpoint {
    address(last_digit(host))
}

struct Host {
    interface: Interface,
    peer: Option<PeerId>,
}

struct Datagram {
    from: usize,
    bytes: Vec<u8>,
}

struct World {
    hosts: [Host; 2],
    now: Instant,
    wire: VecDeque<Datagram>,
    recorded: VecDeque<Datagram>,
    /// Numbers of the packets that were given to the engines, and of those that came out.
    given: u32,
    arrived: BTreeSet<u32>,
}

/// Returns a packet that carries a number, or an empty one as a keepalive.
fn packet(number: u32, len: usize) -> Vec<u8> {
    let mut packet = vec![0; len.clamp(24, MTU)];
    let total = u16::try_from(packet.len()).expect("no longer than the MTU").to_be_bytes();
    packet[..4].copy_from_slice(&[0x45, 0, total[0], total[1]]);
    packet[20..24].copy_from_slice(&number.to_be_bytes());
    packet
}

impl World {
    fn new() -> Self {
        let now = Instant::from_boot(Duration::from_secs(1000));
        let hosts =
            [0, 1].map(|host| Host { interface: Interface::new(MTU, Box::new(Numbers(host))), peer: None });
        let mut world = Self {
            hosts,
            now,
            wire: VecDeque::new(),
            recorded: VecDeque::new(),
            given: 0,
            arrived: BTreeSet::new(),
        };
        for host in 0..2 {
            world.configure(host);
        }
        world
    }

    /// Applies the initial configuration: a key, one peer, and its endpoint.
    fn configure(&mut self, host: usize) {
        let Host { interface, peer } = &mut self.hosts[host];
        interface.set_private_key(Some(key(host)), self.now);
        let id = interface.add_peer(key(1 - host).public_key()).expect("not our own");
        *peer = Some(id);
        interface.set_preshared_key(id, PresharedKey::default());
        interface.set_persistent_keepalive(id, None, self.now);
        interface.set_endpoint(id, Some(home(1 - host)), self.now);
    }

    fn put(&mut self, host: usize, bytes: &[u8]) {
        if self.recorded.len() == RECORDED {
            self.recorded.pop_front();
        }
        self.recorded.push_back(Datagram { from: host, bytes: bytes.to_vec() });
        self.wire.push_back(Datagram { from: host, bytes: bytes.to_vec() });
    }

    fn send(&mut self, host: usize, len: usize) {
        self.given += 1;
        let packet = packet(self.given, len);
        let mut buffer = [0; BUFFER];
        buffer[16..16 + packet.len()].copy_from_slice(&packet);
        let Host { interface, peer } = &mut self.hosts[host];
        let Some(peer) = *peer else { return };
        match interface.handle_packet(peer, &mut buffer, packet.len(), self.now) {
            Ok(Outgoing::Transmit(transmit)) => {
                assert!(transmit.len <= MTU + 32 && transmit.peer == Some(peer));
                self.put(host, &buffer[..transmit.len]);
            }
            Ok(Outgoing::Staged) | Err(_) => {}
        }
    }

    fn deliver(&mut self, to: usize, from: Endpoint, bytes: &[u8]) {
        let mut bytes = bytes.to_vec();
        let [class, ..] = bytes.len().to_le_bytes();
        let arrived = self.hosts[to].interface.handle_datagram(from, class, &mut bytes, self.now);
        if let Ok(Incoming::Packet { len, .. }) = arrived {
            let sent = &bytes[16..16 + len];
            let number = u32::from_be_bytes(sent[20..24].try_into().expect("four bytes"));
            assert!((1..=self.given).contains(&number), "nobody sent this");
            assert_eq!(sent, packet(number, len), "it arrives as it was");
            assert!(self.arrived.insert(number), "packet {number} arrived twice");
        }
    }

    /// Delivers the datagram that has been on the link longest.
    fn deliver_next(&mut self) {
        if let Some(Datagram { from, bytes }) = self.wire.pop_front() {
            self.deliver(1 - from, home(from), &bytes);
        }
    }

    fn work(&mut self, host: usize, handshakes: usize) {
        let interface = &mut self.hosts[host].interface;
        for _ in 0..handshakes {
            let Some(_) = interface.handle_queued(self.now) else { break };
        }
    }

    fn flush(&mut self, host: usize, datagrams: usize) {
        let mut buffer = [0; BUFFER];
        for _ in 0..datagrams {
            let (now, unix) = (self.now, self.now.since_boot());
            let Some(transmit) = self.hosts[host].interface.poll_transmit(now, unix, &mut buffer) else {
                break;
            };
            self.put(host, &buffer[..transmit.len]);
        }
    }

    fn pass(&mut self, span: Duration) {
        self.now = self.now + span;
        for host in &mut self.hosts {
            host.interface.handle_timeout(self.now);
            let due = host.interface.poll_timeout();
            assert!(due.is_none_or(|due| due > self.now), "what was due is done");
        }
    }

    fn check(&mut self) {
        for host in &mut self.hosts {
            let interface = &mut host.interface;
            while interface.poll_event().is_some() {}
            let peers = interface.peer_ids().count();
            // three sessions and a handshake
            assert!(interface.indices() <= 4 * peers, "{} indices", interface.indices());
            assert!(interface.queued() <= MAX_QUEUED);
            for id in interface.peer_ids() {
                assert!(interface.peer(id).is_some_and(|peer| peer.staged() <= MAX_STAGED));
            }
        }
    }

    /// Restores the link and the configuration, and checks that packets arrive: at once, or, where
    /// one side keeps a session that the other no longer has, after the fifteen seconds that it
    /// takes to notice.
    fn recover(&mut self) {
        self.wire.clear();
        for host in 0..2 {
            if self.hosts[host].interface.queued() > 16 {
                // the remains of a flood, which take long
                self.hosts[host].interface.set_private_key(None, self.now);
            }
            self.configure(host);
        }
        self.pass(Duration::from_secs(200));
        let mut missing = [true; 2];
        for _ in 0..40 {
            for (host, missing) in missing.iter_mut().enumerate() {
                self.send(host, 100);
                let number = self.given;
                for _ in 0..10 {
                    for host in 0..2 {
                        self.work(host, usize::MAX);
                        self.flush(host, usize::MAX);
                    }
                    while !self.wire.is_empty() {
                        self.deliver_next();
                    }
                }
                *missing &= !self.arrived.contains(&number);
            }
            if missing == [false; 2] {
                break;
            }
            self.pass(Duration::from_secs(1));
        }
        assert_eq!(missing, [false; 2], "the two do not get together again");
    }
}

/// Runs one script.
///
/// # Panics
/// If the engine violates an invariant.
pub(crate) fn run(script: &[u8]) {
    let mut script = Unstructured::new(script);
    let mut world = World::new();
    let mut floods = 0;
    for _ in 0..MAX_STEPS {
        if script.is_empty() {
            break;
        }
        let step = byte(&mut script);
        let host = usize::from(step >> 7);
        let choice = step >> 4 & 7;
        match step & 15 {
            0 => world.send(host, usize::from(byte(&mut script)) * 6),
            1 => world.deliver_next(),
            2 => {
                // changed, or truncated
                if let Some(Datagram { from, mut bytes }) = world.wire.pop_front() {
                    let place = usize::from(byte(&mut script)) * 6 % bytes.len();
                    bytes[place] ^= byte(&mut script);
                    if choice & 1 == 1 {
                        bytes.truncate(place);
                    }
                    world.deliver(1 - from, home(from), &bytes);
                }
            }
            3 => drop(world.wire.pop_front()),
            4 => {
                // replayed, possibly back to its sender, possibly from another address
                let number = usize::from(byte(&mut script));
                if let Some(Datagram { from, bytes }) = world.recorded.get(number % RECORDED) {
                    let (from, bytes) = (*from, bytes.clone());
                    world.deliver(host, address(last_digit(from) ^ choice), &bytes);
                }
            }
            5 => {
                let mut bytes = vec![choice, 0, 0, 0];
                let length = usize::from(byte(&mut script));
                bytes.extend(take(&mut script, length));
                world.deliver(host, address(choice), &bytes);
            }
            6 => world.pass(Duration::from_millis(u64::from(byte(&mut script)) * 20)),
            7 => world.pass(Duration::from_secs(u64::from(byte(&mut script)))),
            8 => {
                let due = world.hosts[host].interface.poll_timeout();
                world.pass(due.map_or(Duration::ZERO, |due| due.since(world.now)));
            }
            9 => world.work(host, usize::from(choice) + 1),
            10 => world.flush(host, usize::from(choice) + 1),
            11 => {
                // none, its own, another, or even the other host's
                let private =
                    (choice < 6).then(|| key([host, host, 2, 2, 1 - host, host][usize::from(choice)]));
                let now = world.now;
                let Host { interface, peer } = &mut world.hosts[host];
                if let Some(removed) = interface.set_private_key(private, now) {
                    assert_eq!(peer.take(), Some(removed));
                }
            }
            12 => {
                let now = world.now;
                let Host { interface, peer } = &mut world.hosts[host];
                match peer.take() {
                    Some(id) => {
                        assert!(interface.remove_peer(id).is_some() && interface.remove_peer(id).is_none());
                        assert_eq!(interface.indices(), 0, "a removed peer's indices are free");
                    }
                    None => *peer = interface.add_peer(key(1 - host).public_key()).ok(),
                }
                if let Some(id) = *peer {
                    interface.set_endpoint(id, Some(home(1 - host)), now);
                }
            }
            13 => {
                let Host { interface, peer } = &mut world.hosts[host];
                if let Some(id) = *peer {
                    interface.set_preshared_key(id, PresharedKey::from_bytes([choice & 1; 32]));
                }
            }
            14 => {
                let now = world.now;
                let Host { interface, peer } = &mut world.hosts[host];
                if let Some(id) = *peer {
                    match choice {
                        0 => interface.set_endpoint(id, None, now),
                        1 => interface.set_endpoint(id, Some(home(1 - host)), now),
                        2 => interface.send_keepalive(id, now),
                        _ => interface.set_persistent_keepalive(
                            id,
                            Some(Duration::from_secs(u64::from(choice - 3) * 7)),
                            now,
                        ),
                    }
                }
            }
            _ => {
                // a flood of one message, from one source or from many
                let number = usize::from(byte(&mut script));
                let copies = u32::from(byte(&mut script)) * 8;
                floods += 1;
                if floods > 2 {
                    continue;
                }
                if let Some(Datagram { bytes, .. }) = world.recorded.get(number % RECORDED) {
                    let bytes = bytes.clone();
                    for copy in 0..copies {
                        let source = if choice & 1 == 0 { 0 } else { copy };
                        let source = std::net::Ipv4Addr::from(0xc633_6400 + source);
                        world.deliver(host, Endpoint::new((source, 7).into()), &bytes);
                    }
                }
            }
        }
        world.check();
    }
    world.recover();
    world.check();
}
