//! Full tunnels to a name, on a host with its own name server: dnsmasq, unbound, Docker's
//! 127.0.0.11. That server's own queries carry no mark and follow the default route, into a tunnel
//! that is not up yet.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::kill_switch::{NEIGHBOUR_V4, Stage, WORLD_V4, WORLD_V6, launch, reaches_the_world, start};
use super::name_server::NameServer;
use super::pair::PORT;
use super::site::Site;
use crate::daemon::Daemon;
use crate::waiting::{TIMEOUT, holds_within};

/// Address of the client's own name server.
pub(super) const STUB: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);
/// Address where queries get neither an answer nor an error.
pub(super) const SILENT: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 99);

/// Returns a stage whose client knows its server by name only, and the server's name server.
pub(super) fn stage() -> (Stage, NameServer) {
    let mut stage = Stage::new();
    let server = &stage.plan.server_site;
    let name_server = NameServer::start(server.host(), WORLD_V4, server.v4, false);
    stage.plan.client.peers[0].endpoint = Some(format!("vpn.example.com:{PORT}"));
    stage.router.ip(&["route", "add", "blackhole", &SILENT.to_string()]);
    let client = stage.client();
    client.write("hosts", "127.0.0.1 localhost\n");
    resolv_conf(client, &format!("nameserver {STUB}\n"));
    for name in ["hosts", "resolv.conf"] {
        let own = client.path().join(name).display().to_string();
        client.shell(&format!("chmod 644 {own}; mount --bind {own} /etc/{name}"));
    }
    (stage, name_server)
}

pub(super) fn resolv_conf(client: &Site, text: &str) {
    // the same file: it may be mounted already
    std::fs::write(client.path().join("resolv.conf"), text).unwrap();
}

/// Runs a name server on the client that forwards each query to the one at [`WORLD_V4`] if it
/// `asks`, with an ordinary unmarked socket. Returns the number of queries.
pub(super) fn stub(client: &Site, asks: bool) -> Arc<AtomicUsize> {
    stub_that_asks(client, &Arc::new(AtomicBool::new(asks)))
}

/// As `stub`, with an `asks` that can change at any time.
pub(super) fn stub_that_asks(client: &Site, asks: &Arc<AtomicBool>) -> Arc<AtomicUsize> {
    let asks = Arc::clone(asks);
    let socket = client.udp((STUB, 53));
    let outside = client.udp((Ipv4Addr::UNSPECIFIED, 0));
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    thread::spawn(move || {
        socket.set_read_timeout(None).unwrap();
        outside.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        let mut buffer = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            count.fetch_add(1, Ordering::Relaxed);
            let query = buffer[..length].to_vec();
            if !asks.load(Ordering::Relaxed) || outside.send_to(&query, (WORLD_V4, 53)).is_err() {
                continue;
            }
            while let Ok((length, _)) = outside.recv_from(&mut buffer) {
                if buffer[..2] == query[..2] {
                    let _ = socket.send_to(&buffer[..length], from);
                    break;
                }
            }
        }
    });
    asked
}

/// Writes the servers behind the client's name server to the file at `path`.
pub(super) fn write_upstream_file(client: &Site, path: &str, text: &str) {
    let folder = path.rsplit_once('/').unwrap().0;
    client.shell(&format!("rm -rf /run/NetworkManager /run/dnsmasq /run/systemd; mkdir -p {folder}"));
    client.shell(&format!("printf '{text}' > {path}"));
}

/// Waits until the client reaches the server through the tunnel. Returns the time that took.
pub(super) fn up_within(stage: &Stage, daemon: &Daemon, limit: Duration) -> Duration {
    let started = Instant::now();
    let is_up = holds_within(limit, || stage.client().ping_once(WORLD_V4, 56));
    assert!(is_up, "not up within {limit:?}: {:#?}", daemon.lines());
    started.elapsed()
}

