//! The tests of `local_stub` with real name servers: dnsmasq on the client, which queries another
//! dnsmasq.

use std::net::Ipv4Addr;
use std::process::{Child, Stdio};
use std::time::Duration;

use super::kill_switch::{NEIGHBOUR_V4, Stage, WORLD_V4, has_kill_switch, start};
use super::local_stub::{STUB, resolv_conf, up_within, write_upstream_file};
use super::pair::PORT;
use super::site::Site;
use crate::daemon::Daemon;
use crate::waiting::{TIMEOUT, eventually, holds_within};

const NAME: &str = "vpn.example.com";
/// A dnsmasq server option that no other program can read.
const UNKNOWN: [&str; 2] = ["--no-resolv", "--server=203.0.113.1"];

/// A dnsmasq. Dropping it stops it.
struct Dnsmasq(Child);

impl Dnsmasq {
    /// Starts a dnsmasq on `address` of `site`, and waits until it listens.
    fn start(site: &Site, address: Ipv4Addr, options: &[&str]) -> Self {
        let listen = format!("--listen-address={address}");
        let all =
            ["--keep-in-foreground", "--conf-file=/dev/null", "--no-hosts", "--pid-file=", "--user=root"];
        let mut command = site.command("dnsmasq");
        command.args(all).args(["--bind-interfaces", "--cache-size=0", &listen]).args(options);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        let dnsmasq = Self(child.expect("dnsmasq is missing: apt-get install dnsmasq-base"));
        let port = options.iter().find_map(|option| option.strip_prefix("--port=")).unwrap_or("53");
        eventually("dnsmasq listens", || site.shell("ss -Hlun").contains(&format!("{address}:{port} ")));
        dnsmasq
    }
}

impl Drop for Dnsmasq {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Returns a client that knows its server by name, the dnsmasq that knows the name, and the
/// client's own.
fn stage(address: Ipv4Addr, own: &[&str]) -> (Stage, Dnsmasq, Dnsmasq) {
    let mut stage = Stage::new();
    stage.plan.client.peers[0].endpoint = Some(format!("{NAME}:{PORT}"));
    let client = stage.client();
    client.write("hosts", "127.0.0.1 localhost\n");
    resolv_conf(client, &format!("nameserver {STUB}\n"));
    for name in ["hosts", "resolv.conf"] {
        let file = client.path().join(name).display().to_string();
        client.shell(&format!("chmod 644 {file}; mount --bind {file} /etc/{name}"));
    }
    let far = Dnsmasq::start(&stage.plan.server_site, WORLD_V4, &far_options(address));
    let near = Dnsmasq::start(stage.client(), STUB, own);
    (stage, far, near)
}

fn far_options(address: Ipv4Addr) -> [&'static str; 3] {
    // lives as long as the test process
    let record = Box::leak(format!("--address=/{NAME}/{address}").into_boxed_str());
    ["--no-resolv", "--local-ttl=1", record]
}

/// The client's dnsmasq has its server on the command line, where no other program can read it.
#[test]
fn a_full_tunnel_starts_behind_a_dnsmasq_that_tells_nothing() {
    let (stage, _far, _near) = stage(FIRST, &UNKNOWN);
    assert_eq!(stage.plan.server_site.v4, FIRST);
    for options in [&[][..], &["--kill-switch"], &["--kill-switch", "keep"]] {
        let daemon = start(stage.client(), &stage.plan.client, options);
        let took = up_within(&stage, &daemon, Duration::from_secs(5));
        println!("{options:?}: up after {took:?}");
        assert_eq!(has_kill_switch(stage.client()), !options.is_empty());
        assert_eq!(stage.client().ping_once(NEIGHBOUR_V4, 56), options.is_empty());
        assert_eq!(daemon.stop().status.code(), Some(0));
    }
}

/// The server's address at the start.
const FIRST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// The server's address after the move.
const MOVED: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 77);

/// Moves the server to [`MOVED`]; datagrams to [`FIRST`] are lost.
fn move_server(server: &Site) {
    server.ip(&["address", "add", &format!("{MOVED}/24"), "dev", "eth0"]);
    server.shell(&format!(
        "nft 'add table ip gone; add chain ip gone input {{ type filter hook prerouting priority -300; }}; \
         add rule ip gone input ip daddr {FIRST} drop; \
         add chain ip gone output {{ type filter hook output priority -300; }}; \
         add rule ip gone output ip saddr {FIRST} drop'"
    ));
}

