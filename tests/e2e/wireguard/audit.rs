//! Each change of a running tunnel leaves a line of what it changed, and by which peer's name.

use std::sync::Arc;

use nix::sys::signal::Signal;

use super::implementation::Implementation::ConfigFile;
use super::node::Node;
use super::pair::{Outer, Plan};
use super::settings::{Keys, Peer, preshared_key};
use crate::lab::Lab;
use crate::setup::server::Server;

/// Text of each line about a reload, and about a change by wg(8) or `wontun`.
const RELOADED: &str = "reloaded the configuration: ";
const CHANGED: &str = "changed by a command: ";

/// Writes the file with `peers`, each under a name, and reloads it. Returns the line about it.
fn reload(node: &Node, plan: &Plan, peers: &[(&str, &Peer)]) -> String {
    let mut settings = plan.server.clone();
    settings.peers = peers.iter().map(|(_, peer)| (*peer).clone()).collect();
    let mut text = settings.wg_quick();
    for (name, peer) in peers {
        let key = format!("PublicKey = {}", peer.public);
        text = text.replace(&key, &format!("# Name = {name}\n{key}"));
    }
    let seen = node.daemon.count(RELOADED);
    node.site.write("wg0.conf", &text);
    node.daemon.signal(Signal::SIGHUP);
    node.daemon.wait_for_more(RELOADED, seen)
}

#[test]
fn a_reload_says_what_it_changed() {
    let plan = Plan::new(&Arc::new(Lab::new(2)), Outer::V4);
    let node = Node::start(&plan.server_site, ConfigFile, &plan.server);
    let [alice, bob, carol] =
        [4, 5, 6].map(|last| Peer::new(&Keys::new().public, &[&format!("10.9.0.{last}/32")]));
    let said = reload(&node, &plan, &[("bob", &bob), ("carol", &carol)]);
    assert!(said.contains("added bob, added carol, removed ") && said.contains(" INFO "), "{said}");
    let moved = carol.clone().at("192.0.2.9:1");
    let said = reload(&node, &plan, &[("alice", &alice), ("carol", &moved)]);
    for change in ["added alice", "removed bob", "endpoint of carol"] {
        assert!(said.contains(change), "{change}: {said}");
    }
    let said = reload(&node, &plan, &[("alice", &alice), ("carol", &moved)]);
    assert!(said.contains("nothing changed"), "{said}");
    let mut other = moved.clone().keepalive(25);
    other.allowed.push("10.9.0.7/32".to_owned());
    other.preshared = Some(preshared_key());
    let said = reload(&node, &plan, &[("alison", &alice), ("carol", &other)]);
    let of_carol = "preshared key, allowed IPs and keepalive of carol";
    assert!(said.contains("renamed alice to alison") && said.contains(of_carol), "{said}");
    assert!(!said.contains(other.preshared.as_ref().unwrap().as_str()), "a secret: {said}");
}

#[test]
fn a_change_by_wg_says_what_it_changed() {
    let plan = Plan::new(&Arc::new(Lab::new(2)), Outer::V4);
    let node = Node::start(&plan.server_site, ConfigFile, &plan.server);
    let set = |args: &[&str]| {
        let seen = node.daemon.count(CHANGED);
        node.set(args);
        node.daemon.wait_for_more(CHANGED, seen)
    };
    let key = Keys::new().public;
    let beginning = &key[..10];
    let add = ["peer", key.as_str(), "allowed-ips", "10.9.0.9/32", "endpoint", "192.0.2.9:1"];
    assert!(set(&add).contains(&format!("added {beginning}")));
    assert!(set(&add).contains("nothing changed"));
    let said = set(&["peer", &key, "persistent-keepalive", "25", "endpoint", "192.0.2.9:2"]);
    assert!(said.contains(&format!("endpoint and keepalive of {beginning}")), "{said}");
    let said = set(&["listen-port", "51999", "peer", &key, "remove"]);
    assert!(said.contains(&format!("removed {beginning}")) && said.contains("listen port"), "{said}");
    // the same peers again
    let file = node.site.write("same.conf", &plan.server.clone().port(51999).setconf());
    let seen = node.daemon.count(CHANGED);
    node.site.wg(&["syncconf", "wg0", file.to_str().unwrap()]);
    let said = node.daemon.wait_for_more(CHANGED, seen);
    assert!(said.contains("nothing changed"), "{said}");
}

#[test]
fn commands_for_clients_say_what_they_changed() {
    let server = Server::new(&Arc::new(Lab::new(1)), 0);
    let daemon = server.serve(&["--endpoint", "192.0.2.1"]);
    let commands: [(&[&str], &str); 3] = [
        (&["peer", "add", "phone"], "added phone"),
        (&["peer", "rename", "phone", "tablet"], "renamed phone to tablet"),
        (&["peer", "remove", "tablet"], "removed tablet"),
    ];
    for (command, change) in commands {
        server.output(command);
        let said = daemon.wait_for(change);
        assert!(said.contains(CHANGED) && said.contains(" INFO "), "{said}");
    }
}
