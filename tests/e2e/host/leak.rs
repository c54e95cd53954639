//! Packets in clear while the tunnel's state is missing: a sender on the client's host sends a
//! datagram every 0.2 ms, and a router outside counts those that are not in the tunnel.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::older::NfTables;
use super::snapshot::Snapshot;
use super::stage::{Stage, WORLD_V4, WORLD_V6};
use crate::lab::heavy;
use crate::waiting::{TIMEOUT, holds_within};
use crate::wireguard::capture::Capture;
use crate::wireguard::site::Site;

/// The discard service; nothing answers.
const PORT: u16 = 9;
const INTERVAL: Duration = Duration::from_micros(200);
/// Longest time in which packets leave in clear without a kill switch.
const BOUND: Duration = Duration::from_millis(50);
/// Rounds per removal: repairs beyond five in a minute may be delayed.
const ROUNDS: usize = 3;
/// A simple script that flushes the rules.
const RULE_FLUSH: &str = "for f in -4 -6; do ip $f rule flush; ip $f rule add priority 32766 lookup main; done; \
     ip -4 rule add priority 32767 lookup default";

/// The removals, each with its name and command.
const REMOVALS: &[(&str, &str)] = &[
    (
        "policy rules, one by one",
        "for f in -4 -6; do for p in $(ip $f rule | grep 'proto 119' | cut -d: -f1); do ip $f rule del priority $p; done; done",
    ),
    ("policy rules, flushed by protocol", "ip -4 rule flush protocol 119; ip -6 rule flush protocol 119"),
    ("all rules, and main's added again", RULE_FLUSH),
    ("routes of the policy table", "ip -4 route flush table 51820; ip -6 route flush table 51820"),
    ("addresses, and with them all routes", "ip address flush dev wg0 scope global"),
    ("the device set down, and with it all routes", "ip link set wg0 down"),
];

/// A datagram in clear: its family and number, and the time of its sending since the start.
type Seen = (bool, u64, Duration);

/// Sends to the Internet over both families until it is stopped.
struct Sender {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
    start: Instant,
}

impl Sender {
    fn start(site: &Site) -> Self {
        let sockets = [WORLD_V4, WORLD_V6].map(|address| {
            let address: IpAddr = address.parse().unwrap();
            let any: IpAddr =
                if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
            let socket = site.inside(|| UdpSocket::bind((any, 0))).unwrap();
            socket.set_nonblocking(true).unwrap();
            (socket, SocketAddr::new(address, PORT))
        });
        let (stop, start) = (Arc::<AtomicBool>::default(), Instant::now());
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut number = 0_u64;
            while !stopped.load(Ordering::Relaxed) {
                let now = start.elapsed().as_nanos() as u64;
                let payload = [number.to_be_bytes(), now.to_be_bytes()].concat();
                for (socket, address) in &sockets {
                    // not connected: each datagram causes a route lookup
                    let _ = socket.send_to(&payload, address);
                }
                number += 1;
                std::thread::sleep(INTERVAL);
            }
            number
        });
        Self { stop, thread, start }
    }

    /// Stops the sender, and returns the number of datagrams of each family and the duration.
    fn stop(self) -> (u64, Duration) {
        self.stop.store(true, Ordering::Relaxed);
        (self.thread.join().unwrap(), self.start.elapsed())
    }
}

