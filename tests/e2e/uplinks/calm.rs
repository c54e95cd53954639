//! Changes that do not concern the tunnel cost nothing, and a link that flaps costs little.

use std::fmt::Write as _;
use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::world::{Tunnel, Uplink, World};
use crate::wireguard::capture::Capture;
use crate::wireguard::pair::{CLIENT_V4, Outer, PORT};
use crate::wireguard::probe::INITIATION;

/// Returns how often the process has gone to sleep, and its CPU time in clock ticks.
fn work(pid: nix::unistd::Pid) -> (u64, u64) {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let sleeps = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")).unwrap();
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<u64> =
        stat.rsplit(')').next().unwrap().split_whitespace().filter_map(|field| field.parse().ok()).collect();
    // utime and stime are fields 14 and 15 of proc_pid_stat(5); the state before them is no number
    (sleeps.trim().parse().unwrap(), fields[10] + fields[11])
}

/// A router with thousands of route changes, none of which touches the way to the server.
#[test]
fn other_routes_cost_no_handshake_and_few_wakeups() {
    let world = World::new();
    let client = world.client();
    client.shell(&format!("{}; {}", Uplink::Wifi.route_v4(), Uplink::Lte.route_v4()));
    let tunnel = Tunnel::start(&world.plan(Outer::V4, false));
    let mut batch = String::new();
    for action in ["add", "delete"] {
        for number in 0..10_000 {
            let (high, low) = (number / 250, number % 250);
            writeln!(batch, "route {action} 172.16.{high}.{low}/32 via 10.1.0.1 dev wlan0").unwrap();
        }
    }
    let file = tunnel.client.site.write("routes", &batch);
    let before = work(tunnel.client.daemon.pid());
    let begun = Instant::now();
    client.ip(&["-batch", file.to_str().unwrap()]);
    let took = begun.elapsed();
    sleep(Duration::from_millis(600));
    let after = work(tunnel.client.daemon.pid());
    let (sleeps, ticks) = (after.0 - before.0, after.1 - before.1);
    eprintln!("figure: 20,000 other routes in {took:?}: {sleeps} wake-ups, {ticks} ticks of CPU time");
    assert_eq!(tunnel.handshakes(), 1);
    assert!(sleeps <= 40, "{sleeps} wake-ups");
    assert!(ticks <= 10, "{ticks} ticks");
    tunnel.server.ping(CLIENT_V4);
}

/// The Wi-Fi's default route comes and goes, ten times a second.
#[test]
fn a_link_that_flaps_costs_few_handshakes() {
    let world = World::new();
    let client = world.client();
    client.shell(&format!("{}; {}", Uplink::Wifi.route_v4(), Uplink::Lte.route_v4()));
    let tunnel = Tunnel::start(&world.plan(Outer::V4, false));
    let capture = Capture::start(world.lab.server());
    let meter = tunnel.meter_from_server();
    client.shell(&format!(
        "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do
            ip route delete default dev wlan0; sleep 0.1; {}; sleep 0.1;
        done",
        Uplink::Wifi.route_v4()
    ));
    let outage = meter.outage("a link has flapped for three seconds", || {});
    drop(meter);
    let frames = capture.stop();
    let initiations =
        frames.iter().filter(|frame| frame.to.1 == PORT && frame.kind() == Some(INITIATION)).count();
    eprintln!("figure: a link that flapped thirty times: {initiations} initiations");
    assert!((1..=10).contains(&initiations), "{initiations} initiations");
    outage.assert_short();
}
