//! Rules of peers: what they may reach, and who may open connections to them.
//!
//! The router of the laboratory is the VPN's server, host 1 its client `a`, and host 0 an outside
//! host, on which the peer `b` runs too, with another implementation.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::implementation::Implementation::{ConfigFile, WireguardGo};
use super::no_nftables;
use super::node::Node;
use super::pair::{Outer, PORT, Plan, SERVER_V4};
use super::settings::{Keys, Peer, Settings};
use super::site::Site;
use crate::daemon::Daemon;
use crate::lab::Lab;
use crate::metrics::scrape;
use crate::mounts::BINARY;
use crate::waiting::{TIMEOUT, eventually, finish};

/// Time to wait for a packet that must not arrive, and between two attempts.
const ARRIVES: Duration = Duration::from_millis(700);
const A: [&str; 2] = ["10.9.0.2", "fd00:9::2"];
const B: [&str; 2] = ["10.9.0.3", "fd00:9::3"];
/// The server in the VPN, the outside host, and a private address of the latter.
const SERVER: [&str; 2] = ["10.9.0.1", "fd00:9::1"];
const OUTSIDE: [&str; 2] = ["192.0.2.1", "2001:db8::1"];
const LAN: [&str; 2] = ["192.168.77.1", "fd77::1"];
/// The server, as the outside host sees it.
const PUBLIC: [&str; 2] = ["192.0.2.254", "2001:db8::fe"];
const DENIED_PORT: u16 = 9999;
/// Address of the server's metrics.
const METRICS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9586);

/// The hosts with the server's settings; nothing runs yet.
struct Stage {
    lab: Arc<Lab>,
    plan: Plan,
    outside: Arc<Site>,
    b: Settings,
    /// Open while the stage exists: TCP and UDP, at each address of each host.
    _listeners: Vec<(TcpListener, UdpSocket)>,
}

impl Stage {
    fn new() -> Self {
        let lab = Arc::new(Lab::routed(1500));
        let mut plan = Plan::between(&lab, [2, 1], Outer::V4);
        let networks = ["192.0.2.0/24", "2001:db8::/64", "192.168.77.0/24", "fd77::/64"];
        let peer = &mut plan.client.peers[0];
        peer.endpoint = Some(format!("198.51.100.254:{PORT}"));
        peer.allowed.extend(networks.map(str::to_owned));
        let keys = Keys::new();
        plan.server = plan.server.clone().peer(Peer::new(&keys.public, &["10.9.0.3/32", "fd00:9::3/128"]));
        let b = Settings::new(&keys, &["10.9.0.3/24", "fd00:9::3/64"]).peer(
            Peer::new(&plan.server_keys.public, &["10.9.0.0/24", "fd00:9::/64"])
                .at(format!("192.0.2.254:{PORT}")),
        );
        let outside = Arc::new(Site::new(&lab, 0));
        for family in ["-4", "-6"] {
            outside.ip(&[family, "route", "delete", "default"]);
        }
        let server = &plan.server_site;
        for (address, length, gateway) in [(LAN[0], 24, "192.0.2.1"), (LAN[1], 64, "2001:db8::1")] {
            outside.ip(&["address", "add", &format!("{address}/{length}"), "dev", "lo"]);
            let network = if length == 24 { "192.168.77.0/24" } else { "fd77::/64" };
            server.ip(&["route", "add", network, "via", gateway]);
        }
        Self { lab, plan, outside, b, _listeners: Vec::new() }
    }

    /// Writes the server's file, with these comments of the peers `a` and `b`.
    fn write(&self, interface: &str, a: &str, b: &str) -> PathBuf {
        let text = self.plan.server.wg_quick();
        let mut sections = text.split("[Peer]\n");
        let head =
            sections.next().unwrap().replacen("[Interface]\n", &format!("[Interface]\n{interface}"), 1);
        let peers = sections.zip([("a", a), ("b", b)]);
        let peers =
            peers.map(|(peer, (name, comments))| format!("[Peer]\n# Name = {name}\n{comments}\n{peer}"));
        self.plan.server_site.write("wg0.conf", &(head + &peers.collect::<String>()))
    }

