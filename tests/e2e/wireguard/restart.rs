//! A server that is killed and started again: its peers are back after one round trip, and what it
//! has to know of them is kept.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::implementation::Implementation::{self, ConfigFile};
use super::node::Node;
use super::pair::{CLIENT_V4, Outer, PORT, Pair, Plan, SERVER_V4};
use super::probe::Probe;
use super::settings::{Keys, Peer, Settings};
use super::site::Site;
use super::state_file;
use crate::daemon::{Daemon, Stopped};
use crate::lab::{Lab, heavy};
use crate::mounts::BINARY;
use crate::waiting::{TIMEOUT, eventually, holds_within, uninterrupted};

pub(super) const GREETING: &str = "greeting the peers that were connected before the restart";
/// Time within which a peer is back after the server is ready.
const BACK_WITHIN: Duration = Duration::from_secs(1);

/// Starts `wg0` on `site` again, with `arguments`.
pub(super) fn start(site: &Site, arguments: &[&str]) -> Daemon {
    let file = site.path().join("wg0.conf");
    let config = ["--config", file.to_str().unwrap(), "--log-level", "debug"];
    let daemon = site.launch(BINARY.as_ref(), &[&config[..], arguments].concat()).spawn();
    daemon.wait_for(" ready mode=");
    daemon
}

/// Waits until the state file has the endpoint of all peers, which have connected.
pub(super) fn wait_for_state(site: &Site, peers: usize) {
    let path = state_file::path(site);
    eventually("the endpoints of the peers are kept", || state_file::addresses(&path).len() == peers);
}

/// Ends the daemon as the end of the host would.
fn kill(daemon: Daemon) {
    daemon.signal(Signal::SIGKILL);
    daemon.wait_exit();
}

/// Panics if the daemon has greeted its peers. Lines of its start may come after "ready".
pub(super) fn greets_nobody(stopped: &Stopped) {
    assert_eq!(stopped.count(GREETING), 0, "{:#?}", stopped.lines);
}

/// Returns the endpoint of the only peer of `wg0`.
fn endpoint(site: &Site) -> String {
    let shown = site.wg(&["show", "wg0", "endpoints"]);
    shown.split_whitespace().nth(1).unwrap_or_default().to_owned()
}

/// Returns the time from now on until the client, whose program sends all the time, is answered.
fn time_until_back(client: &Node) -> Duration {
    let begun = Instant::now();
    let is_back = || {
        let mut ping = client.site.command("ping");
        ping.args(["-n", "-q", "-c", "1", "-W", "0.05", SERVER_V4]);
        ping.output().unwrap().status.success()
    };
    assert!(holds_within(Duration::from_secs(25), is_back), "{:?}", client.daemon.lines());
    begun.elapsed()
}

fn a_killed_server_is_back_at_once(client: Implementation) {
    let Pair { server, client, .. } = Pair::new(ConfigFile, client, Outer::V4);
    client.ping(SERVER_V4);
    let Node { daemon, site, .. } = server;
    wait_for_state(&site, 1);
    kill(daemon);
    let daemon = start(&site, &[]);
    let back = time_until_back(&client);
    println!("back {back:?} after the start");
    assert!(back < BACK_WITHIN, "{back:?}");
    daemon.wait_for(GREETING);
}

between!(a_killed_server_is_back_at_once: {
    of_wontun: (ConfigFile),
    of_wireguard_go: (WireguardGo),
});

/// The client sends nothing, and is reached at the address that it had.
#[test]
fn a_silent_client_is_reached_after_a_restart() {
    let Pair { server, client, .. } = Pair::new(ConfigFile, ConfigFile, Outer::V6);
    client.ping(SERVER_V4);
    let Node { daemon, site, .. } = server;
    wait_for_state(&site, 1);
    let before = endpoint(&site);
    kill(daemon);
    let _daemon = start(&site, &[]);
    assert_eq!(endpoint(&site), before);
    assert!(holds_within(BACK_WITHIN, || site.ping_once([10, 9, 0, 2], 56)));
}

