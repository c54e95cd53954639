//! A server whose peers reach what is behind it, on a host whose firewall other programs manage.
//!
//! The router of the laboratory is the VPN's server, host 1 its client, and host 0 a host outside
//! that knows no way back but to the server itself.

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::events::Events;
use super::state;
use crate::daemon::Daemon;
use crate::lab::Lab;
use crate::mounts::BINARY;
use crate::waiting::{PATIENCE, eventually, finish};
use crate::wireguard::implementation::Implementation::ConfigFile;
use crate::wireguard::node::Node;
use crate::wireguard::pair::{Outer, PORT, Plan, SERVER_V4};
use crate::wireguard::site::Site;

const OUTSIDE: [&str; 2] = ["192.0.2.1", "2001:db8::1"];
/// Long enough for what arrives, on a busy machine too.
const ARRIVES: Duration = Duration::from_secs(2);
/// Longest time until a warning, and until something is back, on a busy machine.
const LIMIT: Duration = Duration::from_secs(10);
/// Warnings that are no flood.
const WARNINGS: usize = 12;

/// A running server, what it had set when it was started, and a client of it.
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
    /// The server with `--nat auto`, and its client, which reaches the host outside.
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
        assert_eq!(server.lets_out(), [true; 2]);
        assert_eq!(server.daemon.count("WARN"), 0, "{:?}", server.daemon.lines());
        server
    }

    pub(super) fn site(&self) -> &Arc<Site> {
        &self.plan.server_site
    }

    /// From now on the tunnel's state is to be without lines that contain `needle`.
    pub(super) fn expect_without(&mut self, needle: &str) {
        let wanted = self.before.lines().filter(|line| !line.contains(needle));
        self.before = wanted.fold(String::new(), |text, line| text + line + "\n");
    }

    /// Returns true where the client makes a TCP connection to the host outside, over IPv4 and
    /// IPv6.
    pub(super) fn lets_out(&self) -> [bool; 2] {
        OUTSIDE.map(|outside| {
            let target = SocketAddr::new(outside.parse::<IpAddr>().unwrap(), 7000);
            let _listener = self.lab.host(0).listen(target);
            self.client.site.inside(|| TcpStream::connect_timeout(&target, ARRIVES)).is_ok()
        })
    }

    /// Waits for a line of the log with `needle`, and returns the command that it ends with.
    ///
    /// # Panics
    /// It does not come soon after `since`.
    pub(super) fn command_of_warning(&self, title: &str, needle: &str, since: Instant) -> String {
        let line = self.daemon.wait_for(needle);
        let elapsed = since.elapsed();
        println!("FIGURE {title}: the warning comes after {elapsed:?}");
        assert!(elapsed < LIMIT, "{elapsed:?}: {line}");
        let (_, command) = line.rsplit_once(": ").unwrap_or_else(|| panic!("no command in {line}"));
        command.trim_end_matches('"').to_owned()
    }

    /// Runs `command`, and panics unless packets pass then and nothing is warned of any more.
    pub(super) fn is_mended_by(&self, commands: &[String]) {
        for command in commands {
            self.site().shell(command);
        }
        eventually("the client's connections pass", || self.lets_out() == [true; 2]);
        let warnings = self.daemon.count("WARN");
        self.rereads();
        assert_eq!(self.daemon.count("WARN"), warnings, "{}", self.daemon.lines().join("\n"));
    }

    /// Has everything read again: the configuration, and the ruleset of others.
    fn rereads(&self) {
        let reread = "the configuration was read again";
        let seen = self.daemon.count(reread);
        self.daemon.signal(nix::sys::signal::Signal::SIGHUP);
        self.daemon.wait_for_more(reread, seen);
        self.site().shell("nft add table inet probe; nft delete table inet probe");
        std::thread::sleep(Duration::from_millis(1500));
    }

    /// Panics unless the tunnel's state is, after `what`, as it was at the start.
    pub(super) fn is_as_before(&self, what: &str) {
        state::is_back(self.site(), what, &self.before);
        state::is_healthy(self.site());
    }

    /// Asks for the health, which has wontun compare everything; the answer does not matter.
    pub(super) fn ask_for_health(&self) {
        finish(self.site().command(BINARY).args(["health", "--tun", "wg0"]), PATIENCE);
    }

    /// Stops it. Panics if much was logged, or something of others is not as it was.
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
