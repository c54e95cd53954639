//! Networks that fail and recover, outside and inside: the tunnel waits, counts and continues.

use std::net::{Ipv6Addr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt::RcvBufForce};

use crate::bare::{INNER_CLIENT, INNER_SERVER};
use crate::daemon::Daemon;
use crate::lab::Lab;
use crate::waiting::{TIMEOUT, eventually, uninterrupted};

#[test]
fn a_closed_port_at_the_far_end_stops_nothing_and_is_counted() {
    let lab = Lab::new(2);
    let server = Daemon::server(lab.server(), &[]);
    let mut client = Daemon::client(lab.client(), lab.server(), &[]);
    lab.client().ping(INNER_SERVER);
    server.stop();
    let inner = lab.client().udp((INNER_CLIENT, 0));
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(2) {
        inner.send_to(b"anybody there?", (INNER_SERVER, 7)).unwrap();
        thread::sleep(Duration::from_millis(5));
    }
    assert!(client.is_running());
    let summary = client.summary();
    assert!(summary.dropped("refused") > 0, "{summary:?}");
    let _server = Daemon::server(lab.server(), &[]);
    lab.client().ping_within(Duration::from_secs(5), INNER_SERVER);
}

/// The server's peer disappears and returns on the same port: the server gets ECONNREFUSED, too.
#[test]
fn a_client_that_goes_and_comes_back_finds_its_server() {
    let lab = Lab::new(2);
    let mut server = Daemon::server(lab.server(), &[]);
    let client = Daemon::client(lab.client(), lab.server(), &[]);
    lab.client().ping(INNER_SERVER);
    client.stop();
    let inner = lab.server().udp((INNER_SERVER, 0));
    for _ in 0..200 {
        inner.send_to(b"anybody there?", (INNER_CLIENT, 7)).unwrap();
        thread::sleep(Duration::from_millis(1));
    }
    assert!(server.is_running());
    let _client = Daemon::client(lab.client(), lab.server(), &[]);
    lab.client().ping_within(Duration::from_secs(5), INNER_SERVER);
    lab.server().ping(INNER_CLIENT);
}

/// The outer network disappears for a while: first the routes, then the interface.
#[test]
fn the_outer_network_may_go_and_come_back() {
    let lab = Lab::new(2);
    let mut server = Daemon::server(lab.server(), &[]);
    let mut client = Daemon::client(lab.client(), lab.server(), &[]);
    lab.client().ping(INNER_SERVER);
    lab.client().ip(&["link", "set", "eth0", "down"]);
    assert!(!lab.client().ping_once(INNER_SERVER, 56));
    assert!(client.is_running() && server.is_running());
    lab.client().ip(&["link", "set", "eth0", "up"]);
    lab.client().ping_within(Duration::from_secs(10), INNER_SERVER);
    // The address is replaced by another: EADDRNOTAVAIL or EINVAL for ever, unless the socket
    // reconnects.
    lab.client().ip(&["address", "flush", "dev", "eth0"]);
    assert!(!lab.client().ping_once(INNER_SERVER, 56));
    lab.client().ip(&["address", "add", "192.0.2.2/24", "dev", "eth0"]);
    lab.client().ping_within(Duration::from_secs(10), INNER_SERVER);
    assert!(client.is_running() && server.is_running());
}

/// A client that roams to another address is a new peer with another IP address: its server, which
/// has received its repeated hello?, accepts it after three silent intervals.
#[test]
fn a_client_whose_address_changes_gets_through_again() {
    let lab = Lab::new(2);
    let server = Daemon::server(lab.server(), &["--keepalive", "1"]);
    let client = Daemon::client(lab.client(), lab.server(), &["--keepalive", "1"]);
    lab.client().ping(INNER_SERVER);
    // At least two hellos, so that the server knows a peer that repeats them.
    thread::sleep(Duration::from_millis(2500));
    lab.client().ip(&["address", "add", "192.0.2.55/24", "dev", "eth0"]);
    lab.client().ip(&["address", "delete", "192.0.2.2/24", "dev", "eth0"]);
    // The kernel promotes no secondary address by default: add it again.
    lab.client().ip(&["address", "replace", "192.0.2.55/24", "dev", "eth0"]);
    lab.client().ping_within(Duration::from_secs(15), INNER_SERVER);
    server.wait_for("peer replaced");
    drop(client);
}