/// Parses a datagram of the sender that is in clear.
fn parse(packet: &[u8]) -> Option<Seen> {
    let is_v6 = packet.first()? >> 4 == 6;
    let (header, protocol, destination) =
        if is_v6 { (40, 6, 24..40) } else { (usize::from(packet.first()? & 15) * 4, 9, 16..20) };
    let world: IpAddr = if is_v6 { WORLD_V6 } else { WORLD_V4 }.parse().ok()?;
    let bytes = match world {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let port = packet.get(header + 2..header + 4)?;
    if *packet.get(protocol)? != 17 || packet.get(destination)? != bytes || port != PORT.to_be_bytes() {
        return None;
    }
    let number = |at: usize| Some(u64::from_be_bytes(*packet.get(header + 8 + at..)?.first_chunk()?));
    Some((is_v6, number(0)?, Duration::from_nanos(number(8)?)))
}

/// Datagrams in clear.
#[derive(Clone, Copy, Debug, Default)]
struct Leak {
    count: usize,
    /// Time from the first to the last datagram of one family.
    longest: Duration,
}

impl Leak {
    fn of(seen: Vec<Seen>) -> Self {
        // the router sees each datagram twice, incoming and outgoing
        let seen: BTreeMap<(bool, u64), Duration> =
            seen.into_iter().map(|(is_v6, number, at)| ((is_v6, number), at)).collect();
        let span = |family: bool| {
            let times = || seen.iter().filter(|((is_v6, _), _)| *is_v6 == family).map(|(_, at)| *at);
            Some(times().max()? - times().min()? + INTERVAL)
        };
        let longest = [span(false), span(true)].into_iter().flatten().max().unwrap_or_default();
        Self { count: seen.len(), longest }
    }
}

/// Removes something in the middle of a second, and counts the packets in clear.
fn leak_of(stage: &Stage, before: &Snapshot, removal: &str) -> Leak {
    let capture = Capture::of(stage.router.host(), parse);
    let sender = Sender::start(&stage.site);
    std::thread::sleep(Duration::from_millis(200));
    stage.site.shell(removal);
    let mut after = before.clone();
    let is_back = holds_within(TIMEOUT, || {
        after = Snapshot::of(&stage.site);
        after == *before
    });
    std::thread::sleep(Duration::from_millis(200));
    let (sent, took) = sender.stop();
    let leak = Leak::of(capture.stop());
    assert!(is_back, "not back after {removal}:\n{}", before.difference(&after));
    assert!(sent > 100, "{sent} datagrams in {took:?}");
    leak
}

/// Returns the leaks of all removals, each with its own tunnel.
fn leaks(arguments: &[&str], removals: &[(&str, &str)], nf_tables: NfTables) -> Vec<(String, Vec<Leak>)> {
    let name = if arguments.is_empty() { "without a kill switch" } else { "with the kill switch" };
    let mut all = Vec::new();
    for (what, removal) in removals {
        let stage = Stage::full_tunnel(nf_tables, arguments);
        stage.passes();
        stage.settle();
        let before = Snapshot::of(&stage.site);
        let leaks: Vec<Leak> = (0..ROUNDS).map(|_| leak_of(&stage, &before, removal)).collect();
        let shown: Vec<String> = leaks
            .iter()
            .map(|leak| format!("{} in {:.1} ms", leak.count, leak.longest.as_secs_f64() * 1e3))
            .collect();
        eprintln!("packets in clear {name}: {what}: {}", shown.join(", "));
        stage.passes();
        all.push(((*what).to_owned(), leaks));
    }
    all
}

#[test]
fn at_most_50_ms_without_a_kill_switch() {
    let _guard = heavy();
    for (what, leaks) in leaks(&[], REMOVALS, NfTables::Kernel) {
        let longest = || leaks.iter().map(|leak| leak.longest);
        // the other rounds may have been delayed by the machine's load
        assert!(longest().min().unwrap() <= BOUND, "{what}: {leaks:?}");
        assert!(longest().max().unwrap() <= Duration::from_secs(1), "{what}: {leaks:?}");
    }
}

#[test]
fn nothing_with_the_kill_switch() {
    let _guard = heavy();
    for (what, leaks) in leaks(&["--kill-switch"], REMOVALS, NfTables::Kernel) {
        assert!(leaks.iter().all(|leak| leak.count == 0), "{what}: {leaks:?}");
    }
}

/// The tables are deleted, too, where any process can do so: rules and routes still protect what
/// they cover.
#[test]
fn nothing_without_the_tables_alone() {
    let _guard = heavy();
    let removals = &[(
        "tables of nf_tables",
        "for t in $(nft list tables | grep wontun | sed 's/^table //; s/ /+/'); do nft delete table ${t%+*} ${t#*+}; done",
    )];
    for (what, leaks) in leaks(&["--kill-switch"], removals, NfTables::Older) {
        assert!(leaks.iter().all(|leak| leak.count == 0), "{what}: {leaks:?}");
    }
}

/// The control: without a tunnel the observer sees the packets.
#[test]
fn the_observer_sees_packets_in_clear() {
    let _guard = heavy();
    let Stage { site, daemon, router, .. } = &Stage::full_tunnel(NfTables::Kernel, &[]);
    daemon.signal(nix::sys::signal::Signal::SIGTERM);
    assert!(holds_within(TIMEOUT, || !site.has_device("wg0")), "the tunnel ends");
    let capture = Capture::of(router.host(), parse);
    let sender = Sender::start(site);
    std::thread::sleep(Duration::from_millis(500));
    let (sent, took) = sender.stop();
    // the last datagram may be in flight
    std::thread::sleep(Duration::from_millis(100));
    let leak = Leak::of(capture.stop());
    eprintln!("without a tunnel: {} of {} packets in clear, in {took:?}", leak.count, sent * 2);
    assert!(leak.count as u64 >= sent, "{leak:?} of {sent}");
}
