//! `--kill-switch`: nothing bypasses the tunnel, in any of its states.
//!
//! Host 1 is the client, and the router counts all packets from its interface; host 0 is the VPN's
//! server, the Internet and the name server.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use socket2::{Domain, Protocol, Socket, Type};

use super::implementation::Implementation;
use super::name_server::NameServer;
use super::no_nftables;
use super::node::Node;
use super::pair::{Outer, PORT, Plan};
use super::settings::Settings;
use super::site::Site;
use super::tally::Tally;
use crate::daemon::Daemon;
use crate::lab::{Lab, heavy};
use crate::mounts::BINARY;
use crate::waiting::{Finished, SetAtEnd, TIMEOUT, eventually, finish};

/// Addresses on the server that stand for the Internet.
pub(crate) const WORLD_V4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
pub(crate) const WORLD_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 1);
/// The client's neighbour on its own link.
pub(crate) const NEIGHBOUR_V4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 254);
pub(crate) const NEIGHBOUR_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0xfe);
/// Pause of a sender after each packet or pair of packets.
const SEND_INTERVAL: Duration = Duration::from_micros(100);
/// Packets that may leave the client's interface, and last those that may not.
const CLASSES: &[(&str, &str)] = &[
    ("elsewhere", "iifname != right"),
    ("tunnel", "udp dport 51820"),
    ("dhcp", "meta nfproto ipv4 udp sport 68 udp dport 67"),
    ("dhcpv6", "udp sport 546 udp dport 547"),
    ("discovery", "icmpv6 type 133-136"),
    // The kernel sends multicast listener reports by itself, within a second of new addresses:
    // possibly before the kill switch exists, which drops them.
    ("listener", "icmpv6 type 143"),
    ("dns", "meta l4proto { tcp, udp } th dport 53"),
    ("leaked", ""),
];

/// The hosts, with the server running, and the client's plan: a full tunnel.
pub(crate) struct Stage {
    lab: Arc<Lab>,
    pub(crate) plan: Plan,
    pub(crate) router: Site,
    server: Node,
}

impl Stage {
    pub(crate) fn new() -> Self {
        let lab = Arc::new(Lab::routed(1500));
        let mut plan = Plan::new(&lab, Outer::V4);
        for address in [format!("{WORLD_V4}/32"), format!("{WORLD_V6}/128")] {
            plan.server_site.ip(&["address", "add", &address, "dev", "lo"]);
        }
        plan.server.peers[0].allowed.push("172.16.0.0/24".to_owned());
        plan.client.peers[0].allowed = vec!["0.0.0.0/0".to_owned(), "::/0".to_owned()];
        let server = Node::start(&plan.server_site, Implementation::ConfigFile, &plan.server);
        let router = Site::new(&lab, 2);
        // the Internet is reachable without a tunnel, too
        router.ip(&["route", "add", &WORLD_V4.to_string(), "via", "192.0.2.1"]);
        router.ip(&["route", "add", &WORLD_V6.to_string(), "via", "2001:db8::1"]);
        Self { lab, plan, router, server }
    }

    pub(crate) fn client(&self) -> &Site {
        &self.plan.client_site
    }

    pub(crate) fn count(&self) -> Tally<'_> {
        Tally::start(&self.router, "prerouting", CLASSES)
    }

    /// Starts the client with a kill switch, and waits until it is ready.
    fn start(&self) -> Daemon {
        start(self.client(), &self.plan.client, &["--kill-switch"])
    }
}

pub(crate) fn start(site: &Site, settings: &Settings, arguments: &[&str]) -> Daemon {
    let daemon = launch(site, settings, arguments);
    daemon.wait_for(" ready mode=");
    daemon
}

pub(crate) fn launch(site: &Site, settings: &Settings, arguments: &[&str]) -> Daemon {
    let file = site.write("wg0.conf", &settings.wg_quick());
    let config = ["--config", file.to_str().unwrap()];
    site.launch(BINARY.as_ref(), &[&config[..], arguments].concat()).spawn()
}

fn kill_switch_off(site: &Site, arguments: &[&str]) -> Finished {
    finish(site.command(BINARY).arg("unlock").args(arguments), TIMEOUT)
}

