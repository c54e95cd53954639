//! Messages that no honest peer sends: dropped, counted, and without any effect.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::sleep;
use std::time::Duration;

use wontun_packet::DropReason;
use wontun_proto::wireguard::PublicKey;
use wontun_proto::wireguard::message::{INITIATION_LEN, MAC_LEN, RESPONSE_LEN};

use super::capture::Capture;
use super::implementation::Implementation::{self, Wontun};
use super::memory::resident_kilobytes;
use super::node::Node;
use super::pair::{Outer, PORT, Pair, Plan, SERVER_V4};
use super::probe::{DATA, INITIATION, Probe, RESPONSE, sign};
use super::settings::{Keys, Peer};
use crate::bare::Spoofer;
use crate::lab::{Lab, heavy};
use crate::streams::Connection;
use crate::waiting::{SetAtEnd, TIMEOUT, eventually, holds_within};

const PROBE: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 2), 40_000);
const SERVER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 1), PORT);

/// A server, and a probe in the place of its client.
struct Target {
    probe: Probe,
    node: Node,
    plan: Plan,
    lab: Arc<Lab>,
}

impl Target {
    fn new(implementation: Implementation) -> Self {
        let lab = Arc::new(Lab::new(2));
        let plan = Plan::new(&lab, Outer::V4);
        let node = Node::start(&plan.server_site, implementation, &plan.server);
        let inner = Ipv4Addr::new(10, 9, 0, 2);
        let socket = lab.client().udp(PROBE);
        let probe = Probe::new(socket, &plan.client_keys, &plan.server_keys.public, SERVER.into(), inner);
        // Forged senders are routed behind the probe's host.
        lab.server().ip(&["route", "add", "198.18.0.0/15", "via", "192.0.2.2"]);
        Self { probe, node, plan, lab }
    }

    fn dropped(&self) -> u64 {
        self.node.daemon.summary().all_dropped()
    }

    /// Sends each of `messages` from a different source, so that no source exceeds its limit, and
    /// slowly enough that no cookie is requested.
    fn send_from_many(&self, messages: &[Vec<u8>]) {
        let spoofer = Spoofer::new(self.lab.client());
        for (number, message) in messages.iter().enumerate() {
            spoofer.send(SocketAddrV4::new(source(number), 40_000), SERVER, message);
            if number % 64 == 63 {
                sleep(Duration::from_millis(20));
            }
        }
    }
}

/// Returns one of 131,072 addresses.
fn source(number: usize) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(198, 18, 0, 0)) + number as u32)
}

/// Returns copies of `message`, each with one bit of the bytes in `range` flipped.
fn flips(message: &[u8], range: std::ops::Range<usize>) -> Vec<Vec<u8>> {
    let flip = |bit: usize| {
        let mut flipped = message.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        flipped
    };
    (range.start * 8..range.end * 8).map(flip).collect()
}

/// As [`flips`] of a handshake message's encrypted part, by an attacker who knows the receiver's
/// public key.
fn signed_flips(message: &[u8], range: std::ops::Range<usize>, public: &str) -> Vec<Vec<u8>> {
    let public: PublicKey = public.parse().unwrap();
    let mut flipped = flips(message, range);
    flipped.iter_mut().for_each(|message| sign(message, &public));
    flipped
}

