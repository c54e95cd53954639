//! Features that must work with several processes as with one: signals, wg(8), changes of port and
//! mark, health, metrics, shutdown.

use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};

use crate::daemon::Launch;
use crate::lab::Lab;
use crate::mounts::BINARY;
use crate::processes::{is_gone, proportional_kilobytes};
use crate::waiting::{TIMEOUT, eventually, finish};
use crate::wireguard::implementation::Implementation::{ConfigFile, Wontun};
use crate::wireguard::node::Node;
use crate::wireguard::pair::{CLIENT_V4, Outer, Plan, SERVER_V4};
use crate::wireguard::settings::{Keys, Peer};

/// Largest memory of all processes together, with one busy peer (kB).
const MOST_KILOBYTES: u64 = 16 * 1024;

#[test]
fn all_that_worked_works_with_several_processes() {
    let plan = Plan::new(&Arc::new(Lab::new(2)), Outer::V4);
    let site = &plan.server_site;
    let file = site.write("wg0.conf", &plan.server.wg_quick());
    let metrics = format!("{}:9586", site.v4);
    let args = ["--config", file.to_str().unwrap(), "--workers", "2", "--metrics", &metrics];
    let daemon = site.launch(BINARY.as_ref(), &args).spawn();
    daemon.wait_for(" ready mode=");
    let server = Node { daemon, site: Arc::clone(site), implementation: ConfigFile, name: "wg0".to_owned() };
    let client = Node::start(&plan.client_site, Wontun, &plan.client);
    client.ping(SERVER_V4);
    let processes = server.daemon.processes();

    // SIGUSR1 to either is answered with the counters of the tunnel
    let carried = server.daemon.summary().rx_packets;
    assert!(carried > 0);
    let seen = server.daemon.count("summary ");
    kill(processes.tunnel, Signal::SIGUSR1).unwrap();
    server.daemon.wait_for_more("summary ", seen);

    // SIGHUP reads the file again; the tunnel process ignores it
    kill(processes.tunnel, Signal::SIGHUP).unwrap();
    let other = Keys::new();
    let two = plan.server.clone().peer(Peer::new(&other.public, &["10.66.0.0/24"]));
    site.write("wg0.conf", &two.wg_quick());
    assert_eq!(server.peers().len(), 1);
    server.daemon.signal(Signal::SIGHUP);
    server.daemon.wait_for("reloaded the configuration");
    assert_eq!(server.peers().len(), 2);
    eventually("the route is there", || site.ip(&["route", "show", "dev", "wg0"]).contains("10.66.0.0/24"));

    // wg set and wg show: the answer after a change shows it
    server.set(&["peer", &other.public, "remove"]);
    assert_eq!(server.peers().len(), 1);
    let state = server.only_peer();
    assert!(state.handshake > 0 && state.received > 0, "{state:?}");
    for port in [52_000_u16, 52_001] {
        server.set(&["listen-port", &port.to_string()]);
        assert_eq!(server.port(), port);
        client.set(&["peer", &plan.server_keys.public, "endpoint", &format!("{}:{port}", site.v4)]);
        client.ping(SERVER_V4);
        server.ping(CLIENT_V4);
    }
    for mark in ["0x77", "0"] {
        server.set(&["fwmark", mark]);
        client.ping(SERVER_V4);
    }

    // health and metrics
    for more in [&[][..], &["--max-handshake-age", "300"]] {
        let mut command = site.command(BINARY);
        let run = finish(command.args(["health", "--tun", "wg0"]).args(more), TIMEOUT);
        assert_eq!(run.code(), 0, "{run:?}");
    }
    let scraped = crate::metrics::scrape(site.host(), (site.v4, 9586).into());
    assert_eq!(scraped.get("wontun_peers") as u32, 1, "{scraped:?}");

    // no process was replaced meanwhile, and together they are small
    assert_eq!(server.daemon.processes(), processes);
    let memory = proportional_kilobytes(server.daemon.pid());
    eprintln!("{memory} kB of all processes together");
    assert!(memory <= MOST_KILOBYTES, "{memory} kB of all processes together");
    let seen = server.daemon.count("summary ");
    let stopped = server.daemon.stop();
    assert_eq!(stopped.status.code(), Some(0));
    // a line of the supervisor may come after it
    assert_eq!(stopped.count("summary "), seen + 1, "{stopped:?}");
    assert!(processes.all().into_iter().all(is_gone));
    assert!(!site.socket("wg0").exists() && !site.has_device("wg0"));
}

/// In the background, as wg-quick(8) starts it, the processes keep running by themselves.
#[test]
fn all_processes_go_to_the_background_and_end_with_the_device() {
    let lab = Arc::new(Lab::new(2));
    let plan = Plan::new(&lab, Outer::V4);
    let server = Node::start(&plan.server_site, ConfigFile, &plan.server);
    let site = &plan.client_site;
    let by_wg_quick = ("WG_QUICK_USERSPACE_IMPLEMENTATION", "wontun");
    let started = finish(site.command(BINARY).arg("wg0").env(by_wg_quick.0, by_wg_quick.1), TIMEOUT);
    assert_eq!(started.code(), 0, "{started:?}");
    let names = || {
        let mut names: Vec<_> = site.processes().into_iter().map(crate::processes::comm).collect();
        names.sort();
        names
    };
    // wg(8) looks up names itself, so there is no resolver
    assert_eq!(names(), ["wontun", "wontun-nursery", "wontun-tunnel"]);
    for pid in site.processes() {
        for number in 0..3 {
            let target = std::fs::read_link(format!("/proc/{pid}/fd/{number}"));
            assert!(target.is_ok_and(|target| target.to_str() == Some("/dev/null")), "{pid}: {number}");
        }
    }
    let file = site.write("wg0.setconf", &plan.client.setconf());
    site.wg(&["setconf", "wg0", file.to_str().unwrap()]);
    site.ip(&["address", "add", "10.9.0.2/24", "dev", "wg0"]);
    site.ip(&["link", "set", "wg0", "up"]);
    site.ping([10, 9, 0, 1]);
    drop(server);
    site.ip(&["link", "delete", "wg0"]);
    eventually("all processes end", || site.processes().is_empty());
    assert!(!site.socket("wg0").exists());
}

/// Measures the time from the start to the tunnel, including the helpers' start.
#[test]
fn a_start_is_quick() {
    let lab = Lab::new(1);
    let mut times = Vec::new();
    for _ in 0..5 {
        let start = std::time::Instant::now();
        let daemon = Launch::plain(lab.server(), &[]).spawn();
        daemon.wait_ready();
        times.push(start.elapsed());
        assert_eq!(daemon.stop().status.code(), Some(0));
    }
    eprintln!("start times: {times:?}");
    assert!(times.iter().min().unwrap() < &Duration::from_secs(1), "{times:?}");
}
