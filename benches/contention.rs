//! Time that workers wait for a lock that another thread has, while handshakes are handled: with
//! one lock for the interface, and with the peers' own. `cargo bench --bench contention`.
//!
//! Each worker reserves the counters of a super-packet of a peer of its own, and then does as long
//! nothing else as a packet takes. With more workers than cores, a wait includes the time for which
//! the kernel runs another thread than the one that has the lock, and each use the time for which
//! it runs another than the one that measures: the row without any lock in common shows that alone.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    missing_docs
)]

mod seeded;

use std::hint::{black_box, spin_loop};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant as Clock};

use seeded::Seeded;
use wontun_packet::split::PacketLengths;
use wontun_proto::stack;
use wontun_proto::time::Instant;
use wontun_proto::wireguard::{Endpoint, HandshakeProgress, Incoming, Interface, PeerId, PrivateKey};

/// Number of handshakes in each row, one each millisecond.
const HANDSHAKES: u32 = 2_000;
/// Time between two handshakes.
const PAUSE: Duration = Duration::from_millis(1);
/// Time between two uses of the lock by a worker: what a packet takes.
const WORK: Duration = Duration::from_micros(5);
const MTU: usize = 1420;
const NOW: Instant = Instant::from_boot(Duration::from_secs(1_000));

#[derive(Clone, Copy, Debug)]
enum Locks {
    /// Packets take the interface's lock.
    Interface,
    /// Packets take their peer's.
    Peers,
}

#[derive(Clone, Copy, Debug)]
enum Handshakes {
    None,
    UnderTheLock,
    InSteps,
}

/// A server with sessions.
struct Server {
    interface: Interface,
    /// Peers with a session, one for each worker.
    peers: Vec<PeerId>,
    /// Initiations of other peers, and their sources.
    initiations: Vec<(Endpoint, Vec<u8>)>,
}

impl Server {
    fn new(workers: usize) -> Self {
        let at = Endpoint::new(([192, 0, 2, 1], 51820).into());
        let mut interface = new_interface(0);
        let public = *interface.public_key().unwrap();
        let mut peers = Vec::new();
        let mut initiations = Vec::new();
        for number in 1..=HANDSHAKES + u32::try_from(workers).unwrap() {
            let mut client = new_interface(number);
            let from = Endpoint::new((std::net::Ipv4Addr::from(0x0a00_0000 + number), 51820).into());
            let there = client.add_peer(public).unwrap();
            client.set_endpoint(there, Some(at), NOW);
            client.send_keepalive(there, NOW);
            let mut buffer = [0; 2048];
            let len = client.poll_transmit(NOW, Duration::ZERO, &mut buffer).unwrap().len;
            let here = interface.add_peer(*client.public_key().unwrap()).unwrap();
            if peers.len() == workers {
                initiations.push((from, buffer[..len].to_vec()));
                continue;
            }
            // the first ones have sessions
            peers.push(here);
            interface.handle_datagram(from, 0, &mut buffer[..len], NOW).unwrap();
            interface.handle_queued(NOW).unwrap().unwrap();
            let len = interface.poll_transmit(NOW, Duration::ZERO, &mut buffer).unwrap().len;
            client.handle_datagram(at, 0, &mut buffer[..len], NOW).unwrap();
            client.handle_queued(NOW).unwrap().unwrap();
            let len = client.poll_transmit(NOW, Duration::ZERO, &mut buffer).unwrap().len;
            interface.handle_datagram(from, 0, &mut buffer[..len], NOW).unwrap();
        }
        Self { interface, peers, initiations }
    }
}

fn new_interface(number: u32) -> Interface {
    let mut key = [9; 32];
    key[4..8].copy_from_slice(&number.to_be_bytes());
    let mut interface = Interface::new(MTU, Box::new(Seeded::new(u64::from(number))));
    interface.set_private_key(Some(PrivateKey::from_bytes(&key)), NOW);
    interface
}

