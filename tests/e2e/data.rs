//! Everything sent through the tunnel arrives: TCP, ping and UDP, of any size, inside and outside
//! either IP version.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use crate::bare::{INNER_CLIENT, INNER_SERVER};
use crate::daemon::{Daemon, Launch, field};
use crate::lab::{Host, Lab, heavy};
use crate::streams::Connection;
use crate::waiting::{TIMEOUT, finish, uninterrupted};

const MEGABYTE: u64 = 1_000_000;
const INNER_SERVER_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 8, 0, 0, 0, 0, 0, 1);
const SERVER_ADDRESSES: &[&str] = &["--address", "10.8.0.1/24", "--address", "fd00:8::1/64"];
const CLIENT_ADDRESSES: &[&str] = &["--address", "10.8.0.3/24", "--address", "fd00:8::3/64"];

/// The outer address family of a tunnel.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Outer {
    V4,
    V6,
}

/// Starts a server and a client with both inner families and `args`, and waits until they are
/// ready.
fn tunnel(server: &Host, client: &Host, outer: Outer, args: &[&str]) -> (Daemon, Daemon) {
    let address = match outer {
        Outer::V4 => IpAddr::from(server.v4),
        Outer::V6 => IpAddr::from(server.v6),
    };
    let peer = SocketAddr::new(address, 19988).to_string();
    let server = Launch::plain(server, &[SERVER_ADDRESSES, args].concat()).spawn();
    let client = Launch::new(client, &[&["--peer", &peer], CLIENT_ADDRESSES, args].concat()).spawn();
    server.wait_ready();
    client.wait_ready();
    server.wait_for("peer connected");
    (server, client)
}

fn carries_100_mb_each_way(inner: IpAddr, outer: Outer) {
    let _one_at_a_time = heavy();
    let lab = Lab::new(2);
    let (server, client) = tunnel(lab.server(), lab.client(), outer, &[]);
    Connection::open(lab.server(), (inner, 80), lab.client()).exchange(100 * MEGABYTE);
    for daemon in [&server, &client] {
        let summary = daemon.summary();
        assert!(summary.tx_bytes > 100 * MEGABYTE, "{summary:?}");
        assert!(summary.rx_bytes > 100 * MEGABYTE, "{summary:?}");
    }
    for daemon in [server, client] {
        assert!(daemon.stop().status.success());
    }
}

#[test]
fn tcp_carries_100_mb_each_way_ipv4_in_ipv4() {
    carries_100_mb_each_way(INNER_SERVER.into(), Outer::V4);
}

#[test]
fn tcp_carries_100_mb_each_way_ipv6_in_ipv4() {
    carries_100_mb_each_way(INNER_SERVER_V6.into(), Outer::V4);
}

#[test]
fn tcp_carries_100_mb_each_way_ipv4_in_ipv6() {
    carries_100_mb_each_way(INNER_SERVER.into(), Outer::V6);
}

#[test]
fn tcp_carries_100_mb_each_way_ipv6_in_ipv6() {
    carries_100_mb_each_way(INNER_SERVER_V6.into(), Outer::V6);
}

/// The README's demo: lines in both directions on a connection that either side keeps open.
#[test]
fn lines_go_both_ways_over_one_connection() {
    let lab = Lab::new(2);
    let _tunnel = tunnel(lab.server(), lab.client(), Outer::V4, &[]);
    let connection = Connection::open(lab.server(), (INNER_SERVER, 80), lab.client());
    for _ in 0..100 {
        connection.say_hello();
    }
}

#[test]
fn a_connection_may_start_at_the_server() {
    let lab = Lab::new(2);
    let _tunnel = tunnel(lab.server(), lab.client(), Outer::V4, &[]);
    Connection::open(lab.client(), (INNER_CLIENT, 80), lab.server()).say_hello();
}

