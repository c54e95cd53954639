//! An endpoint that is a name.

use std::sync::Arc;
use std::time::Duration;

use super::implementation::Implementation;
use super::node::Node;
use super::pair::{Outer, PORT, Plan, SERVER_V4};
use super::site::Site;
use crate::lab::Lab;
use crate::mounts::Folder;
use crate::waiting::{TIMEOUT, holds_within};

/// Gives `site` its own /etc/hosts, which [`say`] rewrites, and a name server that refuses at once.
pub(super) fn own_hosts(site: &Site) -> Folder {
    let folder = Folder::new();
    write_hosts(&folder, "");
    folder.write("resolv.conf", "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n");
    let path = folder.path().display();
    site.shell(&format!(
        "mount --bind {path}/hosts /etc/hosts; mount --bind {path}/resolv.conf /etc/resolv.conf"
    ));
    folder
}

pub(super) fn write_hosts(folder: &Folder, line: &str) {
    folder.write("hosts", &format!("127.0.0.1 localhost\n{line}\n"));
}

/// Starts a client that knows its server by name, and the server.
fn by_name(resolvable: bool) -> (Node, Node, Plan, Folder) {
    let mut plan = Plan::new(&Arc::new(Lab::new(2)), Outer::V4);
    let folder = own_hosts(&plan.client_site);
    if resolvable {
        write_hosts(&folder, "192.0.2.1 server.example");
    }
    plan.client.peers[0].endpoint = Some(format!("server.example:{PORT}"));
    let server = Node::start(&plan.server_site, Implementation::WireguardGo, &plan.server);
    let client = Node::start(&plan.client_site, Implementation::ConfigFile, &plan.client);
    (server, client, plan, folder)
}

#[test]
fn a_name_that_resolves_later_is_no_error() {
    let (_server, mut client, _plan, folder) = by_name(false);
    assert!(!client.site.ping_once([10, 9, 0, 1], 56));
    assert!(client.daemon.is_running());
    assert_eq!(client.only_peer().endpoint, "(none)");
    write_hosts(&folder, "192.0.2.1 server.example");
    let limit = Duration::from_secs(60);
    assert!(
        holds_within(limit, || client.only_peer().endpoint == format!("192.0.2.1:{PORT}")),
        "the name was not looked up again: {:?}",
        client.daemon.lines()
    );
    client.ping(SERVER_V4);
}

/// The server moves to another host, and its name resolves to that; the client gets no other
/// indication. After 90 seconds of unanswered handshakes the name is looked up again.
#[test]
fn a_name_is_looked_up_again_when_nobody_answers() {
    let (server, client, plan, folder) = by_name(true);
    client.ping(SERVER_V4);
    drop(server);
    let site = &plan.server_site;
    site.ip(&["address", "delete", "192.0.2.1/24", "dev", "eth0"]);
    site.ip(&["address", "add", "192.0.2.77/24", "dev", "eth0"]);
    // A missing host causes no error: no device has this link-layer address.
    client.site.ip(&["neighbour", "replace", "192.0.2.1", "lladdr", "02:00:00:00:00:99", "dev", "eth0"]);
    // This server does not know the client's endpoint.
    let _server = Node::start(site, Implementation::WireguardGo, &plan.server);
    write_hosts(&folder, "192.0.2.77 server.example");
    let inner = client.site.udp(([10, 9, 0, 2], 0));
    let endpoint = format!("192.0.2.77:{PORT}");
    let looked_up = || {
        inner.send_to(b"anybody there?", (SERVER_V4, 7)).ok();
        std::thread::sleep(Duration::from_millis(500));
        client.only_peer().endpoint == endpoint
    };
    // The session fails silently first, for 15 seconds.
    let limit = Duration::from_secs(90 + 15 + 6) + TIMEOUT;
    assert!(holds_within(limit, looked_up), "the name was not looked up again: {:?}", client.daemon.lines());
    client.ping(SERVER_V4);
}