/// The client knows the old port only, and would follow to the new one.
#[test]
fn a_server_on_another_port_greets_nobody() {
    let pair = Pair::new(ConfigFile, ConfigFile, Outer::V4);
    let Pair { server: Node { daemon, site, .. }, client, plan } = pair;
    client.ping(SERVER_V4);
    wait_for_state(&site, 1);
    daemon.stop();
    site.write("wg0.conf", &plan.server.clone().port(PORT + 1).wg_quick());
    let stopped = start(&site, &[]).stop();
    greets_nobody(&stopped);
    assert_eq!(stopped.status.code(), Some(0));
    // nor does one that keeps no state, and it leaves the file alone
    site.write("wg0.conf", &plan.server.wg_quick());
    let before = fs::read(state_file::path(&site)).unwrap();
    greets_nobody(&start(&site, &["--state", "off"]).stop());
    assert!(fs::read(state_file::path(&site)).unwrap() == before);
}

/// The host has ended: the file is older than what the server knew.
#[test]
fn a_server_with_an_old_state_file_is_back_at_once() {
    let plan = Plan::new(&Arc::new(Lab::new(2)), Outer::V4);
    let settings = plan.client.clone().port(PORT + 7);
    let Node { daemon, site, .. } = Node::start(&plan.server_site, ConfigFile, &plan.server);
    let client = Node::start(&plan.client_site, ConfigFile, &settings);
    client.ping(SERVER_V4);
    let path = state_file::path(&site);
    wait_for_state(&site, 1);
    let old = fs::read(&path).unwrap();
    let first = state_file::records(&path)[0].latest_timestamp;
    // a new session, from the same port
    kill(client.daemon);
    let client = Node::start(&plan.client_site, ConfigFile, &settings);
    client.ping(SERVER_V4);
    eventually("the new session is kept", || state_file::records(&path)[0].latest_timestamp > first);
    kill(daemon);
    fs::write(&path, old).unwrap();
    let daemon = start(&site, &[]);
    daemon.wait_for(GREETING);
    let back = time_until_back(&client);
    assert!(back < BACK_WITHIN, "{back:?}");
}

/// Endpoint, timestamps and totals are kept, and the totals continue.
#[test]
fn the_state_is_kept_over_a_stop() {
    let Pair { server, client, plan } = Pair::new(ConfigFile, ConfigFile, Outer::V6);
    client.ping(SERVER_V4);
    let shown = server.only_peer();
    let Node { daemon, site, .. } = server;
    daemon.stop();
    let path = state_file::path(&site);
    let only = || match state_file::records(&path)[..] {
        [record] => record,
        ref records => panic!("{records:?}"),
    };
    let record = only();
    assert_eq!(record.public_key.to_string(), plan.client_keys.public);
    let kept = record.endpoint.unwrap();
    assert_eq!(kept.remote.to_string(), shown.endpoint);
    assert_eq!((kept.local, kept.local_port), (Some(site.v6.into()), PORT));
    assert!(record.last_handshake.as_secs().abs_diff(shown.handshake) <= 1);
    assert!(record.latest_timestamp.is_some());
    let totals = record.traffic.total;
    assert!(totals.received >= shown.received && totals.sent >= shown.sent, "{totals:?}");
    assert!(totals.packets_received >= 1 && totals.packets_sent >= 1, "{totals:?}");

    let daemon = start(&site, &[]);
    time_until_back(&client);
    daemon.stop();
    let record = only();
    assert!(record.traffic.total.received > totals.received, "{:?}, {totals:?}", record.traffic.total);
    assert!(
        record.traffic.total.packets_sent > totals.packets_sent,
        "{:?}, {totals:?}",
        record.traffic.total
    );
    // a peer that is removed from the file while the tunnel is stopped is forgotten
    let mut without = plan.server.clone();
    without.peers.clear();
    site.write("wg0.conf", &without.wg_quick());
    start(&site, &[]).stop();
    assert_eq!(state_file::records(&path), []);
}

