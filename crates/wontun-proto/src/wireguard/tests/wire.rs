//! Two hosts, a wire between them that can lose, repeat, delay and reorder, a virtual clock, and an
//! eavesdropper that checks every datagram.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::random::Seeded;
use super::super::*;
use super::by_peer;
use crate::time::Instant;

pub(super) const MTU: usize = 1440;
pub(super) const BUFFER: usize = 2048;

pub(super) fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

pub(super) fn endpoint(text: &str) -> Endpoint {
    Endpoint::new(text.parse().unwrap())
}

/// Returns an IPv4 packet of `len` bytes filled with `tag`.
pub(super) fn packet(len: usize, tag: u8) -> Vec<u8> {
    let mut packet = vec![tag; len];
    packet[..2].copy_from_slice(&[0x45, 0]);
    packet[2..4].copy_from_slice(&u16::try_from(len).unwrap().to_be_bytes());
    packet
}

pub(super) struct Host {
    pub(super) interface: Interface,
    pub(super) peer: PeerId,
    pub(super) at: Endpoint,
    pub(super) received: Vec<Vec<u8>>,
    pub(super) keepalives: usize,
    pub(super) drops: Vec<DropReason>,
    pub(super) events: Vec<Event>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) at: Duration,
    pub(super) from: usize,
    pub(super) kind: u8,
    pub(super) len: usize,
    pub(super) to: Endpoint,
}

/// Faults of the wire: probabilities in percent, delay in milliseconds.
#[derive(Clone, Copy, Default)]
pub(super) struct Weather {
    pub(super) loss: u8,
    pub(super) repeat: u8,
    pub(super) delay: u16,
}

/// Another address of the second host with a path of its own: the delays in both directions, or
/// `None` if datagrams are lost.
#[derive(Clone, Copy)]
pub(super) struct Path {
    pub(super) address: Endpoint,
    pub(super) there: Option<Duration>,
    pub(super) back: Option<Duration>,
}

pub(super) struct World {
    pub(super) hosts: [Host; 2],
    pub(super) now: Instant,
    pub(super) weather: Weather,
    pub(super) paths: Vec<Path>,
    /// Offset of the wall clock.
    pub(super) unix: Duration,
    pub(super) seen: Vec<Seen>,
    pub(super) last: Vec<u8>,
    /// False if all packets are carried with the interface.
    pub(super) carries_by_peer: bool,
    carried: u64,
    wire: BTreeMap<(Instant, u64), (Endpoint, Endpoint, Vec<u8>)>,
    sequence: u64,
    random: Seeded,
}

pub(super) const START: Duration = Duration::from_secs(1000);

impl World {
    /// Returns two hosts that have each other as peers; only the first has an endpoint of the
    /// other.
    pub(super) fn new(seed: u64) -> Self {
        let now = Instant::from_boot(START);
        let keys = [1_u8, 2].map(|byte| PrivateKey::from_bytes(&[byte; 32]));
        let publics = keys.clone().map(|key| key.public_key());
        let mut hosts = [0_usize, 1].map(|host| {
            let mut interface = Interface::new(MTU, Box::new(Seeded::new(seed * 2 + host as u64)));
            interface.set_private_key(Some(keys[host].clone()), now);
            let peer = interface.add_peer(publics[1 - host]).unwrap();
            Host {
                interface,
                peer,
                at: endpoint(["192.0.2.1:1", "192.0.2.2:2"][host]),
                received: Vec::new(),
                keepalives: 0,
                drops: Vec::new(),
                events: Vec::new(),
            }
        });
        let there = hosts[1].at;
        let peer = hosts[0].peer;
        hosts[0].interface.set_endpoint(peer, Some(there), now);
        Self {
            hosts,
            now,
            weather: Weather::default(),
            paths: Vec::new(),
            unix: Duration::from_secs(1_700_000_000),
            seen: Vec::new(),
            last: Vec::new(),
            carries_by_peer: true,
            carried: 0,
            wire: BTreeMap::new(),
            sequence: 0,
            random: Seeded::new(seed + 1000),
        }
    }

    /// Returns the same hosts as `new`, after a first handshake that the first host initiated.
    pub(super) fn connected(seed: u64) -> Self {
        let mut world = Self::new(seed);
        world.send(0, &packet(100, 7));
        world.run(seconds(0.0));
        assert_eq!(world.hosts[1].received, [packet(100, 7)]);
        assert!(
            world.hosts.iter().all(|host| host.interface.peer(host.peer).unwrap().has_session(world.now))
        );
        world.hosts[1].received.clear();
        world.events();
        world.seen.clear();
        world
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.now.since(Instant::from_boot(START))
    }

    /// Returns true for every other packet: it is carried without the interface.
    fn carries_by_peer(&mut self) -> bool {
        self.carried += 1;
        self.carries_by_peer && self.carried.is_multiple_of(2)
    }

    fn chance(&mut self, percent: u8) -> bool {
        percent > 0 && super::super::random::number(&mut self.random) % 100 < u32::from(percent)
    }

    /// Sends a packet to a host's peer.
    pub(super) fn send(&mut self, host: usize, packet: &[u8]) {
        let mut buffer = [0xee; BUFFER];
        buffer[16..16 + packet.len()].copy_from_slice(packet);
        if self.carries_by_peer()
            && let Some(transmit) = by_peer::send(&mut self.hosts[host], &mut buffer, packet.len(), self.now)
        {
            self.transmit(host, transmit, &buffer);
            return self.flush(host);
        }
        let Host { interface, peer, drops, .. } = &mut self.hosts[host];
        match interface.handle_packet(*peer, &mut buffer, packet.len(), self.now) {
            Ok(Outgoing::Transmit(transmit)) => self.transmit(host, transmit, &buffer),
            Ok(Outgoing::Staged) => {}
            Err(reason) => drops.push(reason),
        }
        self.flush(host);
    }

