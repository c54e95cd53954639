//! A client's own network that overlaps the tunnel's networks.

use std::sync::Arc;

use nix::sys::signal::Signal;

use crate::lab::Lab;
use crate::waiting::eventually;
use crate::wireguard::implementation::Implementation::ConfigFile;
use crate::wireguard::node::Node;
use crate::wireguard::pair::{Outer, Plan, SERVER_V4};

const OVERLAPS: &str = "allowed IPs: an address in both";

/// Starts a client with that additional allowed IP, and with a second device in `lan` if given.
fn start(allowed: &str, lan: Option<&str>) -> (Node, Plan) {
    let mut plan = Plan::new(&Arc::new(Lab::new(2)), Outer::V4);
    plan.client.peers[0].allowed.push(allowed.to_owned());
    let site = &plan.client_site;
    site.ip(&["link", "add", "lan0", "type", "bridge"]);
    site.ip(&["link", "set", "lan0", "up"]);
    if let Some(lan) = lan {
        site.ip(&["address", "add", lan, "dev", "lan0"]);
    }
    (Node::start(site, ConfigFile, &plan.client), plan)
}

#[test]
fn a_network_of_the_clients_that_overlaps_is_named_once() {
    for (allowed, lan, network) in [
        ("192.168.1.0/24", "192.168.1.20/24", "192.168.1.0/24"),
        ("192.168.0.0/16", "192.168.1.20/24", "192.168.1.0/24"),
        ("192.168.1.5/32", "192.168.1.20/24", "192.168.1.0/24"),
        ("fd01::/64", "fd01::20/64", "fd01::/64"),
    ] {
        let (client, plan) = start(allowed, Some(lan));
        let line = client.daemon.wait_for(OVERLAPS);
        let said = format!("the network {network} of lan0 overlaps {allowed} of wg0's {OVERLAPS}");
        assert!(line.contains(" WARN ") && line.contains(&said), "{line}");
        // the host changes, and the file is read again: nothing is reported again
        plan.client_site.ip(&["address", "add", "10.99.0.1/24", "dev", "lan0"]);
        client.daemon.signal(Signal::SIGHUP);
        client.daemon.wait_for("reloaded the configuration");
        assert_eq!(client.daemon.count(OVERLAPS), 1, "{:?}", client.daemon.lines());
    }
}

#[test]
fn a_network_that_comes_later_is_named_each_time() {
    let (client, plan) = start("192.168.1.0/24", None);
    assert_eq!(client.daemon.count(OVERLAPS), 0, "{:?}", client.daemon.lines());
    for seen in 0..2 {
        plan.client_site.ip(&["address", "add", "192.168.1.20/24", "dev", "lan0"]);
        let line = client.daemon.wait_for_more(OVERLAPS, seen);
        assert!(line.contains("the network 192.168.1.0/24 of lan0 overlaps 192.168.1.0/24"), "{line}");
        plan.client_site.ip(&["address", "delete", "192.168.1.20/24", "dev", "lan0"]);
        // the comparison that finds it gone has to come before it is restored
        client.daemon.signal(Signal::SIGHUP);
        client.daemon.wait_for_more("reloaded the configuration", seen);
    }
}

#[test]
fn networks_that_do_not_matter_are_not_named() {
    for (allowed, lan) in [
        ("0.0.0.0/0", "192.168.1.20/24"),
        ("0.0.0.0/1, 128.0.0.0/1", "192.168.1.20/24"),
        ("192.168.2.0/24", "192.168.1.20/24"),
        ("192.168.1.0/24", "192.168.1.20/32"),
    ] {
        let (client, plan) = start(allowed, Some(lan));
        assert_eq!(client.daemon.count(OVERLAPS), 0, "{allowed} {lan}: {:?}", client.daemon.lines());
        if allowed == "192.168.2.0/24" {
            let _server = Node::start(&plan.server_site, ConfigFile, &plan.server);
            client.ping(SERVER_V4);
            eventually("nothing is said later", || client.daemon.count(OVERLAPS) == 0);
        }
    }
}