/// A process that takes the tunnel over continues the file.
#[test]
fn the_state_is_handed_over() {
    let Pair { server, client, .. } = Pair::new(ConfigFile, ConfigFile, Outer::V4);
    for _ in 0..5 {
        client.ping(SERVER_V4);
    }
    let shown = server.only_peer();
    let Node { daemon: old, site, .. } = server;
    wait_for_state(&site, 1);
    let new = start(&site, &["--take-over"]);
    assert_eq!(old.wait_exit().status.code(), Some(0));
    client.ping(SERVER_V4);
    let stopped = new.stop();
    greets_nobody(&stopped);
    assert!(!stopped.lines.iter().any(|line| line.contains(" WARN ")), "{:#?}", stopped.lines);
    let [record] = state_file::records(&state_file::path(&site))[..] else { panic!("no record") };
    // each byte is counted once: another ping, and a keepalive or two
    let range = shown.received + 100..shown.received + 400;
    assert!(range.contains(&record.traffic.total.received), "{:?}, {shown:?}", record.traffic.total);
}

/// A place that the user names is used, or the start fails.
#[test]
fn a_state_file_that_cannot_be_used_is_an_error() {
    let plan = Plan::new(&Arc::new(Lab::new(2)), Outer::V4);
    let site = &plan.server_site;
    site.write("wg0.conf", &plan.server.wg_quick());
    let mut second = plan.server.clone();
    second.port = None;
    site.write("wg1.conf", &second.wg_quick());
    let run = |name: &str, path: &str| {
        let file = site.path().join(name);
        site.launch(BINARY.as_ref(), &["--config", file.to_str().unwrap(), "--state", path])
    };
    let state = site.path().join("elsewhere").display().to_string();
    let daemon = run("wg0.conf", &state).spawn();
    daemon.wait_for(" ready mode=");
    assert!(Path::new(&state).exists() && !state_file::path(site).exists());
    let failed = run("wg1.conf", &state).run();
    assert!(failed.code() == 78 && failed.stderr.contains("another process uses it"), "{failed:?}");
    daemon.stop();
    for path in ["/nonexistent/wontun/state", "/dev/null", "/tmp"] {
        let failed = run("wg0.conf", path).run();
        assert_eq!(failed.code(), 78, "{failed:?}");
        assert!(failed.stderr.contains(path) && failed.stderr.contains("--state off"), "{failed:?}");
    }
}

/// An initiation that was recorded before the restart is answered once by a server that has lost
/// its state, and not by one that has kept it.
#[test]
fn a_recorded_initiation_is_rejected_after_a_restart() {
    let lab = Arc::new(Lab::new(2));
    let site = Arc::new(Site::new(&lab, 0));
    let (own, keys) = (Keys::new(), Keys::new());
    let settings =
        Settings::new(&own, &["10.9.0.1/16"]).port(PORT).peer(Peer::new(&keys.public, &["10.9.0.2/32"]));
    let Node { daemon, .. } = Node::start(&site, ConfigFile, &settings);
    let target = SocketAddr::from((lab.server().v4, PORT));
    let any = || lab.client().udp((Ipv4Addr::UNSPECIFIED, 0));
    let mut probe = Probe::new(any(), &keys, &own.public, target, CLIENT_V4.parse().unwrap());
    let recorded = probe.initiation();
    probe.send(&recorded);
    probe.finish_handshake();
    probe.ping(1);
    wait_for_state(&site, 1);
    kill(daemon);
    for (arguments, is_answered) in [(&[][..], false), (&["--state", "off"], true)] {
        let daemon = start(&site, arguments);
        let attacker = any();
        let limit = if is_answered { TIMEOUT } else { Duration::from_secs(1) };
        attacker.set_read_timeout(Some(limit)).unwrap();
        attacker.send_to(&recorded, target).unwrap();
        let answer = uninterrupted(|| attacker.recv_from(&mut [0; 2048]));
        assert_eq!(answer.is_ok(), is_answered, "{answer:?}");
        let own = format!("{}:{}", lab.client().v4, attacker.local_addr().unwrap().port());
        assert_eq!(endpoint(&site) == own, is_answered);
        daemon.stop();
    }
}

