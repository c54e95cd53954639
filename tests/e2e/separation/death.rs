//! The processes live and die together, except a helper that can be replaced; a hung process is
//! detected.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::host_state::kill_switch_table;
use crate::bare::INNER_SERVER;
use crate::daemon::{Daemon, END, Launch};
use crate::endpoints::own_hosts;
use crate::lab::{Host, Lab};
use crate::mounts::Folder;
use crate::processes::{NURSERY, RESOLVER, is_gone, try_helper};
use crate::tunnel::{Mode, Plan, SERVER_V4};
use crate::waiting::{TIMEOUT, eventually, finish, holds_within};
use crate::wireguard::kill_switch::{Stage, has_kill_switch, reaches_the_world, start};

/// Number of attempts: a slow one may be the noise of a busy machine.
const ATTEMPTS: usize = 10;

/// Returns the time until all of `pids` have ended, polled every millisecond.
fn time_to_end(pids: &[Pid]) -> Duration {
    let start = Instant::now();
    while !pids.iter().all(|pid| is_gone(*pid)) {
        let left: Vec<_> = pids.iter().filter(|pid| !is_gone(**pid)).collect();
        assert!(start.elapsed() < TIMEOUT, "{left:?} do not end");
        std::thread::sleep(Duration::from_millis(1));
    }
    start.elapsed()
}

/// Repeats the end of a tunnel until one took less than 100 ms, and prints the fastest.
fn ends_in_time(what: &str, mut end: impl FnMut() -> Duration) {
    let mut best = Duration::MAX;
    for _ in 0..ATTEMPTS {
        best = best.min(end());
        if best < END {
            break;
        }
    }
    eprintln!("{what}: all processes have ended after {best:?}");
    assert!(best < END, "{what}: took {best:?}");
}

/// Returns the kill switch's rules.
fn kill_switch_rules(stage: &Stage) -> String {
    kill_switch_table(stage.client())
}

/// Checks the state that a killed tunnel leaves: the kill switch, and no route or rule.
fn is_cut_off(stage: &Stage, lock: &str) {
    let client = stage.client();
    assert_eq!(kill_switch_rules(stage), lock, "the kill switch was changed");
    eventually("the kernel removes the device", || !client.has_device("wg0"));
    assert!(!client.ping_once(crate::wireguard::kill_switch::WORLD_V4, 56), "the world is reached");
}

#[test]
fn killing_the_supervisor_ends_all_with_the_kill_switch_in_place() {
    let stage = Stage::new();
    ends_in_time("kill -9 of the supervisor", || {
        let daemon = start(stage.client(), &stage.plan.client, &["--kill-switch", "--workers", "2"]);
        reaches_the_world(&stage);
        let (processes, lock) = (daemon.processes(), kill_switch_rules(&stage));
        assert_eq!(processes.helpers().len(), 3, "{processes:?}");
        daemon.signal(Signal::SIGKILL);
        let elapsed = time_to_end(&processes.all());
        daemon.wait_exit();
        is_cut_off(&stage, &lock);
        elapsed
    });
}

#[test]
fn killing_the_tunnel_process_ends_all_with_the_kill_switch_in_place() {
    let stage = Stage::new();
    ends_in_time("kill -9 of the tunnel process", || {
        let daemon = start(stage.client(), &stage.plan.client, &["--kill-switch", "--workers", "2"]);
        reaches_the_world(&stage);
        let processes = daemon.processes();
        kill(processes.tunnel, Signal::SIGKILL).unwrap();
        let elapsed = time_to_end(&processes.all());
        let stopped = daemon.wait_exit();
        assert!(stopped.status.code().is_some_and(|code| code != 0), "{stopped:?}");
        let is_error = |line: &String| line.contains(" ERROR ") || line.starts_with("wontun: ");
        assert!(stopped.lines.iter().any(|line| is_error(line) && line.contains("tunnel")), "{stopped:?}");
        assert!(has_kill_switch(stage.client()), "{stopped:?}");
        assert!(!stage.client().has_device("wg0"), "{stopped:?}");
        // the shutdown is clean: no rule or route of the tunnel is left
        let rules = stage.client().ip(&["rule"]);
        assert!(!rules.contains("51820"), "{rules}");
        assert!(!stage.client().ping_once(crate::wireguard::kill_switch::WORLD_V4, 56));
        elapsed
    });
}