    fn serve(&self) -> Daemon {
        self.serve_with(&[])
    }

    fn serve_with(&self, more: &[&str]) -> Daemon {
        let file = self.plan.server_site.path().join("wg0.conf");
        let metrics = METRICS.to_string();
        let arguments = ["--config", file.to_str().unwrap(), "--nat", "auto", "--metrics", &metrics];
        let arguments = [&arguments[..], more].concat();
        let daemon = self.plan.server_site.launch(BINARY.as_ref(), &arguments).spawn();
        daemon.wait_for(" ready mode=");
        daemon
    }

    /// Returns the number of denied packets, by the metrics and by `wontun show` of the tunnel
    /// `name`.
    fn denied(&self, name: &str) -> [f64; 2] {
        let site = &self.plan.server_site;
        let counted = scrape(site.host(), METRICS).get("wontun_denied_packets_total");
        let shown = finish(site.command(BINARY).args(["show", name, "--json"]), TIMEOUT).stdout;
        let (_, shown) = shown.split_once("\"denied\":").unwrap_or_else(|| panic!("{shown}"));
        let end = shown.find([',', '}']).unwrap();
        [counted, shown[..end].parse().unwrap()]
    }

    /// Reloads the server's file, and returns the line in the log.
    fn reload(&self, server: &Daemon) -> String {
        let seen = server.count("reloaded the configuration");
        server.signal(Signal::SIGHUP);
        server.wait_for_more("reloaded the configuration", seen);
        server.lines().into_iter().rfind(|line| line.contains("reloaded the configuration")).unwrap()
    }

    /// Starts both clients.
    fn clients(&self) -> [Node; 2] {
        let a = Node::start(&self.plan.client_site, ConfigFile, &self.plan.client);
        [a, Node::start(&self.outside, WireguardGo, &self.b)]
    }

    fn site(&self, host: Place) -> &Site {
        match host {
            Place::A => &self.plan.client_site,
            Place::B | Place::Outside => &self.outside,
            Place::Server => &self.plan.server_site,
        }
    }

    /// Returns true if a packet of the connection arrives at its destination within `limit`: one
    /// packet is sent, or what TCP sends in that time.
    fn arrives(&self, probe: &Probe, limit: Duration) -> bool {
        let target: IpAddr = probe.target.parse().unwrap();
        let (from, to) = (self.site(probe.from), self.site(probe.to));
        let Some(port) = probe.port else {
            let mut ping = from.command("ping");
            ping.args(["-n", "-c", "1", "-W", &limit.as_secs_f64().to_string(), probe.target]);
            return finish(&mut ping, limit + TIMEOUT).status.success();
        };
        let at = SocketAddr::new(target, port);
        if probe.is_udp {
            let receiver = to.udp(at);
            receiver.set_read_timeout(Some(limit)).unwrap();
            let any = if target.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            from.udp(any.parse::<SocketAddr>().unwrap()).send_to(b"probe", at).ok();
            return receiver.recv_from(&mut [0; 16]).is_ok();
        }
        let _listener = to.listen(at);
        from.inside(|| TcpStream::connect_timeout(&at, limit)).is_ok()
    }

    /// Panics unless exactly the probes that should arrive do, and `wontun peer test` says the
    /// same.
    fn check(&self, when: &str, probes: &[(Probe, bool)]) {
        let server = &self.plan.server_site;
        let dir = server.path().to_str().unwrap().to_owned();
        thread::scope(|scope| {
            let check = |(probe, expected): &(Probe, bool)| {
                assert_eq!(self.arrives(probe, limit(*expected)), *expected, "{when}: {probe:?}");
                let Some(arguments) = probe.as_command() else { return };
                let mut test = server.command(BINARY);
                test.args(["peer", "test"]).args(&arguments).args(["--dir", &dir, "--tun", "wg0"]);
                let said = finish(&mut test, TIMEOUT);
                assert_eq!(said.status.success(), *expected, "{when}: {arguments:?}: {said:?}");
                assert!(
                    said.stdout.starts_with(if *expected { "allowed: " } else { "denied: " }),
                    "{said:?}"
                );
            };
            // those to one port come one after the other
            let threads: Vec<_> =
                probes.chunks(1).map(|chunk| scope.spawn(move || chunk.iter().for_each(check))).collect();
            threads.into_iter().for_each(|thread| thread.join().unwrap());
        });
    }
}

