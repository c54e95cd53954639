//! Default routes into the tunnel, by `--config`: policy routing, all of it removed at the end.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use nix::sys::signal::Signal;

use super::capture::Capture;
use super::implementation::Implementation::{self, ConfigFile};
use super::node::Node;
use super::pair::{Outer, PORT, Pair, Plan};
use super::site::Site;
use crate::lab::Lab;
use crate::waiting::{eventually, uninterrupted};

/// Addresses on the server that stand for the Internet.
const WORLD_V4: &str = "203.0.113.1";
const WORLD_V6: &str = "2001:db8:ffff::1";

/// Returns all state that a tunnel may leave behind on a host, without the interface's link-local
/// address, which is assigned late.
fn network_state(site: &Site) -> String {
    site.shell(
        "ip -4 rule; ip -6 rule; ip -4 route show table all; ip -6 route show table all | grep -v fe80
        nft list ruleset; ip -o link",
    )
}

/// Panics with the lines that are only in one of the two.
fn assert_same(now: &str, before: &str) {
    let only = |a: &str, b: &str| -> Vec<String> {
        a.lines().filter(|line| !b.lines().any(|other| other == *line)).map(str::to_owned).collect()
    };
    let (more, less) = (only(now, before), only(before, now));
    assert!(now == before, "there is more: {more:#?}\nthere is less: {less:#?}");
}

/// Makes a server with the Internet behind it, and a client that routes `allowed` into the tunnel.
fn plan(outer: Outer, allowed: &[&str]) -> (Arc<Lab>, Plan) {
    let lab = Arc::new(Lab::routed(1500));
    let mut plan = Plan::new(&lab, outer);
    for (address, length) in [(WORLD_V4, 32), (WORLD_V6, 128)] {
        plan.server_site.ip(&["address", "add", &format!("{address}/{length}"), "dev", "lo"]);
    }
    plan.client_site.shell("for file in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 1 >$file; done");
    plan.client.peers[0].allowed = allowed.iter().map(ToString::to_string).collect();
    (lab, plan)
}

/// Checks that a datagram from the client to the Internet arrives, from the client's inner address,
/// and so does the answer.
fn reaches_the_world(server: &Site, client: &Site, world: &str, inner: &str) {
    let (world, inner): (IpAddr, IpAddr) = (world.parse().unwrap(), inner.parse().unwrap());
    let at_world = server.udp((world, 7));
    let any: IpAddr = if world.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
    let at_client = client.udp((any, 0));
    let mut buffer = [0; 64];
    let mut from: Option<SocketAddr> = None;
    eventually("a datagram reaches the world", || {
        at_client.send_to(b"to the world", (world, 7)).ok();
        at_world.set_read_timeout(Some(std::time::Duration::from_secs(1))).unwrap();
        from = uninterrupted(|| at_world.recv_from(&mut buffer)).ok().map(|(_, from)| from);
        from.is_some()
    });
    let from = from.unwrap();
    assert_eq!(from.ip(), inner);
    at_world.send_to(b"and back", from).unwrap();
    assert_eq!(uninterrupted(|| at_client.recv_from(&mut buffer)).unwrap(), (8, SocketAddr::new(world, 7)));
}

fn everything_goes_through(server: Implementation, outer: Outer, allowed: &[&str]) {
    let (lab, plan) = plan(outer, allowed);
    let before = network_state(&plan.client_site);
    let on_the_way = Capture::start(lab.host(2));
    let has_v6 = allowed.iter().any(|allowed| allowed.contains(':'));
    let pair = plan.start(server, ConfigFile);
    let (server, client) = (&pair.server.site, &pair.client.site);
    reaches_the_world(server, client, WORLD_V4, "10.9.0.2");
    if has_v6 {
        reaches_the_world(server, client, WORLD_V6, "fd00:9::2");
    }
    // No host on the wire reaches the inner address.
    if allowed.iter().any(|allowed| allowed.ends_with("/0")) {
        lab.host(2).ip(&["route", "add", "10.9.0.2/32", "via", "198.51.100.2"]);
        assert!(!lab.host(2).ping_once([10, 9, 0, 2], 56), "the inner address answers on the wire");
    }
    let seen = on_the_way.stop();
    assert!(!seen.is_empty());
    let others: Vec<_> = seen.iter().filter(|frame| frame.from.1 != PORT && frame.to.1 != PORT).collect();
    assert!(others.is_empty(), "packets outside of the tunnel: {others:?}");
    let Pair { server: _server, client, plan } = pair;
    let stopped = client.daemon.stop();
    assert_eq!(stopped.status.code(), Some(0), "{:?}", stopped.lines);
    assert_same(&network_state(&plan.client_site), &before);
}

#[test]
fn both_default_routes() {
    everything_goes_through(Implementation::Wontun, Outer::V4, &["0.0.0.0/0", "::/0"]);
}

#[test]
fn both_default_routes_over_v6() {
    everything_goes_through(Implementation::WireguardGo, Outer::V6, &["0.0.0.0/0", "::/0"]);
}

#[test]
fn the_halves_of_the_world() {
    everything_goes_through(
        Implementation::Boringtun,
        Outer::V4,
        &["0.0.0.0/1", "128.0.0.0/1", "::/1", "8000::/1"],
    );
}

/// The endpoint is 192.0.2.1.
#[test]
fn a_prefix_that_the_endpoint_lies_in() {
    everything_goes_through(
        Implementation::ConfigFile,
        Outer::V4,
        &["192.0.2.0/24", "203.0.113.0/24", "10.9.0.0/24"],
    );
}

#[test]
fn leftovers_of_a_killed_run_are_replaced() {
    let (_lab, plan) = plan(Outer::V4, &["0.0.0.0/0", "::/0"]);
    let before = network_state(&plan.client_site);
    let pair = plan.start(Implementation::Wontun, ConfigFile);
    reaches_the_world(&pair.server.site, &pair.client.site, WORLD_V4, "10.9.0.2");
    let during = network_state(&pair.client.site);
    let Pair { server, client, plan } = pair;
    client.daemon.signal(Signal::SIGKILL);
    client.daemon.wait_exit();
    let left = network_state(&plan.client_site);
    assert_ne!(left, before, "nothing is left, so this test shows nothing");
    let client = Node::start(&plan.client_site, ConfigFile, &plan.client);
    reaches_the_world(&server.site, &client.site, WORLD_V4, "10.9.0.2");
    reaches_the_world(&server.site, &client.site, WORLD_V6, "fd00:9::2");
    // Only the device's number differs.
    assert_eq!(network_state(&client.site).lines().count(), during.lines().count());
    let stopped = client.daemon.stop();
    assert_eq!(stopped.status.code(), Some(0), "{:?}", stopped.lines);
    assert_same(&network_state(&plan.client_site), &before);
}

/// After the device is deleted, the network's state is the same as before.
#[test]
fn a_deleted_device_leaves_nothing() {
    let (_lab, plan) = plan(Outer::V4, &["0.0.0.0/0", "::/0"]);
    let before = network_state(&plan.client_site);
    let pair = plan.start(Implementation::Wontun, ConfigFile);
    reaches_the_world(&pair.server.site, &pair.client.site, WORLD_V4, "10.9.0.2");
    let Pair { server: _server, client, plan } = pair;
    plan.client_site.ip(&["link", "delete", "wg0"]);
    client.daemon.wait_exit();
    assert_same(&network_state(&plan.client_site), &before);
}