/// The number of peers of the test that is run each time; more are up to `scripts/restart.sh`.
const PEERS: &str = "100";

/// Time within which the last of many peers is back; longer in a build that is not optimized.
const ALL_BACK_WITHIN: Duration = Duration::from_secs(if cfg!(debug_assertions) { 5 } else { 1 });

/// Each peer pings four times a second, as its programs would. All are back long before the 15 s
/// after which they would notice that the server is another one.
#[test]
fn many_peers_of_a_killed_server_are_back_at_once() {
    let back = time_until_all_are_back(ConfigFile, PEERS.parse().unwrap());
    println!("{PEERS} peers: the last is back {back:?} after the start");
    assert!(back < ALL_BACK_WITHIN, "{back:?}");
}

/// Prints that time for the numbers of peers in `WONTUN_PEERS`, beside wireguard-go's.
#[test]
#[ignore = "scripts/restart.sh runs it"]
fn times_until_peers_are_back() {
    let counts = std::env::var("WONTUN_PEERS").unwrap_or_else(|_| "1,100,1000".to_owned());
    for count in counts.split(',').map(|count| count.parse().unwrap()) {
        for server in [ConfigFile, Implementation::WireguardGo] {
            let back = time_until_all_are_back(server, count);
            println!("{server:?}: of {count} peers the last is back {back:?} after the start");
        }
    }
}

/// Connects `count` peers to a server, kills and starts it, and returns the time from when it is
/// ready until the ping of each peer is answered.
fn time_until_all_are_back(server: Implementation, count: u32) -> Duration {
    let _guard = heavy();
    let lab = Arc::new(Lab::new(2));
    let site = Arc::new(Site::new(&lab, 0));
    lab.client().ip(&["route", "add", "local", "198.18.0.0/16", "dev", "lo"]);
    lab.server().ip(&["route", "add", "198.18.0.0/16", "via", "192.0.2.2"]);
    let own = Keys::new();
    let inner = |number: u32| Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 9, 16, 0)) + number);
    let keys: Vec<_> = (0..count).map(|_| Keys::new()).collect();
    let mut settings = Settings::new(&own, &["10.9.0.1/16"]).port(PORT);
    for (number, keys) in (0..).zip(&keys) {
        settings = settings.peer(Peer::new(&keys.public, &[&format!("{}/32", inner(number))]));
    }
    let node = Node::start(&site, server, &settings);
    let target = SocketAddr::from((lab.server().v4, PORT));
    let mut peers: Vec<_> = (0..)
        .zip(&keys)
        .map(|(number, keys)| {
            let outer = Ipv4Addr::from(u32::from(Ipv4Addr::new(198, 18, 0, 0)) + number);
            let socket = lab.client().udp((outer, 51820));
            Probe::new(socket, keys, &own.public, target, inner(number))
        })
        .collect();
    for peer in &mut peers {
        peer.shake_hands();
        peer.ping(1);
    }
    if server == ConfigFile {
        wait_for_state(&site, peers.len());
    }
    kill(node.daemon);
    let _node = Node::start(&site, server, &settings);
    let begun = Instant::now();
    let interval = Duration::from_millis(250);
    let (mut waiting, mut next) = (peers, begun);
    while !waiting.is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{} peers are not back", waiting.len());
        if Instant::now() >= next {
            next = Instant::now() + interval;
            for peer in &mut waiting {
                let request = peer.echo_request(2);
                peer.send(&request);
            }
        }
        waiting.retain_mut(|peer| !peer.step(2));
        std::thread::sleep(Duration::from_millis(1));
    }
    begun.elapsed()
}