/// Waits until the tunnel is up, moves the server, and checks that the client finds it by its name.
fn follows(stage: &Stage, far: Dnsmasq, options: &[&str]) -> Daemon {
    let (client, server) = (stage.client(), &stage.plan.server_site);
    let daemon = start(client, &stage.plan.client, options);
    up_within(stage, &daemon, Duration::from_secs(5));
    drop(far);
    move_server(server);
    let _far = Dnsmasq::start(server, WORLD_V4, &far_options(MOVED));
    let follows = || {
        client.ping_once(WORLD_V4, 56);
        client.wg(&["show", "wg0", "endpoints"]).contains(&format!("{MOVED}:{PORT}"))
    };
    // 15 seconds until the session is considered dead, 90 of handshakes, and failed look-ups
    let limit = Duration::from_secs(90 + 15 + 6 + 14) + TIMEOUT;
    assert!(holds_within(limit, follows), "{:#?}", daemon.lines());
    up_within(stage, &daemon, Duration::from_secs(10));
    daemon
}

/// With the kill switch: the servers behind the client's dnsmasq are queried outside the dead
/// tunnel, as resolvconf's file for dnsmasq names them.
#[test]
fn a_server_that_moved_is_found_behind_dnsmasq() {
    let file = "/run/dnsmasq/resolv.conf";
    let (stage, far, near) = stage(FIRST, &UNKNOWN);
    drop(near);
    let client = stage.client();
    write_upstream_file(client, file, &format!("nameserver {WORLD_V4}\\n"));
    let resolv_file = format!("--resolv-file={file}");
    let _near = Dnsmasq::start(client, STUB, &["--no-poll", &resolv_file]);
    let _daemon = follows(&stage, far, &["--kill-switch"]);
    assert!(has_kill_switch(client) && !client.ping_once(NEIGHBOUR_V4, 56));
}

/// Without the kill switch: the client's dnsmasq itself sends queries outside the dead tunnel, for
/// a moment.
#[test]
fn a_server_that_moved_is_found_by_dnsmasq_past_the_tunnel() {
    let (stage, far, _near) = stage(FIRST, &UNKNOWN);
    let daemon = follows(&stage, far, &["--dns-bypass"]);
    assert!(daemon.lines().iter().any(|line| line.contains("(--dns-bypass)")));
    assert!(!stage.client().shell("ip rule").contains("dport"));
}

/// A container: Docker's name server is at 127.0.0.11 on another port, to which its rules redirect,
/// and resolv.conf is as Docker Engine writes it.
#[test]
fn a_full_tunnel_starts_in_a_container() {
    let (stage, _far, near) = stage(FIRST, &UNKNOWN);
    drop(near);
    let client = stage.client();
    let _docker = Dnsmasq::start(client, STUB, &[&UNKNOWN[..], &["--port=37053"]].concat());
    client.shell(
        "nft 'add table ip docker; \
         add chain ip docker output { type nat hook output priority -100; }; \
         add rule ip docker output ip daddr 127.0.0.11 udp dport 53 dnat to 127.0.0.11:37053; \
         add rule ip docker output ip daddr 127.0.0.11 tcp dport 53 dnat to 127.0.0.11:37053'",
    );
    for servers in ["203.0.113.1", "host(203.0.113.1)", "host(127.0.0.53)"] {
        resolv_conf(
            client,
            &format!(
                "# Generated by Docker Engine.\n\
                 # This file can be edited; Docker Engine will not make further changes once it\n\
                 # has been modified.\n\nnameserver 127.0.0.11\nsearch example.org\n\
                 options edns0 trust-ad ndots:0\n\n\
                 # Based on host file: '/etc/resolv.conf' (internal resolver)\n\
                 # ExtServers: [{servers}]\n# Overrides: []\n# Option ndots from: internal\n"
            ),
        );
        for options in [&[][..], &["--kill-switch"]] {
            let daemon = start(client, &stage.plan.client, options);
            let took = up_within(&stage, &daemon, Duration::from_secs(5));
            println!("{servers} {options:?}: up after {took:?}");
            // its shutdown opens the network
            assert_eq!(daemon.stop().status.code(), Some(0));
        }
    }
}