/// Returns the time to wait for a packet of which it is known whether it must arrive.
const fn limit(must_arrive: bool) -> Duration {
    if must_arrive { TIMEOUT } else { ARRIVES }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    A,
    B,
    Outside,
    Server,
}

/// A connection to open: a ping without a port.
#[derive(Clone, Copy, Debug)]
struct Probe {
    from: Place,
    to: Place,
    target: &'static str,
    port: Option<u16>,
    is_udp: bool,
}

impl Probe {
    fn tcp(from: Place, to: Place, target: &'static str, port: u16) -> Self {
        Self { from, to, target, port: Some(port), is_udp: false }
    }

    fn udp(from: Place, to: Place, target: &'static str, port: u16) -> Self {
        Self { is_udp: true, ..Self::tcp(from, to, target, port) }
    }

    fn ping(from: Place, to: Place, target: &'static str) -> Self {
        Self { port: None, ..Self::tcp(from, to, target, 1) }
    }

    /// Returns the arguments of `wontun peer test`.
    fn as_command(&self) -> Option<Vec<String>> {
        let with_port = |address: &str| match self.port {
            Some(port) if address.contains(':') => format!("[{address}]:{port}"),
            Some(port) => format!("{address}:{port}"),
            None => address.to_owned(),
        };
        let protocol = if self.is_udp { "/udp" } else { "" };
        let v6 = usize::from(self.target.contains(':'));
        match (self.from, self.to) {
            (Place::A, _) => Some(vec!["a".to_owned(), with_port(self.target) + protocol]),
            (Place::B, Place::A) => {
                Some(vec!["a".to_owned(), with_port(B[v6]) + protocol, "--from".to_owned()])
            }
            (Place::Server, Place::A) => {
                Some(vec!["a".to_owned(), with_port(SERVER[v6]) + protocol, "--from".to_owned()])
            }
            _ => None,
        }
    }
}

/// Sends datagrams to what `a` may not reach, without a pause, and counts those that arrive.
struct Forbidden {
    stop: Arc<AtomicBool>,
    receivers: Vec<UdpSocket>,
    sender: Option<thread::JoinHandle<()>>,
}

impl Forbidden {
    fn start(stage: &Stage) -> Self {
        let targets: Vec<SocketAddr> = [OUTSIDE[0], OUTSIDE[1], SERVER[0], B[0]]
            .iter()
            .map(|address| SocketAddr::new(address.parse().unwrap(), DENIED_PORT))
            .collect();
        let receivers = [Place::Outside, Place::Outside, Place::Server, Place::B]
            .iter()
            .zip(&targets)
            .map(|(place, target)| {
                let socket = stage.site(*place).udp(SocketAddr::new(
                    if target.is_ipv4() { "0.0.0.0" } else { "::" }.parse().unwrap(),
                    0,
                ));
                drop(socket);
                stage.site(*place).udp(*target)
            })
            .collect();
        let stop = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&stop);
        let senders =
            ["0.0.0.0:0", "[::]:0"].map(|any| stage.site(Place::A).udp(any.parse::<SocketAddr>().unwrap()));
        let sender = thread::spawn(move || {
            while !flag.load(Ordering::Relaxed) {
                for target in &targets {
                    senders[usize::from(target.is_ipv6())].send_to(b"forbidden", target).ok();
                }
                thread::sleep(Duration::from_micros(500));
            }
        });
        Self { stop, receivers, sender: Some(sender) }
    }

    /// Panics if any has arrived.
    fn check(&self, when: &str) {
        for receiver in &self.receivers {
            receiver.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
            let got = receiver.recv_from(&mut [0; 16]);
            assert!(got.is_err(), "{when}: a datagram has arrived at {:?}: {got:?}", receiver.local_addr());
        }
    }

    /// Stops, and panics if any has arrived.
    fn finish(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.sender.take().unwrap().join().unwrap();
        self.check("at the end");
    }
}

