//! The same with real name servers: dnsmasq on the client, which asks another dnsmasq.

use std::net::Ipv4Addr;
use std::process::{Child, Stdio};
use std::time::Duration;

use super::kill_switch::{NEIGHBOUR_V4, Stage, WORLD_V4, is_locked, start};
use super::local_stub::{STUB, resolv_conf, say_behind, up_within};
use super::pair::PORT;
use super::site::Site;
use crate::waiting::{PATIENCE, eventually, holds_within};

const NAME: &str = "vpn.example.com";

/// A dnsmasq. Dropping it ends it.
struct Dnsmasq(Child);

impl Dnsmasq {
    /// Starts one that listens on `address` of `site`, and waits until it does.
    fn start(site: &Site, address: Ipv4Addr, options: &[&str]) -> Self {
        let listen = format!("--listen-address={address}");
        let all =
            ["--keep-in-foreground", "--conf-file=/dev/null", "--no-hosts", "--pid-file=", "--user=root"];
        let mut command = site.command("dnsmasq");
        command.args(all).args(["--bind-interfaces", "--cache-size=0", &listen]).args(options);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        let dnsmasq = Self(child.expect("dnsmasq is missing: apt-get install dnsmasq-base"));
        eventually("dnsmasq listens", || site.shell("ss -Hlun").contains(&format!("{address}:53 ")));
        dnsmasq
    }
}

impl Drop for Dnsmasq {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// A client that knows its server by name, the dnsmasq that knows the name, and the client's own.
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
    // of all the tests' life
    let record = Box::leak(format!("--address=/{NAME}/{address}").into_boxed_str());
    ["--no-resolv", "--local-ttl=1", record]
}

fn server_of(stage: &Stage) -> Ipv4Addr {
    stage.plan.server_site.v4
}

/// The client's dnsmasq has its server on the command line, where nobody can read it.
#[test]
fn a_full_tunnel_starts_behind_a_dnsmasq_that_tells_nothing() {
    let (stage, _far, _near) = stage(FIRST, &["--no-resolv", "--server=203.0.113.1"]);
    assert_eq!(server_of(&stage), FIRST);
    for options in [&[][..], &["--kill-switch"], &["--kill-switch", "keep"]] {
        let daemon = start(stage.client(), &stage.plan.client, options);
        let took = up_within(&stage, &daemon, Duration::from_secs(5));
        println!("{options:?}: up after {took:?}");
        assert_eq!(is_locked(stage.client()), !options.is_empty());
        assert_eq!(stage.client().ping_once(NEIGHBOUR_V4, 56), options.is_empty());
        assert_eq!(daemon.stop().status.code(), Some(0));
    }
}

/// The server's address at the start.
const FIRST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// The one that it moves to.
const MOVED: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 77);

/// The server moves, with and without the kill switch: those behind the client's dnsmasq are asked
/// past the dead tunnel, by resolvconf's file, which dnsmasq itself reads, or `--resolver`.
#[test]
fn a_server_that_moved_is_found_behind_dnsmasq() {
    let file = "/run/dnsmasq/resolv.conf";
    let (stage, far, near) = stage(FIRST, &["--no-resolv", "--server=203.0.113.1"]);
    drop((far, near));
    let client = stage.client();
    say_behind(client, file, &format!("nameserver {WORLD_V4}\\n"));
    let resolv_file = format!("--resolv-file={file}");
    let _near = Dnsmasq::start(client, STUB, &["--no-poll", &resolv_file]);
    let far = Dnsmasq::start(&stage.plan.server_site, WORLD_V4, &far_options(FIRST));
    let daemon = start(client, &stage.plan.client, &["--kill-switch"]);
    up_within(&stage, &daemon, Duration::from_secs(5));
    drop(far);
    let server = &stage.plan.server_site;
    server.ip(&["address", "add", &format!("{MOVED}/24"), "dev", "eth0"]);
    server.shell(&format!(
        "nft 'add table ip gone; add chain ip gone input {{ type filter hook prerouting priority -300; }}; \
         add rule ip gone input ip daddr {FIRST} drop; \
         add chain ip gone output {{ type filter hook output priority -300; }}; \
         add rule ip gone output ip saddr {FIRST} drop'"
    ));
    let _far = Dnsmasq::start(server, WORLD_V4, &far_options(MOVED));
    let follows = || {
        client.ping_once(WORLD_V4, 56);
        client.wg(&["show", "wg0", "endpoints"]).contains(&format!("{MOVED}:{PORT}"))
    };
    // 15 seconds until the session is doubted, 90 of handshakes
    assert!(holds_within(Duration::from_secs(90 + 15 + 6) + PATIENCE, follows), "{:#?}", daemon.lines());
    up_within(&stage, &daemon, Duration::from_secs(10));
    assert!(is_locked(client) && !client.ping_once(NEIGHBOUR_V4, 56));
}