#[test]
fn ping_is_answered_both_ways_over_every_pair_of_families() {
    for outer in [Outer::V4, Outer::V6] {
        let lab = Lab::new(2);
        let _tunnel = tunnel(lab.server(), lab.client(), outer, &[]);
        lab.client().ping(INNER_SERVER);
        lab.client().ping(INNER_SERVER_V6);
        lab.server().ping(INNER_CLIENT);
        lab.server().ping(Ipv6Addr::new(0xfd00, 8, 0, 0, 0, 0, 0, 3));
    }
}

#[test]
fn udp_arrives_up_to_the_mtu_and_in_fragments_over_it() {
    let lab = Lab::new(2);
    let _tunnel = tunnel(lab.server(), lab.client(), Outer::V4, &[]);
    // 1472 less 28 (IPv4) or 48 (IPv6) bytes of headers fill one inner packet exactly.
    for (inner, full) in [(IpAddr::from(INNER_SERVER), 1444), (INNER_SERVER_V6.into(), 1424)] {
        let echo = lab.server().udp((inner, 5000));
        let socket = lab.client().udp(SocketAddr::new(
            match inner {
                IpAddr::V4(_) => INNER_CLIENT.into(),
                IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
            },
            0,
        ));
        for size in [0, 1, 1000, full - 1, full, full + 1, 1472, 1500, 5000, 65_000] {
            is_echoed(&socket, &echo, (inner, 5000).into(), size);
        }
    }
}

/// Sends `size` bytes to `echo` and back. Tries five times, because UDP may lose a datagram.
fn is_echoed(socket: &UdpSocket, echo: &UdpSocket, to: SocketAddr, size: usize) {
    let sent: Vec<u8> = (0..size).map(|index| index as u8).collect();
    let mut buffer = vec![0; 65_536];
    for socket in [socket, echo] {
        // copies of earlier datagrams that were late
        socket.set_nonblocking(true).unwrap();
        while uninterrupted(|| socket.recv(&mut buffer)).is_ok() {}
        socket.set_nonblocking(false).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    }
    for _ in 0..5 {
        socket.send_to(&sent, to).unwrap();
        let Ok((length, from)) = uninterrupted(|| echo.recv_from(&mut buffer)) else { continue };
        assert!(buffer[..length] == sent, "{size} bytes left, {length} (other) bytes arrived");
        echo.send_to(&sent, from).unwrap();
        if let Ok(length) = uninterrupted(|| socket.recv(&mut buffer)) {
            assert!(buffer[..length] == sent, "{size} bytes returned as {length} (other) bytes");
            return;
        }
    }
    panic!("a UDP datagram of {size} bytes does not get through");
}

#[test]
fn the_default_mtu_leaves_room_for_the_outer_headers() {
    for (outer, listen, mtu) in [(Outer::V4, "192.0.2.1", 1472), (Outer::V6, "2001:db8::1", 1452)] {
        let lab = Lab::new(2);
        let (server, client) = tunnel(lab.server(), lab.client(), outer, &[]);
        assert_eq!(lab.client().mtu("tun0"), mtu);
        let ready = client.wait_ready();
        assert_eq!(field(&ready, "mtu"), Some(mtu.to_string().as_str()), "{ready}");
        server.stop();
        let _server = Daemon::server(lab.server(), &["--listen", listen]);
        assert_eq!(lab.server().mtu("tun0"), mtu, "a server that listens on {listen} alone");
    }
}

#[test]
fn a_server_for_both_families_has_the_mtu_of_ipv4() {
    let lab = Lab::new(2);
    let _server = Daemon::server(lab.server(), &[]);
    assert_eq!(lab.server().mtu("tun0"), 1472);
}

/// A full inner packet of 1472 bytes needs 1500 outside; on a narrower wire the outer packet is
/// fragmented.
#[test]
fn full_packets_cross_a_wire_with_a_smaller_mtu() {
    let lab = Lab::with_mtu(2, 1400);
    let _tunnel = tunnel(lab.server(), lab.client(), Outer::V4, &["--mtu", "1472"]);
    fills_the_mtu(lab.client(), 1472);
    Connection::open(lab.server(), (INNER_SERVER, 80), lab.client()).exchange(5 * MEGABYTE);
}

