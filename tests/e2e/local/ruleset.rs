//! A firewall that reloads (`nft flush ruleset`: Debian's nftables.service), and network managers
//! that delete foreign routes and rules.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use nix::sys::signal::Signal;

use crate::daemon::Daemon;
use crate::lab::Lab;
use crate::mounts::BINARY;
use crate::waiting::{TIMEOUT, eventually, finish};
use crate::wireguard::implementation::Implementation;
use crate::wireguard::node::Node;
use crate::wireguard::pair::{Outer, Plan};
use crate::wireguard::settings::Settings;
use crate::wireguard::site::Site;
use crate::wireguard::tally::Tally;

/// Addresses on the server that stand for the Internet.
const WORLD_V4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
const WORLD_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 1);
/// Packets on the link between client and router: the tunnel's, and those that leaked.
const CLASSES: &[(&str, &str)] = &[
    ("elsewhere", "iifname != right"),
    ("tunnel", "udp dport 51820"),
    ("link", "icmpv6 type { 133, 134, 135, 136, 143 }"),
    ("leaked", ""),
];

/// A server with the Internet behind it, a router that counts, and the client of a full tunnel.
struct Stage {
    plan: Plan,
    router: Site,
    _server: Node,
}

impl Stage {
    fn new() -> Self {
        let lab = Arc::new(Lab::routed(1500));
        let mut plan = Plan::new(&lab, Outer::V4);
        for address in [format!("{WORLD_V4}/32"), format!("{WORLD_V6}/128")] {
            plan.server_site.ip(&["address", "add", &address, "dev", "lo"]);
        }
        plan.client.peers[0].allowed = vec!["0.0.0.0/0".to_owned(), "::/0".to_owned()];
        let server = Node::start(&plan.server_site, Implementation::ConfigFile, &plan.server);
        let router = Site::new(&lab, 2);
        // the Internet is reachable without a tunnel, too
        router.ip(&["route", "add", &WORLD_V4.to_string(), "via", "192.0.2.1"]);
        router.ip(&["route", "add", &WORLD_V6.to_string(), "via", "2001:db8::1"]);
        Self { plan, router, _server: server }
    }

    fn client(&self) -> &Site {
        &self.plan.client_site
    }

    fn start(&self, arguments: &[&str]) -> Daemon {
        start(self.client(), &self.plan.client, arguments)
    }

    fn reaches_the_world(&self) {
        self.client().ping(WORLD_V4);
        self.client().ping(WORLD_V6);
    }
}

fn start(site: &Site, settings: &Settings, arguments: &[&str]) -> Daemon {
    let file = site.write("wg0.conf", &settings.wg_quick());
    let config = ["--config", file.to_str().unwrap()];
    let daemon = site.launch(BINARY.as_ref(), &[&config[..], arguments].concat()).spawn();
    daemon.wait_for(" ready mode=");
    daemon
}

/// Pings the Internet and ignores the answers.
fn talk(site: &Site) {
    for address in [IpAddr::from(WORLD_V4), WORLD_V6.into()] {
        let mut ping = site.command("ping");
        finish(ping.args(["-n", "-c", "3", "-i", "0.1", "-W", "1", &address.to_string()]), TIMEOUT);
    }
}

fn tables(site: &Site) -> Vec<String> {
    let tables = site.shell("nft list tables");
    let mut own: Vec<_> = tables.lines().filter(|line| line.contains("wontun")).map(str::to_owned).collect();
    own.sort();
    own
}

/// Returns all state of policy routing.
fn routing(site: &Site) -> String {
    site.shell(
        "ip -4 rule; ip -6 rule; ip -4 route show table all proto 119; ip -6 route show table all proto 119",
    )
}

#[test]
fn a_flushed_ruleset_does_not_open_the_kill_switch() {
    let stage = Stage::new();
    let daemon = stage.start(&["--kill-switch"]);
    stage.reaches_the_world();
    let before = tables(stage.client());
    assert!(before.iter().any(|table| table.contains("wontun-lock-wg0")), "{before:?}");
    stage.client().shell("nft flush ruleset");
    eventually("the tables are there", || tables(stage.client()) == before);
    stage.reaches_the_world();

    // without the tunnel nothing leaves, even if the firewall reloads at the moment of its end
    let tally = Tally::start(&stage.router, "prerouting", CLASSES);
    daemon.signal(Signal::SIGKILL);
    daemon.wait_exit();
    talk(stage.client());
    assert_eq!(tally.count("leaked"), 0);
}

#[test]
fn nat_and_policy_marks_outlive_a_flushed_ruleset() {
    let stage = Stage::new();
    let daemon = stage.start(&[]);
    let before = tables(stage.client());
    assert_eq!(before.iter().filter(|table| table.ends_with(" wontun-wg0")).count(), 2, "{before:?}");
    stage.client().shell("nft flush ruleset");
    eventually("the client's tables are there", || tables(stage.client()) == before);

    // a second tunnel on the same host, with NAT
    let lab = Arc::new(Lab::new(2));
    let plan = Plan::new(&lab, Outer::V4);
    let server = start(&plan.server_site, &plan.server, &["--nat", "auto"]);
    let before = plan.server_site.shell("nft list ruleset");
    assert!(before.contains("masquerade"), "{before}");
    plan.server_site.shell("nft flush ruleset");
    eventually("NAT is there", || plan.server_site.shell("nft list ruleset") == before);
    for daemon in [daemon, server] {
        assert!(daemon.stop().status.success());
    }
    assert_eq!(tables(stage.client()), Vec::<String>::new());
    assert_eq!(tables(&plan.server_site), Vec::<String>::new());
}

#[test]
fn rules_and_routes_that_are_flushed_come_back() {
    let stage = Stage::new();
    let daemon = stage.start(&[]);
    stage.reaches_the_world();
    let before = routing(stage.client());
    for flush in ["ip -4 rule flush protocol 119", "ip -6 rule flush protocol 119"] {
        let seen = daemon.count("were deleted by another program");
        stage.client().shell(flush);
        eventually("the rules are back", || routing(stage.client()) == before);
        daemon.wait_for_more("were deleted by another program", seen);
        // the next line of that kind comes a second later
        std::thread::sleep(std::time::Duration::from_millis(1100));
    }
    let seen = daemon.count("were deleted by another program");
    stage.client().shell("ip -4 route flush table all proto 119; ip -6 route flush table all proto 119");
    eventually("the routes are back", || routing(stage.client()) == before);
    daemon.wait_for_more("were deleted by another program", seen);
    stage.reaches_the_world();
    assert!(daemon.stop().status.success());
}