pub(crate) fn has_kill_switch(site: &Site) -> bool {
    site.shell("nft list tables").contains("table inet wontun-lock-wg0")
}

/// Returns the table, as nft(8) prints it.
pub(crate) fn table(site: &Site) -> String {
    site.shell("nft list table inet wontun-lock-wg0")
}

pub(crate) fn kill(daemon: Daemon) {
    daemon.signal(Signal::SIGKILL);
    daemon.wait_exit();
}

/// Sends a host's usual packets, near and far, and ignores answers: ping, UDP, TCP and DNS queries.
pub(crate) fn talk(site: &Site) {
    let far = [IpAddr::from(WORLD_V4), WORLD_V6.into()];
    let near = [IpAddr::from(NEIGHBOUR_V4), NEIGHBOUR_V6.into()];
    for address in far.into_iter().chain(near) {
        let mut ping = site.command("ping");
        finish(ping.args(["-n", "-c", "2", "-i", "0.1", "-W", "1", &address.to_string()]), TIMEOUT);
        let any: IpAddr =
            if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = site.udp((any, 0));
        for port in [9, 53] {
            let _ = socket.send_to(b"talk", (address, port));
        }
        site.inside(|| {
            let domain = if address.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
            let socket = Socket::new(domain, Type::STREAM, None).unwrap();
            let _ = socket.connect_timeout(&SocketAddr::new(address, 443).into(), Duration::from_millis(100));
        });
    }
}

/// Panics unless the client reaches the Internet through the tunnel, over IPv4 and IPv6.
pub(crate) fn reaches_the_world(stage: &Stage) {
    stage.client().ping(WORLD_V4);
    stage.client().ping(WORLD_V6);
}

/// The complete sequence: up, killed, closed, switched off.
#[test]
fn nothing_leaks_when_the_tunnel_is_killed() {
    let stage = Stage::new();
    let (client, tally) = (stage.client(), stage.count());
    // the control: all of it is seen
    talk(client);
    assert!(tally.count("leaked") >= 12, "{}", tally.count("leaked"));
    assert!(tally.count("dns") >= 4);

    let daemon = stage.start();
    tally.reset();
    reaches_the_world(&stage);
    talk(client);
    assert_eq!((tally.count("leaked"), tally.count("dns")), (0, 0));
    assert!(tally.count("tunnel") >= 10, "what was said went elsewhere");

    kill(daemon);
    assert!(has_kill_switch(client) && !client.has_device("wg0"));
    tally.reset();
    talk(client);
    assert_eq!(["leaked", "dns", "tunnel"].map(|class| tally.count(class)), [0, 0, 0]);

    let unlocked = kill_switch_off(client, &["wg0"]);
    assert_eq!((unlocked.code(), unlocked.stdout.as_str()), (0, "wg0: kill switch off\n"));
    assert!(!has_kill_switch(client));
    talk(client);
    assert!(tally.count("leaked") >= 12, "it is still shut");
    let again = kill_switch_off(client, &["wg0"]);
    assert_eq!((again.code(), again.stdout.as_str()), (0, "wg0 has no kill switch\n"));
    let all = kill_switch_off(client, &[]);
    assert_eq!((all.code(), all.stdout.as_str()), (0, "no kill switch is on\n"));
}

