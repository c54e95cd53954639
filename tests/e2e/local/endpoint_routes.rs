//! The source address of a peer's data does not change the host's routing; a completed handshake
//! does.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;

use super::noise_peer::NoisePeer;
use crate::lab::Lab;
use crate::waiting::eventually;
use crate::wireguard::implementation::Implementation::ConfigFile;
use crate::wireguard::node::Node;
use crate::wireguard::pair::{Outer, PORT, Plan};

const SERVER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 1), PORT);
/// An address in a network behind the tunnel.
const INSIDE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);

#[test]
fn a_source_address_of_data_changes_no_rule_and_that_of_a_handshake_does() {
    let lab = Arc::new(Lab::new(2));
    let mut plan = Plan::new(&lab, Outer::V4);
    plan.server.peers[0].allowed.push("198.51.100.0/24".to_owned());
    let (server, client) = (lab.server(), lab.client());
    server.shell("for f in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 0 > $f; done");
    client.ip(&["address", "add", &format!("{INSIDE}/32"), "dev", "lo"]);
    let node = Node::start(&plan.server_site, ConfigFile, &plan.server);
    let new_peer = |address: Ipv4Addr| {
        let socket = client.udp(SocketAddr::from((address, 40_000)));
        NoisePeer::new(socket, &plan.client_keys, &plan.server_keys.public, SERVER.into())
    };
    let routing = || {
        let tables = "ip -4 rule; ip -4 route show table all; nft list ruleset";
        server.shell(&format!("{tables}; cat /proc/sys/net/ipv4/conf/all/src_valid_mark"))
    };
    let before = routing();
    assert!(!before.contains("fwmark"), "{before}");

    let mut peer = new_peer(client.v4);
    let mut session = peer.shake_hands();
    let elsewhere = new_peer(INSIDE);
    elsewhere.send_packet(&mut session, &[]);
    eventually("the peer has moved", || node.only_peer().endpoint == format!("{INSIDE}:40000"));
    assert_eq!(routing(), before, "data changed the host's routing");
    node.daemon.wait_for("sends from a network that is routed into the tunnel");
    // also not when the routes are compared for another reason
    node.set(&["peer", &plan.client_keys.public, "persistent-keepalive", "3600"]);
    assert_eq!(routing(), before, "data changed the host's routing later");

    // the answer has a route outside the tunnel, so the handshake can be completed
    server.ip(&["route", "add", &format!("{INSIDE}/32"), "via", &client.v4.to_string()]);
    let mut peer = elsewhere;
    peer.shake_hands();
    let line = node.daemon.wait_for("adapting the host's routes");
    assert!(line.contains(&INSIDE.to_string()), "{line}");
    eventually("the network goes by policy", || routing().contains("fwmark"));
    node.daemon.wait_for("handshake completed");
}
