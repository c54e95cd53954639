//! The resolver process runs third-party code on bytes from unknown senders: it runs as another
//! user, starts a process for each look-up, and ends with the tunnel.

use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::daemon::{Daemon, Launch, children_of};
use crate::lab::Lab;
use crate::mounts::Folder;
use crate::process::thread_states;
use crate::processes::{HELPER_ID, RESOLVER, helper, is_gone};
use crate::waiting::{eventually, succeed};

const PEER: &str = "tunnel.example:19988";

/// Starts a client whose query for its peer's name is not answered.
fn that_waits(lab: &Lab, folder: &Folder, wrapper: &str) -> Daemon {
    let resolv = folder.write("resolv.conf", "nameserver 192.0.2.1\noptions timeout:30 attempts:5\n");
    let script = format!("mount --bind {} /etc/resolv.conf;", resolv.display());
    let client = Launch::new(lab.client(), &["--peer", PEER]).prepare(&script).wrap(wrapper).spawn();
    client.wait_ready();
    client
}

/// Returns the resolver process, and the one that looks up the name.
fn processes(client: &Daemon) -> [Pid; 2] {
    let resolver = helper(client.pid(), RESOLVER);
    let mut look_ups = Vec::new();
    eventually("a look-up begins", || {
        look_ups = children_of(resolver);
        look_ups.len() == 1
    });
    [resolver, look_ups[0]]
}

#[test]
fn helpers_are_another_user_where_they_may_become_so() {
    let (lab, folder) = (Lab::new(2), Folder::new());
    let _name_server = lab.server().udp((lab.server().v4, 53));
    for (wrapper, uid) in [
        ("", HELPER_ID),
        ("setpriv --bounding-set -all,+net_admin,+setuid,+setgid --groups 4,24", HELPER_ID),
        // as in a container with CAP_NET_ADMIN only
        ("setpriv --bounding-set -all,+net_admin --inh-caps -all", "0"),
    ] {
        let client = that_waits(&lab, &folder, wrapper);
        let check = |pid| {
            let state = &thread_states(pid)[0];
            for ids in ["Uid", "Gid"] {
                assert!(state[ids].split('\t').all(|word| word == uid), "{wrapper}: {ids} {}", state[ids]);
            }
            if uid == HELPER_ID {
                assert_eq!(state["Groups"], "", "{wrapper}");
            }
            assert_eq!((state["CapPrm"].as_str(), state["NoNewPrivs"].as_str()), ("0000000000000000", "1"));
            assert_eq!(state["Seccomp"], "2");
        };
        client.processes().helpers().into_iter().for_each(check);
        processes(&client).into_iter().for_each(check);
        assert_eq!(client.stop().status.code(), Some(0));
    }
}

/// No process may end another user's process: the resolver ends by itself, even during a look-up.
#[test]
fn all_processes_end_with_the_tunnel() {
    let (lab, folder) = (Lab::new(2), Folder::new());
    let _name_server = lab.server().udp((lab.server().v4, 53));
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        let client = that_waits(&lab, &folder, "");
        let pids = [processes(&client).to_vec(), client.processes().helpers()].concat();
        let pid = client.pid();
        client.stop_by(pid, signal);
        eventually("all have ended", || pids.iter().all(|pid| is_gone(*pid)));
    }
}

/// A look-up whose process is killed returns an error, and the next one works.
#[test]
fn a_look_up_that_dies_is_an_error_and_the_next_one_works() {
    let (lab, folder) = (Lab::new(2), Folder::new());
    let _name_server = lab.server().udp((lab.server().v4, 53));
    let client = that_waits(&lab, &folder, "");
    let [resolver, look_up] = processes(&client);
    kill(look_up, Signal::SIGKILL).unwrap();
    client.wait_for("ended without an answer");
    eventually("the next one is made", || {
        let [again, next] = processes(&client);
        assert_eq!(again, resolver);
        next != look_up
    });
}

/// Landlock identifies files by inode, and this is another file of the same name.
#[test]
fn files_that_are_replaced_are_read() {
    let (lab, folder) = (Lab::new(2), Folder::new());
    let etc = folder.path().join("etc");
    succeed(std::process::Command::new("cp").args(["-a", "/etc"]).arg(&etc));
    fs::remove_file(etc.join("resolv.conf")).ok();
    fs::write(etc.join("resolv.conf"), "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n").unwrap();
    fs::write(etc.join("hosts"), "127.0.0.1 localhost\n").unwrap();
    let server = Daemon::server(lab.server(), &[]);
    let script = format!("mount --bind {} /etc;", etc.display());
    let client = Launch::new(lab.client(), &["--peer", PEER]).prepare(&script).spawn();
    client.wait_for("cannot resolve the server's name");
    fs::write(etc.join("new"), format!("{} tunnel.example\n", lab.server().v4)).unwrap();
    fs::rename(etc.join("new"), etc.join("hosts")).unwrap();
    server.wait_for("peer connected");
}
