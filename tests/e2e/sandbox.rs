//! The restrictions of a running tunnel: system calls, files, core files, and its user. That a
//! forbidden call ends a process is tested beside the code (`src/sandbox/tests.rs`), since nothing
//! in the program makes one.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::sync::Arc;

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::bare::INNER_SERVER;
use crate::daemon::{Daemon, Launch};
use crate::lab::Lab;
use crate::mounts::{BINARY, Folder};
use crate::process::{has_only_net_admin, thread_states};
use crate::processes::HELPER_ID;
use crate::waiting::eventually;
use crate::wireguard::implementation::Implementation::{ConfigFile, Wontun};
use crate::wireguard::node::Node;
use crate::wireguard::pair::{CLIENT_V4, Outer, Pair, Plan, SERVER_V4};
use crate::wireguard::settings::{Keys, Peer};

/// `SECCOMP_MODE_FILTER`, from linux/seccomp.h.
const FILTERED: &str = "2";
/// Number of filters of each role: one for calls that end the process, one for calls that fail as
/// not implemented.
const FILTERS: usize = 2;
const NOBODY: u32 = 65534;
/// Log line of a supervisor that has confined itself.
const CONFINED: &str = " sandbox seccomp=";

/// Checks that every thread of the supervisor and its helpers has the filters. Returns the number
/// of threads.
fn is_confined(daemon: &Daemon) -> usize {
    // the supervisor's line, which comes after the tunnel's that it is ready
    daemon.wait_for(CONFINED);
    let processes = daemon.processes();
    let filters = |pid: Pid| -> usize { thread_states(pid)[0]["Seccomp_filters"].parse().unwrap() };
    // a helper has its own filters beside those of the nursery, which started it
    let of_nursery = processes.nursery.map_or(0, filters);
    assert!(of_nursery > 0, "the nursery is not confined");
    // nothing waits until it is
    if let Some(resolver) = processes.resolver {
        eventually("the resolver is confined", || filters(resolver) == of_nursery + FILTERS);
    }
    let mut threads = 0;
    for pid in processes.all() {
        let expected = if pid == processes.supervisor {
            FILTERS
        } else if Some(pid) == processes.nursery {
            of_nursery
        } else {
            of_nursery + FILTERS
        };
        for state in thread_states(pid) {
            let name = &state["Name"];
            assert_eq!(state["Seccomp"], FILTERED, "{name}");
            assert_eq!(state["Seccomp_filters"], expected.to_string(), "{name}");
            assert_eq!(state["NoNewPrivs"], "1", "{name}");
            threads += 1;
        }
    }
    threads
}

fn limit_of_core_files(pid: Pid) -> String {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max core file size")).unwrap();
    line.split_whitespace().take(2).collect::<Vec<_>>().join(" ")
}

#[test]
fn every_thread_and_the_resolver_are_confined_in_plain_mode() {
    let lab = Lab::new(2);
    let server = Daemon::server(lab.server(), &["--workers", "3"]);
    let client = Launch::new(lab.client(), &["--peer", "localhost:19988", "--workers", "2"]).spawn();
    client.wait_ready();
    // the log threads of the supervisor and of the tunnel; the client has a resolver besides
    assert_eq!(is_confined(&server), 2 + 1 + 3 + 1, "supervisor, nursery, workers and log");
    assert_eq!(is_confined(&client), 2 + 1 + 2 + 1 + 1, "supervisor, nursery, workers and log, resolver");
    for daemon in [&server, &client] {
        let line = daemon.wait_for(CONFINED);
        assert!(line.contains("seccomp=on") && line.contains("landlock=on (ABI "), "{line}");
        assert_eq!(limit_of_core_files(daemon.pid()), "0 0");
        daemon.children().into_iter().for_each(|child| assert_eq!(limit_of_core_files(child), "0 0"));
    }
    assert!(client.processes().resolver.is_some() && server.processes().resolver.is_none());
    drop(client);
    let _client = Daemon::client(lab.client(), lab.server(), &[]);
    lab.client().ping(INNER_SERVER);
    assert_eq!(server.stop().status.code(), Some(0));
}

#[test]
fn every_thread_and_the_resolver_are_confined_in_wireguard_mode() {
    let pair = Pair::new(ConfigFile, Wontun, Outer::V4);
    pair.client.ping(SERVER_V4);
    for node in [&pair.server, &pair.client] {
        assert!(is_confined(&node.daemon) >= 5);
    }
    assert!(pair.server.daemon.processes().resolver.is_some(), "no resolver process");
    pair.server.ping(CLIENT_V4);
}

