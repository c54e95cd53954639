//! Hosts on the server's own network that send with addresses of the VPN, or to the tunnel's
//! address outside the tunnel.
//!
//! Host 0 is the VPN's server, host 1 its client, host 2 the attacker: root there, and on the same
//! link.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::lab::{Host, Lab};
use crate::waiting::{eventually, uninterrupted};
use crate::wireguard::implementation::Implementation::ConfigFile;
use crate::wireguard::node::Node;
use crate::wireguard::pair::{CLIENT_V4, CLIENT_V6, Outer, PORT, Plan, SERVER_V4, SERVER_V6};
use crate::wireguard::settings::{Keys, Peer, Settings};
use crate::wireguard::site::Site;

/// Long enough for a packet to arrive, on a busy machine too.
const ARRIVES: Duration = Duration::from_millis(500);

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Returns the hosts. The server has the reverse path filter that systemd sets.
fn stage() -> (Arc<Lab>, Plan) {
    let lab = Arc::new(Lab::new(3));
    let plan = Plan::new(&lab, Outer::V4);
    lab.server().shell("for filter in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 2 >$filter; done");
    let attacker = lab.host(2);
    attacker.ip(&["route", "add", &format!("{SERVER_V4}/32"), "via", &lab.server().v4.to_string()]);
    attacker.ip(&["route", "add", &format!("{SERVER_V6}/128"), "via", &lab.server().v6.to_string()]);
    (lab, plan)
}

/// Returns true if a datagram from the address `source` of `from` reaches `target`, an address of
/// `to`.
fn reaches(from: &Host, source: &str, to: &Host, target: IpAddr) -> bool {
    let inbox = to.udp((target, 7001));
    let outbox = from.udp((address(source), 0));
    inbox.set_read_timeout(Some(ARRIVES)).unwrap();
    (0..4).any(|_| {
        outbox.send_to(b"it is me", (target, 7001)).ok();
        uninterrupted(|| inbox.recv(&mut [0; 16])).is_ok()
    })
}

#[test]
fn a_lan_host_does_not_send_as_a_peer() {
    let (lab, plan) = stage();
    let (server, attacker) = (lab.server(), lab.host(2));
    let pair = plan.start(ConfigFile, ConfigFile);
    pair.client.ping(SERVER_V4);
    attacker.ip(&["address", "add", &format!("{CLIENT_V4}/32"), "dev", "lo"]);
    attacker.ip(&["address", "add", &format!("{CLIENT_V6}/128"), "dev", "lo"]);
    // to the tunnel's address, and to the server's own
    let spoofed = [
        reaches(attacker, CLIENT_V4, server, address(SERVER_V4)),
        reaches(attacker, CLIENT_V4, server, server.v4.into()),
        reaches(attacker, CLIENT_V6, server, address(SERVER_V6)),
        reaches(attacker, CLIENT_V6, server, server.v6.into()),
    ];
    assert_eq!(
        spoofed, [false; 4],
        "taken for a peer's: to the tunnel's address, to another; the same over IPv6"
    );
    // the peer itself is received, and the attacker with its own address
    let client = pair.client.site.host();
    assert!(reaches(client, CLIENT_V4, server, address(SERVER_V4)));
    assert!(reaches(client, CLIENT_V6, server, address(SERVER_V6)));
    assert!(reaches(attacker, "192.0.2.3", server, server.v4.into()));
}

#[test]
fn the_tunnels_address_does_not_answer_the_lan() {
    let (lab, plan) = stage();
    let attacker = lab.host(2);
    let pair = plan.start(ConfigFile, ConfigFile);
    pair.client.ping(SERVER_V4);
    let answered = [SERVER_V4, SERVER_V6].map(|own| attacker.ping_once(address(own), 56));
    assert_eq!(answered, [false; 2], "answered over IPv4, IPv6");
    // the client's address on the client, too
    attacker.ip(&["route", "add", &format!("{CLIENT_V4}/32"), "via", &lab.client().v4.to_string()]);
    assert!(!attacker.ping_once(address(CLIENT_V4), 56), "the client's answers");
    // this host itself
    for (host, own) in [(lab.server(), SERVER_V4), (lab.client(), CLIENT_V6)] {
        assert!(host.ping_once(address(own), 56), "{own}");
    }
    let site = Arc::clone(&pair.server.site);
    let tables = || site.shell("nft list tables");
    assert!(tables().contains("table inet wontun-guard-wg0"), "{}", tables());
    assert!(pair.server.daemon.stop().status.success());
    assert_eq!(tables(), "");
}