/// Without DHCP and neighbour discovery the network under the tunnel would soon fail.
#[test]
fn dhcp_and_neighbour_discovery_pass() {
    let stage = Stage::new();
    let (client, tally) = (stage.client(), stage.count());
    kill(stage.start());
    let from = |address: &str| client.udp(address.parse::<SocketAddr>().unwrap());
    from("198.51.100.2:68").send_to(b"renew", (NEIGHBOUR_V4, 67)).unwrap();
    from("[2001:db8:1::2]:546").send_to(b"renew", (NEIGHBOUR_V6, 547)).unwrap();
    client.ip(&["-6", "neighbour", "flush", "dev", "eth0"]);
    tally.reset();
    from("198.51.100.2:68").send_to(b"renew", (NEIGHBOUR_V4, 67)).unwrap();
    from("[2001:db8:1::2]:546").send_to(b"renew", (NEIGHBOUR_V6, 547)).unwrap();
    eventually("DHCP passes", || tally.count("dhcp") == 1 && tally.count("dhcpv6") == 1);
    assert!(tally.count("discovery") > 0);
    // the same ports reversed, and other combinations, are not DHCP
    for (own, far) in [(67, 68), (68, 68), (68, 69)] {
        assert!(from(&format!("198.51.100.2:{own}")).send_to(b"no", (NEIGHBOUR_V4, far)).is_err());
    }
    assert!(from("[2001:db8:1::2]:546").send_to(b"no", (NEIGHBOUR_V6, 546)).is_err());
    // every message of neighbour discovery but the redirect, which only a router sends
    let raw = client.inside(|| Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))).unwrap();
    raw.set_unicast_hops_v6(255).unwrap();
    let message = |kind: u8| {
        let bytes = [&[kind, 0][..], &[0; 22]].concat();
        raw.send_to(&bytes, &SocketAddr::from((NEIGHBOUR_V6, 0)).into()).is_ok()
    };
    assert_eq!([132, 133, 134, 135, 136, 137].map(message), [false, true, true, true, true, false]);
    assert_eq!(tally.count("leaked"), 0);
}

#[test]
fn an_orderly_end_opens_the_network() {
    let stage = Stage::new();
    let client = stage.client();
    // the routes of an address appear after duplicate address detection
    eventually("no address is tentative", || client.ip(&["-6", "address", "show", "tentative"]).is_empty());
    let before = client.shell("nft list ruleset; ip rule; ip route show table all");
    let daemon = stage.start();
    reaches_the_world(&stage);
    assert!(has_kill_switch(client));
    let stopped = daemon.stop();
    assert_eq!(stopped.status.code(), Some(0), "{:?}", stopped.lines);
    assert!(!stopped.lines.iter().any(|line| line.contains("WARN")), "{:?}", stopped.lines);
    assert_eq!(client.shell("nft list ruleset; ip rule; ip route show table all"), before);
    client.ping(stage.server.site.v4);
}

/// An end of the tunnel that nobody requested leaves the kill switch, and the log says so.
#[test]
fn a_deleted_device_leaves_it_engaged() {
    let stage = Stage::new();
    let (client, tally) = (stage.client(), stage.count());
    let daemon = stage.start();
    reaches_the_world(&stage);
    client.ip(&["link", "delete", "wg0"]);
    let stopped = daemon.wait_exit();
    assert_eq!(stopped.status.code(), Some(69));
    let said = stopped.lines.iter().any(|line| line.contains("`wontun kill-switch off wg0`"));
    assert!(said, "{:?}", stopped.lines);
    assert!(has_kill_switch(client));
    tally.reset();
    talk(client);
    assert_eq!(["leaked", "dns", "tunnel"].map(|class| tally.count(class)), [0, 0, 0]);
}

/// The kill switch is engaged before the file is read, and before anything is opened for the
/// tunnel.
#[test]
fn it_is_engaged_before_all_else() {
    let stage = Stage::new();
    let client = stage.client();
    // one name server of the network: no look-up is needed before
    client.write("resolv.conf", &format!("nameserver {WORLD_V4}\n"));
    client.shell(&format!("mount --bind {}/resolv.conf /etc/resolv.conf", client.path().display()));
    let trace = client.path().join("trace");
    let file = client.write("wg0.conf", &stage.plan.client.wg_quick());
    let strace = format!("strace -D -e trace=sendto,openat,setsockopt,socketpair -o {}", trace.display());
    let arguments = ["--config", file.to_str().unwrap(), "--kill-switch"];
    let daemon = client.launch(BINARY.as_ref(), &arguments).wrap(&strace).spawn();
    daemon.wait_for(" ready mode=");
    daemon.stop();
    let mut calls = String::new();
    eventually("strace has written all", || {
        calls = std::fs::read_to_string(&trace).unwrap_or_default();
        calls.contains("+++ exited")
    });
    let first = |what: &str| {
        calls.lines().position(|call| call.contains(what)).unwrap_or_else(|| panic!("no {what}:\n{calls}"))
    };
    let engaged = first("NFNL_SUBSYS_NFTABLES<<8|NFT_MSG_NEWRULE");
    for later in ["wg0.conf", "socketpair(", "SO_REUSEPORT", "/dev/net/tun", "ifi_flags=IFF_UP"] {
        assert!(engaged < first(later), "{later} comes before:\n{calls}");
    }
}