/// The upstream servers of the client's name server are unknown: the name is looked up before the
/// routes are set.
#[test]
fn the_name_is_looked_up_before_the_routes_are_set() {
    let (stage, _name_server) = stage();
    let asked = stub(stage.client(), true);
    for _ in 0..3 {
        let begun = Instant::now();
        let daemon = start(stage.client(), &stage.plan.client, &[]);
        let took = up_within(&stage, &daemon, Duration::from_secs(5));
        println!("up after {took:?}, {:?} from the start", begun.elapsed());
        assert!(asked.load(Ordering::Relaxed) >= 2);
        assert_eq!(daemon.stop().status.code(), Some(0));
    }
}

/// A silent name server delays the start by two seconds at most, and the log names the remedy.
#[test]
fn a_silent_name_server_does_not_hold_up_the_start() {
    let (stage, _name_server) = stage();
    let asked = stub(stage.client(), false);
    let begun = Instant::now();
    let daemon = launch(stage.client(), &stage.plan.client, &[]);
    daemon.wait_for(" ready mode=");
    let took = begun.elapsed();
    println!("ready after {took:?}");
    assert!(asked.load(Ordering::Relaxed) > 0, "it was not asked before");
    assert!(took < Duration::from_secs(2) + Duration::from_secs(3), "{took:?}");
    daemon.wait_for("--resolver ADDRESS");
    assert_eq!(daemon.stop().status.code(), Some(0));
}

/// A file that only root may read, as a script with the umask 077 leaves it, is read all the same:
/// with the mark of a full tunnel and without one.
#[test]
fn a_hidden_resolv_conf_is_read() {
    let (mut stage, name_server) = stage();
    resolv_conf(stage.client(), &format!("nameserver {WORLD_V4}\n"));
    stage.client().shell("chmod 600 /etc/resolv.conf");
    let split = [format!("{}/24", Ipv4Addr::new(172, 16, 0, 0)), format!("{WORLD_V6}/128")];
    for (allowed, options) in [(None, &["--kill-switch"][..]), (None, &[]), (Some(split.to_vec()), &[])] {
        let is_split = allowed.is_some();
        if let Some(allowed) = allowed {
            stage.plan.client.peers[0].allowed = allowed;
        }
        let before = name_server.query_counts().0;
        let daemon = start(stage.client(), &stage.plan.client, options);
        daemon.wait_for("chmod 644 /etc/resolv.conf");
        if is_split {
            let reaches = || stage.client().ping_once(WORLD_V6, 56);
            assert!(holds_within(Duration::from_secs(5), reaches), "{:#?}", daemon.lines());
        } else {
            up_within(&stage, &daemon, Duration::from_secs(5));
        }
        assert!(name_server.query_counts().0 > before);
        assert_eq!(daemon.stop().status.code(), Some(0));
    }
}

/// With the kill switch only marked queries leave, even at the start: they go to the servers behind
/// the client's own name server.
#[test]
fn those_behind_the_stub_are_asked() {
    let (stage, name_server) = stage();
    let client = stage.client();
    stub(client, true);
    let behind = format!("nameserver {WORLD_V4}\\n");
    for (place, docker) in [
        ("/run/systemd/resolve/resolv.conf", ""),
        ("/run/NetworkManager/no-stub-resolv.conf", ""),
        ("/run/NetworkManager/resolv.conf", ""),
        ("/run/dnsmasq/resolv.conf", ""),
        ("/run/nowhere/resolv.conf", "{203.0.113.1}"),
        ("/run/nowhere/resolv.conf", "{host(127.0.0.53) host(203.0.113.1)}"),
    ] {
        write_upstream_file(client, place, &behind);
        let docker = docker.replace('{', "# ExtServers: [").replace('}', "]");
        resolv_conf(client, &format!("nameserver {STUB}\noptions ndots:0\n{docker}\n"));
        let before = name_server.query_counts();
        let daemon = start(client, &stage.plan.client, &["--kill-switch"]);
        let took = up_within(&stage, &daemon, Duration::from_secs(5));
        println!("{place} {docker}: up after {took:?}");
        assert!(name_server.query_counts().0 > before.0, "{place}");
        assert_eq!(daemon.stop().status.code(), Some(0));
    }
}