#[test]
fn without_the_sandbox_there_is_none_and_the_log_says_so() {
    let lab = Lab::new(2);
    for launch in [
        Launch::plain(lab.server(), &["--no-sandbox"]),
        Launch::plain(lab.server(), &[]).env("WONTUN_NO_SANDBOX", "1"),
    ] {
        let server = launch.spawn();
        server.wait_ready();
        server.wait_for("the sandbox is off");
        for pid in server.processes().all() {
            assert!(thread_states(pid).iter().all(|state| state["Seccomp"] == "0"));
        }
        assert_eq!(server.stop().count("the sandbox is off"), 1);
    }
}

/// An outer sandbox that forbids the calls that wontun's sandbox needs, as an old container
/// engine's does.
#[test]
fn a_sandbox_that_is_forbidden_is_told_and_the_tunnel_runs() {
    let lab = Lab::new(2);
    let strace = "strace -D -f -o /dev/null -e trace=seccomp,landlock_create_ruleset \
                  -e inject=seccomp:error=EPERM -e inject=landlock_create_ruleset:error=ENOSYS";
    let server = Launch::plain(lab.server(), &[]).wrap(strace).spawn();
    server.wait_ready();
    let line = server.wait_for("the sandbox is not whole");
    assert!(line.contains("landlock=not supported by this kernel"), "{line}");
    let _client = Daemon::client(lab.client(), lab.server(), &[]);
    lab.client().ping(INNER_SERVER);
}

/// Keys in other directories are read again if they were there at the start; no other file is.
#[test]
fn a_reload_reads_what_was_there_at_the_start_and_no_other_file() {
    let (plan, elsewhere) = (Plan::new(&Arc::new(Lab::new(2)), Outer::V4), Folder::new());
    let private = |name: &str, key: &str| {
        let path = elsewhere.write(name, &format!("{key}\n"));
        fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        path
    };
    let key = private("key", &plan.server.private);
    let text = |key: &std::path::Path| {
        let old = format!("PrivateKey = {}", plan.server.private);
        let text = plan.server.wg_quick();
        assert!(text.contains(&old), "{text}");
        text.replace(&old, &format!("PrivateKeyFile = {}", key.display()))
    };
    let site = &plan.server_site;
    let file = site.write("wg0.conf", &text(&key));
    let daemon = site.launch(BINARY.as_ref(), &["--config", file.to_str().unwrap()]).spawn();
    daemon.wait_for(" ready mode=");
    let server = Node { daemon, site: Arc::clone(site), implementation: ConfigFile, name: "wg0".to_owned() };
    let client = Node::start(&plan.client_site, Wontun, &plan.client);
    client.ping(SERVER_V4);

    let reloaded = |nth: usize| {
        server.daemon.signal(Signal::SIGHUP);
        server.daemon.wait_for_more("reloaded the configuration", nth);
    };
    // the file itself is replaced, as editors do
    let new = site.write("new", &(text(&key) + &format!("\n[Peer]\nPublicKey = {}\n", Keys::new().public)));
    fs::rename(new, &file).unwrap();
    reloaded(0);
    assert_eq!(server.peers().len(), 2);

    let other = Keys::new();
    let other_key = private("other", &other.private);
    site.write("wg0.conf", &text(&other_key));
    server.daemon.signal(Signal::SIGHUP);
    let refused = server.daemon.wait_for("cannot reload the configuration");
    assert!(
        refused.contains(other_key.to_str().unwrap()) && refused.contains("Permission denied"),
        "{refused}"
    );
    server.daemon.wait_for("keep keys in that folder, or restart wontun");
    client.ping(SERVER_V4);

    // in the configuration's directory it may be read
    let beside = site.write("key", &format!("{}\n", plan.server.private));
    site.write("wg0.conf", &text(&beside));
    reloaded(1);
    client.ping(SERVER_V4);
    assert_eq!(server.daemon.stop().status.code(), Some(0));
    assert!(!site.socket("wg0").exists(), "the socket is left");
}

/// A configuration that only later wants policy routing, which needs netlink sockets.
#[test]
fn a_reload_can_ask_for_what_needs_other_netlink_sockets() {
    let mut plan = Plan::new(&Arc::new(Lab::new(2)), Outer::V4);
    plan.client.table = Some("off".to_owned());
    let server = Node::start(&plan.server_site, Wontun, &plan.server);
    let client = Node::start(&plan.client_site, ConfigFile, &plan.client);
    let reloaded = |nth: usize, text: &str| {
        client.site.write("wg0.conf", text);
        client.daemon.signal(Signal::SIGHUP);
        client.daemon.wait_for_more("reloaded the configuration", nth);
    };
    plan.client.table = None;
    plan.client.peers[0].allowed = vec!["0.0.0.0/0".to_owned()];
    for nth in 0..2 {
        reloaded(nth, &plan.client.wg_quick());
        assert!(client.site.ip(&["rule", "show"]).contains("51820"), "no rule for the default route");
        assert!(client.site.shell("nft list tables").contains("wontun-wg0"));
        client.ping(SERVER_V4);
    }
    assert!(is_confined(&client.daemon) >= 5);
    drop(server);
    assert_eq!(client.daemon.stop().status.code(), Some(0));
    assert!(!plan.client_site.ip(&["rule", "show"]).contains("51820"), "rules are left");
}

