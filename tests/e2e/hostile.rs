//! Hostile input: the tunnel drops and counts it and keeps running; none of it reaches the tun.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::bare::{HELLO, INNER_CLIENT, INNER_SERVER, PORT, RawPeer, Spoofer};
use crate::daemon::{Daemon, Launch};
use crate::lab::{Lab, heavy};
use crate::packets;
use crate::streams::{Connection, Pattern};
use crate::waiting::{SetAtEnd, eventually, uninterrupted};

/// Datagrams of each flood; two simultaneous floods make a million.
const FLOOD: u64 = 500_000;

/// Returns a random datagram of 0–1399 bytes that the tunnel must not forward and that is not a
/// `hello?`.
fn junk(random: &mut Pattern, buffer: &mut [u8; 1400]) -> usize {
    let number = random.number();
    // Most are short: the load depends on the number of datagrams, not on their bytes.
    let length = if number.is_multiple_of(16) { (number >> 8) % 1400 } else { (number >> 8) % 64 } as usize;
    random.fill(&mut buffer[..length]);
    match number >> 40 & 3 {
        // Half of them begin like an IP packet.
        0 if length > 0 => buffer[0] = 0x45,
        1 if length > 0 => buffer[0] = 0x60 | buffer[0] & 15,
        _ => {}
    }
    if packets::is_well_formed(&buffer[..length]) || &buffer[..length] == HELLO {
        buffer[0] = 0;
    }
    length
}

/// The million: half from an unknown source, half from the peer's own address and port, with a TCP
/// stream running.
#[test]
fn a_million_random_datagrams_leave_a_tcp_stream_unharmed() {
    let _one_at_a_time = heavy();
    let lab = Lab::new(3);
    let mut server = Daemon::server(lab.server(), &[]);
    let client = Daemon::client(lab.client(), lab.server(), &[]);
    server.wait_for("peer connected");
    lab.client().ping(INNER_SERVER);
    let target = SocketAddrV4::new(lab.server().v4, PORT);
    let peer = SocketAddrV4::new(lab.client().v4, PORT);
    // A host can spoof only what its own kernel sends: a raw socket on the peer's host.
    let spoofer = Spoofer::new(lab.client());
    let unknown_source = RawPeer::client(lab.host(2));
    let connection = Connection::open(lab.server(), (INNER_SERVER, 80), lab.client());
    let ended = AtomicBool::new(false);
    let (up, down) = thread::scope(|scope| {
        let floods = [
            scope.spawn(|| {
                let (mut random, mut buffer) = (Pattern::new(7), [0; 1400]);
                for _ in 0..FLOOD {
                    let length = junk(&mut random, &mut buffer);
                    unknown_source.send(&buffer[..length], target);
                }
            }),
            scope.spawn(|| {
                let (mut random, mut buffer) = (Pattern::new(8), [0; 1400]);
                for _ in 0..FLOOD {
                    let length = junk(&mut random, &mut buffer);
                    spoofer.send(peer, target, &buffer[..length]);
                }
            }),
        ];
        let stream = scope.spawn(|| {
            // As long as the floods last, and some tens of megabytes in any case.
            connection.exchange_while(|sent| sent < 20_000_000 || !ended.load(Ordering::Relaxed))
        });
        {
            let _end = SetAtEnd(&ended);
            for flood in floods {
                flood.join().unwrap();
            }
        }
        stream.join().unwrap()
    });
    assert!(up >= 20_000_000 && down >= 20_000_000);
    assert!(server.is_running());
    let summary = server.summary();
    // Datagrams that overflowed the kernel's socket buffers never reached the program; the rest is
    // counted.
    assert!(summary.dropped("stranger") >= FLOOD / 100, "{summary:?}");
    assert!(summary.dropped("stranger") <= FLOOD, "{summary:?}");
    let from_the_peer = summary.all_dropped() - summary.dropped("stranger");
    assert!(from_the_peer >= FLOOD / 100, "{summary:?}");
    assert_eq!(server.count("peer replaced"), 0);
    // Only the client's packets came out of the server's tun.
    let (written, sent) = (summary.rx_packets, client.summary().tx_packets);
    assert!(written <= sent, "{written} packets came out of the tunnel, {sent} went in");
    assert!(server.stop().status.success());
    assert!(client.stop().status.success());
}

