//! A peer that does not answer: the log says so after 5 s, names the peer and its address, says
//! what to check, does not repeat itself, and says when the peer answers again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::implementation::Implementation::{ConfigFile, Wontun};
use super::names::own_hosts;
use super::node::Node;
use super::pair::{CLIENT_V4, Outer, PORT, Plan};
use super::settings::Settings;
use crate::daemon::Daemon;
use crate::lab::Lab;
use crate::waiting::{eventually, holds_within};

/// First line about a peer that does not answer.
const NO_RESPONSE: &str = "no response to handshakes from a peer";
/// Line about a peer that answers after one of these.
const ANSWERS: &str = "a peer answers again";

/// Returns a plan whose client has its server under the name `office`.
fn plan() -> Plan {
    Plan::new(&Arc::new(Lab::new(2)), Outer::V4)
}

fn with_name(settings: &Settings, name: &str) -> String {
    settings.wg_quick().replace("[Peer]", &format!("[Peer]\n# Name = {name}"))
}

/// Starts the client with its server's name `office`, and sends it a packet.
fn start_client(plan: &Plan) -> Daemon {
    let file = plan.client_site.write("wg0.conf", &with_name(&plan.client, "office"));
    let args = ["--config", file.to_str().unwrap()];
    let daemon = plan.client_site.launch(crate::mounts::BINARY.as_ref(), &args).spawn();
    daemon.wait_for(" ready mode=");
    plan.client_site.udp(([10, 9, 0, 2], 0)).send_to(b"anybody there?", ("10.9.0.1", 7)).unwrap();
    daemon
}

/// Makes the server answer again: it starts the handshake itself.
fn greet(plan: &Plan, client: &Daemon) -> Node {
    let port = plan.client_site.wg(&["show", "wg0", "listen-port"]);
    let mut settings = plan.server.clone();
    settings.peers[0].endpoint = Some(format!("{}:{}", plan.client_site.v4, port.trim()));
    let server = Node::start(&plan.server_site, Wontun, &settings);
    server.ping(CLIENT_V4);
    client.wait_for(ANSWERS);
    server
}

fn assert_names(line: &str, level: &str) {
    let endpoint = format!("192.0.2.1:{PORT}");
    assert!(line.contains(level) && line.contains("office") && line.contains(&endpoint), "{line}");
}

#[test]
fn a_silent_peer_is_told_of_after_five_seconds_and_once_more_when_it_answers() {
    let plan = plan();
    // nothing answers, not even ICMP: no host has this link-layer address
    let site = &plan.client_site;
    site.ip(&["neighbour", "replace", "192.0.2.1", "lladdr", "02:00:00:00:00:99", "dev", "eth0"]);
    let start = Instant::now();
    let client = start_client(&plan);
    assert!(holds_within(Duration::from_secs(8), || client.count(NO_RESPONSE) > 0), "{:?}", client.lines());
    assert!(start.elapsed() > Duration::from_secs(4), "too early: {:?}", start.elapsed());
    assert_names(&client.wait_for(NO_RESPONSE), " WARN ");
    site.ip(&["neighbour", "delete", "192.0.2.1", "dev", "eth0"]);
    let _server = greet(&plan, &client);
    assert_names(&client.wait_for(ANSWERS), " INFO ");
    assert_eq!((client.count(NO_RESPONSE), client.count(ANSWERS)), (1, 1), "{:?}", client.lines());
}

#[test]
fn a_refusal_that_lasts_is_told() {
    let plan = plan();
    let client = start_client(&plan);
    let refused = "refuses the tunnel's datagrams";
    // with the second initiation: at the first one the peer may be starting
    assert!(holds_within(Duration::from_secs(8), || client.count(refused) > 0), "{:?}", client.lines());
    assert_names(&client.wait_for(refused), " WARN ");
    let _server = greet(&plan, &client);
    assert_names(&client.wait_for(ANSWERS), " INFO ");
    assert_eq!((client.count(refused), client.count(NO_RESPONSE)), (1, 0), "{:?}", client.lines());
}

#[test]
fn a_firewall_of_this_host_is_told_at_once() {
    let plan = plan();
    let (site, rules) = (
        &plan.client_site,
        "add table inet x; add chain inet x out { type filter hook output priority 0; };",
    );
    site.shell(&format!("nft '{rules} add rule inet x out udp dport {PORT} drop'"));
    let client = start_client(&plan);
    let blocked = "this host's own firewall";
    assert!(holds_within(Duration::from_secs(3), || client.count(blocked) > 0), "{:?}", client.lines());
    assert_names(&client.wait_for(blocked), " WARN ");
    site.shell("nft delete table inet x");
    let _server = greet(&plan, &client);
    assert_eq!(client.count(blocked), 1, "{:?}", client.lines());
}

#[test]
fn a_missing_route_is_told_at_once() {
    let mut plan = plan();
    plan.client.peers[0].endpoint = Some(format!("203.0.113.1:{PORT}"));
    let client = start_client(&plan);
    let unreachable = "this host has no route to a peer";
    assert!(holds_within(Duration::from_secs(3), || client.count(unreachable) > 0), "{:?}", client.lines());
    let line = client.wait_for(unreachable);
    assert!(line.contains(" WARN ") && line.contains("office") && line.contains("203.0.113.1:"), "{line}");
}

/// The name server does not answer either.
#[test]
fn a_name_that_does_not_resolve_is_told_after_five_seconds() {
    let mut plan = plan();
    let folder = own_hosts(&plan.client_site);
    folder.write("resolv.conf", "nameserver 192.0.2.1\noptions timeout:30 attempts:1\n");
    let site = &plan.client_site;
    site.ip(&["neighbour", "replace", "192.0.2.1", "lladdr", "02:00:00:00:00:99", "dev", "eth0"]);
    plan.client.peers[0].endpoint = Some(format!("server.example:{PORT}"));
    let start = Instant::now();
    let client = start_client(&plan);
    let unresolved = "the name of a peer's endpoint is not resolved";
    assert!(holds_within(Duration::from_secs(8), || client.count(unresolved) > 0), "{:?}", client.lines());
    assert!(start.elapsed() > Duration::from_secs(4), "too early: {:?}", start.elapsed());
    let line = client.wait_for(unresolved);
    assert!(line.contains(" WARN ") && line.contains("office") && line.contains("server.example"), "{line}");
    assert_eq!(client.count(NO_RESPONSE), 0, "{:?}", client.lines());
}

/// Each attempt of the client is an initiation with a key that the server does not know.
#[test]
fn an_unknown_key_is_told_with_its_address_and_not_each_time() {
    let mut plan = plan();
    let (known, stranger) = (plan.client.clone(), super::settings::Keys::new());
    plan.client.private.clone_from(&stranger.private);
    let server = Node::start(&plan.server_site, ConfigFile, &plan.server);
    let told = "no peer has this key";
    let (key, address) = (&stranger.public[..8], format!("{}:", plan.client_site.v4));
    for round in 1..=3 {
        let client = start_client(&plan);
        let line = server.daemon.wait_for(told);
        assert!(line.contains(" INFO ") && line.contains(key) && line.contains(&address), "{line}");
        eventually("each is counted", || server.daemon.summary().dropped("unknown_peer") >= round);
        client.stop();
    }
    assert_eq!(server.daemon.count(told), 1, "{:?}", server.daemon.lines());
    plan.client = known;
    let _client = start_client(&plan);
    server.daemon.wait_for("handshake completed");
}
