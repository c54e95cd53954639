//! No query for a name leaves a full tunnel's host in the clear. The router captures what the
//! client's outer link carries.

use std::net::{IpAddr, Ipv4Addr};

use super::{Home, INSIDE, OUTSIDE, stop};
use crate::lab::{Host, Lab};
use crate::wireguard::capture::{Capture, Frame};
use crate::wireguard::kill_switch::NEIGHBOUR_V4;

/// A name server on the Internet that a program has hard-wired.
const HARD_WIRED: Ipv4Addr = Ipv4Addr::new(8, 8, 8, 8);
/// Port of DNS.
const PORT: u16 = 53;

/// Sends the query for www.example.com that dig(1) sends.
fn ask(host: &Host, server: Ipv4Addr) {
    let query = b"\x12\x34\x01\x00\0\x01\0\0\0\0\0\0\x03www\x07example\x03com\0\0\x01\0\x01";
    let socket = host.udp((Ipv4Addr::UNSPECIFIED, 0));
    // a kill switch may refuse it
    let _ = socket.send_to(query, (server, PORT));
}

/// Runs all kinds of queries, and returns those that the outer link carried in the clear.
fn queries_outside(home: &Home, guest: &Host, all: bool) -> Vec<Frame> {
    let capture = Capture::start(home.stage.router.host());
    for number in 0..3 {
        home.look_up(&format!("n{number}.example.com"));
    }
    if all {
        for server in [NEIGHBOUR_V4, HARD_WIRED] {
            ask(home.client(), server);
            ask(guest, server);
        }
    }
    // the capture ends behind them
    home.client().ping_once(INSIDE, 56);
    let is_query = |frame: &Frame| frame.to.1 == PORT || frame.from.1 == PORT;
    // those of the tunnel's other end arrive by the router's other link
    let is_inside =
        |frame: &Frame| frame.to.0 == IpAddr::from(INSIDE) || frame.from.0 == IpAddr::from(INSIDE);
    capture.stop().into_iter().filter(|frame| is_query(frame) && !is_inside(frame)).collect()
}

/// Adds a host behind the client, as a container is: the client forwards for it.
fn guest(home: &Home, behind: &Lab) {
    let (client, guest) = (home.client(), behind.host(0));
    client.ip(&["link", "add", "lan0", "type", "veth", "peer", "name", "up0", "netns", guest.name()]);
    client.ip(&["address", "add", "172.16.0.1/24", "dev", "lan0"]);
    client.ip(&["link", "set", "lan0", "up"]);
    client.shell("echo 1 >/proc/sys/net/ipv4/ip_forward");
    guest.ip(&["address", "add", "172.16.0.2/24", "dev", "up0"]);
    guest.ip(&["link", "set", "up0", "up"]);
    guest.ip(&["route", "add", "default", "via", "172.16.0.1"]);
    client.shell("nft 'table ip masq { chain p { type nat hook postrouting priority 100; oifname eth0 masquerade; }; }'");
}

#[test]
fn no_query_leaks() {
    let (home, behind) = (Home::new(), Lab::new(1));
    guest(&home, &behind);
    home.stage.router.ip(&["route", "add", "blackhole", &HARD_WIRED.to_string()]);
    let guest = behind.host(0);
    // the control: without the tunnel all of them are seen
    let seen = queries_outside(&home, guest, true);
    let servers = |seen: &[Frame], server: Ipv4Addr| {
        seen.iter().filter(|frame| frame.to == (server.into(), PORT)).count()
    };
    assert!(servers(&seen, NEIGHBOUR_V4) >= 5 && servers(&seen, HARD_WIRED) >= 2, "{seen:?}");
    // with the tunnel, but not its name servers, those to the network's server still are
    let daemon = home.start_with("off", &[]);
    assert_eq!(home.look_up("www.example.com"), Some(OUTSIDE));
    assert!(servers(&queries_outside(&home, guest, false), NEIGHBOUR_V4) >= 3);
    stop(daemon);

    // with its name servers, those of the system's resolver are not
    let daemon = home.start(&[]);
    assert_eq!(home.look_up("www.example.com"), Some(INSIDE));
    assert_eq!(queries_outside(&home, guest, false), []);
    stop(daemon);

    // with the kill switch, none is
    let daemon = home.start(&["--kill-switch"]);
    assert_eq!(home.look_up("www.example.com"), Some(INSIDE));
    let before = home.query_counts();
    assert_eq!(queries_outside(&home, guest, true), []);
    let after = home.query_counts();
    assert!(after.0 >= before.0 + 3 && after.1 == before.1, "{before:?} {after:?}");
    // nor after a DHCP client has written the network's server again
    home.replace("nameserver 198.51.100.254\n");
    assert_eq!(queries_outside(&home, guest, true), []);
    stop(daemon);
}