impl Drop for Forbidden {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_peer_reaches_what_its_rules_allow() {
    use Place::{A as a, B as b, Outside, Server};
    let stage = Stage::new();
    let allow = "# Allow = 192.0.2.1:7001/tcp, [2001:db8::1]:7001/tcp, lan/icmp, server:7002/udp, b:7003/tcp, \
        192.0.2.1:7100-7110/udp\n# Deny = 192.0.2.1:7105/udp\n# AllowFrom = b:7004/tcp, 192.168.77.0/24:7005/tcp";
    let file = stage.write("", allow, "");
    let server = stage.serve();
    let [client, _b] = stage.clients();
    // an answer shows that there is a session
    eventually("the session is there", || stage.arrives(&Probe::ping(a, Outside, LAN[0]), ARRIVES));
    // the server does not know where `b` is before it has sent something
    eventually("the other one, too", || stage.arrives(&Probe::tcp(b, a, A[0], 7004), ARRIVES));
    let probes = |narrow: bool| {
        [
            (Probe::tcp(a, Outside, OUTSIDE[0], 7001), !narrow),
            (Probe::tcp(a, Outside, OUTSIDE[1], 7001), !narrow),
            (Probe::ping(a, Outside, LAN[1]), true),
            (Probe::udp(a, Server, SERVER[0], 7002), true),
            (Probe::udp(a, Server, SERVER[1], 7002), true),
            (Probe::tcp(a, b, B[0], 7003), true),
            (Probe::tcp(a, b, B[1], 7003), true),
            (Probe::udp(a, Outside, OUTSIDE[0], 7110), true),
            (Probe::tcp(b, a, A[0], 7004), true),
            (Probe::tcp(b, a, A[1], 7004), true),
            (Probe::tcp(a, Outside, OUTSIDE[0], 7006), false),
            (Probe::udp(a, Outside, OUTSIDE[0], 7001), false),
            (Probe::udp(a, Outside, OUTSIDE[0], 7105), false),
            (Probe::ping(a, Outside, OUTSIDE[0]), false),
            (Probe::ping(a, Outside, OUTSIDE[1]), false),
            (Probe::tcp(a, Outside, LAN[0], 7007), false),
            (Probe::tcp(a, Server, SERVER[0], 7008), false),
            (Probe::ping(a, Server, SERVER[1]), false),
            (Probe::ping(a, b, B[0]), false),
            (Probe::udp(a, b, B[1], 7009), false),
            (Probe::tcp(b, a, A[0], 7010), false),
            (Probe::ping(b, a, A[1]), false),
            (Probe::ping(Server, a, A[0]), false),
            (Probe::tcp(Server, a, A[1], 7011), false),
        ]
    };
    stage.check("at the start", &probes(false));

    // Nothing that is denied passes, whatever happens to the table.
    let forbidden = Forbidden::start(&stage);
    let listener = stage.outside.listen(SocketAddr::new(OUTSIDE[0].parse().unwrap(), 7001));
    let mut stream = client.site.connect(SocketAddr::new(OUTSIDE[0].parse().unwrap(), 7001));
    let (mut accepted, _) = listener.accept().unwrap();
    accepted.set_read_timeout(Some(TIMEOUT)).unwrap();
    stream.write_all(b"before").unwrap();
    accepted.read_exact(&mut [0; 6]).unwrap();
    stage.plan.server_site.shell("nft flush ruleset");
    stream.write_all(b"still").unwrap();
    accepted.read_exact(&mut [0; 5]).unwrap();
    forbidden.check("after a flush");
    stage.write("", &allow.replace("192.0.2.1:7001/tcp, [2001:db8::1]:7001/tcp, ", ""), "");
    let before = stage.denied("wg0");
    assert!(before[0] >= 10.0 && before[1] >= before[0], "{before:?}");
    let line = stage.reload(&server);
    assert!(line.contains(": Allow of a peers="), "{line}");
    // the count continues in the new table
    assert!(stage.denied("wg0")[1] >= before[1], "{before:?}");
    // an existing connection ends with the permission
    stream.write_all(b"after").unwrap();
    accepted.set_read_timeout(Some(ARRIVES)).unwrap();
    assert!(accepted.read_exact(&mut [0; 5]).is_err(), "a connection that is denied continues");
    drop((stream, accepted, listener));
    forbidden.check("after a reload");
    stage.check("after a flush and a reload", &probes(true)[..12]);
    // another process takes the tunnel over, and its device is renamed
    let successor = stage.serve_with(&["--take-over"]);
    assert!(server.wait_exit().status.success());
    forbidden.check("after a hand-over");
    stage.plan.server_site.ip(&["link", "set", "wg0", "name", "vpn0"]);
    successor.wait_for("vpn0");
    assert!(stage.arrives(&probes(true)[3].0, TIMEOUT) && !stage.arrives(&probes(true)[0].0, ARRIVES));
    forbidden.check("after a rename");
    assert!(successor.stop().status.success());
    forbidden.check("after the end");
    let server = stage.serve();
    forbidden.check("after the start");
    stage.plan.server_site.shell("nft flush ruleset");
    eventually("the session is back", || stage.arrives(&Probe::ping(a, Outside, LAN[0]), ARRIVES));
    stage.check("after a restart", &probes(true)[..3]);
    forbidden.finish();