/// An address of the host's own that is not on loopback is a local name server, too.
#[test]
fn a_stub_on_another_address_of_the_host_is_one() {
    let (stage, name_server) = stage();
    let client = stage.client();
    resolv_conf(client, &format!("nameserver {}\n", client.v4));
    write_upstream_file(
        client,
        "/run/NetworkManager/no-stub-resolv.conf",
        &format!("nameserver {WORLD_V4}\\n"),
    );
    let daemon = start(client, &stage.plan.client, &["--kill-switch"]);
    up_within(&stage, &daemon, Duration::from_secs(5));
    assert!(name_server.query_counts().0 > 0);
}

/// Each silent server costs a second.
#[test]
fn silent_servers_cost_a_second_each() {
    let (stage, _name_server) = stage();
    let client = stage.client();
    stub(client, false);
    let behind = format!("nameserver {SILENT}\\nnameserver {WORLD_V4}\\n");
    write_upstream_file(client, "/run/NetworkManager/no-stub-resolv.conf", &behind);
    let begun = Instant::now();
    let daemon = start(client, &stage.plan.client, &["--kill-switch"]);
    up_within(&stage, &daemon, Duration::from_secs(5));
    let took = begun.elapsed();
    println!("up {took:?} after the start");
    assert!(took >= Duration::from_secs(1), "nobody was silent: {took:?}");
}

/// `--resolver` is queried first, with and without the kill switch.
#[test]
fn the_resolver_of_the_command_line_is_asked_first() {
    let (stage, name_server) = stage();
    let client = stage.client();
    let asked = stub(client, false);
    for options in [&["--kill-switch"][..], &[]] {
        let before = (name_server.query_counts().0, asked.load(Ordering::Relaxed));
        let resolver = ["--resolver", "203.0.113.99,203.0.113.1"];
        let daemon = start(client, &stage.plan.client, &[&resolver, options].concat());
        let took = up_within(&stage, &daemon, Duration::from_secs(5));
        println!("{options:?}: up after {took:?}");
        assert!(name_server.query_counts().0 > before.0);
        assert_eq!(asked.load(Ordering::Relaxed), before.1, "the other was asked, too");
        reaches_the_world(&stage);
        if !options.is_empty() {
            assert!(!client.ping_once(NEIGHBOUR_V4, 56));
        }
        assert_eq!(daemon.stop().status.code(), Some(0));
    }
}

/// The server moves to another address, and its name resolves to that: the client's own name server
/// is behind the dead tunnel, and the servers behind it are queried.
#[test]
fn a_server_that_moved_is_found() {
    let (stage, name_server) = stage();
    let client = stage.client();
    stub(client, true);
    write_upstream_file(
        client,
        "/run/NetworkManager/no-stub-resolv.conf",
        &format!("nameserver {WORLD_V4}\\n"),
    );
    let daemon = start(client, &stage.plan.client, &["--kill-switch"]);
    up_within(&stage, &daemon, Duration::from_secs(5));
    let server = &stage.plan.server_site;
    let moved = Ipv4Addr::new(192, 0, 2, 77);
    server.ip(&["address", "add", "192.0.2.77/24", "dev", "eth0"]);
    server.shell(&format!(
        "nft 'add table ip gone; add chain ip gone input {{ type filter hook prerouting priority -300; }}; \
         add rule ip gone input ip daddr {} drop; \
         add chain ip gone output {{ type filter hook output priority -300; }}; \
         add rule ip gone output ip saddr {} drop'",
        server.v4, server.v4
    ));
    name_server.set_address(moved);
    // 15 seconds until the session is considered dead, 90 of handshakes
    let limit = Duration::from_secs(90 + 15 + 6) + TIMEOUT;
    let endpoint = SocketAddr::from((moved, PORT)).to_string();
    let follows = || {
        client.ping_once(WORLD_V4, 56);
        client.wg(&["show", "wg0", "endpoints"]).contains(&endpoint)
    };
    assert!(holds_within(limit, follows), "{:#?}", daemon.lines());
    up_within(&stage, &daemon, Duration::from_secs(10));
}
