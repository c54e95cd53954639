//! The kernel's routing decisions, and changes of the wanted routes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use caps::{CapSet, Capability};
use wontun::config::wg_quick::Table;
use wontun::netlink::{DesiredRouting, Link, LinkError, RestoreScope, RouteWarning};
use wontun_proto::allowed_ips::Prefix;

use crate::mounts::Folder;
use crate::waiting::eventually;

use super::{apply, full, lab, marked, open, prefix, route_to, routing_state, wanted};

const MARK: u32 = 51_820;

#[test]
fn a_full_tunnel_takes_all_but_its_own_packets() {
    let lab = lab();
    let host = lab.client();
    let before = routing_state(host);
    let mut routes = open(host, "tun7");
    assert_eq!(apply(host, &mut routes, &full()), marked(MARK));
    for (destination, device) in [
        ("198.51.100.7", "tun7"),
        ("203.0.113.1", "tun7"),
        ("10.8.0.9", "tun7"),
        ("2001:db8:99::7", "tun7"),
        // routes of main more specific than a default route still apply
        ("192.0.2.1", "eth0"),
        ("2001:db8::1", "eth0"),
    ] {
        assert_eq!(route_to(host, destination, 0), device, "{destination}");
    }
    assert_eq!(route_to(host, "198.51.100.7", MARK), "eth0");
    assert_eq!(route_to(host, "2001:db8:99::7", MARK), "eth0");
    let up = routing_state(host);
    assert_eq!(apply(host, &mut routes, &full()), marked(MARK));
    assert_eq!(routing_state(host), up, "the second time changes nothing");
    host.inside(|| routes.undo());
    assert_eq!(routing_state(host), before);
}

#[test]
fn halves_of_the_internet_go_the_same_way() {
    let lab = lab();
    let host = lab.client();
    let before = routing_state(host);
    let mut routes = open(host, "tun7");
    let halves = ["0.0.0.0/1", "128.0.0.0/1", "::/1", "8000::/1"];
    assert_eq!(apply(host, &mut routes, &wanted(&halves, &["198.51.100.7"])), marked(MARK));
    assert_eq!(route_to(host, "198.51.100.7", 0), "tun7");
    // wherever the peer roams to, packets to it do not go back into the tunnel
    assert_eq!(route_to(host, "198.51.100.7", MARK), "eth0");
    assert_eq!(route_to(host, "9.9.9.9", MARK), "eth0");
    assert_eq!(route_to(host, "192.0.2.1", 0), "eth0");
    assert!(!routes.captures_endpoint("9.9.9.9".parse().unwrap()));
    // IPv6 has no endpoint, so its halves are ordinary routes until it has one
    assert_eq!(route_to(host, "2001:db8:99::7", MARK), "tun7");
    assert!(!host.ip(&["-6", "rule", "show"]).contains("proto 119"));
    assert!(!host.shell("nft list tables").contains("ip6"));
    let roamed = "2001:db8:99::7".parse().unwrap();
    assert!(routes.captures_endpoint(roamed));
    apply(host, &mut routes, &wanted(&halves, &["2001:db8:99::7"]));
    assert!(!routes.captures_endpoint(roamed) && routes.captures_endpoint("9.9.9.9".parse().unwrap()));
    assert_eq!(route_to(host, "2001:db8:99::7", MARK), "eth0");
    assert_eq!(route_to(host, "2001:db8:99::7", 0), "tun7");
    assert!(!host.ip(&["-4", "rule", "show"]).contains("proto 119"));
    drop(routes);
    assert_eq!(routing_state(host), before);
}

/// The longest match of both tables wins, and if they are equal, the tunnel.
#[test]
fn a_network_around_the_endpoint_and_the_endpoint_itself() {
    let lab = lab();
    let host = lab.client();
    for wider_or_narrower in ["10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/24"] {
        host.ip(&["route", "add", wider_or_narrower, "via", "192.0.2.1"]);
    }
    let before = routing_state(host);
    let mut routes = open(host, "tun7");
    let allowed = ["10.1.0.0/16", "10.1.3.4/32", "10.1.4.0/24", "0.0.0.0/0"];
    assert_eq!(apply(host, &mut routes, &wanted(&allowed, &["10.1.3.4"])), marked(MARK));
    for (destination, device) in [
        ("10.1.9.9", "tun7"),
        ("10.1.3.4", "tun7"),
        ("10.1.4.1", "tun7"),
        ("203.0.113.1", "tun7"),
        ("10.1.2.9", "eth0"),
        ("10.2.0.1", "eth0"),
        ("192.0.2.77", "eth0"),
    ] {
        assert_eq!(route_to(host, destination, 0), device, "{destination}");
    }
    assert_eq!(route_to(host, "10.1.3.4", MARK), "eth0");
    drop(routes);
    assert_eq!(routing_state(host), before);
}