/// In plain mode too, and under a flood of datagrams.
#[test]
fn killing_either_ends_all_in_both_modes() {
    for mode in Mode::BOTH {
        for whom in ["supervisor", "tunnel process"] {
            ends_in_time(&format!("{mode:?}: kill -9 of the {whom}"), || {
                let tunnel = Plan::new(mode).args("--workers 2").start();
                tunnel.client_site.ping(SERVER_V4);
                let processes = tunnel.server.processes();
                let pid = if whom == "supervisor" { processes.supervisor } else { processes.tunnel };
                kill(pid, Signal::SIGKILL).unwrap();
                let elapsed = time_to_end(&processes.all());
                tunnel.server.wait_exit();
                eventually("the device is gone", || !tunnel.server_site.has_device("tun"));
                elapsed
            });
        }
    }
}

/// A signal to the supervisor is the user's wish, and opens the network; one to the tunnel process
/// alone ends the tunnel, and leaves the network closed.
#[test]
fn sigterm_and_sigint_to_either_end_in_good_order() {
    let stage = Stage::new();
    let clean = stage.client().ip(&["rule"]);
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        for whom in ["supervisor", "tunnel process"] {
            ends_in_time(&format!("{signal} to the {whom}"), || {
                let daemon = start(stage.client(), &stage.plan.client, &["--kill-switch"]);
                reaches_the_world(&stage);
                let processes = daemon.processes();
                let pid = if whom == "supervisor" { processes.supervisor } else { processes.tunnel };
                kill(pid, signal).unwrap();
                let elapsed = time_to_end(&processes.all());
                let stopped = daemon.wait_exit();
                assert_eq!(stopped.status.code(), Some(0), "{whom}: {stopped:?}");
                // the last line before the one about the remaining kill switch
                let mut lines = stopped.lines.iter().rev();
                let stays = whom != "supervisor";
                assert!(
                    !stays || lines.next().unwrap().contains("the kill switch stays engaged"),
                    "{stopped:?}"
                );
                assert!(lines.next().unwrap().contains("summary "), "{whom}: {stopped:?}");
                let client = stage.client();
                assert!(!client.has_device("wg0") && !client.socket("wg0").exists(), "{whom}: {stopped:?}");
                assert_eq!(client.ip(&["rule"]), clean, "{whom}");
                assert_eq!(has_kill_switch(client), whom != "supervisor", "{whom}: {stopped:?}");
                elapsed
            });
        }
    }
}

fn health(host: &Host) -> crate::waiting::Finished {
    Launch::new(host, &["health"]).run()
}

#[test]
fn a_process_that_is_stopped_is_noticed() {
    let lab = Lab::new(2);
    let server = Daemon::server(lab.server(), &["--workers", "2"]);
    let _client = Daemon::client(lab.client(), lab.server(), &[]);
    lab.client().ping(INNER_SERVER);
    let processes = server.processes();
    for (pid, part) in [(processes.tunnel, "tun0"), (processes.supervisor, "supervisor of tun0")] {
        assert_eq!(health(lab.server()).code(), 0);
        kill(pid, Signal::SIGSTOP).unwrap();
        let run = health(lab.server());
        assert!(run.code() == 1 && run.stderr.contains(part), "{run:?}");
        if pid == processes.supervisor {
            // packets do not need it
            assert!(lab.client().ping_once(INNER_SERVER, 56), "the data path waits for the supervisor");
        }
        kill(pid, Signal::SIGCONT).unwrap();
        eventually("it is healthy again", || health(lab.server()).code() == 0);
        lab.client().ping(INNER_SERVER);
    }
    assert_eq!(server.stop().status.code(), Some(0));
}