/// Returns datagrams that are not valid packets, by kind.
fn malformed() -> Vec<(&'static str, Vec<u8>)> {
    let packet = packets::udp4(
        SocketAddrV4::new(INNER_CLIENT, 5000),
        SocketAddrV4::new(INNER_SERVER, 6000),
        b"this must not come out of the tunnel",
    );
    let packet6 = packets::ipv6(59, "fd00:8::3".parse().unwrap(), "fd00:8::1".parse().unwrap(), b"nor this");
    let with = |at: usize, byte: u8, packet: &[u8]| {
        let mut packet = packet.to_vec();
        packet[at] = byte;
        packet
    };
    let mut longer = packet.clone();
    longer.push(0);
    let mut longer6 = packet6.clone();
    longer6.push(0);
    vec![
        ("empty", Vec::new()),
        ("a lone version nibble", vec![0x45]),
        ("a lone IPv6 nibble", vec![0x60]),
        ("an IPv4 header cut at 19 bytes", packet[..19].to_vec()),
        ("an IPv4 packet cut after its header", packet[..20].to_vec()),
        ("an IPv4 packet short of a byte", packet[..packet.len() - 1].to_vec()),
        ("an IPv4 packet with a byte too many", longer),
        ("an IPv4 header length below 20", with(0, 0x44, &packet)),
        ("an IPv4 header length beyond the end", with(0, 0x4f, &packet[..40])),
        ("an IPv4 total length of nothing", with(3, 0, &packet)),
        ("version 0", with(0, 0x05, &packet)),
        ("version 5", with(0, 0x55, &packet)),
        ("version 15", with(0, 0xf5, &packet)),
        ("an IPv6 header cut at 39 bytes", packet6[..39].to_vec()),
        ("an IPv6 packet short of a byte", packet6[..packet6.len() - 1].to_vec()),
        ("an IPv6 packet with a byte too many", longer6),
        ("an IPv6 payload length of nothing", with(5, 0, &packet6)),
        ("not quite hello?", b"hello".to_vec()),
        ("more than hello?", b"hello??".to_vec()),
        ("HELLO?", b"HELLO?".to_vec()),
        ("the largest datagram", vec![0x45; 65_507]),
        ("the largest datagram of zeros", vec![0; 65_507]),
        ("a datagram one over the tun's MTU", vec![0x45; 1473]),
    ]
}

/// Each kind alone: dropped once, counted once, and nothing written to the tun.
#[test]
fn every_kind_of_malformed_datagram_from_the_peer_is_dropped_and_counted() {
    let lab = Lab::new(2);
    let server = Daemon::server(lab.server(), &[]);
    let bare = RawPeer::client(lab.client());
    let to = (lab.server().v4, PORT);
    bare.send(HELLO, to);
    server.wait_for("peer connected");
    let before = lab.server().device_packets("tun0").0;
    for (kind, datagram) in malformed() {
        let dropped = server.summary().all_dropped();
        bare.send(&datagram, to);
        eventually(&format!("{kind} is counted"), || server.summary().all_dropped() == dropped + 1);
        assert_eq!(lab.server().device_packets("tun0").0, before, "{kind} was written to the tun");
    }
    assert_eq!(server.summary().dropped("empty"), 1);
    assert_eq!(server.summary().rx_packets, 0);
    assert!(bare.is_peer_of(lab.server()), "the peer is the peer still");
}