#[test]
fn routes_follow_the_allowed_ips() {
    let lab = lab();
    let host = lab.client();
    let before = routing_state(host);
    let mut routes = open(host, "tun7");
    assert_eq!(
        apply(host, &mut routes, &wanted(&["10.9.0.0/16", "fd09::/64"], &["198.51.100.7"])).mark,
        None
    );
    assert_eq!(host.shell("nft list ruleset"), "", "nothing of nftables without policy routing");
    assert_eq!(route_to(host, "10.9.1.1", 0), "tun7");
    apply(host, &mut routes, &wanted(&["10.9.0.0/24", "fd09::/64", "10.8.0.77/32"], &[]));
    assert_eq!(route_to(host, "10.9.1.1", 0), "eth0");
    assert_eq!(route_to(host, "10.9.0.1", 0), "tun7");
    assert_eq!(route_to(host, "fd09::1", 0), "tun7");
    let main = host.ip(&["route", "show", "dev", "tun7"]);
    assert!(!main.contains("10.8.0.77"), "the connected route has it, and the source address: {main}");
    // from ordinary to full, with the user's mark, and back
    let fwmark = NonZeroU32::new(0x77);
    assert_eq!(apply(host, &mut routes, &DesiredRouting { fwmark, ..full() }), marked(0x77));
    assert_eq!(route_to(host, "198.51.100.7", 0x77), "eth0");
    assert_eq!(route_to(host, "198.51.100.7", MARK), "tun7");
    assert_eq!(apply(host, &mut routes, &full()), marked(MARK), "the mark was taken back");
    assert!(!routing_state(host).contains("0x77"));
    apply(host, &mut routes, &wanted(&[], &[]));
    assert_eq!(routing_state(host), before);
}

/// The kernel's announcements show what was changed while routes are applied.
#[test]
fn only_what_differs_is_changed() {
    let lab = lab();
    let host = lab.client();
    let folder = Folder::new();
    let log = folder.path().join("monitor");
    let mut monitor = host.command("ip");
    monitor.args(["monitor", "route", "rule"]).stdout(std::fs::File::create(&log).unwrap());
    let _monitor = Killed(monitor.spawn().unwrap());
    let mut read = 0;
    // returns the announcements so far, and checks that a change is announced at all
    let mut announced = |sign: &str| -> Vec<String> {
        let text = || std::fs::read_to_string(&log).unwrap();
        eventually("the monitor shows a route", || {
            // delete it again, since a route that exists already is not announced
            host.ip(&["route", "add", sign, "dev", "eth0"]);
            host.ip(&["route", "delete", sign]);
            text().contains(sign)
        });
        let text = text();
        let new = &text[std::mem::replace(&mut read, text.len())..];
        new.lines().filter(|line| line.contains("proto 119")).map(str::to_owned).collect()
    };
    let mut routes = open(host, "tun7");
    let networks = ["0.0.0.0/0", "::/0", "10.9.0.0/16", "10.10.0.0/16", "fd09::/64"];
    assert_eq!(announced("203.0.113.1"), [""; 0]);
    apply(host, &mut routes, &wanted(&networks, &["198.51.100.7"]));
    // five routes, an ownership marker, two rules for each family
    assert_eq!(announced("203.0.113.2").len(), 10);
    apply(host, &mut routes, &wanted(&networks, &["198.51.100.8"]));
    host.inside(|| routes.restore(RestoreScope::All)).unwrap();
    assert_eq!(announced("203.0.113.3"), [""; 0]);
    apply(host, &mut routes, &wanted(&networks[..4], &["198.51.100.7"]));
    let lines = announced("203.0.113.4");
    assert!(matches!(&lines[..], [line] if line.starts_with("Deleted fd09::/64 dev tun7")), "{lines:?}");
}