#[test]
fn full_packets_cross_an_ipv6_wire_with_a_smaller_mtu() {
    let lab = Lab::with_mtu(2, 1300);
    let _tunnel = tunnel(lab.server(), lab.client(), Outer::V6, &[]);
    fills_the_mtu(lab.client(), 1452);
    Connection::open(lab.server(), (INNER_SERVER, 80), lab.client()).exchange(5 * MEGABYTE);
}

/// The narrow link is behind a router: the hosts learn its MTU from ICMP alone.
#[test]
fn full_packets_cross_a_path_with_a_smaller_mtu_behind_a_router() {
    for (outer, full) in [(Outer::V4, 1444), (Outer::V6, 1424)] {
        let lab = Lab::routed(1300);
        let _tunnel = tunnel(lab.server(), lab.client(), outer, &[]);
        lab.client().ping(INNER_SERVER);
        // The first full packets may be lost while the path MTU is discovered.
        let both_ways =
            || lab.client().ping_once(INNER_SERVER, full) && lab.server().ping_once(INNER_CLIENT, full);
        assert!((0..5).any(|_| both_ways()), "full packets do not get through over {outer:?}");
        Connection::open(lab.server(), (INNER_SERVER, 80), lab.client()).exchange(5 * MEGABYTE);
    }
}

#[test]
fn an_mtu_of_3000_carries_packets_of_3000_bytes() {
    let lab = Lab::new(2);
    let _tunnel = tunnel(lab.server(), lab.client(), Outer::V4, &["--mtu", "3000"]);
    assert_eq!(lab.client().mtu("tun0"), 3000);
    fills_the_mtu(lab.client(), 3000);
    Connection::open(lab.server(), (INNER_SERVER, 80), lab.client()).exchange(5 * MEGABYTE);
}

/// 65507 is the largest payload of an IPv4 UDP datagram.
#[test]
fn the_largest_mtu_carries_packets_of_64_kib() {
    let lab = Lab::new(2);
    let _tunnel = tunnel(lab.server(), lab.client(), Outer::V4, &["--mtu", "65507"]);
    assert_eq!(lab.client().mtu("tun0"), 65_507);
    fills_the_mtu(lab.client(), 65_507);
    Connection::open(lab.server(), (INNER_SERVER, 80), lab.client()).exchange(5 * MEGABYTE);
}

/// Sends pings that fill an inner packet of `mtu` bytes, which must not be fragmented inside, and
/// must all be answered.
fn fills_the_mtu(from: &Host, mtu: usize) {
    let (payload, inner) = ((mtu - 28).to_string(), INNER_SERVER.to_string());
    for _ in 0..3 {
        let mut ping = from.command("ping");
        // one at a time: of several, ping(8) waits for the last only as long as its interval
        ping.args(["-n", "-M", "do", "-c", "1", "-W", "5", "-s", &payload, &inner]);
        let finished = finish(&mut ping, TIMEOUT);
        assert!(finished.stdout.contains(" 0% packet loss"), "packets of {mtu} bytes are lost: {finished:?}");
    }
}

/// With `--no-configure` the user configures the device with `ip`.
#[test]
fn no_configure_leaves_addresses_and_link_state_to_the_user() {
    let lab = Lab::new(2);
    let _server = Daemon::server(lab.server(), &["--no-configure"]);
    let link = lab.server().ip(&["-o", "address", "show", "dev", "tun0"]);
    assert_eq!(link, "", "no address was asked for");
    assert!(
        !lab.server().ip(&["-o", "link", "show", "dev", "tun0"]).contains("UP,"),
        "nor a link that is up"
    );
    lab.server().ip(&["address", "add", "10.8.0.1/24", "dev", "tun0"]);
    lab.server().ip(&["link", "set", "tun0", "mtu", "1472", "up"]);
    let _client = Daemon::client(lab.client(), lab.server(), &[]);
    lab.client().ping(INNER_SERVER);
}