/// A continuous sender: none of its datagrams leaks between the death of one run and the next.
#[test]
fn nothing_leaks_from_one_run_to_the_next() {
    let stage = Stage::new();
    let (client, tally) = (stage.client(), stage.count());
    let daemon = stage.start();
    reaches_the_world(&stage);
    let (stop, sent) = (AtomicBool::new(false), AtomicBool::new(false));
    let socket = client.udp((Ipv4Addr::UNSPECIFIED, 0));
    tally.reset();
    thread::scope(|scope| {
        let _end = SetAtEnd(&stop);
        scope.spawn(|| send_always(&socket, &stop, &sent));
        kill(daemon);
        for _ in 0..3 {
            let daemon = stage.start();
            reaches_the_world(&stage);
            sent.store(false, Ordering::Relaxed);
            eventually("the sender is at work", || sent.load(Ordering::Relaxed));
            kill(daemon);
        }
    });
    assert_eq!((tally.count("leaked"), tally.count("dns")), (0, 0));
}

/// The table is replaced with each new mark, and stays closed throughout.
#[test]
fn nothing_leaks_while_the_table_is_replaced() {
    let _alone = heavy();
    let stage = Stage::new();
    let (client, tally) = (stage.client(), stage.count());
    let _daemon = stage.start();
    reaches_the_world(&stage);
    let stop = AtomicBool::new(false);
    let sockets = [(); 2].map(|()| client.udp((Ipv4Addr::UNSPECIFIED, 0)));
    tally.reset();
    thread::scope(|scope| {
        let _end = SetAtEnd(&stop);
        for socket in &sockets {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    assert!(socket.send_to(b"out", (NEIGHBOUR_V4, 9)).is_err());
                    // the replacements need the processors, too
                    thread::sleep(SEND_INTERVAL);
                }
            });
        }
        for mark in 1000..1300 {
            client.wg(&["set", "wg0", "fwmark", &mark.to_string()]);
        }
    });
    assert!(client.shell("nft list ruleset").contains("meta mark 0x00000513 udp sport "));
    assert_eq!((tally.count("leaked"), tally.count("dns")), (0, 0));
    client.ping(WORLD_V4);
}

fn send_always(socket: &UdpSocket, stop: &AtomicBool, sent: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        for address in [WORLD_V4, NEIGHBOUR_V4] {
            if socket.send_to(b"always", (address, 9)).is_ok() {
                sent.store(true, Ordering::Relaxed);
            }
        }
        thread::sleep(SEND_INTERVAL);
    }
}

/// The server is known by name, its name server is remote, and answers over TCP only.
#[test]
fn names_of_peers_are_asked_for_all_the_same() {
    let mut stage = Stage::new();
    let name_server = NameServer::start(stage.lab.host(0), WORLD_V4, stage.server.site.v4, true);
    let endpoint = format!("vpn.example.com:{PORT}");
    stage.plan.client.peers[0].endpoint = Some(endpoint);
    let client = stage.client();
    let hosts = client.write("hosts", "127.0.0.1 localhost\n");
    let conf = client.write("resolv.conf", &format!("nameserver {WORLD_V4}\n"));
    for (own, place) in [(hosts, "/etc/hosts"), (conf, "/etc/resolv.conf")] {
        client.shell(&format!("chmod 644 {0}; mount --bind {0} {place}", own.display()));
    }
    let tally = stage.count();
    let daemon = stage.start();
    reaches_the_world(&stage);
    let (udp, tcp) = name_server.query_counts();
    assert!(udp >= 2 && tcp >= 2, "{:?}", name_server.query_counts());
    assert_eq!(tally.count("leaked"), 0);
    for protocol in ["udp", "tcp"] {
        let rule = format!("meta mark 0x0000ca6c {protocol} dport 53 accept");
        assert!(table(client).contains(&rule), "{}", table(client));
    }

    // no other program's queries get out, also when the tunnel is gone
    kill(daemon);
    // the kernel closes a dead process's connections: those packets have the mark, and are not
    // queries
    eventually("the lookup's connections are closed", || {
        client.shell("ss -Htan dport = 53").lines().all(|line| line.starts_with("TIME-WAIT"))
    });
    tally.reset();
    let socket = client.udp((Ipv4Addr::UNSPECIFIED, 0));
    assert!(socket.send_to(b"a question", (WORLD_V4, 53)).is_err());
    assert_eq!(tally.count("dns"), 0);
    // and the next run gets through the kill switch that was left
    let _daemon = stage.start();
    reaches_the_world(&stage);
    assert!(tally.count("dns") > 0);
    assert_eq!(tally.count("leaked"), 0);
}

