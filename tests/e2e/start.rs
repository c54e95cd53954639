//! Connection setup of two hosts: the `hello?` handshake, in any order of starting, and the choice
//! of the peer.

use std::net::{SocketAddr, SocketAddrV4};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::bare::{HELLO, INNER_CLIENT, INNER_SERVER, PORT, RawPeer};
use crate::daemon::{Daemon, Launch, field};
use crate::lab::{Host, Lab};
use crate::packets;
use crate::streams::Connection;
use crate::waiting::{TIMEOUT, eventually, holds_within, uninterrupted};

fn wontun_on(host: &Host) -> SocketAddr {
    (host.v4, PORT).into()
}

/// Returns a packet as a server would send it; any packet serves as an answer.
fn some_packet() -> Vec<u8> {
    packets::udp4(SocketAddrV4::new(INNER_SERVER, 7), SocketAddrV4::new(INNER_CLIENT, 7), b"answer")
}

#[test]
fn the_server_may_start_first() {
    let lab = Lab::new(2);
    let server = Daemon::server(lab.server(), &[]);
    let client = Daemon::client(lab.client(), lab.server(), &[]);
    server.wait_for("peer connected");
    lab.client().ping(INNER_SERVER);
    client.wait_for("the server answers");
}

#[test]
fn the_client_may_start_first() {
    let lab = Lab::new(2);
    let client = Daemon::client(lab.client(), lab.server(), &[]);
    assert!(!lab.client().ping_once(INNER_SERVER, 56), "nobody is there yet");
    let server = Daemon::server(lab.server(), &[]);
    lab.client().ping_within(Duration::from_secs(6), INNER_SERVER);
    server.wait_for("peer connected");
    client.wait_for("the server answers");
}

#[test]
fn ready_names_role_device_mtu_and_port() {
    let lab = Lab::new(2);
    let server = Daemon::server(lab.server(), &[]);
    let client = Daemon::client(lab.client(), lab.server(), &["--tun", "wt7", "--mtu", "1400"]);
    let line = server.wait_ready();
    for (key, value) in [("role", "server"), ("tun", "tun0"), ("mtu", "1472"), ("port", "19988")] {
        assert_eq!(field(&line, key), Some(value), "{line}");
    }
    let line = client.wait_ready();
    for (key, value) in [("role", "client"), ("tun", "wt7"), ("mtu", "1400"), ("port", "19988")] {
        assert_eq!(field(&line, key), Some(value), "{line}");
    }
}

#[test]
fn the_client_says_hello_every_second_until_the_first_datagram() {
    let lab = Lab::new(2);
    let bare = RawPeer::new(lab.server(), lab.server().v4, PORT);
    let client = Launch::new(lab.client(), &["--peer", "192.0.2.1:19988"]).spawn();
    assert_eq!(bare.wait_for_hello(), wontun_on(lab.client()), "it binds port 19988 too");
    // the machine may pause in the other times
    let is_regular = (0..5).any(|_| {
        let heard = bare.receive_for(Duration::from_millis(3500));
        assert!(heard.iter().all(|(_, datagram, _)| datagram == HELLO), "{heard:?}");
        let mut gaps = heard.windows(2).map(|pair| pair[1].0 - pair[0].0);
        let is_a_second =
            |gap: Duration| gap > Duration::from_millis(700) && gap < Duration::from_millis(1500);
        (3..=4).contains(&heard.len()) && gaps.all(is_a_second)
    });
    assert!(is_regular, "not one hello? a second for 3.5 s");
    assert_eq!(client.count("the server answers"), 0);
    bare.send(&some_packet(), wontun_on(lab.client()));
    client.wait_for("the server answers");
    bare.drain();
    // The answer to it (port unreachable, from the client's kernel) is a packet; another hello? is
    // a fault.
    let heard = bare.receive_for(Duration::from_millis(2500));
    assert!(heard.iter().all(|(_, datagram, _)| datagram != HELLO), "{heard:?}");
}