/// Initiations and data with one wrong bit: no answer, one drop each; then the valid ones are
/// accepted.
#[test]
fn flipped_bits_of_initiations_and_data() {
    let mut target = Target::new(Wontun);
    let capture = Capture::start(target.lab.client());
    let initiation = target.probe.initiation();
    // mac2 is only checked under load.
    let plain = flips(&initiation, 0..INITIATION_LEN - MAC_LEN);
    for message in &plain {
        target.probe.send(message);
    }
    // From the sender's index on, which only mac1 protects.
    let signed = signed_flips(&initiation, 8..INITIATION_LEN - 2 * MAC_LEN, &target.plan.server_keys.public);
    target.send_from_many(&signed);
    let sent = (plain.len() + signed.len()) as u64;
    eventually("each is counted", || target.dropped() >= sent);
    assert_eq!(target.dropped(), sent, "{:?}", target.node.daemon.summary());
    let answers =
        capture.stop().into_iter().filter(|frame| frame.from.1 == PORT && frame.kind() == Some(RESPONSE));
    assert_eq!(answers.count(), 0);
    assert_eq!(target.node.only_peer().handshake, 0);

    target.probe.send(&initiation);
    target.probe.finish_handshake();
    target.probe.ping(1);
    let before = target.dropped();
    let request = target.probe.echo_request(2);
    let flipped = flips(&request, 0..request.len());
    for message in &flipped {
        target.probe.send(message);
    }
    let sent = flipped.len() as u64;
    eventually("each is counted", || target.dropped() >= before + sent);
    assert_eq!(target.dropped(), before + sent, "{:?}", target.node.daemon.summary());
    assert_eq!(target.probe.receive(Duration::from_millis(100)), None);
    target.probe.send(&request);
    target.probe.expect_echo(2);
    assert!(target.node.daemon.is_running());
}

/// Responses and cookie replies with one wrong bit.
#[test]
fn flipped_bits_of_responses_and_forged_cookies() {
    let mut target = Target::new(Wontun);
    target.node.set(&["peer", &target.plan.client_keys.public, "endpoint", &PROBE.to_string()]);
    let inner = target.node.site.udp(([10, 9, 0, 1], 0));
    inner.send_to(b"to the probe", ("10.9.0.2", 7)).unwrap();
    let initiation = target.probe.receive(TIMEOUT).expect("no initiation");
    assert_eq!(initiation[0], INITIATION);
    let index = initiation[4..8].to_vec();
    let (_, mut answer) = target.probe.take(initiation);
    let response = answer.remove(0);
    assert_eq!((response[0], response.len()), (RESPONSE, RESPONSE_LEN));
    let plain = flips(&response, 0..RESPONSE_LEN - MAC_LEN);
    for message in &plain {
        target.probe.send(message);
    }
    let signed = signed_flips(&response, 12..RESPONSE_LEN - 2 * MAC_LEN, &target.plan.server_keys.public);
    target.send_from_many(&signed);
    // A cookie reply to that initiation, in which all but the index is forged.
    let mut cookie = vec![3, 0, 0, 0];
    cookie.extend(index);
    cookie.extend([0x5a; 56]);
    let cookies = flips(&cookie, 0..64);
    for message in &cookies {
        target.probe.send(message);
    }
    let sent = (plain.len() + signed.len() + cookies.len()) as u64;
    eventually("each is counted", || target.dropped() >= sent);
    assert_eq!(target.dropped(), sent, "{:?}", target.node.daemon.summary());
    assert_eq!(target.node.only_peer().handshake, 0);
    target.probe.send(&response);
    // The server's pending messages come now. After more than five seconds, on a slow machine, its
    // next initiation is there first, and makes that response void.
    let packet = loop {
        let message = target.probe.receive(TIMEOUT).expect("nothing after the response");
        assert!(matches!(message[0], INITIATION | DATA), "{message:?}");
        let (packet, answers) = target.probe.take(message);
        answers.iter().for_each(|answer| target.probe.send(answer));
        if let Some(packet) = packet {
            break packet;
        }
    };
    assert!(packet.ends_with(b"to the probe"));
    assert!(target.node.only_peer().handshake > 0);
}