    // Without rules the table is removed.
    stage.write("", "", "");
    stage.reload(&server);
    stage.check(
        "without rules",
        &[(Probe::ping(a, Server, SERVER[0]), true), (Probe::ping(Server, a, A[0]), true)],
    );
    assert!(!stage.plan.server_site.shell("nft list tables").contains("wontun-peers"), "{}", file.display());
}

#[test]
fn the_policy_is_internet_only() {
    use Place::{A as a, B as b, Outside, Server};
    let stage = Stage::new();
    let rules = ["# AllowFrom = b:7004/tcp\n", "# Allow = a, server:7005\n"];
    stage.write("", rules[0], rules[1]);
    let server = stage.serve();
    let _clients = stage.clients();
    eventually("the session is there", || stage.arrives(&Probe::ping(a, Outside, OUTSIDE[0]), ARRIVES));
    // the peer with wireguard-go has rules, too
    eventually("the other one, too", || stage.arrives(&Probe::tcp(b, Server, SERVER[0], 7005), ARRIVES));
    stage.write("# Policy = internet-only\n", rules[0], rules[1]);
    let line = stage.reload(&server);
    assert!(line.contains(": policy peers="), "{line}");
    stage.check(
        "with the policy",
        &[
            (Probe::tcp(b, a, A[0], 7004), true),
            (Probe::tcp(b, a, A[1], 7010), false),
            (Probe::udp(b, Server, SERVER[1], 7005), true),
            (Probe::tcp(b, Server, SERVER[0], 7006), false),
            (Probe::tcp(a, Outside, OUTSIDE[0], 7001), true),
            (Probe::tcp(a, Outside, OUTSIDE[1], 7001), true),
            (Probe::ping(a, Server, SERVER[0]), true),
            (Probe::udp(a, Server, SERVER[1], 53), true),
            (Probe::tcp(a, Server, SERVER[0], 7002), false),
            (Probe::tcp(a, Server, PUBLIC[0], 7002), false),
            (Probe::tcp(a, Outside, LAN[0], 7003), false),
            (Probe::tcp(a, Outside, LAN[1], 7003), false),
            (Probe::ping(a, b, B[0]), false),
            (Probe::ping(b, a, A[0]), false),
            (Probe::ping(Server, a, A[1]), false),
        ],
    );
    drop(server);
}

/// A peer whose rules cannot be enforced is not served; others are.
#[test]
fn without_nftables_peers_with_rules_are_not_served() {
    let stage = Stage::new();
    let file = stage.write("", "# Deny = lan", "");
    let site = &stage.plan.server_site;
    let arguments = ["--config", file.to_str().unwrap()];
    // the kill switch's, the monitor's, the guard's, that of NAT, and the one for the rules
    let refuse = no_nftables::refuse(site, &arguments, |places| places.nth(4));
    let server = site.launch(BINARY.as_ref(), &arguments).wrap(&refuse).spawn();
    let line = server.wait_for("cannot enforce the rules of the peers: 1 peers with rules are not served");
    assert!(line.contains("wontun-peers-wg0") && line.contains("modprobe nf_tables"), "{line}");
    server.wait_for(" ready mode=");
    let [a, b] = stage.clients();
    b.ping(SERVER_V4);
    assert!(!a.site.ping_once([10, 9, 0, 1], 56));
    assert_eq!(site.wg(&["show", "wg0", "peers"]).lines().count(), 1);
    // the next attempt succeeds
    server.signal(Signal::SIGHUP);
    server.wait_for("reloaded the configuration");
    a.ping(SERVER_V4);
    drop(stage.lab);
}

/// Port forwards lead to the peer, over IPv4 and IPv6, and the commands set rules and forwards.
#[test]
fn commands_set_rules_and_port_forwards() {
    use Place::{A as a, Outside, Server};
    let stage = Stage::new();
    stage.write("", "", "");
    let server = stage.serve();
    let site = &stage.plan.server_site;
    let _clients = stage.clients();
    eventually("the session is there", || stage.arrives(&Probe::ping(a, Server, SERVER[0]), ARRIVES));
    let dir = site.path().to_str().unwrap().to_owned();
    let peer = |arguments: &[&str]| {
        let mut command = site.command(BINARY);
        command.arg("peer").args(arguments).args(["--dir", &dir, "--tun", "wg0"]);
        finish(&mut command, TIMEOUT)
    };
    let succeeds = |arguments: &[&str]| {
        let said = peer(arguments);
        assert!(said.status.success(), "{arguments:?}: {said:?}");
        said
    };
    succeeds(&["set", "a", "--allow", "server:7001/tcp,b", "--forward", "8443/tcp=443,5353/udp"]);
    let forwarded = |target: &'static str, reaches: bool| {
        let at = SocketAddr::new(target.parse().unwrap(), 8443);
        let to: IpAddr = A[usize::from(at.is_ipv6())].parse().unwrap();
        let _listener = stage.plan.client_site.listen((to, 443));
        let connect = || TcpStream::connect_timeout(&at, limit(reaches));
        let connected = stage.outside.inside(connect).is_ok();
        assert_eq!(connected, reaches, "{target}");
    };
    PUBLIC.iter().for_each(|target| forwarded(target, true));
    stage.check(
        "after set",
        &[
            (Probe::tcp(a, Server, SERVER[0], 7001), true),
            (Probe::tcp(a, Server, SERVER[1], 7002), false),
            (Probe::tcp(Server, a, A[0], 443), false),
            (Probe::ping(a, Outside, OUTSIDE[0]), false),
        ],
    );
    // rules follow the names of peers
    succeeds(&["rename", "b", "laptop"]);
    let text = || std::fs::read_to_string(site.path().join("wg0.conf")).unwrap();
    assert!(text().contains("# Allow = server:7001/tcp, laptop\n"), "{}", text());
    let said = succeeds(&["remove", "laptop"]);
    assert!(said.stderr.contains("removed 'laptop' from the rules of a"), "{said:?}");
    assert!(text().contains("# Allow = server:7001/tcp\n"), "{}", text());
    for (arguments, part) in [
        (&["set", "a", "--allow", "nas"][..], "there is no peer 'nas'"),
        (&["set", "a", "--forward", "51820/udp"], "the one that clients connect to"),
        (&["set", "a", "--forward", "80/tcp,80/tcp=81"], "leads to the same client already"),
        (&["set", "a", "--deny", "10.0.0.0/33"], "expected a network"),
    ] {
        let said = peer(arguments);
        assert!(!said.status.success() && said.stderr.contains(part), "{arguments:?}: {said:?}");
    }
    succeeds(&["set", "a", "--allow", "default", "--forward", "none"]);
    assert!(!text().contains("# Allow") && !text().contains("# Forward"), "{}", text());
    forwarded(PUBLIC[0], false);
    stage.check(
        "after the rules are gone",
        &[(Probe::ping(Server, a, A[0]), true), (Probe::ping(a, Outside, OUTSIDE[0]), true)],
    );
    assert_eq!(server.count("WARN"), 0, "{:?}", server.lines());
}
