//! `ipv6-only.md`: no IPv4, neither outside nor inside.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use super::{WEB_V6, make_web};
use crate::lab::Lab;
use crate::setup::server::{Server, addresses, client, value};
use crate::setup::story::seen_from;
use crate::streams::Connection;

#[test]
fn a_tunnel_without_ipv4_leads_to_the_world() {
    let lab = Arc::new(Lab::new(3));
    for index in 0..3 {
        lab.host(index).ip(&["-4", "address", "flush", "dev", "eth0"]);
    }
    let [outside, web] = [0, 2].map(|index| lab.host(index));
    make_web(web, outside, &[WEB_V6.into()]);
    let server = Server::new(&lab, 0);
    let daemon = server.serve(&["--endpoint", "[2001:db8::1]", "--subnet", "fd00:77::/64"]);
    let text = server.output(&["peer", "add", "laptop", "--full-tunnel"]);
    assert_eq!(addresses(&text), [IpAddr::from("fd00:77::2".parse::<Ipv6Addr>().unwrap())]);
    assert_eq!(value(&text, "Endpoint"), "[2001:db8::1]:51820");
    let (laptop, _laptop) = client(&lab, 1, &text);
    laptop.ping("fd00:77::1".parse::<Ipv6Addr>().unwrap());
    assert_eq!(seen_from(web, WEB_V6.into(), &laptop), IpAddr::from(outside.v6));
    Connection::open(web, (WEB_V6, 80), &laptop).exchange(300_000);
    assert!(server.output(&["peer", "show", "laptop"]).contains("endpoint: [2001:db8::2]:"));
    for host in [&*server.site, &laptop] {
        assert!(!host.ip(&["-4", "address", "show", "scope", "global"]).contains("inet "), "there is IPv4");
    }
    assert_eq!(daemon.count("WARN"), 0, "{:?}", daemon.lines());
}
