//! The complete setup: a new server, and a phone that reaches the Internet and other clients
//! through it.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use super::server::{Server, addresses, client};
use crate::lab::{Host, Lab};
use crate::streams::Connection;
use crate::waiting::uninterrupted;
use crate::wireguard::site::Site;

const WEB: [u8; 4] = [203, 0, 113, 1];
const WEB_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 7, 0, 0, 0, 0, 1);

/// Returns the source of a datagram from `client`, as the web server sees it; the answer must get
/// back.
pub(crate) fn seen_from(web: &Host, address: IpAddr, client: &Site) -> IpAddr {
    let at_web = web.udp((address, 7));
    let any = if address.is_ipv4() { IpAddr::from([0, 0, 0, 0]) } else { Ipv6Addr::UNSPECIFIED.into() };
    let at_client = client.udp((any, 0));
    at_client.send_to(b"to the web", (address, 7)).unwrap();
    let mut buffer = [0; 64];
    let (len, from) = uninterrupted(|| at_web.recv_from(&mut buffer)).unwrap();
    assert_eq!(&buffer[..len], b"to the web");
    at_web.send_to(b"and back", from).unwrap();
    assert_eq!(uninterrupted(|| at_client.recv_from(&mut buffer)).unwrap(), (8, (address, 7).into()));
    from.ip()
}

#[test]
fn a_phone_reaches_the_world_and_its_companions_through_a_new_server() {
    let lab = Arc::new(Lab::new(4));
    let [outside, web] = [0, 3].map(|index| lab.host(index));
    // only the VPN's server has a route to the web server, which has no route to the VPN
    web.ip(&["address", "add", "203.0.113.1/32", "dev", "eth0"]);
    web.ip(&["address", "add", &format!("{WEB_V6}/128"), "dev", "eth0", "nodad"]);
    outside.ip(&["route", "add", "203.0.113.1", "via", &web.v4.to_string()]);
    outside.ip(&["route", "add", "default", "via", &web.v6.to_string()]);
    outside.shell("echo 0 >/proc/sys/net/ipv4/ip_forward; echo 0 >/proc/sys/net/ipv6/conf/all/forwarding");
    let server = Server::new(&lab, 0);
    let daemon =
        server.serve(&["--endpoint", &outside.v4.to_string(), "--workers", "2", "--clamp-mss", "on"]);
    let full = server.output(&["peer", "add", "phone", "--full-tunnel"]);
    let split = server.output(&["peer", "add", "tablet"]);
    assert!(!lab.host(1).ping_once(WEB, 56), "the phone reaches the web without the tunnel");
    let (phone, _phone) = client(&lab, 1, &full);
    let (tablet, _tablet) = client(&lab, 2, &split);
    for (address, from) in
        [(IpAddr::from(WEB), IpAddr::V4(outside.v4)), (IpAddr::V6(WEB_V6), IpAddr::V6(outside.v6))]
    {
        assert_eq!(seen_from(web, address, &phone), from);
        Connection::open(web, (address, 80), &phone).exchange(300_000);
    }
    for address in addresses(&split) {
        phone.ping_within(Duration::from_secs(10), address);
    }
    for address in addresses(&full) {
        Connection::open(&phone, (address, 80), &tablet).exchange(300_000);
    }
    assert!(!tablet.ping_once(WEB, 56), "who has no full tunnel goes another way");

    // its table is deleted with the server
    assert!(server.site.shell("nft list ruleset").contains("table inet wontun-nat-tun0"));
    let stopped = daemon.stop();
    assert!(stopped.status.success(), "{:?}", stopped.lines);
    assert_eq!(server.site.shell("nft list ruleset"), "");

    // and with the option that turns it off
    outside.shell("echo 0 >/proc/sys/net/ipv4/ip_forward; echo 0 >/proc/sys/net/ipv6/conf/all/forwarding");
    let _daemon = server.serve(&["--nat", "off"]);
    phone.ping([10, 8, 0, 1]);
    assert!(!phone.ping_once(WEB, 56), "the server forwards though it was told not to");
    assert!(!server.site.shell("nft list ruleset").contains("wontun-nat"));
}

/// A server has no default route to protect: the option is parsed after the command, and refused
/// with the reason.
#[test]
fn a_kill_switch_is_no_use_to_a_server() {
    Server::with_file().fails(&["serve", "--kill-switch"], 78, "--kill-switch would block all traffic");
}