/// Checks that the supervisor is the requested user, and its helpers are another user.
fn is_nobody(daemon: &Daemon) {
    let processes = daemon.processes();
    let helpers = processes.helpers().into_iter().map(|pid| (pid, HELPER_ID));
    for (pid, expected) in helpers.chain([(processes.supervisor, "65534")]) {
        for state in thread_states(pid) {
            for ids in ["Uid", "Gid"] {
                assert!(state[ids].split('\t').all(|id| id == expected), "{ids}: {}", state[ids]);
            }
            assert_eq!(state["Groups"], "", "supplementary groups");
        }
    }
}

#[test]
fn another_user_has_net_admin_and_nothing_else() {
    let lab = Lab::new(2);
    for user in ["nobody", "65534", "65534:65534"] {
        let server = Daemon::server(lab.server(), &["--user", user]);
        is_nobody(&server);
        has_only_net_admin(&server);
        let client = Daemon::client(lab.client(), lab.server(), &["--user", user]);
        lab.client().ping(INNER_SERVER);
        for daemon in [client, server] {
            assert_eq!(daemon.stop().status.code(), Some(0));
        }
        assert!(!lab.server().has_device("tun0"));
    }
}

#[test]
fn another_user_reads_the_configuration_again_if_it_may() {
    let plan = Plan::new(&Arc::new(Lab::new(2)), Outer::V4);
    let site = &plan.server_site;
    let file = site.write("wg0.conf", &plan.server.wg_quick());
    let arguments = ["--config", file.to_str().unwrap(), "--user", "nobody", "--nat", "auto"];
    let daemon = site.launch(BINARY.as_ref(), &arguments).spawn();
    daemon.wait_for(" ready mode=");
    daemon.wait_for("SIGHUP will not work");
    let server = Node { daemon, site: Arc::clone(site), implementation: ConfigFile, name: "wg0".to_owned() };
    is_nobody(&server.daemon);
    has_only_net_admin(&server.daemon);
    let client = Node::start(&plan.client_site, Wontun, &plan.client);
    client.ping(SERVER_V4);

    server.daemon.signal(Signal::SIGHUP);
    server.daemon.wait_for("cannot reload the configuration");
    chown(&file, Some(NOBODY), Some(NOBODY)).unwrap();
    let settings = plan.server.clone().port(51999).peer(Peer::new(&Keys::new().public, &["10.66.0.0/24"]));
    site.write("wg0.conf", &settings.wg_quick());
    server.daemon.signal(Signal::SIGHUP);
    server.daemon.wait_for("reloaded the configuration");
    assert_eq!((server.port(), server.peers().len()), (51999, 2));
    eventually("the route is there", || site.ip(&["route", "show", "dev", "wg0"]).contains("10.66.0.0/24"));
    server.ping(CLIENT_V4);
    client.ping(SERVER_V4);
    assert_eq!(server.daemon.stop().status.code(), Some(0));
    assert!(!site.shell("nft list tables").contains("wontun"), "a table is left");
    // the socket's file is in a directory of root's, so it stays; the next run replaces it
    let again = Node::start(site, ConfigFile, &plan.server);
    assert_eq!(again.daemon.stop().status.code(), Some(0));
    assert!(!site.socket("wg0").exists());
}

#[test]
fn a_user_that_cannot_be_had_is_an_error_before_anything_is_done() {
    let lab = Lab::new(2);
    let unknown = Launch::plain(lab.server(), &["--user", "no-such-user"]).run();
    assert_eq!(unknown.code(), 78, "{unknown:?}");
    assert!(unknown.stderr.contains("there is no such user"), "{unknown:?}");
    let wrong = Launch::plain(lab.server(), &["--user", "1:x"]).run();
    assert_eq!(wrong.code(), 2, "{wrong:?}");
    let bounded = "setpriv --bounding-set -all,+net_admin --inh-caps -all";
    let powerless = Launch::plain(lab.server(), &["--user", "nobody"]).wrap(bounded).run();
    assert_eq!(powerless.code(), 77, "{powerless:?}");
    assert!(powerless.stderr.contains("CAP_SETGID is missing, which --user needs"), "{powerless:?}");
    // which is told once the device has been opened
    assert!(!powerless.stderr.contains("plain mode is not encrypted"), "{powerless:?}");
    assert!(!lab.server().has_device("tun0"));
}
