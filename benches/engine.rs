//! Throughput of the WireGuard engine on one core: handshakes, and packets in both directions.
//! `cargo bench --bench engine`. Times are the thread's CPU time.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

mod cpu;
mod seeded;

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use seeded::Seeded;
use wontun_packet::split::PacketLengths;
use wontun_proto::time::Instant;
use wontun_proto::wireguard::message::{DataHeader, Message};
use wontun_proto::wireguard::{Accepted, Endpoint, Incoming, Interface, Outgoing, PeerId, PrivateKey};

const MTU: usize = 1420;
const BUFFER: usize = 2048;
/// Packets that are sealed or opened between two clock reads.
const BATCH: usize = 512;

struct Host {
    interface: Interface,
    peer: PeerId,
    at: Endpoint,
}

/// Two hosts that are each other's peer, and the current time, which is the engines' only clock.
struct Pair {
    near: Host,
    far: Host,
    now: Instant,
    buffer: [u8; BUFFER],
}

impl Pair {
    fn new() -> Self {
        let now = Instant::from_boot(Duration::from_secs(1000));
        let keys = [1, 2].map(|byte| PrivateKey::from_bytes(&[byte; 32]));
        let at = |host: u8| Endpoint::new(([192, 0, 2, host], 51820).into());
        let host = |own: usize, other: usize, own_at, other_at| {
            let random = Seeded::new(own as u64);
            let mut interface = Interface::new(MTU, Box::new(random));
            interface.set_private_key(Some(keys[own].clone()), now);
            let peer = interface.add_peer(keys[other].public_key()).unwrap();
            interface.set_endpoint(peer, Some(other_at), now);
            Host { interface, peer, at: own_at }
        };
        Self { near: host(0, 1, at(1), at(2)), far: host(1, 0, at(2), at(1)), now, buffer: [0; BUFFER] }
    }

    /// Writes the near host's initiation into the buffer.
    fn initiate(&mut self) -> usize {
        let unix = self.now.since_boot();
        self.near.interface.poll_transmit(self.now, unix, &mut self.buffer).unwrap().len
    }

    /// Writes the far host's reply to the handshake message in the buffer.
    fn respond(&mut self, len: usize) -> usize {
        let (from, now) = (self.near.at, self.now);
        let far = &mut self.far.interface;
        assert_eq!(far.handle_datagram(from, 0, &mut self.buffer[..len], now), Ok(Incoming::Queued));
        far.handle_queued(now).unwrap().unwrap();
        far.poll_transmit(now, Duration::ZERO, &mut self.buffer).unwrap().len
    }

    /// Passes the response in the buffer to the near host.
    fn finish(&mut self, len: usize) {
        let (from, now) = (self.far.at, self.now);
        let near = &mut self.near.interface;
        assert_eq!(near.handle_datagram(from, 0, &mut self.buffer[..len], now), Ok(Incoming::Queued));
        near.handle_queued(now).unwrap().unwrap();
    }

    /// Sends the first packet, which the far host waits for.
    fn confirm(&mut self) {
        let (from, now) = (self.near.at, self.now);
        let len = self.near.interface.poll_transmit(now, Duration::ZERO, &mut self.buffer).unwrap().len;
        let confirmed = self.far.interface.handle_datagram(from, 0, &mut self.buffer[..len], now);
        assert!(matches!(confirmed, Ok(Incoming::Keepalive(_))), "{confirmed:?}");
    }

    /// Advances the time until the near host may and wants to perform another handshake.
    fn next(&mut self) {
        self.now = self.now + Duration::from_secs(200);
        for host in [&mut self.near, &mut self.far] {
            host.interface.handle_timeout(self.now);
            while host.interface.poll_event().is_some() {}
        }
        self.near.interface.send_keepalive(self.near.peer, self.now);
    }

    fn connected() -> Self {
        let mut pair = Self::new();
        pair.handshake();
        pair
    }

    fn handshake(&mut self) {
        self.next();
        let initiation = self.initiate();
        let response = self.respond(initiation);
        self.finish(response);
        self.confirm();
    }

    /// Seals a packet of the largest size that fits, in place in a buffer.
    fn seal(&mut self, buffer: &mut [u8]) -> usize {
        match self.near.interface.handle_packet(self.near.peer, buffer, MTU, self.now) {
            Ok(Outgoing::Transmit(transmit)) => transmit.len,
            other => unreachable!("{other:?}"),
        }
    }
}

fn packet(buffer: &mut [u8]) {
    buffer.fill(0);
    buffer[16..20].copy_from_slice(&[0x45, 0, 0x05, 0x8c]);
}

/// Measures the time of `measured` alone, on the output of `prepared`.
fn timed<T>(
    group: &mut BenchmarkGroup<'_, criterion::measurement::WallTime>,
    name: &str,
    mut prepared: impl FnMut(&mut Pair) -> T,
    mut measured: impl FnMut(&mut Pair, T),
) {
    let mut pair = Pair::connected();
    group.bench_function(name, |bencher| {
        bencher.iter_custom(|iterations| {
            let mut total = Duration::ZERO;
            for _ in 0..iterations {
                let input = prepared(&mut pair);
                let start = cpu::time();
                measured(&mut pair, input);
                total += cpu::time() - start;
            }
            total
        });
    });
}

