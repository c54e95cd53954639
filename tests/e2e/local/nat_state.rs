//! `--nat auto` lets peers out, and nobody in: neither to the peers, nor from one device of the
//! host to another.
//!
//! The router of the laboratory is the VPN's server, host 1 its client, and host 0 an outside host
//! that routes the VPN's networks to the server.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::daemon::Daemon;
use crate::lab::{Host, Lab};
use crate::mounts::BINARY;
use crate::waiting::{eventually, uninterrupted};
use crate::wireguard::implementation::Implementation::ConfigFile;
use crate::wireguard::node::Node;
use crate::wireguard::pair::{CLIENT_V4, CLIENT_V6, Outer, PORT, Plan, SERVER_V4};
use crate::wireguard::settings::{Keys, Peer, Settings};
use crate::wireguard::site::Site;

const OUTSIDE_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const OUTSIDE_V6: &str = "2001:db8::1";
/// Addresses of host 1 that are not the tunnel's.
const BEHIND_V4: &str = "198.51.100.2";
const BEHIND_V6: &str = "2001:db8:1::2";
const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
const SWITCHES: &str = "cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv6/conf/all/forwarding";
/// Long enough for a packet to arrive, on a busy machine too.
const ARRIVES: Duration = Duration::from_secs(2);

/// Returns the three hosts. Nothing runs yet, and the server does not forward.
fn stage() -> (Arc<Lab>, Plan) {
    let lab = Arc::new(Lab::routed(1500));
    let mut plan = Plan::between(&lab, [2, 1], Outer::V4);
    let peer = &mut plan.client.peers[0];
    peer.endpoint = Some(format!("198.51.100.254:{PORT}"));
    peer.allowed.extend(["192.0.2.0/24", "2001:db8::/64", "169.254.0.0/16"].map(str::to_owned));
    switch_off(&plan.server_site);
    lab.host(0).ip(&["route", "add", "10.9.0.0/24", "via", "192.0.2.254"]);
    lab.host(0).ip(&["route", "add", "fd00:9::/64", "via", "2001:db8::fe"]);
    (lab, plan)
}

fn switch_off(server: &Site) {
    server.shell("echo 0 >/proc/sys/net/ipv4/ip_forward; echo 0 >/proc/sys/net/ipv6/conf/all/forwarding");
}