#[test]
fn the_client_says_hello_every_keepalive_interval_whether_or_not_data_flows() {
    let lab = Lab::new(2);
    let bare = RawPeer::new(lab.server(), lab.server().v4, PORT);
    let client = Daemon::client(lab.client(), lab.server(), &["--keepalive", "2"]);
    bare.wait_for_hello();
    bare.send(&some_packet(), wontun_on(lab.client()));
    client.wait_for("the server answers");
    bare.drain();
    let inner = lab.client().udp((INNER_CLIENT, 0));
    // Data in both directions for 7 s, so that no silence causes a hello? a second.
    let (start, mut hellos) = (Instant::now(), 0);
    while start.elapsed() < Duration::from_secs(7) {
        inner.send_to(b"data", (INNER_SERVER, 7)).unwrap();
        bare.send(&some_packet(), wontun_on(lab.client()));
        let heard = bare.receive_for(Duration::from_millis(200));
        hellos += heard.iter().filter(|(_, datagram, _)| datagram == HELLO).count();
    }
    assert!((3..=4).contains(&hellos), "one every 2 s for 7 s, {hellos} came");
}

#[test]
fn keepalive_0_says_no_more_hellos_once_the_server_answered() {
    let lab = Lab::new(2);
    let bare = RawPeer::new(lab.server(), lab.server().v4, PORT);
    let client = Daemon::client(lab.client(), lab.server(), &["--keepalive", "0"]);
    bare.wait_for_hello();
    bare.wait_for_hello();
    bare.send(&some_packet(), wontun_on(lab.client()));
    client.wait_for("the server answers");
    bare.drain();
    let heard = bare.receive_for(Duration::from_secs(3));
    assert!(heard.iter().all(|(_, datagram, _)| datagram != HELLO), "{heard:?}");
}

#[test]
fn a_client_that_sends_and_hears_nothing_says_hello_again() {
    let lab = Lab::new(2);
    let bare = RawPeer::new(lab.server(), lab.server().v4, PORT);
    let client = Daemon::client(lab.client(), lab.server(), &[]);
    bare.wait_for_hello();
    bare.send(&some_packet(), wontun_on(lab.client()));
    client.wait_for("the server answers");
    bare.drain();
    let inner = lab.client().udp((INNER_CLIENT, 0));
    let (start, mut hellos) = (Instant::now(), Vec::new());
    while start.elapsed() < Duration::from_secs(6) {
        inner.send_to(b"anybody there?", (INNER_SERVER, 7)).unwrap();
        for (_, datagram, _) in bare.receive_for(Duration::from_millis(200)) {
            if datagram == HELLO {
                hellos.push(start.elapsed());
            }
        }
    }
    let first = *hellos.first().expect("no hello? although it sends and hears nothing");
    assert!(first > Duration::from_millis(1500), "after 2 s of silence, not {first:?}");
    assert!(hellos.len() >= 3, "every second again: {hellos:?}");
    // The first datagram ends it again.
    bare.send(&some_packet(), wontun_on(lab.client()));
    client.wait_for_more("the server answers", 1);
}

#[test]
fn after_a_refusal_the_client_says_hello_again_from_the_same_port() {
    let lab = Lab::new(2);
    let bare = RawPeer::new(lab.server(), lab.server().v4, PORT);
    let client = Daemon::client(lab.client(), lab.server(), &["--listen-port", "20111"]);
    let port = bare.wait_for_hello();
    assert_eq!(port.port(), 20_111);
    bare.send(&some_packet(), port);
    client.wait_for("the server answers");
    drop(bare);
    // One packet of data makes the far end's kernel answer "port unreachable".
    let inner = lab.client().udp((INNER_CLIENT, 0));
    inner.send_to(b"anybody there?", (INNER_SERVER, 7)).unwrap();
    eventually("the refusal is counted", || client.summary().dropped("refused") > 0);
    let bare = RawPeer::new(lab.server(), lab.server().v4, PORT);
    let start = Instant::now();
    assert_eq!(bare.wait_for_hello(), port, "it keeps its port for its life");
    assert!(start.elapsed() < Duration::from_secs(3), "took {:?}", start.elapsed());
}

#[test]
fn a_server_restart_needs_no_client_restart() {
    let lab = Lab::new(2);
    let server = Daemon::server(lab.server(), &[]);
    let _client = Daemon::client(lab.client(), lab.server(), &[]);
    lab.client().ping(INNER_SERVER);
    assert!(server.stop().status.success());
    assert!(!lab.client().ping_once(INNER_SERVER, 56), "the server is gone");
    let _server = Daemon::server(lab.server(), &[]);
    lab.client().ping_within(Duration::from_secs(6), INNER_SERVER);
}

#[test]
fn a_tcp_connection_survives_a_client_restart() {
    let lab = Lab::new(2);
    let _server = Daemon::server(lab.server(), &[]);
    let client = Daemon::client(lab.client(), lab.server(), &[]);
    let connection = Connection::open(lab.server(), (INNER_SERVER, 80), lab.client());
    connection.say_hello();
    assert!(client.stop().status.success());
    let _client = Daemon::client(lab.client(), lab.server(), &[]);
    connection.say_hello();
}