fn handshakes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("handshake");
    group.throughput(Throughput::Elements(1));
    // from the arrival of the initiation to the response being sent
    timed(
        &mut group,
        "responder",
        |pair| {
            pair.next();
            pair.initiate()
        },
        |pair, len| {
            black_box(pair.respond(len));
        },
    );
    // both halves of the initiator's work
    timed(&mut group, "initiator: first message", Pair::next, |pair, ()| {
        black_box(pair.initiate());
    });
    timed(
        &mut group,
        "initiator: session",
        |pair| {
            pair.next();
            let initiation = pair.initiate();
            pair.respond(initiation)
        },
        Pair::finish,
    );
    // the most expensive message of a flood: a copy of a valid one
    timed(
        &mut group,
        "copied initiation",
        |pair| {
            pair.next();
            let len = pair.initiate();
            let copy = pair.buffer;
            pair.respond(len);
            pair.buffer = copy;
            len
        },
        |pair, len| {
            let from = pair.near.at;
            let queued = pair.far.interface.handle_datagram(from, 0, &mut pair.buffer[..len], pair.now);
            assert_eq!(queued, Ok(Incoming::Queued));
            assert!(matches!(pair.far.interface.handle_queued(pair.now), Some(Err(_))));
        },
    );
    let junk = |pair: &mut Pair| {
        pair.next();
        let len = pair.initiate();
        pair.buffer[len - 33] ^= 1;
        len
    };
    // the cheapest message of a flood: one that is not for this host
    timed(&mut group, "wrong mac1", junk, |pair, len| {
        let from = pair.near.at;
        let refused = pair.far.interface.handle_datagram(from, 0, &mut pair.buffer[..len], pair.now);
        assert!(refused.is_err());
    });
    group.finish();
}

fn packets(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("packet of 1,420 bytes");
    group.throughput(Throughput::Bytes(MTU as u64));
    let mut pair = Pair::connected();
    let mut buffer = [0; BUFFER];
    packet(&mut buffer);
    group.bench_function("seal", |bencher| {
        bencher.iter_custom(|iterations| {
            let start = cpu::time();
            for _ in 0..iterations {
                black_box(pair.seal(&mut buffer));
            }
            cpu::time() - start
        });
    });
    let mut sealed = vec![[0; BUFFER]; BATCH];
    group.bench_function("open", |bencher| {
        bencher.iter_custom(|iterations| {
            let mut total = Duration::ZERO;
            let mut left = usize::try_from(iterations).unwrap();
            while left > 0 {
                let batch = &mut sealed[..left.min(BATCH)];
                left -= batch.len();
                for buffer in &mut *batch {
                    packet(buffer);
                    pair.seal(buffer);
                }
                let (from, now) = (pair.near.at, pair.now);
                let start = cpu::time();
                for buffer in batch {
                    let opened = pair.far.interface.handle_datagram(from, 0, &mut buffer[..MTU + 32], now);
                    assert!(matches!(opened, Ok(Incoming::Packet { .. })));
                }
                total += cpu::time() - start;
            }
            total
        });
    });
    group.finish();
}

/// Work that workers do with a peer locked: for a super-packet of 44 segments and for one packet,
/// in both directions. Receiving locks it twice; accepting with the interface is what the first
/// messages of a session need, and peers with limits.
fn under_the_lock(criterion: &mut Criterion) {
    const SEGMENTS: usize = 44;
    let mut group = criterion.benchmark_group("locked");
    for count in [1, SEGMENTS] {
        let mut pair = Pair::connected();
        let (peer, now) = (pair.near.peer, pair.now);
        let lengths = PacketLengths { count, each: MTU, last: MTU };
        group.bench_function(format!("begin_send/{count}"), |bencher| {
            let peers = pair.near.interface.peers();
            bencher.iter(|| {
                let mut peer = peers.lock(peer).unwrap();
                black_box(peer.begin_send(lengths, now).is_ok());
                black_box(peer.has_work(now))
            });
        });
        let mut buffer = [0; BUFFER];
        packet(&mut buffer);
        pair.seal(&mut buffer);
        let Some(Message::Data(mut header)) = Message::parse(&buffer[..MTU + 32]) else { unreachable!() };
        group.bench_function(format!("opening_and_accept/{count}"), |bencher| {
            let from = Some(pair.near.at);
            let (peers, id) = (pair.far.interface.peers(), pair.far.peer);
            bencher.iter(|| {
                let mut peer = peers.lock(id).unwrap();
                let opening = peer.begin_receive(header.receiver, now).unwrap();
                for number in 0..count as u64 {
                    let header = DataHeader { counter: header.counter + number, ..header };
                    assert!(peer.check(header).is_ok());
                }
                drop(peer);
                let mut peer = peers.lock(opening.peer()).unwrap();
                let mut accepted = Accepted::default();
                for _ in 0..count {
                    assert!(peer.accept(&mut accepted, header, MTU + 32).is_ok());
                    header.counter += 1;
                }
                peer.finish_receive(accepted, from, now);
                black_box(peer.has_work(now))
            });
        });
        header.counter += 1 << 20;
        group.bench_function(format!("accept_with_interface/{count}"), |bencher| {
            let (from, id) = (Some(pair.near.at), pair.far.peer);
            bencher.iter(|| {
                let mut receiving = pair.far.interface.receive(id, now).unwrap();
                for _ in 0..count {
                    assert!(receiving.accept(header, MTU + 32).is_ok());
                    header.counter += 1;
                }
                receiving.finish(from);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, handshakes, packets, under_the_lock);
criterion_main!(benches);
