//! Packets of the tunnel and of the link pass a kill switch; packets that resemble them do not.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use crate::waiting::eventually;
use crate::wireguard::kill_switch::{
    NEIGHBOUR_V4, NEIGHBOUR_V6, Stage, WORLD_V4, WORLD_V6, kill, reaches_the_world, start, table,
};
use crate::wireguard::pair::PORT;
use crate::wireguard::site::Site;

const MARK: u32 = 51_820;

/// Opens a socket of a program that may set the tunnel's mark, and sets it.
fn marked(site: &Site, domain: Domain, kind: Type, protocol: Option<Protocol>) -> Socket {
    let socket = site.inside(|| Socket::new(domain, kind, protocol)).unwrap();
    socket.set_mark(MARK).unwrap();
    socket
}

/// The mark was once the only condition, and CAP_NET_RAW is enough to set it (Linux 5.17).
#[test]
fn a_mark_alone_lets_nothing_out() {
    let mut stage = Stage::new();
    stage.plan.client.port = Some(40_000);
    let (client, tally) = (stage.client(), stage.count());
    let _daemon = start(client, &stage.plan.client, &["--kill-switch"]);
    reaches_the_world(&stage);
    tally.reset();
    for address in [IpAddr::from(NEIGHBOUR_V4), NEIGHBOUR_V6.into(), WORLD_V4.into(), WORLD_V6.into()] {
        let domain = if address.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
        for port in [9, 53, PORT] {
            let to = SocketAddr::new(address, port).into();
            assert!(
                marked(client, domain, Type::DGRAM, None).send_to(b"out", &to).is_err(),
                "UDP to {address}"
            );
            // the tunnel's port, but not its protocol
            let stream = marked(client, domain, Type::STREAM, None);
            let any: IpAddr =
                if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
            // the previous attempt is still being torn down
            stream.set_reuse_address(true).unwrap();
            stream.bind(&SocketAddr::new(any, 40_000).into()).unwrap();
            assert!(stream.connect_timeout(&to, Duration::from_millis(100)).is_err(), "TCP to {address}");
        }
        let protocol = if address.is_ipv4() { Protocol::ICMPV4 } else { Protocol::ICMPV6 };
        let echo = [if address.is_ipv4() { 8 } else { 128 }, 0, 0, 0, 0, 0, 0, 0];
        let raw = marked(client, domain, Type::RAW, Some(protocol));
        assert!(raw.send_to(&echo, &SocketAddr::new(address, 0).into()).is_err(), "ICMP to {address}");
    }
    assert!(table(client).contains("meta mark 0x0000ca6c udp sport 40000 accept"), "{}", table(client));
    assert_eq!((tally.count("leaked"), tally.count("dns")), (0, 0));
}

/// The reverse: the tunnel's port without its mark.
#[test]
fn the_port_alone_lets_nothing_out() {
    let mut stage = Stage::new();
    stage.plan.client.port = Some(40_000);
    let (client, tally) = (stage.client(), stage.count());
    kill(start(client, &stage.plan.client, &["--kill-switch"]));
    tally.reset();
    let socket = client.udp((Ipv4Addr::UNSPECIFIED, 40_000));
    assert!(socket.send_to(b"out", (NEIGHBOUR_V4, 9)).is_err());
    assert_eq!(tally.count("leaked"), 0);
}

/// A tunnel whose endpoints are addresses uses no name server; queries of one with a name are
/// tested in `wireguard/kill_switch.rs`.
#[test]
fn the_table_follows_port_and_mark() {
    let mut stage = Stage::new();
    stage.plan.client.port = Some(40_000);
    let daemon = start(stage.client(), &stage.plan.client, &["--kill-switch"]);
    reaches_the_world(&stage);
    stage.plan.client.port = Some(40_001);
    let tally = stage.count();
    stage.client().write("wg0.conf", &stage.plan.client.wg_quick());
    daemon.signal(nix::sys::signal::Signal::SIGHUP);
    daemon.wait_for("reloaded the configuration");
    reaches_the_world(&stage);
    let text = table(stage.client());
    assert!(
        text.contains("mark 0x0000ca6c udp sport 40001 accept") && !text.contains("sport 40000"),
        "{text}"
    );
    assert!(!text.contains("dport 53"), "{text}");
    stage.client().wg(&["set", "wg0", "listen-port", "40002", "fwmark", "77"]);
    reaches_the_world(&stage);
    let text = table(stage.client());
    assert!(
        text.contains("mark 0x0000004d udp sport 40002 accept") && !text.contains("sport 40001"),
        "{text}"
    );
    assert_eq!(tally.count("leaked"), 0);
}

