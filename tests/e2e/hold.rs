//! `wontun hold`: a process without rights that keeps a network namespace. `scripts/docker-test.sh`
//! tests it with containers.

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::daemon::{Daemon, Launch, children_of};
use crate::descriptors::open_descriptors;
use crate::lab::{Host, Lab};
use crate::process::thread_states;
use crate::processes::{HELPER_ID, comm};
use crate::waiting::eventually;
use crate::wireguard::kill_switch::{NEIGHBOUR_V4, Stage, reaches_the_world, start};

/// Starts it as PID 1 of a PID namespace. Returns its process as well.
fn start_hold(host: &Host, args: &[&str]) -> (Daemon, Pid) {
    let launch = Launch::new(host, &[&["hold"], args].concat());
    let daemon = launch.wrap("unshare --pid --fork --kill-child --mount-proc").spawn();
    daemon.wait_for("holding the network namespace");
    let children = children_of(daemon.pid());
    let [hold] = children[..] else { panic!("{children:?}") };
    (daemon, hold)
}

#[test]
fn it_has_no_rights_reaps_orphans_and_ends_at_sigterm() {
    let lab = Lab::new(1);
    let (daemon, hold) = start_hold(lab.host(0), &[]);
    assert_eq!(comm(hold), "wontun-hold");
    for state in thread_states(hold) {
        for set in ["CapEff", "CapPrm", "CapInh", "CapAmb", "CapBnd"] {
            assert_eq!(u64::from_str_radix(&state[set], 16).unwrap(), 0, "{set}");
        }
        assert_eq!((state["NoNewPrivs"].as_str(), state["Seccomp"].as_str()), ("1", "2"));
        assert!(state["Uid"].split_whitespace().all(|id| id == HELPER_ID), "{}", state["Uid"]);
    }
    // unshare(1) has those of the test's own environment as well
    let (inherited, open) = (open_descriptors(daemon.pid()), open_descriptors(hold));
    let own = open.iter().filter(|descriptor| !inherited.contains(descriptor)).count();
    assert_eq!(own, 1, "only that of its signals: {open:?}, {inherited:?}");
    // the shell ends before its child, which becomes one of PID 1
    let target = hold.to_string();
    lab.host(0).shell(&format!("nsenter --target {target} --pid sh -c 'sleep 0.2 & exit 0'"));
    eventually("the orphan is reaped", || children_of(hold).is_empty());
    for signal in [Signal::SIGHUP, Signal::SIGUSR1] {
        nix::sys::signal::kill(hold, signal).unwrap();
    }
    let stopped = daemon.stop_by(hold, Signal::SIGTERM);
    assert_eq!(stopped.status.code(), Some(0), "{:?}", stopped.lines);
}

/// The kill switch is in place before the tunnel's first start, and from its end to the next one.
#[test]
fn nothing_leaves_before_and_between_the_runs_of_the_tunnel() {
    let stage = Stage::new();
    let client = stage.client();
    client.ping(NEIGHBOUR_V4);
    let arguments = ["--kill-switch-for", "wg0"];
    let launch = client.launch(crate::mounts::BINARY.as_ref(), &[&["hold"], &arguments[..]].concat());
    let hold = launch.spawn();
    hold.wait_for("holding the network namespace");
    for state in thread_states(hold.pid()) {
        assert_eq!(u64::from_str_radix(&state["CapPrm"], 16).unwrap(), 0);
    }
    // before the first run, and between two
    for _ in 0..2 {
        assert!(!client.ping_once(NEIGHBOUR_V4, 56));
        let daemon = start(client, &stage.plan.client, &["--kill-switch", "keep"]);
        reaches_the_world(&stage);
        assert_eq!(daemon.stop().status.code(), Some(0));
    }
    assert_eq!(hold.stop().status.code(), Some(0));
}