    /// Lets a host send its pending datagrams.
    pub(super) fn flush(&mut self, host: usize) {
        let mut buffer = [0xee; BUFFER];
        loop {
            let unix = self.unix + self.elapsed();
            let Some(transmit) = self.hosts[host].interface.poll_transmit(self.now, unix, &mut buffer) else {
                break;
            };
            self.transmit(host, transmit, &buffer);
        }
        while let Some(event) = self.hosts[host].interface.poll_event() {
            self.hosts[host].events.push(event);
        }
    }

    fn transmit(&mut self, host: usize, transmit: Transmit, buffer: &[u8]) {
        let datagram = buffer[..transmit.len].to_vec();
        self.eavesdrop(host, &transmit, &datagram);
        let Endpoint { remote, local } = transmit.endpoint;
        let path = self.paths.iter().find(|path| match host {
            0 => path.address.remote == remote,
            _ => Some(path.address.remote.ip()) == local,
        });
        if let Some(path) = path {
            let (delay, from) =
                if host == 0 { (path.there, self.hosts[0].at) } else { (path.back, path.address) };
            if let Some(delay) = delay {
                self.sequence += 1;
                let key = (self.now + delay, self.sequence);
                self.wire.insert(key, (from, transmit.endpoint, datagram.clone()));
            }
            self.last = datagram;
            return;
        }
        let copies =
            if self.chance(self.weather.loss) { 0 } else { 1 + u8::from(self.chance(self.weather.repeat)) };
        for _ in 0..copies {
            let delay = super::super::random::jitter(
                &mut self.random,
                Duration::from_millis(self.weather.delay.into()),
            );
            self.sequence += 1;
            let key = (self.now + delay, self.sequence);
            self.wire.insert(key, (self.hosts[host].at, transmit.endpoint, datagram.clone()));
        }
        self.last = datagram;
    }

    fn eavesdrop(&mut self, host: usize, transmit: &Transmit, datagram: &[u8]) {
        let kind = datagram[0];
        match kind {
            1 => assert_eq!((datagram.len(), transmit.class), (148, 0x88)),
            2 => assert_eq!((datagram.len(), transmit.class), (92, 0x88)),
            3 => assert_eq!((datagram.len(), transmit.class), (64, 0)),
            4 => assert_eq!(datagram.len() % 16, 0, "the MTU is a multiple of 16, so all lengths are"),
            _ => panic!("no message"),
        }
        assert_eq!(datagram[1..4], [0; 3]);
        assert!(datagram.len() <= MTU + 32);
        self.seen.push(Seen {
            at: self.elapsed(),
            from: host,
            kind,
            len: datagram.len(),
            to: transmit.endpoint,
        });
    }

    /// Delivers a datagram to a host as if it came from `from`.
    pub(super) fn deliver(&mut self, host: usize, from: Endpoint, datagram: &[u8]) {
        let mut datagram = datagram.to_vec();
        let carries_by_peer = self.carries_by_peer();
        let Host { interface, received, keepalives, drops, .. } = &mut self.hosts[host];
        let carried =
            if carries_by_peer { by_peer::receive(interface, from, &mut datagram, self.now) } else { None };
        match carried.unwrap_or_else(|| interface.handle_datagram(from, 0, &mut datagram, self.now)) {
            Ok(Incoming::Packet { len, .. }) => received.push(datagram[16..16 + len].to_vec()),
            Ok(Incoming::Keepalive(_)) => *keepalives += 1,
            Ok(Incoming::Cookie(_) | Incoming::Queued) => {}
            Err(reason) => drops.push(reason),
        }
        while let Some(handled) = interface.handle_queued(self.now) {
            drops.extend(handled.err());
        }
        self.flush(host);
    }

    /// Advances the time by `span`, and handles all that is due.
    pub(super) fn run(&mut self, span: Duration) {
        let end = self.now + span;
        for host in 0..2 {
            self.flush(host);
        }
        loop {
            let arrival = self.wire.keys().next().map(|(at, _)| *at);
            let timeouts = self.hosts.iter().map(|host| host.interface.poll_timeout());
            let next = timeouts.chain([arrival]).flatten().min();
            let Some(next) = next.filter(|next| *next <= end) else { break };
            self.now = self.now.max(next);
            if arrival == Some(next) {
                let (_, (from, to, datagram)) = self.wire.pop_first().unwrap();
                let host = (0..2).find(|host| self.hosts[*host].at.remote == to.remote);
                if let Some(host) = host {
                    self.deliver(host, from, &datagram);
                } else if self.paths.iter().any(|path| path.address.remote == to.remote) {
                    let from = Endpoint { local: Some(to.remote.ip()), ..from };
                    self.deliver(1, from, &datagram);
                }
            } else {
                for host in 0..2 {
                    self.hosts[host].interface.handle_timeout(self.now);
                    self.flush(host);
                }
            }
        }
        self.now = end;
    }

    /// Returns the events of both hosts since the last call.
    pub(super) fn events(&mut self) -> [Vec<Event>; 2] {
        [0, 1].map(|host| std::mem::take(&mut self.hosts[host].events))
    }

    /// Returns the datagrams of type `kind` that a host sent.
    pub(super) fn sent(&self, host: usize, kind: u8) -> Vec<Seen> {
        self.seen.iter().copied().filter(|seen| seen.from == host && seen.kind == kind).collect()
    }

    pub(super) fn peer(&self, host: usize) -> PeerGuard<'_> {
        self.hosts[host].interface.peer(self.hosts[host].peer).unwrap()
    }
}