#[test]
fn a_client_restart_with_a_new_port_replaces_the_old_one_at_once() {
    let lab = Lab::new(2);
    let server = Daemon::server(lab.server(), &[]);
    let client = Daemon::client(lab.client(), lab.server(), &[]);
    lab.client().ping(INNER_SERVER);
    assert!(client.stop().status.success());
    let _client = Daemon::client(lab.client(), lab.server(), &["--listen-port", "20001"]);
    lab.client().ping_within(Duration::from_secs(3), INNER_SERVER);
    server.wait_for("peer replaced");
}

#[test]
fn a_killed_server_and_client_start_again_at_once() {
    let lab = Lab::new(2);
    let server = Daemon::server(lab.server(), &[]);
    let client = Daemon::client(lab.client(), lab.server(), &[]);
    lab.client().ping(INNER_SERVER);
    for daemon in [server, client] {
        let pid = daemon.pid();
        daemon.stop_by(pid, Signal::SIGKILL);
    }
    let _server = Daemon::server(lab.server(), &[]);
    let _client = Daemon::client(lab.client(), lab.server(), &[]);
    lab.client().ping_within(Duration::from_secs(6), INNER_SERVER);
}

#[test]
fn a_second_client_is_refused_and_the_first_undisturbed() {
    let lab = Lab::new(3);
    let server = Daemon::server(lab.server(), &[]);
    let _first = Daemon::client(lab.client(), lab.server(), &[]);
    lab.client().ping(INNER_SERVER);
    let connection = Connection::open(lab.server(), (INNER_SERVER, 80), lab.client());
    let _second = Daemon::client(lab.host(2), lab.server(), &[]);
    assert!(!lab.host(2).ping_once(INNER_SERVER, 56), "the second one must not get through");
    eventually("the stranger is counted", || server.summary().dropped("stranger") >= 2);
    connection.say_hello();
    lab.client().ping(INNER_SERVER);
    assert_eq!(server.count("peer replaced"), 0);
    assert_eq!(server.count("peer connected"), 1);
}

#[test]
fn before_the_first_hello_the_server_drops_and_counts() {
    let lab = Lab::new(2);
    let server = Daemon::server(lab.server(), &[]);
    let inner = lab.server().udp((INNER_SERVER, 0));
    for _ in 0..5 {
        inner.send_to(b"to nobody", (INNER_CLIENT, 7)).unwrap();
    }
    eventually("no_peer is counted", || server.summary().dropped("no_peer") == 5);
    // Nor is anybody accepted without a hello?.
    let bare = RawPeer::client(lab.client());
    bare.send(&some_packet(), wontun_on(lab.server()));
    eventually("the stranger is counted", || server.summary().dropped("stranger") == 1);
    assert_eq!(server.summary().rx_packets, 0);
}

#[test]
fn the_server_never_answers_hello() {
    let lab = Lab::new(2);
    let server = Daemon::server(lab.server(), &[]);
    let bare = RawPeer::client(lab.client());
    for _ in 0..5 {
        bare.send(HELLO, wontun_on(lab.server()));
    }
    server.wait_for("peer connected");
    assert_eq!(bare.receive_for(Duration::from_millis(1500)), [], "nothing but IP packets leaves a server");
    assert!(bare.is_peer_of(lab.server()));
    assert_eq!(lab.server().device_packets("tun0").0, 0, "hello? is never written to the tun");
}

/// The device sends nothing by itself either: no router solicitation, no multicast report.
#[test]
fn an_idle_pair_puts_nothing_but_hello_on_the_wire() {
    let lab = Lab::new(3);
    let watched = RawPeer::new(lab.server(), lab.server().v4, PORT);
    let addresses = ["--keepalive", "1", "--address", "10.8.0.3/24", "--address", "fd00:8::3/64"];
    let client = Daemon::client(lab.client(), lab.server(), &addresses);
    let heard = watched.receive_for(Duration::from_secs(5));
    assert!(heard.len() >= 4, "{heard:?}");
    assert!(heard.iter().all(|(_, datagram, _)| datagram == HELLO), "{heard:?}");
    // An empty datagram would end the bare program: one that arrives is dropped, and none is sent
    // back.
    watched.send(b"", wontun_on(lab.client()));
    let heard = watched.receive_for(Duration::from_secs(2));
    assert!(heard.iter().all(|(_, datagram, _)| datagram == HELLO), "{heard:?}");
    assert!(client.summary().dropped("empty") >= 1);
}

