//! IPv6 of clients: only where it leads somewhere.

use std::net::IpAddr;
use std::sync::Arc;

use super::server::{Server, addresses, client, value};
use crate::lab::Lab;

/// Adds a client, and returns its file and what was said about it.
fn add(server: &Server, args: &[&str]) -> (String, String) {
    let run = server.run(&[&["peer", "add"], args].concat());
    assert_eq!(run.code(), 0, "{args:?}: {run:?}");
    (run.stdout, run.stderr)
}

#[test]
fn a_full_tunnel_has_no_ipv6_that_leads_nowhere() {
    let lab = Arc::new(Lab::new(3));
    let [outside, other] = [0, 2].map(|index| lab.host(index));
    outside.shell("echo 0 >/proc/sys/net/ipv4/ip_forward; echo 0 >/proc/sys/net/ipv6/conf/all/forwarding");
    let server = Server::new(&lab, 0);
    let daemon = server.serve(&["--endpoint", &outside.v4.to_string()]);

    // without a route
    let (full, said) = add(&server, &["phone", "--full-tunnel"]);
    for part in
        ["this host has no route to the IPv6 Internet", "stays outside of the tunnel", "--ipv6 always"]
    {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(value(&full, "Address"), "10.8.0.2/32");
    assert_eq!(value(&full, "AllowedIPs"), "0.0.0.0/0");
    assert_eq!(value(&full, "DNS"), "9.9.9.9");
    let (split, said) = add(&server, &["tablet"]);
    assert_eq!(said, "");
    let (phone, phone_tunnel) = client(&lab, 1, &full.replace("DNS", "# DNS"));
    assert!(!phone.shell("ip -6 address show dev wg0").contains("scope global"));
    phone.ping([10, 8, 0, 1]);
    // the phone's own IPv6
    phone.ping(other.v6);
    drop(phone_tunnel);
    // within the VPN, IPv6 leads to the server and to other clients
    let (tablet, _tablet) = client(&lab, 1, &split);
    let v6 = server.read().configuration().interface.addresses[1].address();
    tablet.ping(v6);
    // as before, and a client that asks for an address within the VPN
    let (always, said) = add(&server, &["always", "--full-tunnel", "--ipv6", "always"]);
    assert_eq!((value(&always, "AllowedIPs"), said.as_str()), ("0.0.0.0/0, ::/0", ""));
    assert!(addresses(&always).iter().any(IpAddr::is_ipv6), "{always}");
    let chosen = v6.to_string().replace("::1", "::99");
    let (asked, _) = add(&server, &["asked", "--full-tunnel", "--address", &chosen]);
    assert!(value(&asked, "Address").ends_with(&format!(", {chosen}/128")), "{asked}");
    assert!(!value(&asked, "AllowedIPs").contains("::/0") && value(&asked, "AllowedIPs").contains("::/64"));

    // with a route, and forwarding that the running server has turned on
    outside.ip(&["route", "add", "default", "via", &other.v6.to_string()]);
    let (full, said) = add(&server, &["second", "--full-tunnel"]);
    assert_eq!((value(&full, "AllowedIPs"), said.as_str()), ("0.0.0.0/0, ::/0", ""));
    assert_eq!(value(&full, "DNS"), "9.9.9.9, 2620:fe::fe");

    // with a route, but without forwarding
    assert!(daemon.stop().status.success());
    let _daemon = server.serve(&["--nat", "off"]);
    let (full, said) = add(&server, &["third", "--full-tunnel"]);
    assert!(said.contains("does not forward IPv6 (net.ipv6.conf.all.forwarding = 0)"), "{said}");
    assert_eq!(value(&full, "AllowedIPs"), "0.0.0.0/0");

    // with forwarding, but with private addresses that nothing translates
    outside.shell("echo 1 >/proc/sys/net/ipv6/conf/all/forwarding");
    let (full, said) = add(&server, &["fourth", "--full-tunnel"]);
    assert!(said.contains("does not translate them (--nat off), so no answer gets back"), "{said}");
    assert_eq!(value(&full, "AllowedIPs"), "0.0.0.0/0");
    for table in [
        "nft 'add table ip6 own; add chain ip6 own out { type nat hook postrouting priority 100; }; \
         add rule ip6 own out snat to 2001:db8::1'",
        "nft 'add table ip6 own; add chain ip6 own out { type nat hook postrouting priority 100; }; \
         add chain ip6 own next; add rule ip6 own out jump next; add rule ip6 own next oifname eth0 masquerade'",
    ] {
        outside.shell(table);
        let (full, said) = add(&server, &["fifth", "--full-tunnel"]);
        assert_eq!((value(&full, "AllowedIPs"), said.as_str()), ("0.0.0.0/0, ::/0", ""));
        server.output(&["peer", "remove", "fifth"]);
        outside.shell("nft delete table ip6 own");
    }
}