/// A tunnel with a default route needs that without a kill switch, too: the query would be routed
/// into the tunnel that depends on it.
#[test]
fn a_name_behind_the_own_default_route_is_found() {
    let mut stage = Stage::new();
    let name_server = NameServer::start(stage.lab.host(0), WORLD_V4, stage.server.site.v4, false);
    stage.plan.client.peers[0].endpoint = Some(format!("vpn.example.com:{PORT}"));
    let client = stage.client();
    let hosts = client.write("hosts", "127.0.0.1 localhost\n");
    let conf = client.write("resolv.conf", &format!("nameserver {WORLD_V4}\n"));
    for (own, place) in [(hosts, "/etc/hosts"), (conf, "/etc/resolv.conf")] {
        client.shell(&format!("chmod 644 {0}; mount --bind {0} {place}", own.display()));
    }
    let _daemon = start(client, &stage.plan.client, &[]);
    reaches_the_world(&stage);
    let (udp, tcp) = name_server.query_counts();
    assert!(udp >= 2 && tcp == 0, "{:?}", name_server.query_counts());
}

/// The mark is the user's, or there are no routes that need one.
#[test]
fn it_follows_the_mark_of_the_tunnel() {
    for (mark, table) in [(Some(77), None), (None, Some("off"))] {
        let mut stage = Stage::new();
        stage.plan.client.fwmark = mark;
        stage.plan.client.table = table.map(str::to_owned);
        let client = stage.client();
        let tally = stage.count();
        let daemon = stage.start();
        if table.is_some() {
            client.ip(&["route", "replace", &WORLD_V4.to_string(), "dev", "wg0"]);
        }
        client.ping(WORLD_V4);
        if mark.is_some() {
            // changed while it runs
            client.wg(&["set", "wg0", "fwmark", "78"]);
            client.ping(WORLD_V4);
        }
        assert!(tally.count("tunnel") > 0);
        assert_eq!(tally.count("leaked"), 0);
        assert_eq!(daemon.stop().status.code(), Some(0));
        assert!(!has_kill_switch(client));
    }
}

/// Neither another administrator nor a reload opens it.
#[test]
fn neither_deleting_the_table_nor_another_file_opens_it() {
    let stage = Stage::new();
    let client = stage.client();
    let daemon = stage.start();
    reaches_the_world(&stage);
    // where the kernel supports owners this is refused, elsewhere the table is restored
    client.shell("nft delete table inet wontun-lock-wg0 2>/dev/null || true");
    eventually("it is engaged", || has_kill_switch(client));
    reaches_the_world(&stage);
    assert!(!client.ping_once(NEIGHBOUR_V4, 56));

    // a file with fewer routes into the tunnel opens nothing
    let mut split = stage.plan.client.clone();
    split.peers[0].allowed = vec!["10.9.0.0/24".to_owned()];
    client.write("wg0.conf", &split.wg_quick());
    daemon.signal(Signal::SIGHUP);
    daemon.wait_for("no peer has the default route any more");
    assert!(!client.ping_once(WORLD_V4, 56));
    client.ping([10, 9, 0, 1]);
}

