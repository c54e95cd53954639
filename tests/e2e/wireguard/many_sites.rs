//! More than two hosts: permitted source addresses, and forwarding between peers.

use std::net::{IpAddr, Ipv4Addr, SocketAddrV4, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use super::implementation::Implementation;
use super::node::Node;
use super::pair::{Outer, PORT};
use super::settings::{Keys, Peer, Settings};
use super::site::Site;
use crate::lab::Lab;
use crate::waiting::uninterrupted;

/// A server with 10.9.0.1 and clients with 10.9.0.2, …
struct Star {
    server: Node,
    clients: Vec<Node>,
    keys: Vec<Keys>,
}

/// Starts a star; `allowed` are the server's allowed IPs for each client.
fn star(server: Implementation, clients: &[Implementation], allowed: &[&[&str]]) -> Star {
    let lab = Arc::new(Lab::new(clients.len() + 1));
    let sites: Vec<_> = (0..=clients.len()).map(|index| Arc::new(Site::new(&lab, index))).collect();
    let keys: Vec<_> = sites.iter().map(|_| Keys::new()).collect();
    let mut settings = Settings::new(&keys[0], &["10.9.0.1/24", "fd00:9::1/64"]).port(PORT);
    for (keys, allowed) in keys[1..].iter().zip(allowed) {
        settings = settings.peer(Peer::new(&keys.public, allowed));
    }
    let server = Node::start(&sites[0], server, &settings);
    let endpoint = Outer::V4.endpoint(&sites[0]);
    let clients = clients.iter().enumerate().map(|(index, implementation)| {
        let number = index + 2;
        let addresses = [format!("10.9.0.{number}/24"), format!("fd00:9::{number}/64")];
        let peer = Peer::new(&keys[0].public, &["10.9.0.0/24", "fd00:9::/64"]).at(&endpoint);
        let settings = Settings::new(&keys[index + 1], &[&addresses[0], &addresses[1]]).peer(peer);
        Node::start(&sites[index + 1], *implementation, &settings)
    });
    Star { server, clients: clients.collect(), keys }
}

fn udp(node: &Node, address: [u8; 4], port: u16) -> UdpSocket {
    node.site.udp(SocketAddrV4::new(Ipv4Addr::from(address), port))
}

/// Fault 6: the first client may use all of 10.9.0.0/24 but for the second client's address.
fn a_forged_inner_source_is_dropped(server: Implementation, forger: Implementation) {
    let star = star(server, &[forger, Implementation::WireguardGo], &[&["10.9.0.0/24"], &["10.9.0.3/32"]]);
    let (forger, owner) = (&star.clients[0], &star.clients[1]);
    owner.ping("10.9.0.1");
    for address in ["10.9.0.3/32", "10.9.0.77/32", "203.0.113.5/32"] {
        forger.site.ip(&["address", "add", address, "dev", "wg0"]);
    }
    let at_server = udp(&star.server, [10, 9, 0, 1], 7);
    let to = SocketAddrV4::new(Ipv4Addr::new(10, 9, 0, 1), 7);
    // Workers may reorder these, because each source is a flow of its own.
    let rightful: Vec<(u8, IpAddr)> = (0..3_u8)
        .flat_map(|round| [[10, 9, 0, 2], [10, 9, 0, 77]].map(|address| (round, IpAddr::from(address))))
        .collect();
    let mut buffer = [0; 16];
    let mut hear =
        || uninterrupted(|| at_server.recv_from(&mut buffer)).map(|(_, from)| (buffer[0], from.ip()));
    let mut heard = Vec::new();
    for round in 0..3_u8 {
        for last in [[10, 9, 0, 3], [203, 0, 113, 5], [10, 9, 0, 77], [10, 9, 0, 2]] {
            udp(forger, last, 0).send_to(&[round], to).unwrap();
        }
        while heard.len() < 2 * (usize::from(round) + 1) {
            heard.push(hear().expect("the rightful packets do not arrive"));
        }
    }
    at_server.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    while let Ok(late) = hear() {
        heard.push(late);
    }
    heard.sort_unstable();
    assert_eq!(heard, rightful);
    // The owner's session and endpoint did not change.
    owner.ping("10.9.0.1");
    assert!(star.server.peer(&star.keys[2].public).endpoint.starts_with("192.0.2.3:"));
}

between!(a_forged_inner_source_is_dropped: {
    at_a_file: (ConfigFile, WireguardGo),
    at_a_socket: (Wontun, Wontun),
    from_boringtun: (Wontun, Boringtun),
});

/// A prefix that a second peer claims belongs to that one only.
#[test]
fn a_prefix_moves_to_the_last_peer_that_claims_it() {
    let star = star(
        Implementation::Wontun,
        &[Implementation::WireguardGo, Implementation::Wontun],
        &[&["10.9.0.2/32", "10.9.9.9/32"], &["10.9.0.3/32"]],
    );
    for client in &star.clients {
        client.ping("10.9.0.1");
        client.site.ip(&["address", "add", "10.9.9.9/32", "dev", "wg0"]);
    }
    star.server.site.ip(&["route", "replace", "10.9.9.9/32", "dev", "wg0"]);
    let listeners: Vec<_> = star.clients.iter().map(|client| udp(client, [10, 9, 9, 9], 7)).collect();
    let from = udp(&star.server, [10, 9, 0, 1], 0);
    let to = SocketAddrV4::new(Ipv4Addr::new(10, 9, 9, 9), 7);
    for (owner, listener) in listeners.iter().enumerate() {
        let public = &star.keys[owner + 1].public;
        let own = format!("10.9.0.{}/32,10.9.9.9/32", owner + 2);
        star.server.set(&["peer", public, "allowed-ips", &own]);
        from.send_to(&[owner as u8], to).unwrap();
        let mut buffer = [0; 16];
        assert_eq!(uninterrupted(|| listener.recv_from(&mut buffer)).unwrap().0, 1);
        assert_eq!(usize::from(buffer[0]), owner);
    }
    assert_eq!(star.server.peer(&star.keys[1].public).allowed, ["10.9.0.2/32"]);
}

/// All clients reach each other through the server.
#[test]
fn three_clients_talk_through_the_server() {
    let clients = [Implementation::ConfigFile, Implementation::WireguardGo, Implementation::Boringtun];
    let star = star(
        Implementation::ConfigFile,
        &clients,
        &[
            &["10.9.0.2/32", "fd00:9::2/128"],
            &["10.9.0.3/32", "fd00:9::3/128"],
            &["10.9.0.4/32", "fd00:9::4/128"],
        ],
    );
    star.server
        .site
        .shell("echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding");
    for client in &star.clients {
        client.ping("10.9.0.1");
    }
    for (index, client) in star.clients.iter().enumerate() {
        for other in (0..star.clients.len()).filter(|other| *other != index) {
            client.ping(&format!("10.9.0.{}", other + 2));
            client.ping(&format!("fd00:9::{}", other + 2));
        }
    }
}
