//! The client of a full tunnel, on a host whose network is managed by other programs.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::Duration;

use super::events::Events;
use super::state;
use crate::daemon::Daemon;
use crate::lab::Lab;
use crate::mounts::BINARY;
use crate::wireguard::implementation::Implementation;
use crate::wireguard::node::Node;
use crate::wireguard::pair::{Outer, Plan};
use crate::wireguard::site::Site;
use crate::wireguard::tally::Tally;

/// Addresses on the server that stand for the Internet.
pub(super) const WORLD_V4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
pub(super) const WORLD_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 1);
/// Packets to the Internet that the router sees outside the tunnel.
const LEAKS: &[(&str, &str)] = &[
    ("leaked4", "iifname right ip daddr 203.0.113.1"),
    ("leaked6", "iifname right ip6 daddr 2001:db8:ffff::1"),
];
/// Interval between two packets to the Internet, in seconds.
const INTERVAL: &str = "0.005";
/// Longest time for a repair, on a busy machine.
const LIMIT: Duration = Duration::from_secs(10);
/// Largest number of warnings that is not a flood.
const WARNINGS: usize = 12;

/// A server with the Internet behind it, a router, and the client's host; the client is not yet
/// started.
#[derive(Debug)]
pub(super) struct Stage {
    plan: Plan,
    pub(super) router: Site,
    _server: Node,
}

impl Stage {
    pub(super) fn new() -> Self {
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

    /// Returns the client's host.
    pub(super) fn site(&self) -> &Site {
        &self.plan.client_site
    }

    /// Starts the client, and the programs that observe it.
    pub(super) fn start(&self, arguments: &[&str]) -> Client<'_> {
        let site = self.site();
        let file = site.write("wg0.conf", &self.plan.client.wg_quick());
        let config = ["--config", file.to_str().unwrap()];
        let daemon = site.launch(BINARY.as_ref(), &[&config[..], arguments].concat()).spawn();
        daemon.wait_for(" ready mode=");
        let has_kill_switch = arguments.contains(&"--kill-switch");
        let mut client = Client { stage: self, daemon, has_kill_switch, before: String::new(), watch: None };
        client.reaches_the_world();
        client.before = state::own(site);
        let wanted = if has_kill_switch { "wontun-lock-wg0" } else { "wontun-wg0" };
        assert!(client.before.contains(wanted) && client.before.contains("proto 119"), "{}", client.before);
        client.watch = Some(Watch::start(self));
        client
    }
}

/// The client, and the state it had set when it was started.
#[derive(Debug)]
pub(super) struct Client<'stage> {
    stage: &'stage Stage,
    pub(super) daemon: Daemon,
    has_kill_switch: bool,
    pub(super) before: String,
    watch: Option<Watch<'stage>>,
}

/// Sends packets to the Internet continuously and counts those that the router sees outside the
/// tunnel.
#[derive(Debug)]
struct Watch<'stage> {
    events: Events,
    tally: Tally<'stage>,
    pings: Vec<Child>,
}

impl<'stage> Watch<'stage> {
    fn start(stage: &'stage Stage) -> Self {
        let tally = Tally::start(&stage.router, "prerouting", LEAKS);
        let events = Events::start(stage.site());
        let pings = [IpAddr::from(WORLD_V4), WORLD_V6.into()].map(|address| {
            let mut ping = stage.site().command("ping");
            ping.args(["-n", "-q", "-i", INTERVAL, &address.to_string()]);
            ping.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
        });
        Self { events, tally, pings: pings.into() }
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        for ping in &mut self.pings {
            ping.kill().ok();
            ping.wait().ok();
        }
    }
}

impl Client<'_> {
    pub(super) fn reaches_the_world(&self) {
        self.stage.site().ping(WORLD_V4);
        self.stage.site().ping(WORLD_V6);
    }

    /// Panics unless the tunnel's state after `what` is the same as at the start, without a request
    /// for it.
    pub(super) fn is_back(&self, what: &str) {
        state::is_back(self.stage.site(), what, &self.before);
    }

    /// As [`Self::is_back`]; also checks that packets pass and the tunnel is healthy.
    pub(super) fn is_as_before(&self, what: &str) {
        self.is_back(what);
        self.reaches_the_world();
        state::is_healthy(self.stage.site());
    }

    /// Stops the client. Panics if much has leaked or was logged, or the state of other programs
    /// has changed.
    pub(super) fn finish(mut self, title: &str) {
        let watch = self.watch.take().unwrap();
        watch.events.report(title, LIMIT);
        let leaked = ["leaked4", "leaked6"].map(|name| watch.tally.count(name));
        let lock = if self.has_kill_switch { "with" } else { "without" };
        println!("FIGURE {title}: packets in clear {lock} the kill switch: {leaked:?} (one in {INTERVAL} s)");
        let limit = if self.has_kill_switch { 0 } else { 100 };
        assert!(leaked.iter().all(|count| *count <= limit), "{leaked:?} packets in clear");
        drop(watch);
        let warnings = self.daemon.count("WARN");
        println!("FIGURE {title}: {warnings} warnings");
        self.daemon.lines().iter().filter(|line| line.contains("WARN")).for_each(|line| println!("{line}"));
        assert!(warnings <= WARNINGS, "{warnings} warnings:\n{}", self.daemon.lines().join("\n"));
        let site = self.stage.site();
        let others = state::settled_others(site);
        let stopped = self.daemon.stop();
        assert!(stopped.status.success(), "{stopped:?}");
        assert_eq!(state::others(site), others, "the end of the tunnel changes what is not its own");
    }
}
