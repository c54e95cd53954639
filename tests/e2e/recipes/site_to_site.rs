//! `site-to-site.md`: two LANs behind two routers.

use std::net::Ipv6Addr;
use std::path::Path;
use std::sync::Arc;

use super::recipe;
use crate::daemon::Daemon;
use crate::lab::Lab;
use crate::mounts::BINARY;
use crate::streams::Connection;
use crate::waiting::uninterrupted;
use crate::wireguard::site::Site;

/// The third number of the LANs' IPv4 networks, and the second of the IPv6 ones.
const LANS: [u8; 2] = [10, 20];

/// Makes host `index` a router, with a host (`index` + 2) on a LAN behind it.
fn router(lab: &Arc<Lab>, index: usize) -> Site {
    let (site, host, lan) = (Site::new(lab, index), lab.host(index + 2), LANS[index]);
    host.ip(&["link", "delete", "eth0"]);
    site.ip(&["link", "add", "lan0", "type", "veth", "peer", "name", "eth0", "netns", host.name()]);
    for (at, device, number) in [(site.host(), "lan0", 1), (host, "eth0", 2)] {
        at.ip(&["address", "add", &format!("192.168.{lan}.{number}/24"), "dev", device]);
        at.ip(&["address", "add", &format!("fd00:{lan}::{number}/64"), "dev", device, "nodad"]);
        at.ip(&["link", "set", device, "up"]);
    }
    host.ip(&["route", "add", "default", "via", &format!("192.168.{lan}.1")]);
    host.ip(&["route", "add", "default", "via", &format!("fd00:{lan}::1")]);
    for line in recipe("site-to-site.sysctl.conf").lines().filter(|line| !line.starts_with('#')) {
        let (key, value) = line.split_once(" = ").unwrap();
        site.shell(&format!("echo {value} >/proc/sys/{}", key.replace('.', "/")));
    }
    site
}

/// Makes a router's key as the recipe says, and returns its public key.
fn key(site: &Site) -> String {
    let folder = site.path().display();
    let public =
        site.shell(&format!("umask 077; {BINARY} genkey >{folder}/key; {BINARY} pubkey <{folder}/key"));
    public.trim().to_owned()
}

fn start(site: &Site, name: &str, public: [&str; 2]) -> Daemon {
    let text = recipe(name)
        .replace("SITE-A-PUBLIC-KEY", public[0])
        .replace("SITE-B-PUBLIC-KEY", public[1])
        .replace("site-a.example.com", "192.0.2.1")
        .replace("site-b.example.com", "192.0.2.2");
    let file = site.write("tun0.conf", &text);
    let daemon = site.launch(Path::new(BINARY), &["--config", file.to_str().unwrap()]).spawn();
    daemon.wait_for(" ready mode=");
    daemon
}

#[test]
fn hosts_of_two_lans_reach_each_other() {
    let lab = Arc::new(Lab::new(4));
    let routers = [0, 1].map(|index| router(&lab, index));
    let [a, b] = [2, 3].map(|index| lab.host(index));
    assert!(!a.ping_once([192, 168, 20, 2], 56), "the LANs are joined without the tunnel");
    let public = routers.each_ref().map(key);
    let public = public.each_ref().map(String::as_str);
    let daemons = [start(&routers[0], "site-a.conf", public), start(&routers[1], "site-b.conf", public)];
    for daemon in &daemons {
        assert_eq!(daemon.count("WARN"), 0, "{:?}", daemon.lines());
    }
    let lan_v6 = |lan: u16, host: u16| {
        Ipv6Addr::new(0xfd00, u16::from_str_radix(&lan.to_string(), 16).unwrap(), 0, 0, 0, 0, 0, host)
    };
    a.ping([192, 168, 20, 2]);
    b.ping([192, 168, 10, 2]);
    a.ping(lan_v6(20, 2));
    b.ping(lan_v6(10, 2));
    // the other router's own LAN address, and more than one packet
    a.ping([192, 168, 20, 1]);
    Connection::open(b, ([192, 168, 20, 2], 80), a).exchange(1_000_000);
    Connection::open(a, (lan_v6(10, 2), 80), b).exchange(1_000_000);
    // no address is translated
    let (at_b, at_a) = (b.udp(([192, 168, 20, 2], 7)), a.udp(([0, 0, 0, 0], 0)));
    at_a.send_to(b"who am I", "192.168.20.2:7").unwrap();
    let mut buffer = [0; 16];
    let (_, from) = uninterrupted(|| at_b.recv_from(&mut buffer)).unwrap();
    assert_eq!(from.ip(), std::net::IpAddr::from([192, 168, 10, 2]));
    // the tunnel recovers from an outage of either end
    let [first, second] = daemons;
    assert!(first.stop().status.success());
    assert!(!a.ping_once([192, 168, 20, 2], 56));
    let _first = start(&routers[0], "site-a.conf", public);
    a.ping([192, 168, 20, 2]);
    drop(second);
}
