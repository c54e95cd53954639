//! wontun as a process: its capabilities, its signals, its silence when idle, and the environments
//! in which it runs.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::bare::{INNER_CLIENT, INNER_SERVER};
use crate::daemon::{Daemon, END, Launch, Stopped, Summary, best_stop, children_of};
use crate::lab::Lab;
use crate::mounts::{BINARY, Folder, OPEN_TUN_NODE, READ_ONLY_ROOT};
use crate::processes::HELPER_ID;
use crate::streams::Connection;
use crate::waiting::{TIMEOUT, eventually, exit_within};

/// The mask of CAP_NET_ADMIN (number 12) alone.
const NET_ADMIN: &str = "0000000000001000";
const NOTHING: &str = "0000000000000000";
/// Runs a program as an ordinary user.
const AS_NOBODY: &str = "setpriv --reuid 65534 --regid 65534 --clear-groups";

/// Returns the lines of /proc/PID/status of every thread of `pid`.
pub(crate) fn thread_states(pid: Pid) -> Vec<BTreeMap<String, String>> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let states: Vec<_> = tasks
        .map(|task| {
            let status = fs::read_to_string(task.unwrap().path().join("status")).unwrap();
            let pairs = status.lines().filter_map(|line| line.split_once(":\t"));
            pairs.map(|(key, value)| (key.to_owned(), value.trim().to_owned())).collect()
        })
        .collect();
    assert!(!states.is_empty());
    states
}

/// Checks that every thread of the process that was started has CAP_NET_ADMIN and nothing else,
/// every thread of its helpers has no capability, and none can gain any.
pub(crate) fn has_only_net_admin(daemon: &Daemon) {
    let processes = daemon.processes();
    has_capabilities(processes.supervisor, NET_ADMIN);
    processes.helpers().into_iter().for_each(has_no_capability);
}

/// Checks that every thread has no capability and can gain none.
pub(crate) fn has_no_capability(pid: Pid) {
    has_capabilities(pid, NOTHING);
}

fn has_capabilities(pid: Pid, mask: &str) {
    for state in thread_states(pid) {
        let name = &state["Name"];
        for (set, expected) in [
            ("CapEff", mask),
            ("CapPrm", mask),
            ("CapInh", NOTHING),
            ("CapAmb", NOTHING),
            ("NoNewPrivs", "1"),
        ] {
            assert_eq!(state[set], expected, "{set} of the thread {name}");
        }
    }
}

/// Checks the bounding set of the supervisor, and of its helpers.
fn has_bounding_sets(daemon: &Daemon, supervisor: &str, helpers: &str) {
    let processes = daemon.processes();
    let all = processes.helpers().into_iter().map(|pid| (pid, helpers));
    for (pid, expected) in all.chain([(processes.supervisor, supervisor)]) {
        for state in thread_states(pid) {
            assert_eq!(state["CapBnd"], expected, "the bounding set of the thread {}", state["Name"]);
        }
    }
}

fn is_user(pid: Pid, uid: &str) {
    let state = &thread_states(pid)[0];
    assert!(state["Uid"].split('\t').all(|word| word == uid), "{}", state["Uid"]);
}

#[test]
fn root_keeps_only_net_admin_in_every_set_and_thread() {
    let lab = Lab::new(2);
    let server = Daemon::server(lab.server(), &[]);
    let client = Daemon::client(lab.client(), lab.server(), &[]);
    for daemon in [&server, &client] {
        has_only_net_admin(daemon);
        has_bounding_sets(daemon, NET_ADMIN, NOTHING);
        daemon.processes().helpers().into_iter().for_each(|pid| is_user(pid, HELPER_ID));
    }
    lab.client().ping(INNER_SERVER);
}

/// A name is resolved in a separate process, and each look-up in another: they have no capability.
#[test]
fn a_client_that_resolves_a_name_has_only_net_admin_in_every_thread() {
    let (lab, folder) = (Lab::new(2), Folder::new());
    let _name_server = lab.server().udp((lab.server().v4, 53));
    let resolv = folder.write("resolv.conf", "nameserver 192.0.2.1\noptions timeout:30 attempts:5\n");
    let script = format!("mount --bind {} /etc/resolv.conf;", resolv.display());
    let client = Launch::new(lab.client(), &["--peer", "tunnel.example:19988"]).prepare(&script).spawn();
    client.wait_ready();
    has_only_net_admin(&client);
    has_bounding_sets(&client, NET_ADMIN, NOTHING);
    let resolver = client.processes().resolver.expect("a resolver");
    let mut look_ups = Vec::new();
    eventually("a look-up begins", || {
        look_ups = children_of(resolver);
        !look_ups.is_empty()
    });
    look_ups.into_iter().for_each(has_no_capability);
}