/// The supervisor can end a hung tunnel process.
#[test]
fn a_stop_does_not_wait_for_a_tunnel_process_that_hangs() {
    let lab = Lab::new(2);
    let server = Daemon::server(lab.server(), &[]);
    let processes = server.processes();
    kill(processes.tunnel, Signal::SIGSTOP).unwrap();
    let stopped = server.stop();
    assert!(stopped.elapsed < Duration::from_secs(5), "{stopped:?}");
    assert!(processes.all().into_iter().all(is_gone), "{stopped:?}");
    eventually("the device is gone", || !lab.server().has_device("tun0"));
}

/// The resolver, which parses answers from unknown senders, is started again; the earlier names are
/// kept.
#[test]
fn a_resolver_that_is_killed_is_started_again() {
    let (lab, folder) = (Lab::new(2), Folder::new());
    folder.write("hosts", "127.0.0.1 localhost\n");
    let server = Daemon::server(lab.server(), &[]);
    let launch = Launch::new(lab.client(), &["--peer", "tunnel.example:19988"]).prepare(&own_hosts(&folder));
    let mut client = launch.spawn();
    client.wait_ready();
    let processes = client.processes();
    let mut resolver = processes.resolver.expect("a resolver");
    for time in 1..=2 {
        let warnings = || {
            let lines = client.lines();
            lines.iter().filter(|line| line.contains("WARN") && line.contains("resolver")).count()
        };
        kill(resolver, Signal::SIGKILL).unwrap();
        eventually("there is another resolver", || {
            try_helper(client.pid(), RESOLVER).is_some_and(|pid| pid != resolver)
        });
        eventually("the log tells of it", || warnings() >= time);
        resolver = client.processes().resolver.unwrap();
    }
    folder.write("hosts", "127.0.0.1 localhost\n192.0.2.1 tunnel.example\n");
    lab.client().ping_within(Duration::from_secs(60), INNER_SERVER);
    server.wait_for("peer connected");
    let now = client.processes();
    assert_eq!((now.supervisor, now.tunnel), (processes.supervisor, processes.tunnel));
    assert!(client.is_running());
    assert_eq!(client.stop().status.code(), Some(0));
}

/// Without a nursery there are no new helpers, and the tunnel needs none.
#[test]
fn a_nursery_that_is_killed_is_told_of_and_the_tunnel_goes_on() {
    let stage = Stage::new();
    let mut daemon = start(stage.client(), &stage.plan.client, &["--kill-switch"]);
    reaches_the_world(&stage);
    let processes = daemon.processes();
    kill(processes.nursery.expect("a nursery"), Signal::SIGKILL).unwrap();
    eventually("the log tells of it", || {
        daemon.lines().iter().any(|line| line.contains("WARN") && line.contains("nursery"))
    });
    eventually("it is collected", || try_helper(daemon.pid(), NURSERY).is_none());
    reaches_the_world(&stage);
    // without a nursery no other resolver is started; the tunnel does not depend on one
    let resolver = processes.resolver.expect("a resolver");
    kill(resolver, Signal::SIGKILL).unwrap();
    assert!(holds_within(TIMEOUT, || is_gone(resolver)));
    reaches_the_world(&stage);
    let mut wg = stage.client().command("wg");
    assert!(finish(wg.args(["show", "wg0"]), TIMEOUT).status.success());
    assert!(daemon.is_running());
    assert_eq!(daemon.processes().tunnel, processes.tunnel);
    assert_eq!(daemon.stop().status.code(), Some(0));
    assert!(!has_kill_switch(stage.client()));
}

/// In a container the supervisor is process 1, which only its own handlers can end.
#[test]
fn as_process_1_it_ends_with_its_tunnel_process() {
    let lab = Lab::new(2);
    let server =
        Launch::plain(lab.server(), &[]).wrap("unshare --pid --fork --kill-child --mount-proc").spawn();
    server.wait_ready();
    let client = Daemon::client(lab.client(), lab.server(), &[]);
    lab.client().ping(Ipv4Addr::new(10, 8, 0, 1));
    let processes = server.processes();
    kill(processes.tunnel, Signal::SIGKILL).unwrap();
    let stopped = server.wait_exit();
    assert!(stopped.status.code() != Some(0), "{stopped:?}");
    assert!(processes.all().into_iter().all(is_gone));
    drop(client);
}