fn serve(site: &Site, settings: &Settings, arguments: &[&str]) -> Daemon {
    let file = site.write("wg0.conf", &settings.wg_quick());
    let config = ["--config", file.to_str().unwrap(), "--nat", "auto"];
    let daemon = site.launch(BINARY.as_ref(), &[&config[..], arguments].concat()).spawn();
    daemon.wait_for(" ready mode=");
    daemon
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Returns true if a TCP connection from `from` to a listener on `to` succeeds.
fn connects(from: &Host, to: &Host, target: IpAddr) -> bool {
    let _listener = to.listen((target, 7000));
    from.inside(|| TcpStream::connect_timeout(&SocketAddr::new(target, 7000), ARRIVES)).is_ok()
}

/// Returns true if one of a few datagrams from `from` to `target`, an address of `to`, arrives.
fn reaches(from: &Host, to: &Host, target: IpAddr) -> bool {
    let inbox = to.udp((target, 7001));
    let any: IpAddr = if target.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { address("::") };
    let outbox = from.udp((any, 0));
    inbox.set_read_timeout(Some(ARRIVES / 4)).unwrap();
    (0..4).any(|_| {
        outbox.send_to(b"anybody there?", (target, 7001)).ok();
        uninterrupted(|| inbox.recv(&mut [0; 32])).is_ok()
    })
}

/// Returns true for each family in which host 0 reaches host 1 outside the tunnel, through the
/// server.
fn routes_between_others(lab: &Lab) -> [bool; 2] {
    [BEHIND_V4, BEHIND_V6].map(|behind| reaches(lab.host(0), lab.host(1), address(behind)))
}

#[test]
fn outside_hosts_open_nothing_to_a_client() {
    let (lab, plan) = stage();
    let server = serve(&plan.server_site, &plan.server, &[]);
    let client = Node::start(&plan.client_site, ConfigFile, &plan.client);
    client.ping(SERVER_V4);
    // the client reaches outside, and gets answers
    for target in [OUTSIDE_V4.into(), address(OUTSIDE_V6)] {
        assert!(connects(client.site.host(), lab.host(0), target), "{target}");
    }
    let opened = [CLIENT_V4, CLIENT_V6].map(|target| {
        let target = address(target);
        (connects(lab.host(0), client.site.host(), target), reaches(lab.host(0), client.site.host(), target))
    });
    assert_eq!(opened, [(false, false); 2], "opened from outside: (TCP, UDP) over IPv4, over IPv6");
    // the server itself reaches its clients
    plan.server_site.ping(address(CLIENT_V4));
    assert_eq!(server.count("WARN"), 0, "{:?}", server.lines());
}

/// Networks behind a peer are routed without NAT: they stay open, and so do connections that the
/// host's own rules forward to a client.
#[test]
fn wanted_ways_in_stay_open() {
    let (lab, mut plan) = stage();
    plan.server.peers[0].allowed.push("10.20.0.0/16".to_owned());
    let _server = serve(&plan.server_site, &plan.server, &[]);
    let client = Node::start(&plan.client_site, ConfigFile, &plan.client);
    client.ping(SERVER_V4);
    client.site.ip(&["address", "add", "10.20.0.1/16", "dev", "lo"]);
    lab.host(0).ip(&["route", "add", "10.20.0.0/16", "via", "192.0.2.254"]);
    assert!(connects(lab.host(0), client.site.host(), address("10.20.0.1")));

    plan.server_site.shell(
        "nft 'table ip published { chain in { type nat hook prerouting priority -100;
              ip daddr 192.0.2.254 tcp dport 8080 dnat to 10.9.0.2:7000; }; }'",
    );
    let _listener = client.site.listen((address(CLIENT_V4), 7000));
    lab.host(0).connect((Ipv4Addr::new(192, 0, 2, 254), 8080));
}

#[test]
fn a_client_reaches_no_link_local_address_as_the_server() {
    let (lab, plan) = stage();
    lab.host(0).ip(&["address", "add", "169.254.169.254/32", "dev", "lo"]);
    plan.server_site.ip(&["route", "add", "169.254.169.254/32", "via", "192.0.2.1"]);
    let server = serve(&plan.server_site, &plan.server, &[]);
    let client = Node::start(&plan.client_site, ConfigFile, &plan.client);
    client.ping(SERVER_V4);
    assert!(
        !reaches(client.site.host(), lab.host(0), METADATA.into()),
        "cloud metadata is served to a client"
    );
    assert!(plan.server_site.ping_once(METADATA, 56), "the server itself does not reach it");
    server.stop();

    let _server = serve(&plan.server_site, &plan.server, &["--nat-allow", "169.254.169.254/32"]);
    client.ping(SERVER_V4);
    assert!(reaches(client.site.host(), lab.host(0), METADATA.into()), "allowed and not reached");
}

#[test]
fn the_host_is_no_router_between_its_other_devices() {
    let (lab, plan) = stage();
    let site = &plan.server_site;
    assert_eq!(routes_between_others(&lab), [false; 2], "it forwards before the start");
    let server = serve(site, &plan.server, &[]);
    let client = Node::start(&plan.client_site, ConfigFile, &plan.client);
    client.ping(SERVER_V4);
    for target in [OUTSIDE_V4.into(), address(OUTSIDE_V6)] {
        assert!(connects(client.site.host(), lab.host(0), target), "{target}");
    }
    assert_eq!(routes_between_others(&lab), [false; 2], "a router since the start (IPv4, IPv6)");
    server.stop();
    assert_eq!(routes_between_others(&lab), [false; 2], "a router since the end (IPv4, IPv6)");
    let kept = "cat /proc/sys/net/ipv4/conf/left/forwarding /proc/sys/net/ipv4/conf/right/forwarding";
    assert_eq!(site.shell(kept), "0\n0\n", "switches are left on");

    // A killed run leaves its sysctls on: its table holds other traffic back, and a later run turns
    // them off.
    let server = serve(site, &plan.server, &[]);
    server.signal(Signal::SIGKILL);
    server.wait_exit();
    assert_eq!(routes_between_others(&lab), [false; 2], "a router since it was killed (IPv4, IPv6)");
    let server = serve(site, &plan.server, &[]);
    assert_eq!(routes_between_others(&lab), [false; 2], "a router since the second start (IPv4, IPv6)");
    server.stop();
    assert_eq!(site.shell(kept), "0\n0\n", "switches of a killed run are left on");
}