/// Every message type truncated and extended, an empty datagram, and the largest datagrams.
#[test]
fn truncated_and_oversized_messages() {
    let mut target = Target::new(Wontun);
    let initiation = target.probe.initiation();
    target.probe.send(&initiation);
    target.probe.finish_handshake();
    let data = target.probe.echo_request(1);
    let mut sent = 0;
    let before = target.dropped();
    let types = [initiation, vec![2; RESPONSE_LEN], vec![3; 64], data.clone()];
    for (kind, message) in types.iter().enumerate() {
        let mut message = message.clone();
        message[..4].copy_from_slice(&[kind as u8 + 1, 0, 0, 0]);
        for length in 0..message.len() {
            target.probe.send(&message[..length]);
            sent += 1;
        }
        for longer in [1, 16, 700, 65_507 - message.len()] {
            message.resize(message.len().max(types[kind].len()) + longer, 0x99);
            message.truncate(65_507);
            target.probe.send(&message);
            sent += 1;
        }
    }
    for kind in [0, 5, 0x45, 0x60, 0xff] {
        target.probe.send(&vec![kind; 65_507]);
        sent += 1;
    }
    eventually("each is counted", || target.dropped() >= before + sent);
    assert_eq!(target.dropped(), before + sent, "{:?}", target.node.daemon.summary());
    target.probe.send(&data);
    target.probe.expect_echo(1);
    assert!(target.node.daemon.is_running());
}

/// All that a client sent is sent again, from its own address and from an unknown source.
#[test]
fn replays() {
    let lab = Arc::new(Lab::new(2));
    let capture = Capture::start(lab.server());
    let pair = Plan::new(&lab, Outer::V4).start(Implementation::ConfigFile, Wontun);
    pair.client.ping_exactly(SERVER_V4, 20, 56);
    let client: SocketAddr = pair.server.only_peer().endpoint.parse().unwrap();
    let sent: Vec<_> =
        capture.stop().into_iter().filter(|frame| frame.from == (client.ip(), client.port())).collect();
    let of_kind = |kind| sent.iter().filter(|frame| frame.kind() == Some(kind)).count() as u64;
    assert!(of_kind(INITIATION) == 1 && of_kind(DATA) == 20, "{} datagrams", sent.len());
    let before =
        (pair.server.only_peer(), pair.server.site.device_packets("wg0"), pair.server.daemon.summary());
    let SocketAddr::V4(client) = client else { panic!("{client}") };
    let spoofer = Spoofer::new(&pair.client.site);
    for source in [client, SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 99), 1)] {
        for frame in &sent {
            spoofer.send(source, SERVER, &frame.payload);
        }
    }
    let replayed = |reason: DropReason| {
        let (now, then) = (pair.server.daemon.summary(), &before.2);
        now.dropped(reason.name()) - then.dropped(reason.name())
    };
    eventually("all data is counted", || replayed(DropReason::Replay) == 2 * of_kind(DATA));
    eventually("both initiations are counted", || {
        replayed(DropReason::OldInitiation) + replayed(DropReason::InitiationFlood) == 2
    });
    assert_eq!(pair.server.only_peer(), before.0);
    assert_eq!(pair.server.site.device_packets("wg0"), before.1);
    pair.client.ping_exactly(SERVER_V4, 1, 56);
}

fn resident(pair: &Pair) -> u64 {
    resident_kilobytes(pair.server.daemon.pid())
}

/// Largest growth under a flood, in resident kilobytes: the tables of sources and the queue of
/// handshakes are bounded.
const FLOOD_GROWTH: u64 = 32 * 1024;