/// A network that the LAN uses as well: nobody is cut off, and the log names what is not guarded.
#[test]
fn a_lan_with_the_tunnels_network_goes_on() {
    let (lab, mut plan) = stage();
    let (server, neighbour) = (lab.server(), lab.host(2));
    plan.server.addresses = vec!["192.0.2.50/24".to_owned(), "fd00:9::1/64".to_owned()];
    plan.server.table = Some("off".to_owned());
    let node = Node::start(&plan.server_site, ConfigFile, &plan.server);
    let line = node.daemon.wait_for("192.0.2.0/24 of wg0 is also a network of eth0");
    assert!(line.contains("WARN"), "{line}");
    // IPv6 has no such conflict, and is guarded
    neighbour.ip(&["address", "add", "fd00:9::7/128", "dev", "lo"]);
    assert!(!reaches(neighbour, "fd00:9::7", server, server.v6.into()));
    server.ip(&["route", "replace", "192.0.2.0/24", "dev", "eth0", "src", "192.0.2.1", "metric", "0"]);
    server.ip(&["route", "flush", "root", "192.0.2.0/24", "dev", "wg0"]);
    assert!(neighbour.ping_once(server.v4, 56), "cut off from the LAN");

    // A network that is added later.
    neighbour.ip(&["address", "add", "fd00:9::8/64", "dev", "eth0", "nodad"]);
    server.ip(&["address", "add", "fd00:9::9/64", "dev", "eth0", "nodad"]);
    node.daemon.wait_for("fd00:9::/64 of wg0 is also a network of eth0");
    eventually("the new network is not cut off", || {
        reaches(neighbour, "fd00:9::8", server, address("fd00:9::9"))
    });
    server.ip(&["address", "delete", "fd00:9::9/64", "dev", "eth0"]);
    eventually("it is guarded again", || !reaches(neighbour, "fd00:9::7", server, server.v6.into()));
}

/// Packets from another tunnel of this host have passed its allowed IPs.
#[test]
fn another_tunnel_is_no_stranger() {
    let (lab, plan) = stage();
    let (server, client) = (lab.server(), lab.client());
    let pair = plan.start(ConfigFile, ConfigFile);
    pair.client.ping(SERVER_V4);
    let (server_keys, client_keys) = (Keys::new(), Keys::new());
    let second = Settings::new(&server_keys, &["10.10.0.1/24"])
        .port(PORT + 1)
        .peer(Peer::new(&client_keys.public, &["10.10.0.2/32", "10.9.0.77/32"]));
    let endpoint = format!("{}:{}", server.v4, PORT + 1);
    let visitor = Settings::new(&client_keys, &["10.10.0.2/24", "10.9.0.77/32"])
        .peer(Peer::new(&server_keys.public, &["10.10.0.0/24"]).at(endpoint));
    let second_site = Arc::new(Site::new(&lab, 0));
    let visitor_site = Arc::new(Site::new(&lab, 1));
    let _second = Node::named("wg1", &second_site, ConfigFile, &second);
    let visitor = Node::named("wg1", &visitor_site, ConfigFile, &visitor);
    visitor.ping("10.10.0.1");
    assert!(reaches(client, "10.9.0.77", server, address("10.10.0.1")), "as a peer of both");
    client.ip(&["route", "replace", &format!("{SERVER_V4}/32"), "dev", "wg1"]);
    visitor.set(&["peer", &server_keys.public, "allowed-ips", "10.10.0.0/24,10.9.0.1/32"]);
    assert!(reaches(client, "10.10.0.2", server, address(SERVER_V4)), "to the other tunnel's address");
}