/// Handles a queued handshake message.
fn handle(interface: &Mutex<Interface>, handshakes: Handshakes) {
    match handshakes {
        Handshakes::None => {}
        Handshakes::UnderTheLock => {
            assert!(interface.lock().unwrap().handle_queued(NOW).unwrap().is_ok());
        }
        Handshakes::InSteps => stack::isolate(|| {
            let mut progress = interface.lock().unwrap().begin_handshake(NOW).unwrap();
            while let HandshakeProgress::Next(step) = progress {
                let result = step.compute();
                progress = interface.lock().unwrap().continue_handshake(result, NOW);
            }
            assert!(matches!(progress, HandshakeProgress::Done(Ok(_))));
        }),
    }
}

/// Uses a lock until `is_over`; returns how long each use waited for it, in nanoseconds.
fn work(interface: &Mutex<Interface>, locks: Locks, peer: PeerId, is_over: &AtomicBool) -> Vec<u32> {
    let peers = interface.lock().unwrap().peers();
    let lengths = PacketLengths { count: 44, each: MTU, last: MTU };
    let mut waits = Vec::with_capacity(1 << 20);
    while !is_over.load(Ordering::Relaxed) && waits.len() < waits.capacity() {
        let start = Clock::now();
        let got = match locks {
            Locks::Interface => {
                let mut interface = interface.lock().unwrap();
                let got = Clock::now();
                black_box(interface.begin_send(peer, lengths, NOW).is_ok());
                got
            }
            Locks::Peers => {
                let mut locked = peers.lock(peer).unwrap();
                let got = Clock::now();
                black_box(locked.begin_send(lengths, NOW).is_ok());
                let has_work = locked.has_work(NOW);
                drop(locked);
                if has_work {
                    interface.lock().unwrap().queue_work(peer, NOW);
                }
                got
            }
        };
        waits.push(u32::try_from((got - start).as_nanos()).unwrap_or(u32::MAX));
        while got.elapsed() < WORK {
            spin_loop();
        }
    }
    waits
}

fn measure(workers: usize, locks: Locks, handshakes: Handshakes) -> Vec<u32> {
    let Server { interface, peers, initiations } = Server::new(workers);
    let interface = Mutex::new(interface);
    let (is_over, start) = (AtomicBool::new(false), Barrier::new(workers + 1));
    thread::scope(|scope| {
        let begin = |peer: PeerId| {
            start.wait();
            work(&interface, locks, peer, &is_over)
        };
        let threads: Vec<_> = peers.iter().map(|peer| scope.spawn(move || begin(*peer))).collect();
        start.wait();
        for (from, mut initiation) in initiations {
            if !matches!(handshakes, Handshakes::None) {
                let queued = interface.lock().unwrap().handle_datagram(from, 0, &mut initiation, NOW);
                assert_eq!(queued, Ok(Incoming::Queued));
                handle(&interface, handshakes);
            }
            thread::sleep(PAUSE);
        }
        is_over.store(true, Ordering::Relaxed);
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    })
}

fn main() {
    println!("waiting for a lock, in microseconds, of all workers");
    println!("workers locks     handshakes           uses    50 %    99 %  99.9 % 99.99 %  longest  waiting");
    for workers in [1, 2, 8, 32] {
        for (locks, handshakes) in [
            (Locks::Interface, Handshakes::None),
            (Locks::Interface, Handshakes::UnderTheLock),
            (Locks::Interface, Handshakes::InSteps),
            (Locks::Peers, Handshakes::None),
            (Locks::Peers, Handshakes::InSteps),
        ] {
            let mut waits = measure(workers, locks, handshakes);
            waits.sort_unstable();
            // all but one of `of`
            let below = |of: usize| f64::from(waits[(waits.len() - 1) - (waits.len() - 1) / of]) / 1e3;
            let all: f64 = waits.iter().map(|wait| f64::from(*wait) / 1e9).sum();
            println!(
                "{workers:7} {:9} {:14} {:10} {:7.2} {:7.2} {:7.2} {:7.2} {:8.0} {:7.3} s",
                format!("{locks:?}"),
                format!("{handshakes:?}"),
                waits.len(),
                below(2),
                below(100),
                below(1000),
                below(10000),
                waits.last().map_or(0.0, |longest| f64::from(*longest) / 1e3),
                all
            );
        }
    }
}