#[test]
fn what_a_bare_client_sends_arrives_and_is_answered() {
    let lab = Lab::new(2);
    let server = Daemon::server(lab.server(), &[]);
    let bare = RawPeer::client(lab.client());
    bare.send(HELLO, wontun_on(lab.server()));
    server.wait_for("peer connected");
    let inner = lab.server().udp((INNER_SERVER, 6000));
    let packet =
        packets::udp4(SocketAddrV4::new(INNER_CLIENT, 5), SocketAddrV4::new(INNER_SERVER, 6000), b"up");
    bare.send(&packet, wontun_on(lab.server()));
    let mut buffer = [0; 64];
    let (length, from) = uninterrupted(|| inner.recv_from(&mut buffer)).unwrap();
    assert_eq!((&buffer[..length], from), (&b"up"[..], SocketAddr::from((INNER_CLIENT, 5))));
    inner.send_to(b"down", from).unwrap();
    let (datagram, from) = bare.receive(TIMEOUT).expect("no answer");
    assert_eq!(from, wontun_on(lab.server()));
    assert!(packets::is_well_formed(&datagram), "one inner packet is the whole payload: {datagram:?}");
    assert!(datagram.ends_with(b"down"));
}

/// The bare program sends `hello?` once in its life; it remains the peer while it only listens.
#[test]
fn a_silent_bare_client_keeps_its_place() {
    let lab = Lab::new(3);
    let server = Daemon::server(lab.server(), &["--keepalive", "1"]);
    let (silent, other) = (RawPeer::client(lab.client()), RawPeer::client(lab.host(2)));
    silent.send(HELLO, wontun_on(lab.server()));
    server.wait_for("peer connected");
    // It may send data as well; that does not count as repeated hello?.
    silent.send(&some_packet(), wontun_on(lab.server()));
    eventually("its packet arrives", || server.summary().rx_packets == 1);
    for _ in 0..6 {
        other.send(HELLO, wontun_on(lab.server()));
        assert_eq!(other.receive_for(Duration::from_secs(1)), []);
    }
    assert!(silent.is_peer_of(lab.server()));
    assert!(!other.is_peer_of(lab.server()));
    assert_eq!(server.count("peer replaced"), 0);
}

#[test]
fn a_peer_that_repeated_hello_and_fell_silent_is_replaced_after_three_intervals() {
    let lab = Lab::new(3);
    let server = Daemon::server(lab.server(), &["--keepalive", "1"]);
    let (silent, other) = (RawPeer::client(lab.client()), RawPeer::client(lab.host(2)));
    silent.send(HELLO, wontun_on(lab.server()));
    server.wait_for("peer connected");
    silent.send(HELLO, wontun_on(lab.server()));
    let start = Instant::now();
    other.send(HELLO, wontun_on(lab.server()));
    assert!(!other.is_peer_of(lab.server()), "three intervals have not passed");
    let replaced = holds_within(TIMEOUT, || {
        other.send(HELLO, wontun_on(lab.server()));
        server.count("peer replaced") > 0
    });
    let took = start.elapsed();
    assert!(replaced, "the silent peer keeps its place for ever");
    assert!(took > Duration::from_millis(2500), "replaced after {took:?}, too early");
    assert!(took < Duration::from_secs(6), "replaced only after {took:?}");
    assert!(other.is_peer_of(lab.server()));
    assert!(!silent.is_peer_of(lab.server()));
}

#[test]
fn a_hello_from_the_same_address_and_a_new_port_replaces_at_once() {
    let lab = Lab::new(2);
    let server = Daemon::server(lab.server(), &[]);
    let old = RawPeer::client(lab.client());
    let new = RawPeer::new(lab.client(), lab.client().v4, 40_000);
    old.send(HELLO, wontun_on(lab.server()));
    server.wait_for("peer connected");
    assert!(old.is_peer_of(lab.server()));
    new.send(HELLO, wontun_on(lab.server()));
    server.wait_for("peer replaced");
    assert!(new.is_peer_of(lab.server()));
    assert!(!old.is_peer_of(lab.server()));
    // And back: the old port is a new port now.
    old.send(HELLO, wontun_on(lab.server()));
    assert!(old.is_peer_of(lab.server()));
    assert!(!new.is_peer_of(lab.server()));
}