/// A second run that fails because the first has the device does not cut the first one off.
#[test]
fn a_second_run_does_no_harm() {
    let stage = Stage::new();
    let _daemon = stage.start();
    reaches_the_world(&stage);
    let second = launch(stage.client(), &stage.plan.client, &["--kill-switch"]).wait_exit();
    assert_eq!(second.status.code(), Some(69), "{:?}", second.lines);
    assert!(has_kill_switch(stage.client()));
    reaches_the_world(&stage);
}

/// A start without `--kill-switch` while one is engaged logs it, and opens nothing.
#[test]
fn one_that_is_left_is_told_to_who_starts_without() {
    let stage = Stage::new();
    kill(stage.start());
    let daemon = start(stage.client(), &stage.plan.client, &[]);
    daemon.wait_for("`wontun kill-switch off wg0`");
    assert!(has_kill_switch(stage.client()));
}

/// If a kill switch is requested and fails, there is no tunnel.
#[test]
fn without_nftables_there_is_no_tunnel() {
    let stage = Stage::new();
    let client = stage.client();
    let file = client.write("wg0.conf", &stage.plan.client.wg_quick());
    let arguments = ["--config", file.to_str().unwrap(), "--kill-switch"];
    let refuse = no_nftables::refuse(client, &arguments, |places| places.next());
    let ended = client.launch(BINARY.as_ref(), &arguments).wrap(&refuse).spawn().wait_exit();
    assert_eq!(ended.status.code(), Some(69), "{:?}", ended.lines);
    let said =
        "cannot install the kill switch of wg0: Protocol not supported: check that the kernel has nf_tables";
    assert!(ended.lines.iter().any(|line| line.contains(said)), "{:?}", ended.lines);
    assert!(!client.has_device("wg0"));
}

#[test]
fn it_takes_a_file_with_a_default_route() {
    let mut stage = Stage::new();
    let client = stage.client();
    let plain = finish(client.command(BINARY).args(["plain", "--kill-switch"]), TIMEOUT);
    assert_eq!(plain.code(), 78);
    assert!(plain.stderr.contains("--kill-switch has no effect without --config"), "{}", plain.stderr);
    stage.plan.client.peers[0].allowed = vec!["10.9.0.0/24".to_owned(), "0.0.0.0/1".to_owned()];
    let split = launch(stage.client(), &stage.plan.client, &["--kill-switch"]).wait_exit();
    assert_eq!(split.status.code(), Some(78));
    assert!(
        split.lines.iter().any(|line| line.contains("AllowedIPs = 0.0.0.0/0, ::/0")),
        "{:?}",
        split.lines
    );
    // an error in the file like any other: it opens nothing
    assert!(has_kill_switch(stage.client()));
}

/// The client as the router of another host: that host's connections go through the tunnel and come
/// back, and none of its packets bypass the tunnel either.
#[test]
fn hosts_behind_it_are_held_to_it_too() {
    let mut stage = Stage::new();
    stage.plan.client.addresses.push("172.16.0.1/32".to_owned());
    let behind = Lab::new(1);
    let (client, guest) = (stage.client(), behind.host(0));
    client.ip(&["link", "add", "lan0", "type", "veth", "peer", "name", "up0", "netns", guest.name()]);
    client.ip(&["address", "add", "172.16.0.1/24", "dev", "lan0"]);
    client.ip(&["link", "set", "lan0", "up"]);
    client.shell("echo 1 >/proc/sys/net/ipv4/ip_forward");
    guest.ip(&["address", "add", "172.16.0.2/24", "dev", "up0"]);
    guest.ip(&["link", "set", "up0", "up"]);
    guest.ip(&["route", "add", "default", "via", "172.16.0.1"]);
    // the client's network translates: leaked packets would be answered
    client.shell("nft 'table ip masq { chain p { type nat hook postrouting priority 100; oifname eth0 masquerade; }; }'");
    guest.ping(WORLD_V4);
    let tally = stage.count();
    let daemon = stage.start();
    tally.reset();
    guest.ping(WORLD_V4);
    assert_eq!(tally.count("leaked"), 0);
    kill(daemon);
    assert!(!guest.ping_once(WORLD_V4, 56));
    assert_eq!((tally.count("leaked"), tally.count("dns")), (0, 0));
}