#[test]
fn the_tun_may_go_down_and_come_up_again() {
    let lab = Lab::new(2);
    let addresses = |v4, v6| ["--address", v4, "--address", v6];
    let mut server = Daemon::server(lab.server(), &addresses("10.8.0.1/24", "fd00:8::1/64"));
    let mut client = Daemon::client(lab.client(), lab.server(), &addresses("10.8.0.3/24", "fd00:8::3/64"));
    let inner6: Ipv6Addr = "fd00:8::1".parse().unwrap();
    lab.client().ping(INNER_SERVER);
    lab.client().ping(inner6);
    for host in [lab.server(), lab.client()] {
        host.ip(&["link", "set", "tun0", "down"]);
        // IPv6 addresses are deleted when the link goes down; the configured ones are restored.
        eventually("the device is up again, with its IPv6 address", || {
            host.ip(&["-6", "address", "show", "dev", "tun0", "up"]).contains("fd00:8::")
        });
        assert!(server.is_running() && client.is_running());
        lab.client().ping(INNER_SERVER);
        lab.client().ping(inner6);
    }
}

#[test]
fn datagrams_that_meet_a_tun_that_is_down_are_counted() {
    let lab = Lab::new(2);
    // a device whose link state is managed by other programs
    let mut server = Daemon::server(lab.server(), &["--no-configure"]);
    lab.server().ip(&["address", "add", "10.8.0.1/24", "dev", "tun0"]);
    lab.server().ip(&["link", "set", "tun0", "mtu", "1472", "up"]);
    let mut client = Daemon::client(lab.client(), lab.server(), &[]);
    lab.client().ping(INNER_SERVER);
    // the workers get EIO, which does not end them
    lab.server().ip(&["link", "set", "tun0", "down"]);
    assert!(!lab.client().ping_once(INNER_SERVER, 56), "the device is down");
    let inner = lab.client().udp((INNER_CLIENT, 0));
    for _ in 0..20 {
        inner.send_to(b"into the void", (INNER_SERVER, 7)).unwrap();
    }
    eventually("what met a tun that is down is counted", || server.summary().all_dropped() >= 20);
    lab.server().ip(&["link", "set", "tun0", "up"]);
    lab.client().ping(INNER_SERVER);
    assert!(server.is_running() && client.is_running());
}

#[test]
fn a_deleted_tun_ends_the_program_with_69() {
    let lab = Lab::new(2);
    let server = Daemon::server(lab.server(), &[]);
    lab.server().ip(&["link", "delete", "tun0"]);
    let stopped = server.wait_exit();
    assert_eq!(stopped.status.code(), Some(69), "{stopped:?}");
    assert!(
        stopped.lines.iter().any(|line| line.starts_with("wontun: ") && line.contains("tun0")),
        "{stopped:?}"
    );
}

/// When a device moves to another network namespace, RTM_DELLINK is announced here, and it
/// continues to exist there.
#[test]
fn a_tun_that_moves_to_another_namespace_goes_on_there() {
    let lab = Lab::new(3);
    let mut server = Daemon::server(lab.server(), &[]);
    let _client = Daemon::client(lab.client(), lab.server(), &[]);
    lab.client().ping(INNER_SERVER);
    let elsewhere = lab.host(2);
    lab.server().ip(&["link", "set", "tun0", "netns", elsewhere.name()]);
    elsewhere.ip(&["address", "add", "10.8.0.1/24", "dev", "tun0"]);
    elsewhere.ip(&["link", "set", "tun0", "up"]);
    lab.client().ping(INNER_SERVER);
    elsewhere.ping(INNER_CLIENT);
    assert!(server.is_running());
}

/// A laptop that boots before its network is up: no address and no route yet.
#[test]
fn a_client_may_start_before_its_network() {
    let lab = Lab::new(2);
    lab.client().ip(&["address", "flush", "dev", "eth0"]);
    lab.client().ip(&["link", "set", "eth0", "down"]);
    let _server = Daemon::server(lab.server(), &[]);
    let mut client = Daemon::client(lab.client(), lab.server(), &[]);
    assert!(!lab.client().ping_once(INNER_SERVER, 56));
    assert!(client.is_running());
    lab.client().ip(&["link", "set", "eth0", "up"]);
    lab.client().ip(&["address", "add", "192.0.2.2/24", "dev", "eth0"]);
    lab.client().ping_within(Duration::from_secs(10), INNER_SERVER);
}