#[test]
fn a_setcap_copy_runs_under_an_ordinary_user() {
    let (lab, folder) = (Lab::new(2), Folder::new());
    let copy = folder.install(Path::new(BINARY), Some("cap_net_admin=ep"));
    let server =
        Launch::plain(lab.server(), &[]).prepare(OPEN_TUN_NODE).wrap(AS_NOBODY).binary(&copy).spawn();
    server.wait_ready();
    server.processes().all().into_iter().for_each(|pid| is_user(pid, "65534"));
    has_only_net_admin(&server);
    let _client = Daemon::client(lab.client(), lab.server(), &[]);
    lab.client().ping(INNER_SERVER);
    assert_eq!(server.stop().status.code(), Some(0));
}

/// As with `AmbientCapabilities=CAP_NET_ADMIN` and `User=` in a systemd unit.
#[test]
fn an_ambient_capability_as_systemd_gives_it_is_enough() {
    let (lab, folder) = (Lab::new(2), Folder::new());
    let copy = folder.install(Path::new(BINARY), None);
    let ambient = format!("{AS_NOBODY} --inh-caps +net_admin --ambient-caps +net_admin");
    let server = Launch::plain(lab.server(), &[]).prepare(OPEN_TUN_NODE).wrap(&ambient).binary(&copy).spawn();
    server.wait_ready();
    has_only_net_admin(&server);
    for pid in server.processes().all() {
        is_user(pid, "65534");
        // The /proc files of a process that is not dumpable belong to root, whatever its user.
        let owner = fs::metadata(format!("/proc/{pid}/environ")).unwrap().uid();
        assert_eq!(owner, 0, "the process is dumpable: its user can attach to it");
    }
    let _client = Daemon::client(lab.client(), lab.server(), &[]);
    lab.client().ping(INNER_SERVER);
}

/// As with `--cap-drop ALL --cap-add NET_ADMIN --read-only` in a container.
#[test]
fn a_bounding_set_of_net_admin_alone_on_a_read_only_root_is_enough() {
    let lab = Lab::new(2);
    let bounded = "setpriv --bounding-set -all,+net_admin --inh-caps -all";
    let server = Launch::plain(lab.server(), &[]).prepare(READ_ONLY_ROOT).wrap(bounded).spawn();
    server.wait_ready();
    has_only_net_admin(&server);
    // without CAP_SETPCAP a process cannot reduce its bounding set
    has_bounding_sets(&server, NET_ADMIN, NET_ADMIN);
    // nor change its user
    server.processes().all().into_iter().for_each(|pid| is_user(pid, "0"));
    let _client = Daemon::client(lab.client(), lab.server(), &[]);
    lab.client().ping(INNER_SERVER);
    assert_eq!(server.stop().status.code(), Some(0));
}

/// Returns the system calls that strace sees in the processes `pids`, all threads together: those
/// within `time` of silence, and the number of those that `then` causes, which shows that strace
/// sees any.
fn system_calls(pids: &[Pid], trace: &Path, time: Duration, then: impl FnOnce()) -> (Vec<String>, usize) {
    let mut strace = Command::new("strace");
    strace.args(["-f", "-ttt", "-o"]).arg(trace);
    for pid in pids {
        strace.args(["-p", &pid.to_string()]);
    }
    let mut strace = strace.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let tracer = strace.id().to_string();
    eventually("strace is attached to every thread", || {
        pids.iter().all(|pid| thread_states(*pid).iter().all(|state| state["TracerPid"] == tracer))
    });
    thread::sleep(time);
    let end = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64();
    then();
    kill(Pid::from_raw(strace.id() as i32), Signal::SIGINT).unwrap();
    assert!(exit_within(&mut strace, TIMEOUT).is_some(), "strace does not end");
    let lines = fs::read_to_string(trace).unwrap();
    // The call in which each thread sleeps when strace attaches, and still sleeps when it detaches,
    // is not a wake-up.
    let mut seen = HashSet::new();
    let mut is_first = |line: &str| seen.insert(line.split_whitespace().next().unwrap().to_owned());
    let lines = lines
        .lines()
        .filter(|line| !(is_first(line) && line.contains("<unfinished")) && !line.contains("<detached"))
        .map(str::to_owned);
    let (silent, after): (Vec<_>, Vec<_>) = lines.partition(|line| {
        let time = line.split_whitespace().nth(1).unwrap();
        time.parse::<f64>().unwrap() < end
    });
    (silent, after.len())
}