/// DHCP reaches a server on the link, and none behind a router.
#[test]
fn dhcp_stays_on_the_link() {
    let stage = Stage::new();
    let (client, tally) = (stage.client(), stage.count());
    kill(start(client, &stage.plan.client, &["--kill-switch"]));
    let socket = client.udp((Ipv4Addr::new(198, 51, 100, 2), 68));
    let v6 = client.udp((Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 2), 546));
    socket.set_broadcast(true).unwrap();
    let to_link = || {
        tally.reset();
        for address in [Ipv4Addr::BROADCAST, Ipv4Addr::new(198, 51, 100, 255), NEIGHBOUR_V4] {
            socket.send_to(b"dhcp", (address, 67)).unwrap();
        }
        v6.send_to(b"dhcp", (NEIGHBOUR_V6, 547)).unwrap();
        let card = client.shell("cat /sys/class/net/eth0/ifindex").trim().parse().unwrap();
        v6.send_to(b"dhcp", SocketAddrV6::new("ff02::1:2".parse().unwrap(), 547, 0, card)).unwrap();
        eventually("DHCP passes", || tally.count("dhcp") == 3 && tally.count("dhcpv6") == 2);
    };
    let beyond = || {
        tally.reset();
        for address in [WORLD_V4, Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(224, 0, 0, 1)] {
            assert!(socket.send_to(b"dhcp", (address, 67)).is_err(), "{address}");
        }
        for address in [WORLD_V6, "ff05::1:3".parse().unwrap()] {
            assert!(v6.send_to(b"dhcp", (address, 547)).is_err(), "{address}");
        }
        let seen = ["dhcp", "dhcpv6", "leaked"].map(|class| tally.count(class));
        assert_eq!(seen, [0, 0, 0]);
    };
    beyond();
    to_link();
    beyond();
    // a destination that was once on the link is not considered on-link later
    client.ip(&["route", "add", &WORLD_V4.to_string(), "dev", "eth0"]);
    let _ = socket.send_to(b"dhcp", (WORLD_V4, 67));
    client.ip(&["route", "delete", &WORLD_V4.to_string(), "dev", "eth0"]);
    beyond();
}

/// Neighbour discovery has the hop limit 255, and is limited to the link.
#[test]
fn neighbour_discovery_stays_on_the_link() {
    let stage = Stage::new();
    let (client, tally) = (stage.client(), stage.count());
    kill(start(client, &stage.plan.client, &["--kill-switch"]));
    let raw = client.inside(|| Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))).unwrap();
    let card = client.shell("cat /sys/class/net/eth0/ifindex").trim().parse().unwrap();
    let passes = |address: Ipv6Addr, hops: u32| {
        raw.set_unicast_hops_v6(hops).unwrap();
        raw.set_multicast_hops_v6(hops).unwrap();
        let bytes = [&[135, 0][..], &[0; 22]].concat();
        let scope = if address.segments()[0] == 0xff02 { card } else { 0 };
        raw.send_to(&bytes, &SocketAddrV6::new(address, 0, 0, scope).into()).is_ok()
    };
    tally.reset();
    let all: Ipv6Addr = "ff02::1".parse().unwrap();
    for address in [NEIGHBOUR_V6, all] {
        assert!(passes(address, 255), "{address}");
        assert!(!passes(address, 64) && !passes(address, 1), "{address}");
    }
    for address in [WORLD_V6, "2001:db8::1".parse().unwrap(), "ff05::1".parse().unwrap()] {
        assert!(!passes(address, 255) && !passes(address, 64), "{address}");
    }
    eventually("both arrive", || tally.count("discovery") >= 2);
    assert_eq!(tally.count("leaked"), 0);
}

/// The kernel's own discovery works: addresses are resolved in both directions, and neighbours stay
/// reachable.
#[test]
fn real_neighbours_find_each_other() {
    let stage = Stage::new();
    let (client, router) = (stage.client(), &stage.router);
    client.shell("echo 1 >/proc/sys/net/ipv6/neigh/eth0/delay_first_probe_time");
    kill(start(client, &stage.plan.client, &["--kill-switch"]));
    let (ours, theirs) = (client.v6.to_string(), NEIGHBOUR_V6.to_string());
    client.ip(&["-6", "neighbour", "flush", "dev", "eth0"]);
    router.ip(&["-6", "neighbour", "flush", "dev", "right"]);
    // the neighbour asks from a global address, and this host answers to it
    let known =
        |site: &Site, address: &str, card: &str| site.ip(&["-6", "neighbour", "show", address, "dev", card]);
    router.ping_once(client.v6, 56);
    assert!(known(router, &ours, "right").contains("lladdr"), "{}", known(router, &ours, "right"));
    // this host asks
    let socket = client.udp((client.v6, 546));
    eventually("the neighbour is found", || {
        socket.send_to(b"dhcp", (NEIGHBOUR_V6, 547)).unwrap();
        known(client, &theirs, "eth0").contains("lladdr")
    });
    // and probes the neighbour by a unicast solicitation
    let lladdr = known(client, &theirs, "eth0");
    let lladdr = lladdr.split_whitespace().skip_while(|word| *word != "lladdr").nth(1).unwrap().to_owned();
    client.ip(&["neighbour", "replace", &theirs, "lladdr", &lladdr, "dev", "eth0", "nud", "stale"]);
    socket.send_to(b"dhcp", (NEIGHBOUR_V6, 547)).unwrap();
    eventually("it is confirmed", || {
        let state = known(client, &theirs, "eth0");
        assert!(!state.contains("FAILED"), "{state}");
        state.contains("REACHABLE")
    });
}
