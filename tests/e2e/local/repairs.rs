//! Other administrators and programs that remove the tunnel's state, object by object.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};

use crate::daemon::Daemon;
use crate::lab::Lab;
use crate::metrics::scrape;
use crate::mounts::BINARY;
use crate::waiting::{Finished, eventually};
use crate::wireguard::implementation::Implementation;
use crate::wireguard::node::Node;
use crate::wireguard::pair::{Outer, Plan, SERVER_V4};
use crate::wireguard::site::Site;

const METRICS: &str = "127.0.0.1:9586";

/// Starts a server, and a client with metrics.
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
        daemon.wait_for("were deleted by another program, and were restored");
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

/// An actor deletes addresses in a loop: they are restored a few times at once, then once a second,
/// and the log stays short.
#[test]
fn an_actor_in_a_loop_is_not_fought_without_end() {
    let lab = Arc::new(Lab::new(2));
    let (plan, _server, daemon) = start(&lab);
    let client = &plan.client_site;
    let begin = Instant::now();
    let mut flushes = 0;
    // often, on a slow machine too
    while begin.elapsed() < Duration::from_secs(5) || flushes <= 50 {
        client.ip(&["address", "flush", "dev", "wg0"]);
        flushes += 1;
    }
    let address: SocketAddr = METRICS.parse().unwrap();
    let repairs = scrape(lab.client(), address).get(r#"wontun_repairs_total{what="address"}"#);
    // five at once and one a second, and two more at the edges; of two addresses each
    let most = 7.0 + begin.elapsed().as_secs_f64();
    assert!((2.0..=2.0 * most).contains(&repairs), "{repairs} repairs for {flushes} deletions");
    let lines = daemon.count("were deleted by another program, and were restored");
    assert!(lines as f64 <= most, "{lines} lines for {flushes} deletions");
    eventually("the addresses are back in the end", || {
        client.ip(&["address", "show", "dev", "wg0"]).contains("inet ")
    });
    assert!(daemon.stop().status.success());
}

/// Requests the health, or a reload of the tunnel.
fn asked(site: &Site, command: &str) -> Finished {
    site.launch(BINARY.as_ref(), &[command, "wg0"]).run()
}

#[test]
fn a_device_that_is_set_down_comes_up_again_with_all_that_it_had() {
    let lab = Arc::new(Lab::new(2));
    let (plan, _server, daemon) = start(&lab);
    let client = &plan.client_site;
    let shown = || {
        let addresses = client.ip(&["-brief", "address", "show", "dev", "wg0", "up"]);
        let routes = [["-4", "route"], ["-6", "route"]]
            .map(|family| client.ip(&[&family[..], &["show", "table", "all", "dev", "wg0"]].concat()));
        (addresses, routes)
    };
    let before = shown();
    assert!(before.0.contains("10."), "{before:?}");
    client.ip(&["link", "set", "wg0", "down"]);
    eventually("all is back", || shown() == before);
    daemon.wait_for("the device was set down or changed by another program, and was restored");
    client.ping(SERVER_V4.parse::<std::net::Ipv4Addr>().unwrap());
    let address: SocketAddr = METRICS.parse().unwrap();
    let metrics = scrape(lab.client(), address);
    assert!(metrics.get(r#"wontun_repairs_total{what="device"}"#) >= 1.0);
    let shown = asked(client, "show");
    assert!(shown.stdout.contains("repairs") && shown.stdout.contains("1 device"), "{shown:?}");
    assert!(daemon.stop().status.success());
}

/// The tunnel cannot change another program's firewall: the health reports it.
#[test]
fn a_firewall_that_drops_is_told_by_health_and_show_until_it_does_not() {
    let lab = Arc::new(Lab::new(2));
    let mut plan = Plan::new(&lab, Outer::V4);
    plan.server_site.ip(&["link", "set", "lo", "up"]);
    let server = Node::start(&plan.server_site, Implementation::ConfigFile, &plan.server);
    plan.client.peers.clear();
    let site = &plan.server_site;
    let run = asked(site, "health");
    assert!(run.code() == 0 && run.stderr.is_empty(), "{run:?}");
    site.shell("nft 'add table inet other; add chain inet other in { type filter hook input priority 0; policy drop; }'");
    eventually("the health tells", || {
        let run = asked(site, "health");
        run.code() == 0 && run.stderr.contains("warning: ") && run.stderr.contains("inet other")
    });
    let shown = asked(site, "show");
    assert!(shown.stdout.contains("problem") && shown.stdout.contains("inet other"), "{shown:?}");
    site.shell("nft delete table inet other");
    eventually("the health does not tell any more", || asked(site, "health").stderr.is_empty());
    drop(server);
}

#[test]
fn a_reload_puts_everything_back_and_says_how_it_went() {
    let lab = Arc::new(Lab::new(2));
    let (plan, _server, daemon) = start(&lab);
    let client = &plan.client_site;
    let run = asked(client, "reload");
    assert!(run.code() == 0 && run.stdout.starts_with("ok: wg0 is up"), "{run:?}");
    daemon.wait_for("reloaded the configuration");
    let file = plan.client.wg_quick();
    client.write("wg0.conf", &file.replace("[Interface]", "[Interface]\nMTU = nonsense"));
    let run = asked(client, "reload");
    assert!(
        run.code() == 1 && run.stderr.contains("the reload failed") && run.stderr.contains("MTU"),
        "{run:?}"
    );
    // it keeps running
    let run = asked(client, "health");
    assert!(run.code() == 0, "{run:?}");
    client.write("wg0.conf", &file);
    let run = asked(client, "reload");
    assert_eq!(run.code(), 0, "{run:?}");
    let run = client.launch(BINARY.as_ref(), &["reload", "wg9"]).run();
    assert!(run.code() == 1 && run.stderr.contains("no tunnel is running on wg9"), "{run:?}");
    assert!(daemon.stop().status.success());
}

/// The kernel drops events that are not read in time, and reports an overrun: everything is
/// compared then.
#[test]
fn what_was_deleted_while_events_were_lost_comes_back() {
    let lab = Arc::new(Lab::new(2));
    let mut plan = Plan::new(&lab, Outer::V4);
    plan.client.peers[0].allowed = vec!["0.0.0.0/0".to_owned(), "::/0".to_owned()];
    let _server = Node::start(&plan.server_site, Implementation::ConfigFile, &plan.server);
    let client = &plan.client_site;
    let node = Node::start(client, Implementation::ConfigFile, &plan.client);
    let shown = || [["-4", "rule"], ["-6", "rule"]].map(|family| client.ip(&family));
    let before = shown();
    kill(node.daemon.pid(), Signal::SIGSTOP).unwrap();
    // more than a socket's buffer holds
    client.shell(
        "for i in $(seq 4); do for j in $(seq 250); do echo address add 127.1.$i.$j dev lo; done; done | ip -batch -",
    );
    client.shell("ip -4 rule show | grep -v 'lookup \\(local\\|main\\|default\\)$' | cut -d: -f1 | xargs -n1 ip -4 rule del pref");
    assert_ne!(shown(), before);
    kill(node.daemon.pid(), Signal::SIGCONT).unwrap();
    eventually("the rules are back", || shown() == before);
    client.ping(SERVER_V4.parse::<std::net::Ipv4Addr>().unwrap());
}
