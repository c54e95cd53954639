//! SIGHUP: the file is read again, and unchanged parts continue.

use std::sync::Arc;

use nix::sys::signal::Signal;

use super::implementation::Implementation;
use super::node::Node;
use super::pair::{CLIENT_V4, Outer, Pair, Plan, SERVER_V4};
use super::settings::{Keys, Peer, Settings};
use crate::lab::Lab;
use crate::waiting::eventually;

/// Starts a server from a file, and a client that has a session with it.
fn with_session() -> Pair {
    let plan = Plan::new(&Arc::new(Lab::new(2)), Outer::V4);
    let pair = plan.start(Implementation::ConfigFile, Implementation::Wontun);
    pair.client.ping(SERVER_V4);
    pair
}

/// Writes the server's file and makes it reload.
fn reload(node: &Node, text: &str) {
    node.site.write("wg0.conf", text);
    node.daemon.signal(Signal::SIGHUP);
}

fn reload_settings(node: &Node, settings: &Settings) {
    reload(node, &settings.wg_quick());
}

#[test]
fn peers_come_change_and_go_and_other_sessions_stay() {
    let pair = with_session();
    let (node, client) = (&pair.server, pair.client_public());
    let before = node.peer(client);
    let other = Keys::new().public;
    let mut settings = pair.plan.server.clone().peer(Peer::new(&other, &["10.66.0.0/24"]));
    reload_settings(node, &settings);
    eventually("the new peer is there", || node.peers().len() == 2);
    assert_eq!(node.peer(&other).allowed, ["10.66.0.0/24"]);
    let has_route = |net: &str| node.site.ip(&["route", "show", "dev", "wg0"]).contains(net);
    eventually("its route is there", || has_route("10.66.0.0/24"));

    settings.peers[1] = Peer::new(&other, &["10.67.0.0/24"]).at("192.0.2.77:1234").keepalive(3600);
    reload_settings(node, &settings);
    eventually("the peer has changed", || node.peer(&other).endpoint == "192.0.2.77:1234");
    let state = node.peer(&other);
    assert_eq!((state.allowed, state.keepalive.as_str()), (vec!["10.67.0.0/24".to_owned()], "3600"));
    eventually("the routes follow", || has_route("10.67.0.0/24") && !has_route("10.66.0.0/24"));

    reload_settings(node, &pair.plan.server);
    eventually("the peer is gone", || node.peers().len() == 1);
    eventually("its route is gone", || !has_route("10.67.0.0/24"));
    let after = node.peer(client);
    assert_eq!((after.handshake, &after.endpoint), (before.handshake, &before.endpoint), "the session stays");
    pair.client.ping_exactly(SERVER_V4, 3, 56);
    pair.server.ping(CLIENT_V4);
    assert_eq!(node.peer(client).handshake, before.handshake);
}

#[test]
fn the_interface_changes() {
    let pair = with_session();
    let node = &pair.server;
    let handshake = node.only_peer().handshake;
    let mut settings = pair.plan.server.clone().port(51999).mtu(1300);
    settings.addresses.push("10.99.0.1/24".to_owned());
    reload_settings(node, &settings);
    eventually("the port has changed", || node.port() == 51999);
    eventually("the MTU has changed", || node.site.mtu("wg0") == 1300);
    eventually("the address is there", || {
        node.site.ip(&["address", "show", "dev", "wg0"]).contains("10.99.0.1/24")
    });
    // The client receives from the new port and follows.
    pair.server.ping(CLIENT_V4);
    pair.client.ping(SERVER_V4);
    assert_eq!(node.only_peer().handshake, handshake, "the session stays");
    reload_settings(node, &pair.plan.server);
    eventually("the address is gone", || {
        !node.site.ip(&["address", "show", "dev", "wg0"]).contains("10.99.0.1/24")
    });
}

#[test]
fn a_broken_file_changes_nothing_and_says_why() {
    let mut pair = with_session();
    let before = pair.server.site.wg(&["showconf", "wg0"]);
    let good = pair.plan.server.wg_quick();
    let other = Keys::new();
    let broken = [
        good.replace("ListenPort = 51820", "ListenPort = 70000"),
        good.replace("[Peer]", "[Pear]"),
        good.replace("AllowedIPs", "AlowedIPs"),
        // A valid peer before an invalid line.
        format!(
            "{good}\n[Peer]\nPublicKey = {}\nAllowedIPs = 10.66.0.0/24\nEndpoint = nowhere\n",
            other.public
        ),
        format!("{good}PostUp = touch /must-not-be\n"),
        String::new(),
    ];
    for text in broken {
        let seen = pair.server.daemon.count("WARN") + pair.server.daemon.count("ERROR");
        reload(&pair.server, &text);
        eventually("it says why", || {
            pair.server.daemon.count("WARN") + pair.server.daemon.count("ERROR") > seen
        });
        let said = pair.server.daemon.lines().pop().unwrap();
        assert!(said.contains("wg0.conf"), "the file is not named: {said}");
        assert_eq!(pair.server.site.wg(&["showconf", "wg0"]), before, "after {text}");
    }
    pair.client.ping_exactly(SERVER_V4, 3, 56);
    assert!(pair.server.daemon.is_running());
}