/// A user routes everything through the tunnel and forgets the route to the server: outgoing
/// datagrams come back in, for ever and ever larger, unless the tunnel recognizes its own
/// datagrams.
#[test]
fn a_route_to_the_peer_through_its_own_tun_makes_no_loop() {
    let lab = Lab::new(2);
    let _server = Daemon::server(lab.server(), &[]);
    let mut client = Daemon::client(lab.client(), lab.server(), &[]);
    lab.client().ping(INNER_SERVER);
    lab.client().ip(&["route", "add", "192.0.2.1/32", "dev", "tun0"]);
    lab.client().ping_once(INNER_SERVER, 56);
    let before = client.summary();
    thread::sleep(Duration::from_secs(1));
    let after = client.summary();
    assert!(after.tx_packets - before.tx_packets < 100, "a loop: {before:?} {after:?}");
    assert!(after.dropped("own_tun") > 0, "{after:?}");
    lab.client().ip(&["route", "delete", "192.0.2.1/32", "dev", "tun0"]);
    lab.client().ping_within(Duration::from_secs(10), INNER_SERVER);
    assert!(client.is_running());
}

/// A link that takes nothing for a while, so that the socket's buffer fills: the tun is not read
/// until there is space again, its own queue holds the burst, and nothing of it is lost or
/// reordered.
///
/// Unanswered ARP makes such a link: outgoing datagrams wait in the neighbour's queue and are
/// charged to the socket all the while.
#[test]
fn a_burst_into_a_stalled_wire_is_held_back_and_not_lost() {
    const BURST: u32 = 400;
    let lab = Lab::new(2);
    let server = Daemon::server(lab.server(), &[]);
    let client = Daemon::client(lab.client(), lab.server(), &[]);
    lab.client().ping(INNER_SERVER);
    // The server has a permanent neighbour entry for the client, sends no ARP and answers none.
    let client_mac = lab.client().shell("cat /sys/class/net/eth0/address");
    lab.server().shell("echo 8 > /proc/sys/net/ipv4/conf/eth0/arp_ignore");
    let neighbour = ["192.0.2.2", "lladdr", client_mac.trim(), "dev", "eth0", "nud", "permanent"];
    lab.server().ip(&[&["neighbour", "replace"], neighbour.as_slice()].concat());
    lab.client().shell(
        "echo 100 > /proc/sys/net/ipv4/neigh/eth0/mcast_solicit
         echo 100000000 > /proc/sys/net/ipv4/neigh/eth0/unres_qlen_bytes
         ip neighbour delete 192.0.2.1 dev eth0",
    );
    let sink = lab.server().udp((INNER_SERVER, 6000));
    // The whole burst arrives at once, faster than this thread wakes up.
    setsockopt(&sink, RcvBufForce, &8_000_000).unwrap();
    let burst = lab.client().udp((INNER_CLIENT, 0));
    let mut payload = [0; 1400];
    for number in 0..BURST {
        payload[..4].copy_from_slice(&number.to_be_bytes());
        burst.send_to(&payload, SocketAddr::from((INNER_SERVER, 6000))).unwrap();
    }
    sink.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    assert!(uninterrupted(|| sink.recv(&mut payload)).is_err(), "the wire is not stalled");
    let held_back = client.summary();
    lab.server().shell("echo 0 > /proc/sys/net/ipv4/conf/eth0/arp_ignore");
    sink.set_read_timeout(Some(TIMEOUT)).unwrap();
    for number in 0..BURST {
        let length = uninterrupted(|| sink.recv(&mut payload)).unwrap_or_else(|error| {
            panic!(
                "packet {number} of {BURST} is lost ({error}): {held_back:?} {:?}, at the server {:?}",
                client.summary(),
                server.summary()
            );
        });
        assert_eq!(length, 1400);
        assert_eq!(payload[..4], number.to_be_bytes(), "out of order: {held_back:?} {:?}", client.summary());
    }
    let summary = client.summary();
    assert_eq!(summary.all_dropped(), 0, "{summary:?}");
    assert!(summary.tx_packets > u64::from(BURST), "{summary:?}");
    // The datagrams that the socket took at once fit its buffer; a program that kept reading would
    // have to lose the rest.
    assert!(held_back.tx_packets < u64::from(BURST), "the socket's buffer was never full: {held_back:?}");
}
