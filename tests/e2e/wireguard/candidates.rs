//! An endpoint that is a name with an IPv6 and an IPv4 address, one of which drops all packets.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::implementation::Implementation;
use super::names::{own_hosts, write_hosts};
use super::node::Node;
use super::pair::{Outer, PORT, Plan, SERVER_V4};
use super::relay::{Delays, Relay};
use crate::lab::Lab;
use crate::mounts::Folder;
use crate::waiting::finish;

/// Longest time from the first packet to the first answer if one of two addresses is dead.
const LIMIT: Duration = Duration::from_secs(3);
/// Timeout that is long enough to measure the time otherwise.
const TIMEOUT: Duration = Duration::from_secs(150);

/// Sends pings until one is answered, and returns the time that took.
fn first_answer(client: &Node) -> Duration {
    let mut ping = client.site.command("ping");
    // With a deadline the count is that of answers.
    let seconds = TIMEOUT.as_secs().to_string();
    ping.args(["-n", "-i", "0.2", "-c", "1", "-w", &seconds, SERVER_V4]);
    let begun = Instant::now();
    let finished = finish(&mut ping, TIMEOUT * 2);
    assert!(finished.status.success(), "no answer: {:?}", client.daemon.lines());
    begun.elapsed()
}

#[test]
fn dead_ipv6_costs_less_than_three_seconds_at_the_start() {
    let mut plan = Plan::new(&Arc::new(Lab::new(2)), Outer::V4);
    let folder = own_hosts(&plan.client_site);
    let (v4, v6) = (plan.server_site.v4, plan.server_site.v6.to_string());
    write_hosts(&folder, &format!("{v6} server.example\n{v4} server.example"));
    // On the link, but no device has this link-layer address: no error comes back.
    plan.client_site.ip(&["neighbour", "replace", &v6, "lladdr", "02:00:00:00:00:99", "dev", "eth0"]);
    plan.client.peers[0].endpoint = Some(format!("server.example:{PORT}"));
    let _server = Node::start(&plan.server_site, Implementation::WireguardGo, &plan.server);
    let client = Node::start(&plan.client_site, Implementation::ConfigFile, &plan.client);
    let took = first_answer(&client);
    eprintln!("figure: the first answer where IPv6 is swallowed after {took:?}");
    assert_eq!(client.only_peer().endpoint, format!("{v4}:{PORT}"));
    assert!(took <= LIMIT, "the first answer where IPv6 is swallowed after {took:?}");
}

/// A client that knows a server by a name, behind a relay with an IPv6 and an IPv4 address.
struct Relayed {
    client: Node,
    relay: Relay,
    _server: Node,
    _plan: Plan,
    _folder: Folder,
}

const FAST: Delays = [Some(Duration::ZERO); 2];
const DEAD: Delays = [None; 2];
/// Datagrams of the client arrive, and answers do not.
const NO_ANSWERS: Delays = [Some(Duration::ZERO), None];
const NO_QUESTIONS: Delays = [None, Some(Duration::ZERO)];
/// A round trip of three seconds.
const SLOW: Delays = [Some(Duration::from_millis(1500)); 2];
const V6: usize = 0;
const V4: usize = 1;

impl Relayed {
    fn new(server: Implementation, v6: Delays, v4: Delays) -> Self {
        let mut plan = Plan::new(&Arc::new(Lab::new(3)), Outer::V4);
        let folder = own_hosts(&plan.client_site);
        let lab = plan.client_site.lab();
        let relay_host = lab.host(2);
        write_hosts(&folder, &format!("{} server.example\n{} server.example", relay_host.v6, relay_host.v4));
        plan.client.peers[0].endpoint = Some(format!("server.example:{PORT}"));
        let relay = Relay::new(relay_host, (plan.server_site.v4, PORT).into(), [v6, v4]);
        let server = Node::start(&plan.server_site, server, &plan.server);
        let client = Node::start(&plan.client_site, Implementation::ConfigFile, &plan.client);
        Self { client, relay, _server: server, _plan: plan, _folder: folder }
    }

    /// Sends pings until one is answered, and returns the time that took.
    fn first_answer(&self) -> Duration {
        first_answer(&self.client)
    }