/// A process that is killed at the end of the test, also of a failed one.
struct Killed(std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_table_of_the_users_choice_has_no_rules() {
    let lab = lab();
    let host = lab.client();
    let before = routing_state(host);
    let mut routes = open(host, "tun7");
    let off = DesiredRouting { table: Table::Off, fwmark: NonZeroU32::new(9), ..full() };
    assert_eq!(apply(host, &mut routes, &off), marked(9));
    assert_eq!(routing_state(host), before);
    assert!(!routes.captures_endpoint("9.9.9.9".parse().unwrap()));
    for table in [1000, 100_000] {
        let number = DesiredRouting { table: Table::Number(NonZeroU32::new(table).unwrap()), ..full() };
        assert_eq!(apply(host, &mut routes, &number).mark, None);
        let shown = host.ip(&["-4", "route", "show", "table", &table.to_string()]);
        assert_eq!(shown, "default dev tun7 proto 119 scope link \n");
        assert_eq!(host.ip(&["-6", "route", "show", "table", &table.to_string()]).lines().count(), 1);
        assert_eq!(route_to(host, "203.0.113.1", 0), "eth0");
    }
    drop(routes);
    assert_eq!(routing_state(host), before);
}

#[test]
fn a_device_that_went_down_gets_its_routes_back() {
    let lab = lab();
    let host = lab.client();
    let mut routes = open(host, "tun7");
    let both =
        DesiredRouting { allowed_ips: ["0.0.0.0/0", "::/0", "10.9.0.0/16"].map(prefix).to_vec(), ..full() };
    apply(host, &mut routes, &both);
    let up = routing_state(host);
    host.ip(&["link", "set", "tun7", "down"]);
    assert_eq!(
        host.inside(|| routes.restore(RestoreScope::All)).unwrap().0,
        marked(MARK),
        "as long as it is down, they wait"
    );
    host.ip(&["link", "set", "tun7", "up"]);
    host.ip(&["address", "replace", "fd08::2/64", "dev", "tun7", "nodad"]);
    assert_ne!(routing_state(host), up);
    assert_eq!(host.inside(|| routes.restore(RestoreScope::All)).unwrap().0, marked(MARK));
    for (destination, mark, device) in
        [("10.9.1.1", 0, "tun7"), ("9.9.9.9", 0, "tun7"), ("2001:db8:99::7", 0, "tun7")]
    {
        assert_eq!(route_to(host, destination, mark), device);
    }
    // the firewall is reloaded, and rules are deleted
    host.shell("nft flush ruleset; ip rule del priority 32764; ip -6 rule del priority 32765");
    host.shell("ip route flush table 51820");
    host.inside(|| routes.restore(RestoreScope::All)).unwrap();
    let again = routing_state(host);
    assert_eq!(again.matches("wontun-tun7").count(), 2, "{again}");
    assert_eq!(again.matches("suppress_prefixlength 0").count(), 2, "{again}");
    assert_eq!(again.matches("not from all fwmark 0xca6c lookup 51820").count(), 2, "{again}");
    host.ip(&["link", "delete", "tun7"]);
    let error = host.inside(|| routes.restore(RestoreScope::All)).unwrap_err();
    assert!(matches!(error, LinkError::NoDevice { .. }), "{error}");
    host.inside(|| routes.undo());
    let rest = routing_state(host);
    assert!(!rest.contains("proto 119") && !rest.contains("wontun"), "{rest}");
}

#[test]
fn what_cannot_be_routed_is_told_once_and_the_rest_is_routed() {
    let lab = lab();
    let host = lab.client();
    host.ip(&["route", "add", "10.20.0.0/16", "via", "192.0.2.1"]);
    host.shell("echo 1 > /proc/sys/net/ipv6/conf/tun7/disable_ipv6");
    let before = routing_state(host);
    let mut routes = open(host, "tun7");
    let wanted =
        wanted(&["10.9.0.0/16", "10.20.0.0/16", "0.0.0.0/0", "::/0", "fd09::/64"], &["198.51.100.7"]);
    let applied = apply(host, &mut routes, &wanted);
    let warnings: Vec<String> = applied.warnings.iter().map(ToString::to_string).collect();
    let [RouteWarning::Ipv6Disabled { prefixes: 2, .. }, RouteWarning::Taken { prefixes, table: 254, .. }] =
        &applied.warnings[..]
    else {
        panic!("{warnings:?}");
    };
    assert_eq!(prefixes.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("--sysctl net.ipv6.conf.all.disable_ipv6=0"));
    assert!(warnings[1].contains("10.20.0.0/16"), "{warnings:?}");
    assert_eq!(route_to(host, "10.9.1.1", 0), "tun7");
    assert_eq!(route_to(host, "10.20.1.1", 0), "eth0");
    assert_eq!(route_to(host, "2001:db8:99::7", 0), "eth0");
    assert!(!host.ip(&["-6", "rule", "show"]).contains("proto 119"));
    assert_eq!(apply(host, &mut routes, &wanted), marked(MARK), "not told again");
    drop(routes);
    assert_eq!(routing_state(host), before);
}

#[test]
fn without_the_capability_the_remedy_is_named() {
    let lab = lab();
    let host = lab.client();
    let before = routing_state(host);
    for wanted in [full(), wanted(&["10.9.0.0/16"], &[])] {
        let error = host.inside(|| {
            let mut routes =
                wontun::netlink::Routes::open("tun7", Link::open("tun7").unwrap().index()).unwrap();
            caps::drop(None, CapSet::Effective, Capability::CAP_NET_ADMIN).unwrap();
            routes.apply(&wanted).unwrap_err()
        });
        assert!(matches!(error, LinkError::Privilege { .. }), "{error}");
    }
    assert_eq!(routing_state(host), before);
}

/// Ten thousand networks of either family, and as many endpoints.
#[test]
fn many_routes_go_up_and_away_in_no_time() {
    let lab = lab();
    let host = lab.client();
    let before = routing_state(host);
    let v4 = (0..10_000_u32).map(|n| (IpAddr::from(Ipv4Addr::from_bits(0x0b00_0000 + n * 256)), 24));
    let v6 = (0..10_000_u128).map(|n| (IpAddr::from(Ipv6Addr::from_bits((0xfd77 << 112) + (n << 64))), 64));
    let mut many = full();
    many.allowed_ips.extend(v4.chain(v6).map(|(network, length)| Prefix::new(network, length).unwrap()));
    many.endpoints = (0..10_000_u32).map(|n| Ipv4Addr::from_bits(0xc633_6400 + n).into()).collect();
    let one_less = DesiredRouting {
        allowed_ips: many.allowed_ips[..many.allowed_ips.len() - 1].to_vec(),
        ..many.clone()
    };
    let attempt = || {
        let mut routes = open(host, "tun7");
        let mut timed = |wanted: &DesiredRouting| {
            let start = Instant::now();
            let applied = apply(host, &mut routes, wanted);
            let took = start.elapsed();
            assert_eq!(applied, marked(MARK));
            took
        };
        let (added, unchanged, removed) = (timed(&many), timed(&many), timed(&one_less));
        assert_eq!(host.ip(&["-4", "route", "show", "proto", "119"]).lines().count(), 10_000);
        assert_eq!(host.ip(&["-6", "route", "show", "proto", "119"]).lines().count(), 9_999);
        assert_eq!(route_to(host, "11.39.15.1", 0), "tun7");
        let start = Instant::now();
        host.inside(|| routes.undo());
        let undone = start.elapsed();
        assert_eq!(routing_state(host), before);
        [added, unchanged, removed, undone]
    };
    // once of three times: other tests hold the kernel's lock for changes of networks, too
    let limits = [4, 2, 2, 4].map(Duration::from_secs);
    let is_fast = (0..3).any(|_| {
        let times = attempt();
        println!("20,000 routes, nothing new, one route less, undone: {times:?}");
        times.iter().zip(limits).all(|(took, limit)| *took < limit)
    });
    assert!(is_fast, "the times are above");
}

#[test]
fn the_mtu_of_a_way() {
    let lab = lab();
    let host = lab.client();
    host.ip(&["link", "set", "tun7", "mtu", "1400"]);
    host.ip(&["route", "add", "203.0.113.0/24", "via", "192.0.2.1", "mtu", "1300"]);
    host.ip(&["route", "add", "2001:db8:5::/64", "via", "2001:db8::1", "mtu", "1290"]);
    host.ip(&["route", "add", "unreachable", "203.0.113.128/25"]);
    let mut routes = open(host, "tun7");
    apply(host, &mut routes, &full());
    host.inside(|| {
        let mut link = Link::open("tun7").unwrap();
        let eth0 = Link::open("eth0").unwrap().index();
        let mark = NonZeroU32::new(MARK);
        for (destination, mark, mtu) in [
            ("198.51.100.7", mark, Some(1500)),
            ("198.51.100.7", None, Some(1400)),
            ("203.0.113.1", None, Some(1300)),
            ("::ffff:203.0.113.1", None, Some(1300)),
            ("2001:db8:5::1", mark, Some(1290)),
            ("2001:db8:99::7", None, Some(1400)),
            ("2001:db8:99::7", mark, Some(1500)),
            ("203.0.113.129", None, None),
        ] {
            let found = link.path_mtu(destination.parse().unwrap(), mark).unwrap();
            assert_eq!(found, mtu, "{destination} with {mark:?}");
        }
        let endpoint = "198.51.100.7".parse().unwrap();
        assert_eq!(link.route_interface(endpoint).unwrap(), Some(link.index()));
        assert_eq!(link.marked_route_interface(endpoint, mark).unwrap(), Some(eth0));
    });
}