/// Initiations that cost the server curve computations if it does any, from 50,000 addresses at
/// full speed, while an honest peer keeps its stream, and another one completes a new handshake.
#[test]
fn a_flood_of_initiations_stops_nobody() {
    const SOURCES: usize = 50_000;
    let _guard = heavy();
    let lab = Arc::new(Lab::new(3));
    let plan = Plan::new(&lab, Outer::V4);
    let mut server = plan.server.clone();
    let other = Keys::new();
    server = server.peer(Peer::new(&other.public, &["10.9.0.3/32"]));
    let plan = Plan { server, ..plan };
    let server_public = plan.server_keys.public.clone();
    // Both honest peers are on host 1, the flooder on host 2.
    lab.server().ip(&["route", "add", "198.18.0.0/15", "via", "192.0.2.3"]);
    let mut pair = plan.start(Implementation::ConfigFile, Wontun);
    let mut second = Probe::new(
        lab.client().udp(PROBE),
        &other,
        &server_public,
        SERVER.into(),
        Ipv4Addr::new(10, 9, 0, 3),
    );
    pair.client.ping(SERVER_V4);
    second.shake_hands();
    second.ping(1);
    let connection = Connection::open(&pair.server.site, (Ipv4Addr::new(10, 9, 0, 1), 0), &pair.client.site);
    let before = resident(&pair);
    // Unknown senders' initiations: their mac1 is valid, and only two Diffie-Hellman computations
    // reveal their identity.
    let messages: Vec<_> = (0..512)
        .map(|_| {
            let socket = lab.host(2).udp(([0, 0, 0, 0], 0));
            let keys = Keys::new();
            Probe::new(socket, &keys, &server_public, SERVER.into(), Ipv4Addr::new(10, 9, 0, 9)).initiation()
        })
        .collect();
    let (stop, moved, flooded) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let mut largest = before;
    std::thread::scope(|scope| {
        let _stop = SetAtEnd(&stop);
        let flood = scope.spawn(|| {
            let spoofer = Spoofer::new(lab.host(2));
            let mut number = 0;
            while !stop.load(Ordering::Relaxed) {
                let from = SocketAddrV4::new(source(number % SOURCES), 1000 + (number / SOURCES) as u16);
                spoofer.send(from, SERVER, &messages[number % messages.len()]);
                number += 1;
                flooded.store(number as u64, Ordering::Relaxed);
            }
        });
        let stream = scope.spawn(|| {
            connection.exchange_while(|sent| {
                std::thread::sleep(Duration::from_millis(1));
                moved.fetch_max(sent, Ordering::Relaxed);
                !stop.load(Ordering::Relaxed)
            })
        });
        let mut goes_on = |what: &str| {
            let before = moved.load(Ordering::Relaxed);
            let more = || moved.load(Ordering::Relaxed) > before + (2 << 20);
            assert!(holds_within(TIMEOUT, more), "the stream stopped {what}");
            largest = largest.max(resident(&pair));
        };
        assert!(holds_within(TIMEOUT, || flooded.load(Ordering::Relaxed) > 2 * SOURCES as u64));
        goes_on("in the flood");
        // The client drops its session: its first initiation is answered with a cookie, its second
        // one is accepted.
        let endpoint = Outer::V4.endpoint(&pair.server.site);
        pair.client.set(&["peer", &server_public, "remove"]);
        pair.client.set(&["peer", &server_public, "endpoint", &endpoint, "allowed-ips", "10.9.0.0/24"]);
        goes_on("when the peer had to shake hands again");
        // data that the stream has sent meanwhile may still be in its own buffers
        let has_session = || pair.client.only_peer().handshake > 0;
        assert!(holds_within(TIMEOUT, has_session), "no handshake in the flood");
        goes_on("after the handshake");
        stop.store(true, Ordering::Relaxed);
        flood.join().unwrap();
        let (up, down) = stream.join().unwrap();
        let summary = pair.server.daemon.summary();
        eprintln!(
            "{} initiations; the stream carried {} MB; resident {before} kB before, {largest} kB at most; dropped {:?}",
            flooded.load(Ordering::Relaxed),
            (up + down) >> 20,
            summary.drops
        );
        assert!(summary.dropped(DropReason::NoCookie.name()) > 0, "it was never under load: {summary:?}");
    });
    assert!(largest < before + FLOOD_GROWTH, "resident {before} kB grew to {largest} kB");
    // The flood is over, and so is its effect.
    second.ping(2);
    pair.client.ping(SERVER_V4);
    assert!(pair.server.daemon.is_running());
}