    /// Panics unless the client reports that it uses this path.
    fn assert_endpoint(&self, path: usize) {
        let endpoint = self.client.only_peer().endpoint;
        assert_eq!(endpoint, self.relay.addresses()[path].to_string());
    }

    /// Returns the number of initiations so far; no two are the same.
    fn initiations(&self) -> usize {
        let all = [V6, V4].map(|path| self.relay.initiations(path)).concat();
        let different: HashSet<_> = all.iter().map(|(_, datagram)| datagram).collect();
        assert_eq!(different.len(), all.len(), "the same bytes twice");
        all.len()
    }
}

#[test]
fn an_ipv6_address_that_does_not_answer_costs_less_than_three_seconds_at_the_start() {
    for (what, v6) in [("dead", DEAD), ("without answers", NO_ANSWERS), ("without questions", NO_QUESTIONS)] {
        let relayed = Relayed::new(Implementation::WireguardGo, v6, FAST);
        let took = relayed.first_answer();
        eprintln!("figure: at the start, IPv6 {what}: the first answer after {took:?}");
        relayed.assert_endpoint(V4);
        assert!(took <= LIMIT, "IPv6 {what}: the first answer after {took:?}");
        assert_eq!(relayed.initiations(), 2);
    }
}

/// No route, no host on the link, and a host that does not listen: the kernel reports it, at once
/// or after its own three seconds.
#[test]
fn an_ipv6_address_that_cannot_be_reached_costs_less_than_three_seconds() {
    let mut plan = Plan::new(&Arc::new(Lab::new(3)), Outer::V4);
    let folder = own_hosts(&plan.client_site);
    let v4 = plan.server_site.v4;
    let closed = plan.client_site.lab().host(2).v6.to_string();
    plan.client.peers[0].endpoint = Some(format!("server.example:{PORT}"));
    let _server = Node::start(&plan.server_site, Implementation::WireguardGo, &plan.server);
    for (what, v6) in [
        ("without a route", "2001:db8:99::1"),
        ("nobody's", "2001:db8::77"),
        ("a closed port", closed.as_str()),
    ] {
        write_hosts(&folder, &format!("{v6} server.example\n{v4} server.example"));
        let client = Node::start(&plan.client_site, Implementation::ConfigFile, &plan.client);
        let took = first_answer(&client);
        eprintln!("figure: at the start, IPv6 {what}: the first answer after {took:?}");
        assert_eq!(client.only_peer().endpoint, format!("{v4}:{PORT}"));
        assert!(took <= LIMIT, "IPv6 {what}: the first answer after {took:?}");
    }
}

#[test]
fn an_ipv6_address_that_dies_in_a_session_costs_less_than_three_seconds() {
    for (what, v6) in [("dead", DEAD), ("without answers", NO_ANSWERS), ("without questions", NO_QUESTIONS)] {
        let relayed = Relayed::new(Implementation::WireguardGo, FAST, FAST);
        relayed.client.ping(SERVER_V4);
        relayed.client.ping_exactly(SERVER_V4, 20, 56);
        relayed.assert_endpoint(V6);
        assert_eq!(relayed.initiations(), 1);
        relayed.relay.set(V6, v6);
        let took = relayed.first_answer();
        eprintln!("figure: in a session, IPv6 {what}: the first answer after {took:?}");
        relayed.assert_endpoint(V4);
        assert!(took <= LIMIT, "IPv6 {what}: the first answer after {took:?}");
        relayed.client.ping_exactly(SERVER_V4, 20, 56);
        assert_eq!(relayed.initiations(), 3, "after an answer nothing more is sent");
    }
}

#[test]
fn a_round_trip_of_three_seconds_gives_a_session() {
    for (what, v6, path) in [("dead", DEAD, V4), ("as slow", SLOW, V6)] {
        for server in [Implementation::WireguardGo, Implementation::Wontun] {
            let relayed = Relayed::new(server, v6, SLOW);
            let took = relayed.first_answer();
            eprintln!("figure: IPv4 with a round trip of 3 s, IPv6 {what}, {server:?}: {took:?}");
            relayed.assert_endpoint(path);
            assert_eq!(relayed.initiations(), 2, "{what}");
            // and the choice persists
            relayed.first_answer();
            relayed.assert_endpoint(path);
            assert_eq!(relayed.initiations(), 2, "{what}");
        }
    }
}
