//! A server that forwards for its peers, on a host whose firewall is managed by other programs.
//!
//! The router of the laboratory is the VPN's server, host 1 its client, and host 0 an outside host
//! whose only route back leads to the server itself.

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::events::Events;
use super::state;
use crate::daemon::Daemon;
use crate::lab::Lab;
use crate::mounts::BINARY;
use crate::waiting::{TIMEOUT, eventually, finish};
use crate::wireguard::implementation::Implementation::ConfigFile;
use crate::wireguard::node::Node;
use crate::wireguard::pair::{Outer, PORT, Plan, SERVER_V4};
use crate::wireguard::site::Site;

const OUTSIDE: [&str; 2] = ["192.0.2.1", "2001:db8::1"];
/// Long enough for a packet to arrive, on a busy machine too.
const ARRIVES: Duration = Duration::from_secs(2);
/// Longest time for a warning or a repair, on a busy machine.
const LIMIT: Duration = Duration::from_secs(10);
/// Largest number of warnings that is not a flood.
const WARNINGS: usize = 12;

/// A running server, the state it had set when it was started, and one of its clients.
#[derive(Debug)]
pub(super) struct Server {
    lab: Arc<Lab>,
    plan: Plan,
    pub(super) daemon: Daemon,
    client: Node,
    before: String,
    events: Events,
}

impl Server {
    /// Starts the server with `--nat auto` and its client, which reaches the outside host.
    pub(super) fn start() -> Self {
        let lab = Arc::new(Lab::routed(1500));
        let mut plan = Plan::between(&lab, [2, 1], Outer::V4);
        let peer = &mut plan.client.peers[0];
        peer.endpoint = Some(format!("198.51.100.254:{PORT}"));
        peer.allowed.extend(["192.0.2.0/24", "2001:db8::/64"].map(str::to_owned));
        let site = &plan.server_site;
        site.shell("echo 0 >/proc/sys/net/ipv4/ip_forward; echo 0 >/proc/sys/net/ipv6/conf/all/forwarding");
        for family in ["-4", "-6"] {
            lab.host(0).ip(&[family, "route", "delete", "default"]);
        }
        let file = site.write("wg0.conf", &plan.server.wg_quick());
        let arguments = ["--config", file.to_str().unwrap(), "--nat", "auto"];
        let daemon = site.launch(BINARY.as_ref(), &arguments).spawn();
        daemon.wait_for(" ready mode=");
        let client = Node::start(&plan.client_site, ConfigFile, &plan.client);
        client.ping(SERVER_V4);
        let (before, events) = (state::own(site), Events::start(site));
        assert!(before.contains("masquerade"), "{before}");
        let server = Self { lab, plan, daemon, client, before, events };
        assert_eq!(server.forwards(), [true; 2]);
        assert_eq!(server.daemon.count("WARN"), 0, "{:?}", server.daemon.lines());
        server
    }

    pub(super) fn site(&self) -> &Arc<Site> {
        &self.plan.server_site
    }

    /// Removes lines that contain `needle` from the expected state of the tunnel.
    pub(super) fn expect_without(&mut self, needle: &str) {
        let wanted = self.before.lines().filter(|line| !line.contains(needle));
        self.before = wanted.fold(String::new(), |text, line| text + line + "\n");
    }

    /// Returns whether the client can open a TCP connection to the outside host, over IPv4 and
    /// IPv6.
    pub(super) fn forwards(&self) -> [bool; 2] {
        OUTSIDE.map(|outside| {
            let target = SocketAddr::new(outside.parse::<IpAddr>().unwrap(), 7000);
            let _listener = self.lab.host(0).listen(target);
            self.client.site.inside(|| TcpStream::connect_timeout(&target, ARRIVES)).is_ok()
        })
    }

    /// Waits for a log line with `needle`, and returns the command at its end.
    ///
    /// # Panics
    /// The line does not come soon after `since`.
    pub(super) fn command_of_warning(&self, title: &str, needle: &str, since: Instant) -> String {
        let line = self.daemon.wait_for(needle);
        let elapsed = since.elapsed();
        println!("FIGURE {title}: the warning comes after {elapsed:?}");
        assert!(elapsed < LIMIT, "{elapsed:?}: {line}");
        let (_, command) = line.rsplit_once(": ").unwrap_or_else(|| panic!("no command in {line}"));
        command.trim_end_matches('"').to_owned()
    }

    /// Runs `commands`. Panics unless packets pass afterwards and nothing more is warned of.
    pub(super) fn is_fixed_by(&self, commands: &[String]) {
        for command in commands {
            self.site().shell(command);
        }
        eventually("the client's connections pass", || self.forwards() == [true; 2]);
        let warnings = self.daemon.count("WARN");
        self.reloads();
        assert_eq!(self.daemon.count("WARN"), warnings, "{}", self.daemon.lines().join("\n"));
    }

    /// Has the configuration and the foreign ruleset read again.
    fn reloads(&self) {
        let reread = "reloaded the configuration";
        let seen = self.daemon.count(reread);
        self.daemon.signal(nix::sys::signal::Signal::SIGHUP);
        self.daemon.wait_for_more(reread, seen);
        self.site().shell("nft add table inet probe; nft delete table inet probe");
        std::thread::sleep(Duration::from_millis(1500));
    }

    /// Panics unless the tunnel's state after `what` is the same as at the start.
    pub(super) fn is_as_before(&self, what: &str) {
        state::is_back(self.site(), what, &self.before);
        state::is_healthy(self.site());
    }

    /// Requests the health, which makes wontun compare everything; the answer is ignored.
    pub(super) fn ask_for_health(&self) {
        finish(self.site().command(BINARY).args(["health", "--tun", "wg0"]), TIMEOUT);
    }

    /// Stops the server. Panics if much was logged, or the state of other programs has changed.
    pub(super) fn finish(self, title: &str) {
        self.events.report(title, LIMIT);
        let warnings = self.daemon.count("WARN");
        println!("FIGURE {title}: {warnings} warnings");
        self.daemon.lines().iter().filter(|line| line.contains("WARN")).for_each(|line| println!("{line}"));
        assert!(warnings <= WARNINGS, "{warnings} warnings:\n{}", self.daemon.lines().join("\n"));
        let others = state::settled_others(self.site());
        let stopped = self.daemon.stop();
        assert!(stopped.status.success(), "{stopped:?}");
        let after = state::others(&self.plan.server_site);
        assert_eq!(after, others, "the end of the tunnel changes what is not its own");
    }
}
