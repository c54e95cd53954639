//! Other administrators and programs that remove what is the tunnel's, address by address.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::daemon::Daemon;
use crate::lab::Lab;
use crate::metrics::scrape;
use crate::mounts::BINARY;
use crate::waiting::eventually;
use crate::wireguard::implementation::Implementation;
use crate::wireguard::node::Node;
use crate::wireguard::pair::{Outer, Plan, SERVER_V4};

const METRICS: &str = "127.0.0.1:9586";

/// A server, and a client with metrics.
fn start(lab: &Arc<Lab>) -> (Plan, Node, Daemon) {
    let plan = Plan::new(lab, Outer::V4);
    let server = Node::start(&plan.server_site, Implementation::ConfigFile, &plan.server);
    let file = plan.client_site.write("wg0.conf", &plan.client.wg_quick());
    let arguments = ["--config", file.to_str().unwrap(), "--metrics", METRICS];
    let daemon = plan.client_site.launch(BINARY.as_ref(), &arguments).spawn();
    daemon.wait_for(" ready mode=");
    (plan, server, daemon)
}

#[test]
fn addresses_that_are_deleted_come_back() {
    let lab = Arc::new(Lab::new(2));
    let (plan, _server, daemon) = start(&lab);
    let client = &plan.client_site;
    let shown = || client.ip(&["-brief", "address", "show", "dev", "wg0"]);
    let before = shown();
    assert!(before.contains("10."), "{before}");
    for round in 1..=2 {
        client.ip(&["address", "flush", "dev", "wg0"]);
        eventually("the addresses are back", || shown() == before);
        daemon.wait_for("were deleted by another program, and are back");
        let address: SocketAddr = METRICS.parse().unwrap();
        let series = r#"wontun_repairs_total{what="address"}"#;
        eventually("the metrics count them", || {
            scrape(lab.client(), address).get(series) >= f64::from(round)
        });
    }
    eventually("the routes are back", || !client.ip(&["route", "show", "dev", "wg0"]).is_empty());
    client.ping(SERVER_V4.parse::<std::net::Ipv4Addr>().unwrap());
    assert!(daemon.stop().status.success());
}

/// Somebody who deletes them in a loop: they come back a few times at once, then once a second, and
/// the log stays short.
#[test]
fn an_actor_in_a_loop_is_not_fought_without_end() {
    let lab = Arc::new(Lab::new(2));
    let (plan, _server, daemon) = start(&lab);
    let client = &plan.client_site;
    let begin = Instant::now();
    let mut flushes = 0;
    while begin.elapsed() < Duration::from_secs(5) {
        client.ip(&["address", "flush", "dev", "wg0"]);
        flushes += 1;
    }
    let address: SocketAddr = METRICS.parse().unwrap();
    let repairs = scrape(lab.client(), address).get(r#"wontun_repairs_total{what="address"}"#);
    assert!(flushes > 50, "{flushes}");
    // two addresses each: five at once and one a second
    assert!((2.0..=24.0).contains(&repairs), "{repairs} repairs for {flushes} deletions");
    assert!(daemon.count("were deleted by another program, and are back") <= 12);
    eventually("the addresses are back in the end", || {
        client.ip(&["address", "show", "dev", "wg0"]).contains("inet ")
    });
    assert!(daemon.stop().status.success());
}