/// The client receives the same datagrams from its server.
#[test]
fn every_kind_of_malformed_datagram_from_the_server_is_dropped_by_the_client() {
    let lab = Lab::new(2);
    let bare = RawPeer::new(lab.server(), lab.server().v4, PORT);
    let client = Daemon::client(lab.client(), lab.server(), &[]);
    let to = bare.wait_for_hello();
    let before = lab.client().device_packets("tun0").0;
    for (kind, datagram) in malformed() {
        let dropped = client.summary().all_dropped();
        bare.send(&datagram, to);
        eventually(&format!("{kind} is counted"), || client.summary().all_dropped() == dropped + 1);
        assert_eq!(lab.client().device_packets("tun0").0, before, "{kind} was written to the tun");
    }
    // A hello? sent to a client is not a packet either.
    bare.send(HELLO, to);
    bare.send(HELLO, to);
    assert_eq!(lab.client().device_packets("tun0").0, before);
    let packet =
        packets::udp4(SocketAddrV4::new(INNER_SERVER, 7), SocketAddrV4::new(INNER_CLIENT, 6000), b"ok");
    let inner = lab.client().udp((INNER_CLIENT, 6000));
    bare.send(&packet, to);
    assert_eq!(uninterrupted(|| inner.recv(&mut [0; 8])).unwrap(), 2, "a good packet still arrives");
}

/// Datagrams from unknown sources are dropped and counted whatever they contain; the tun sees
/// nothing.
#[test]
fn datagrams_of_unknown_sources_are_dropped_and_counted() {
    let lab = Lab::new(3);
    let server = Daemon::server(lab.server(), &[]);
    let client = Daemon::client(lab.client(), lab.server(), &[]);
    lab.client().ping(INNER_SERVER);
    let unknown_source = RawPeer::client(lab.host(2));
    let good = packets::udp4(
        SocketAddrV4::new(INNER_CLIENT, 5000),
        SocketAddrV4::new(INNER_SERVER, 6000),
        b"this must not come out of the tunnel",
    );
    let mut datagrams: Vec<Vec<u8>> = malformed().into_iter().map(|(_, datagram)| datagram).collect();
    datagrams.extend([good, HELLO.to_vec()]);
    for (daemon, host) in [(&server, lab.server()), (&client, lab.client())] {
        let (dropped, before) = (daemon.summary().all_dropped(), host.device_packets("tun0").0);
        for datagram in &datagrams {
            unknown_source.send(datagram, (host.v4, PORT));
        }
        let expected = dropped + datagrams.len() as u64;
        eventually("each is counted", || daemon.summary().all_dropped() >= expected);
        assert_eq!(daemon.summary().all_dropped(), expected, "and once");
        assert_eq!(host.device_packets("tun0").0, before, "a stranger's packet was written to the tun");
    }
    assert!(unknown_source.receive_for(Duration::from_millis(200)).is_empty(), "a stranger gets no answer");
}

/// Valid packets from the peer that exceed the tun's MTU are left to the kernel, and do not crash
/// the program.
#[test]
fn packets_above_the_tuns_mtu_do_no_harm() {
    let lab = Lab::new(2);
    let mut server = Daemon::server(lab.server(), &[]);
    let bare = RawPeer::client(lab.client());
    let to = (lab.server().v4, PORT);
    bare.send(HELLO, to);
    server.wait_for("peer connected");
    for length in [1445, 1500, 9000, 65_000, 65_507 - 28] {
        let payload = vec![0; length];
        let (from, inner) = (SocketAddrV4::new(INNER_CLIENT, 5), SocketAddrV4::new(INNER_SERVER, 6000));
        bare.send(&packets::udp4(from, inner, &payload), to);
    }
    assert!(bare.is_peer_of(lab.server()));
    assert!(server.is_running());
}