/// `sysctl --system` on a host whose files turn forwarding off. For IPv6 the kernel treats writing
/// a 0 over a 0 as a change, and does not announce it.
#[test]
fn clients_get_out_after_somebody_turns_off_what_is_off() {
    let (lab, plan) = stage();
    let server = serve(&plan.server_site, &plan.server, &[]);
    let client = Node::start(&plan.client_site, ConfigFile, &plan.client);
    client.ping(SERVER_V4);
    switch_off(&plan.server_site);
    assert!(reaches(client.site.host(), lab.host(0), OUTSIDE_V4.into()));
    server.signal(Signal::SIGHUP);
    server.wait_for("reloaded the configuration");
    // if another event of IPv6 comes before that, such as a new address, it shows what was off
    let warnings = server.count("WARN");
    assert!(
        warnings <= server.count("WARN settings were turned off by another program"),
        "{:?}",
        server.lines()
    );
    assert!(reaches(client.site.host(), lab.host(0), address(OUTSIDE_V6)));
    // a device that gets its address later works like the others
    plan.server_site.ip(&["address", "flush", "dev", "left"]);
    plan.server_site.shell("echo 0 >/proc/sys/net/ipv4/conf/left/forwarding");
    plan.server_site.ip(&["address", "add", "192.0.2.254/24", "dev", "left"]);
    eventually("the client gets out again", || reaches(client.site.host(), lab.host(0), OUTSIDE_V4.into()));
    assert_eq!(server.count("WARN"), warnings, "{:?}", server.lines());
}

/// As when a DHCP lease expires, or with ifdown or systemd-networkd: a device's sysctls stay on.
#[test]
fn addresses_that_go_and_come_back_make_no_router() {
    let (lab, plan) = stage();
    let site = &plan.server_site;
    let server = serve(site, &plan.server, &[]);
    for (device, v4, v6) in
        [("left", "192.0.2.254/24", "2001:db8::fe/64"), ("right", "198.51.100.254/24", "2001:db8:1::fe/64")]
    {
        site.ip(&["address", "flush", "dev", device]);
        // the change is seen, and must have no effect
        std::thread::sleep(Duration::from_millis(500));
        site.ip(&["address", "add", v4, "dev", device]);
        site.ip(&["address", "add", v6, "dev", device, "nodad"]);
    }
    let client = Node::start(&plan.client_site, ConfigFile, &plan.client);
    client.ping(SERVER_V4);
    assert!(connects(client.site.host(), lab.host(0), OUTSIDE_V4.into()));
    assert_eq!(routes_between_others(&lab), [false; 2], "a router between others (IPv4, IPv6)");
    server.stop();
    let switches = "cd /proc/sys/net; cat ipv4/conf/left/forwarding ipv4/conf/right/forwarding";
    assert_eq!(site.shell(switches), "0\n0\n", "left on at the end");
}

