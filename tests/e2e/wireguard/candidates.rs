//! An endpoint that is a name with an IPv6 and an IPv4 address, one of which swallows all that is
//! sent there.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::implementation::Implementation;
use super::names::{own_hosts, say};
use super::node::Node;
use super::pair::{Outer, PORT, Plan, SERVER_V4};
use crate::lab::Lab;
use crate::waiting::finish;

/// The longest from the first packet to the first answer if one of two addresses is dead.
const LIMIT: Duration = Duration::from_secs(3);
/// Long enough to see how long it takes else.
const PATIENCE: Duration = Duration::from_secs(150);

#[test]
fn dead_ipv6_costs_less_than_three_seconds_at_the_start() {
    let mut plan = Plan::new(&Arc::new(Lab::new(2)), Outer::V4);
    let folder = own_hosts(&plan.client_site);
    let (v4, v6) = (plan.server_site.v4, plan.server_site.v6.to_string());
    say(&folder, &format!("{v6} server.example\n{v4} server.example"));
    // On the wire, and nobody has this link address: no error comes back.
    plan.client_site.ip(&["neighbour", "replace", &v6, "lladdr", "02:00:00:00:00:99", "dev", "eth0"]);
    plan.client.peers[0].endpoint = Some(format!("server.example:{PORT}"));
    let _server = Node::start(&plan.server_site, Implementation::WireguardGo, &plan.server);
    let client = Node::start(&plan.client_site, Implementation::ConfigFile, &plan.client);
    let mut ping = client.site.command("ping");
    // With a deadline the count is that of answers.
    let seconds = PATIENCE.as_secs().to_string();
    ping.args(["-n", "-i", "0.2", "-c", "1", "-w", &seconds, SERVER_V4]);
    let begun = Instant::now();
    let finished = finish(&mut ping, PATIENCE * 2);
    let took = begun.elapsed();
    assert!(finished.status.success(), "no answer: {:?}", client.daemon.lines());
    eprintln!("figure: the first answer where IPv6 is swallowed after {took:?}");
    assert_eq!(client.only_peer().endpoint, format!("{v4}:{PORT}"));
    assert!(took <= LIMIT, "the first answer where IPv6 is swallowed after {took:?}");
}