/// Junk that arrives faster than it can be dropped: the loop must serve the tun all the same.
/// strace makes every receive slow enough that a socket under this flood is never empty.
#[test]
fn junk_faster_than_the_loop_does_not_starve_the_tun() {
    let lab = Lab::new(3);
    let slow = "strace -D -f -o /dev/null -e trace=recvmsg -e inject=recvmsg:delay_exit=1000";
    let server = Launch::plain(lab.server(), &[]).wrap(slow).spawn();
    server.wait_ready();
    let bare = RawPeer::client(lab.client());
    bare.send(HELLO, (lab.server().v4, PORT));
    server.wait_for("peer connected");
    let unknown_source = RawPeer::client(lab.host(2));
    let (ended, target) = (AtomicBool::new(false), SocketAddr::from((lab.server().v4, PORT)));
    let arrivals: Vec<Option<Duration>> = thread::scope(|scope| {
        scope.spawn(|| {
            let (mut random, mut buffer) = (Pattern::new(9), [0; 1400]);
            while !ended.load(Ordering::Relaxed) {
                for _ in 0..20 {
                    let length = junk(&mut random, &mut buffer);
                    unknown_source.send(&buffer[..length], target);
                }
                thread::sleep(Duration::from_millis(1));
            }
        });
        let _end = SetAtEnd(&ended);
        let inner = lab.server().udp((INNER_SERVER, 0));
        // The flood is running when its first datagram is counted.
        eventually("the flood arrives", || server.summary().dropped("stranger") > 0);
        let arrivals = (0..20).map(|number| {
            let sent = Instant::now();
            inner.send_to(&[number; 3], (INNER_CLIENT, 7)).unwrap();
            let (datagram, _) = bare.receive(Duration::from_secs(2))?;
            datagram.ends_with(&[number; 3]).then(|| sent.elapsed())
        });
        arrivals.collect()
    });
    assert!(arrivals.iter().all(Option::is_some), "packets from the tun wait for the junk: {arrivals:?}");
}

/// A datagram whose forged source is the server itself: the server's answers would come back to it.
/// Its sender cannot be answered: if it were accepted as the peer, the real client would be locked
/// out for ever.
#[test]
fn a_forged_hello_from_nowhere_takes_no_place() {
    let lab = Lab::new(2);
    let server = Daemon::server(lab.server(), &[]);
    // the reverse path filter would drop such datagrams
    lab.server().shell("for f in all eth0; do echo 0 > /proc/sys/net/ipv4/conf/$f/rp_filter; done");
    let spoofer = Spoofer::new(lab.client());
    let nowhere = SocketAddrV4::new([9, 8, 7, 6].into(), PORT);
    spoofer.send(nowhere, SocketAddrV4::new(lab.server().v4, PORT), HELLO);
    eventually("the forged hello? is dropped", || server.summary().dropped("unreachable") == 1);
    assert_eq!(server.count("peer connected"), 0, "{:?}", server.lines());
    let _client = Daemon::client(lab.client(), lab.server(), &[]);
    lab.client().ping(INNER_SERVER);
}

/// An inner packet that imitates the peer's datagram must not change the address that the server
/// answers from.
#[test]
fn a_forged_datagram_through_the_tunnel_moves_nothing() {
    let lab = Lab::new(2);
    let server = Daemon::server(lab.server(), &[]);
    let client = Daemon::client(lab.client(), lab.server(), &[]);
    lab.client().ping(INNER_SERVER);
    lab.server().shell("for f in all tun0; do echo 0 > /proc/sys/net/ipv4/conf/$f/rp_filter; done");
    let peer = SocketAddrV4::new(lab.client().v4, PORT);
    let spoofer = Spoofer::new(lab.client());
    for _ in 0..5 {
        spoofer.send(peer, SocketAddrV4::new(INNER_SERVER, PORT), HELLO);
    }
    eventually("the server sees them come out of its tun", || server.summary().dropped("own_tun") == 5);
    for _ in 0..5 {
        lab.client().ping(INNER_SERVER);
    }
    assert_eq!(client.summary().dropped("stranger"), 0, "{:?}", client.lines());
}

#[test]
fn a_hello_from_the_servers_own_address_makes_no_loop() {
    let lab = Lab::new(2);
    let mut server = Daemon::server(lab.server(), &[]);
    let spoofer = Spoofer::new(lab.server());
    let own = SocketAddrV4::new(Ipv4Addr::LOCALHOST, PORT);
    spoofer.send(own, own, HELLO);
    let inner = lab.server().udp((INNER_SERVER, 0));
    inner.send_to(b"round and round", (INNER_CLIENT, 7)).unwrap();
    thread::sleep(Duration::from_millis(300));
    let summary = server.summary();
    assert!(summary.rx_packets < 10 && summary.tx_packets < 10, "it talks to itself: {summary:?}");
    assert!(server.is_running());
}
