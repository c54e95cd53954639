//! The device in another network namespace than the sockets.

use std::process::Command;
use std::sync::Arc;

use super::implementation::Implementation;
use super::node::Node;
use super::pair::{CLIENT_V4, Outer, PORT, Pair, Plan, SERVER_V4};
use crate::lab::Lab;
use crate::waiting::{TIMEOUT, eventually, finish, succeed};

/// An empty network namespace, removed at the end.
struct Cell(String);

impl Cell {
    fn new(pair: &Pair) -> Self {
        let name = format!("{}-cell", pair.client.site.name());
        succeed(Command::new("ip").args(["netns", "add", &name]));
        Self(name)
    }

    fn ip(&self, args: &[&str]) {
        succeed(Command::new("ip").args(["-n", &self.0]).args(args));
    }

    fn pings(&self, address: &str, payload: usize) -> bool {
        let mut ping = Command::new("ip");
        ping.args(["netns", "exec", &self.0, "ping", "-n", "-c", "1", "-W", "2", "-M", "do"]);
        ping.args(["-s", &payload.to_string(), address]);
        finish(&mut ping, TIMEOUT).status.success()
    }
}

impl Drop for Cell {
    fn drop(&mut self) {
        finish(Command::new("ip").args(["netns", "delete", &self.0]), TIMEOUT);
    }
}

/// The client's device moves to a namespace without other networks; its datagrams still leave by
/// the interface that stays behind.
fn the_device_moves(server: Implementation, client: Implementation) {
    let pair = Plan::new(&Arc::new(Lab::new(2)), Outer::V4).start(server, client);
    pair.client.ping(SERVER_V4);
    let cell = Cell::new(&pair);
    pair.client.set_link(&["netns", &cell.0]);
    cell.ip(&["address", "add", "10.9.0.2/24", "dev", "wg0"]);
    cell.ip(&["address", "add", "fd00:9::2/64", "dev", "wg0", "nodad"]);
    cell.ip(&["link", "set", "wg0", "up"]);
    eventually("the tunnel works from the cell", || cell.pings(SERVER_V4, 56));
    eventually("the tunnel works over IPv6, too", || cell.pings("fd00:9::1", 56));
    pair.server.ping(CLIENT_V4);
    // wg works where the socket is.
    let endpoint = format!("192.0.2.1:{}", PORT);
    assert_eq!(pair.client.only_peer().endpoint, endpoint);
    pair.client.set(&["peer", pair.server_public(), "persistent-keepalive", "25"]);
    // The program that moved it may set another MTU there, of which the process may get no event.
    cell.ip(&["link", "set", "wg0", "mtu", "1500"]);
    pair.server.set_link(&["mtu", "1500"]);
    assert!(cell.pings(SERVER_V4, 1472));
    assert!(cell.pings(SERVER_V4, 1471));
    assert!(cell.pings(SERVER_V4, 56));
    // The namespace is deleted with the device: the process ends, and leaves nothing.
    let Pair { server: _server, client, plan } = pair;
    drop(cell);
    let Node { daemon, site, .. } = client;
    let stopped = daemon.wait_exit();
    assert!(!site.socket("wg0").exists(), "the socket is left: {:?}", stopped.lines);
    assert_eq!(plan.client_site.processes(), []);
}

between!(the_device_moves: {
    wontun_and_wontun: (ConfigFile, Wontun),
    wontun_to_wireguard_go: (WireguardGo, Wontun),
});
