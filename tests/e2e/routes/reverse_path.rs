//! Answers from the wire with a strict reverse path filter, and packets that bypass the tunnel.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::process::Command;
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use wontun::netlink::{RouteWarning, Routes};

use super::{apply, full, lab, marked, open, routing_state, wanted};
use crate::lab::Host;
use crate::waiting::{succeed, uninterrupted};

const FAR: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);

/// Returns true if a datagram with the tunnel's mark is answered by the server's address behind the
/// default route.
fn is_answered(client: &Host, server: &Host, mark: u32) -> bool {
    let echo = server.udp((FAR, 7777));
    let socket = client.udp((Ipv4Addr::UNSPECIFIED, 0));
    socket2::SockRef::from(&socket).set_mark(mark).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    socket.send_to(b"ping", (FAR, 7777)).unwrap();
    let mut buffer = [0; 16];
    let (length, from) = uninterrupted(|| echo.recv_from(&mut buffer)).unwrap();
    echo.send_to(&buffer[..length], from).unwrap();
    uninterrupted(|| socket.recv_from(&mut buffer)).is_ok()
}

#[test]
fn answers_pass_a_strict_filter() {
    let lab = lab();
    let (server, client) = (lab.server(), lab.client());
    server.ip(&["address", "add", "198.51.100.7/32", "dev", "lo"]);
    client.shell("for f in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 1 > $f; done");
    let before = routing_state(client);
    let mut routes = open(client, "tun7");
    assert_eq!(apply(client, &mut routes, &full()), marked(51_820));
    assert!(is_answered(client, server, 51_820));
    // each of the two is needed: without it the filter drops the answer
    client.shell("echo 0 > /proc/sys/net/ipv4/conf/all/src_valid_mark");
    assert!(!is_answered(client, server, 51_820));
    apply(client, &mut routes, &full());
    assert!(is_answered(client, server, 51_820));
    client.shell(
        "nft 'add table ip control; add chain ip control late { type filter hook prerouting priority -140; }
        add rule ip control late meta mark set 0'",
    );
    assert!(!is_answered(client, server, 51_820));
    // a flush does not delete the tunnel's table where the kernel supports owners
    client.shell("nft flush ruleset");
    apply(client, &mut routes, &full());
    assert!(is_answered(client, server, 51_820));
    drop(routes);
    assert_eq!(routing_state(client), before);
}

/// Hosts on the wire cannot send to the tunnel's address.
#[test]
fn packets_past_the_tunnel_are_dropped() {
    let lab = lab();
    let (server, client) = (lab.server(), lab.client());
    server.ip(&["route", "add", "10.8.0.2", "via", "192.0.2.2"]);
    server.ip(&["route", "add", "fd08::2", "via", "2001:db8::2"]);
    let arrives = |address: IpAddr| {
        let inner: UdpSocket = client.udp((address, 4444));
        inner.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        let outside = if address.is_ipv4() { server.udp((server.v4, 0)) } else { server.udp((server.v6, 0)) };
        outside.send_to(b"psst", SocketAddr::new(address, 4444)).unwrap();
        uninterrupted(|| inner.recv_from(&mut [0; 8])).is_ok()
    };
    let inner: [IpAddr; 2] = ["10.8.0.2".parse().unwrap(), "fd08::2".parse().unwrap()];
    assert_eq!(inner.map(arrives), [true, true]);
    let mut routes = open(client, "tun7");
    apply(client, &mut routes, &full());
    assert_eq!(inner.map(arrives), [false, false]);
    drop(routes);
    assert_eq!(inner.map(arrives), [true, true]);
}

/// As in a container: one warning that names the flag to start it with, and only if the sysctl has
/// the wrong value.
#[test]
fn a_read_only_proc_is_told_with_the_flag() {
    let lab = lab();
    let host = lab.client();
    let read_only = |work: &mut (dyn FnMut() -> Vec<RouteWarning> + Send)| {
        host.inside(|| {
            // of this thread alone
            unshare(CloneFlags::CLONE_NEWNS).unwrap();
            succeed(Command::new("mount").args(["--make-rprivate", "/"]));
            succeed(Command::new("mount").args(["-o", "bind,ro", "/proc/sys", "/proc/sys"]));
            work()
        })
    };
    let index = host.inside(|| wontun::netlink::Link::open("tun7").unwrap().index());
    let mut up = || {
        let mut routes = Routes::open("tun7", index).unwrap();
        let none = routes.apply(&wanted(&["10.9.0.0/16"], &[])).unwrap().warnings;
        assert_eq!(none, [], "not needed without policy routing");
        routes.apply(&full()).unwrap().warnings
    };
    host.shell("for f in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 0 > $f; done");
    let warnings = read_only(&mut up);
    assert!(matches!(warnings[..], [RouteWarning::SourceValidMark { strict: false, .. }]), "{warnings:?}");
    host.shell("echo 1 > /proc/sys/net/ipv4/conf/eth0/rp_filter");
    let warnings = read_only(&mut up);
    assert!(matches!(warnings[..], [RouteWarning::SourceValidMark { strict: true, .. }]), "{warnings:?}");
    let text = warnings[0].to_string();
    assert!(text.contains("Read-only file system"), "{text}");
    assert!(text.contains("docker run --sysctl net.ipv4.conf.all.src_valid_mark=1"), "{text}");
    host.shell("echo 1 > /proc/sys/net/ipv4/conf/all/src_valid_mark");
    assert_eq!(read_only(&mut up), []);
    assert_eq!(host.shell("cat /proc/sys/net/ipv4/conf/all/src_valid_mark"), "1\n", "not ours to put back");
}