/// The last tunnel that needs a device's sysctl turns it off.
#[test]
fn two_tunnels_share_the_switches() {
    let (lab, plan) = stage();
    let site = &plan.server_site;
    let second = Settings::new(&Keys::new(), &["10.10.0.1/24", "fd00:10::1/64"]).port(PORT + 1);
    let second = site.write("wg1.conf", &second.wg_quick());
    let first = serve(site, &plan.server, &[]);
    let arguments = ["--config", second.to_str().unwrap(), "--nat", "auto"];
    let second = site.launch(BINARY.as_ref(), &arguments).spawn();
    second.wait_for(" ready mode=");
    let switches = || {
        site.shell(
            "cd /proc/sys/net; cat ipv4/conf/left/forwarding ipv6/conf/left/force_forwarding \
                 ipv4/conf/right/forwarding ipv6/conf/right/force_forwarding",
        )
    };
    assert_eq!(switches(), "1\n1\n1\n1\n");
    assert_eq!(routes_between_others(&lab), [false; 2], "a router between others (IPv4, IPv6)");
    first.stop();
    assert_eq!(switches(), "1\n1\n1\n1\n", "the second tunnel needs them");
    assert_eq!(routes_between_others(&lab), [false; 2], "a router without the first (IPv4, IPv6)");
    second.stop();
    assert_eq!(switches(), "0\n0\n0\n0\n", "still turned on");
}

#[test]
fn a_router_stays_a_router() {
    let (lab, plan) = stage();
    let site = &plan.server_site;
    site.shell("echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding");
    eventually("others are routed", || routes_between_others(&lab) == [true; 2]);
    let server = serve(site, &plan.server, &[]);
    eventually("others are routed", || routes_between_others(&lab) == [true; 2]);
    server.stop();
    eventually("others are routed", || routes_between_others(&lab) == [true; 2]);
    assert_eq!(site.shell(SWITCHES), "1\n1\n");
}

/// Does what dockerd does when it starts: it turns forwarding on where it is off, adds a bridge and
/// its chains, and then runs a container.
#[test]
fn containers_of_a_docker_that_starts_later_reach_the_world() {
    let (lab, plan) = stage();
    let site = &plan.server_site;
    let server = serve(site, &plan.server, &[]);
    docker(site);
    server.wait_for("net.ipv4.ip_forward was turned on by another program");
    server.wait_for("net.ipv6.conf.all.forwarding was turned on by another program");
    let reached = |target: &str| {
        let ping =
            format!("ip netns exec container ping -n -c 1 -W 2 {target} >/dev/null && echo yes || echo no");
        site.shell(&ping) == "yes\n"
    };
    eventually("the container reaches IPv4 hosts", || reached("192.0.2.1"));
    eventually("the container reaches IPv6 hosts", || reached(OUTSIDE_V6));
    // and so do the clients
    let client = Node::start(&plan.client_site, ConfigFile, &plan.client);
    client.ping(SERVER_V4);
    assert!(connects(client.site.host(), lab.host(0), OUTSIDE_V4.into()));
    server.stop();
    assert!(reached("192.0.2.1") && reached(OUTSIDE_V6), "not any more since the end");
    site.shell("ip netns delete container");
}