#[test]
fn an_idle_tunnel_makes_no_more_than_a_handful_of_system_calls_in_ten_seconds() {
    let (lab, folder) = (Lab::new(2), Folder::new());
    let server = Daemon::server(lab.server(), &[]);
    let client = Daemon::client(lab.client(), lab.server(), &[]);
    lab.client().ping(INNER_SERVER);
    Connection::open(lab.server(), (INNER_SERVER, 80), lab.client()).exchange(1_000_000);
    // The last packet is one without an answer, as the last ACK of a connection is.
    let _sink = lab.server().udp((INNER_SERVER, 9));
    lab.client().udp((INNER_CLIENT, 0)).send_to(b"bye", (INNER_SERVER, 9)).unwrap();
    // The kernel has checked the hosts' IPv6 addresses for duplicates, and reports nothing more.
    for host in [lab.server(), lab.client()] {
        eventually("no address is tentative", || host.ip(&["-6", "address", "show", "tentative"]).is_empty());
    }
    // One second for the packets that follow a connection.
    thread::sleep(Duration::from_secs(1));
    // The packets at the end reach both: neither may send one before the other's silence is over.
    let done = AtomicU32::new(0);
    let ping = || {
        done.fetch_add(1, Ordering::Relaxed);
        eventually("both have been watched", || done.load(Ordering::Relaxed) == 2);
        lab.client().ping(INNER_SERVER);
    };
    let measure = |daemon: &Daemon, name: &str| {
        let pids = daemon.processes().all();
        let (silent, after) = system_calls(&pids, &folder.path().join(name), Duration::from_secs(10), ping);
        assert!(after > 4, "strace sees nothing even when a packet goes by");
        silent
    };
    let (at_server, at_client) = thread::scope(|scope| {
        let at_server = scope.spawn(|| measure(&server, "server"));
        let at_client = scope.spawn(|| measure(&client, "client"));
        (at_server.join().unwrap(), at_client.join().unwrap())
    });
    // One timer wake-up (wait, read it, send hello?, arm it again) is 4 to 6 calls. The client may
    // owe a hello? for the unanswered packet.
    assert!(at_server.len() <= 8, "{} calls at the server: {at_server:#?}", at_server.len());
    assert!(at_client.len() <= 16, "{} calls at the client: {at_client:#?}", at_client.len());
}

/// An idle process uses no processor time either.
#[test]
fn a_tunnel_that_waits_for_its_peer_does_not_spin() {
    let lab = Lab::new(2);
    let server = Daemon::server(lab.server(), &[]);
    let client = Daemon::client(lab.client(), lab.server(), &["--keepalive", "0"]);
    lab.client().ping(INNER_SERVER);
    server.stop();
    let switches = |daemon: &Daemon| -> u64 {
        let all = daemon.processes().all().into_iter();
        all.flat_map(thread_states)
            .map(|state| state["voluntary_ctxt_switches"].parse::<u64>().unwrap())
            .sum()
    };
    let alone = Daemon::server(lab.server(), &["--listen-port", "20000"]);
    // The kernel has checked the hosts' IPv6 addresses for duplicates; each new one is looked at.
    for host in [lab.server(), lab.client()] {
        eventually("no address is tentative", || host.ip(&["-6", "address", "show", "tentative"]).is_empty());
    }
    thread::sleep(Duration::from_secs(1));
    let (client_before, alone_before) = (switches(&client), switches(&alone));
    thread::sleep(Duration::from_secs(3));
    assert!(switches(&alone) - alone_before <= 3, "a server without a peer wakes up");
    assert!(switches(&client) - client_before <= 20, "a client without a server wakes up too often");
}

/// Panics unless a daemon ends in time, with its summary as the last line.
fn stops_cleanly(stop: impl FnMut() -> Stopped) {
    let is_clean = |stopped: &Stopped| {
        stopped.elapsed < END && stopped.ends_with_summary() && stopped.count("stopping") > 0
    };
    let stopped = best_stop(is_clean, stop);
    assert!(is_clean(&stopped), "took {:?}: {:#?}", stopped.elapsed, stopped.lines);
    Summary::parse(stopped.lines.last().unwrap());
}