fn docker(site: &Site) {
    site.shell(
        "for switch in ipv4/ip_forward ipv6/conf/default/forwarding ipv6/conf/all/forwarding; do
             test $(cat /proc/sys/net/$switch) = 1 || echo 1 >/proc/sys/net/$switch
         done
         mkdir -p /run/netns
         ip link add docker0 type bridge
         ip address add 172.17.0.1/16 dev docker0
         ip address add fd00:17::1/64 dev docker0 nodad
         ip link set docker0 up
         nft 'table ip nat { chain POSTROUTING { type nat hook postrouting priority 100;
                  ip saddr 172.17.0.0/16 oifname != \"docker0\" masquerade; }; }
              table ip6 nat { chain POSTROUTING { type nat hook postrouting priority 100;
                  ip6 saddr fd00:17::/64 oifname != \"docker0\" masquerade; }; }
              table ip filter { chain FORWARD { type filter hook forward priority 0; policy drop;
                  ct state established,related accept; iifname \"docker0\" accept;
                  iifname \"wg0\" accept; oifname \"wg0\" accept; }; }'
         ip netns add container
         ip link add veth0 type veth peer name eth0 netns container
         ip link set veth0 master docker0 up
         ip -n container address add 172.17.0.2/16 dev eth0
         ip -n container address add fd00:17::2/64 dev eth0 nodad
         ip -n container link set eth0 up
         ip -n container route add default via 172.17.0.1
         ip -n container route add default via fd00:17::1",
    );
}

/// A kernel before 6.17 has only one sysctl for all devices of IPv6: here those of single devices
/// cannot be written.
#[test]
fn one_switch_for_all_is_held_back_until_others_turn_it_on() {
    let (lab, plan) = stage();
    let site = &plan.server_site;
    site.shell(
        "cd /proc/sys/net/ipv6/conf; echo 1 >left/accept_ra; mount --bind left/force_forwarding left/force_forwarding
         mount -o remount,bind,ro left/force_forwarding",
    );
    let server = serve(site, &plan.server, &[]);
    server.wait_for("turned on net.ipv6.conf.all.forwarding");
    assert_eq!(site.shell(SWITCHES), "0\n1\n");
    let client = Node::start(&plan.client_site, ConfigFile, &plan.client);
    client.ping(SERVER_V4);
    assert!(connects(client.site.host(), lab.host(0), address(OUTSIDE_V6)));
    assert_eq!(routes_between_others(&lab), [false; 2], "a router since the start (IPv4, IPv6)");
    // a sysctl that a killed run has turned on is not attributed to another program
    server.signal(Signal::SIGKILL);
    server.wait_exit();
    let server = serve(site, &plan.server, &[]);
    assert_eq!(routes_between_others(&lab), [false; 2], "a router since the second start (IPv4, IPv6)");
    server.stop();
    assert_eq!(site.shell(SWITCHES), "0\n0\n", "left on at the end");

    let server = serve(site, &plan.server, &[]);
    // for the kernel, writing 1 over 1 is not a change
    site.shell("echo 1 >/proc/sys/net/ipv6/conf/all/forwarding");
    server.wait_for("net.ipv6.conf.all.forwarding was turned on by another program");
    eventually("IPv6 is forwarded between others", || routes_between_others(&lab)[1]);
    server.stop();
    assert_eq!(site.shell(SWITCHES), "0\n1\n", "turned off, though another program counts on it");
}

/// Starts two clients of one server.
fn clients(policy: &[&str]) -> [bool; 2] {
    let lab = Arc::new(Lab::new(3));
    let [server_site, a_site, b_site] = [0, 1, 2].map(|index| Arc::new(Site::new(&lab, index)));
    let [server_keys, a_keys, b_keys] = [(); 3].map(|()| Keys::new());
    let server = Settings::new(&server_keys, &["10.9.0.1/24"])
        .port(PORT)
        .peer(Peer::new(&a_keys.public, &["10.9.0.2/32"]))
        .peer(Peer::new(&b_keys.public, &["10.9.0.3/32"]));
    let client = |keys: &Keys, address: &str| {
        let peer = Peer::new(&server_keys.public, &["10.9.0.0/24"]).at(Outer::V4.endpoint(&server_site));
        Settings::new(keys, &[address]).peer(peer)
    };
    let daemon = serve(&server_site, &server, policy);
    let [a, b] = [(&a_site, &a_keys, "10.9.0.2/24"), (&b_site, &b_keys, "10.9.0.3/24")]
        .map(|(site, keys, address)| Node::start(site, ConfigFile, &client(keys, address)));
    for node in [&a, &b] {
        node.ping(SERVER_V4);
    }
    let reached = [(&a_site, &b_site, "10.9.0.3"), (&b_site, &a_site, "10.9.0.2")]
        .map(|(from, to, target)| reaches(from.host(), to.host(), address(target)));
    assert!(daemon.stop().status.success());
    reached
}

#[test]
fn peers_reach_each_other_unless_they_are_isolated() {
    assert_eq!(clients(&["--policy", "isolate"]), [false; 2]);
    assert_eq!(clients(&["--policy", "open"]), [true; 2]);
    assert_eq!(clients(&[]), [true; 2]);
}