#[test]
fn sigterm_and_sigint_end_within_100_ms_with_a_summary_and_0() {
    let lab = Lab::new(2);
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        stops_cleanly(|| {
            let server = Daemon::server(lab.server(), &[]);
            let pid = server.pid();
            server.stop_by(pid, signal)
        });
        stops_cleanly(|| {
            let client = Daemon::client(lab.client(), lab.server(), &[]);
            let pid = client.pid();
            client.stop_by(pid, signal)
        });
    }
}

#[test]
fn sigterm_ends_within_100_ms_while_data_flows() {
    let lab = Lab::new(2);
    stops_cleanly(|| {
        let server = Daemon::server(lab.server(), &[]);
        let client = Daemon::client(lab.client(), lab.server(), &[]);
        server.wait_for("peer connected");
        let inner = lab.client().udp((INNER_CLIENT, 0));
        let (start, mut stopped) = (Instant::now(), None);
        thread::scope(|scope| {
            let flood = scope.spawn(|| {
                while start.elapsed() < Duration::from_millis(400) {
                    // The device disappears in the middle of it.
                    inner.send_to(&[0; 1000], (INNER_SERVER, 9)).ok();
                }
            });
            thread::sleep(Duration::from_millis(200));
            stopped = Some(client.stop());
            flood.join().unwrap();
        });
        stopped.unwrap()
    });
}

/// Process 1 ignores every signal that it has no handler for.
#[test]
fn sigterm_and_sigint_end_a_process_1_too() {
    let lab = Lab::new(2);
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        stops_cleanly(|| {
            let wrapper = "unshare --pid --fork --kill-child --mount-proc";
            let server = Launch::plain(lab.server(), &[]).wrap(wrapper).spawn();
            server.wait_ready();
            let children = server.children();
            let [child] = *children.as_slice() else { panic!("one child expected: {children:?}") };
            assert!(thread_states(child)[0]["NSpid"].ends_with("\t1"), "not process 1 of its namespace");
            assert_eq!(server.processes().supervisor, child);
            server.stop_by(child, signal)
        });
    }
}

#[test]
fn sigusr1_prints_the_summary_and_goes_on() {
    let lab = Lab::new(2);
    let mut server = Daemon::server(lab.server(), &[]);
    let first = server.summary();
    assert_eq!((first.tx_packets, first.rx_packets, first.all_dropped()), (0, 0, 0), "{first:?}");
    let client = Daemon::client(lab.client(), lab.server(), &[]);
    server.wait_for("peer connected");
    for _ in 0..3 {
        assert!(lab.client().ping_once(INNER_SERVER, 972));
    }
    // 972 bytes, 8 of ICMP and 20 of IPv4: inner bytes are counted.
    for summary in [server.summary(), client.summary()] {
        assert_eq!((summary.tx_packets, summary.tx_bytes), (3, 3000), "{summary:?}");
        assert_eq!((summary.rx_packets, summary.rx_bytes), (3, 3000), "{summary:?}");
    }
    lab.client().ping(INNER_SERVER);
    assert!(server.is_running());
    let last = server.summary();
    assert_eq!(last.rx_packets, 4, "{last:?}");
    assert_eq!(server.stop().status.code(), Some(0));
}

/// Events that must not end it do not: a hangup of its terminal's line, a broken pipe of its log.
#[test]
fn a_log_whose_reader_went_away_does_not_end_it() {
    let lab = Lab::new(2);
    let (reader, writer) = std::io::pipe().unwrap();
    let mut server = Launch::plain(lab.server(), &["--log-level", "trace"]).spawn_with_stderr(writer.into());
    eventually("the server is up", || lab.server().has_device("tun0"));
    drop(reader);
    let _client = Daemon::client(lab.client(), lab.server(), &[]);
    lab.client().ping(INNER_SERVER);
    assert!(server.is_running());
    assert_eq!(server.stop().status.code(), Some(0));
}

#[test]
fn a_read_only_root_file_system_is_enough() {
    let lab = Lab::new(2);
    let server = Launch::plain(lab.server(), &[]).prepare(READ_ONLY_ROOT).spawn();
    server.wait_ready();
    let client = Launch::new(lab.client(), &["--peer", "192.0.2.1:19988"]).prepare(READ_ONLY_ROOT).spawn();
    client.wait_ready();
    lab.client().ping(INNER_SERVER);
    for daemon in [server, client] {
        assert_eq!(daemon.stop().status.code(), Some(0));
    }
}
