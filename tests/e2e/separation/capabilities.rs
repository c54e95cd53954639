//! The rights and open descriptors of each process, however the tunnel was started.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use nix::libc::{O_ACCMODE, O_RDONLY};
use nix::unistd::Pid;

use crate::daemon::{Daemon, Launch, children_of};
use crate::descriptors::open_descriptors;
use crate::lab::Lab;
use crate::mounts::{BINARY, Folder, OPEN_TUN_NODE, READ_ONLY_ROOT};
use crate::process::thread_states;
use crate::processes::{HELPER_ID, comm};
use crate::tunnel::{CLIENT_V4, Mode, SERVER_V4};
use crate::waiting::eventually;
use crate::wireguard::implementation::Implementation::Wontun;
use crate::wireguard::node::Node;
use crate::wireguard::pair::{Outer, Plan, SERVER_V4 as WIREGUARD_SERVER_V4};

const NET_ADMIN: u64 = 1 << 12;
const BOUNDED: &str = "setpriv --bounding-set -all,+net_admin --inh-caps -all";
const AS_NOBODY: &str = "setpriv --reuid 65534 --regid 65534 --clear-groups";

/// The expected users of the processes, and whether the bounding set can be reduced.
struct Expected {
    supervisor: &'static str,
    helpers: &'static str,
    is_bounded: bool,
}

/// Root with all capabilities.
const ROOT: Expected = Expected { supervisor: "0", helpers: HELPER_ID, is_bounded: true };

fn number(text: &str) -> u64 {
    u64::from_str_radix(text, 16).unwrap()
}

/// Checks that every thread of every process has exactly the expected rights.
fn have_their_rights(daemon: &Daemon, expected: &Expected) {
    let processes = daemon.processes();
    // the tunnel process, which is confined before, reports that it is ready; the supervisor follows
    eventually("the supervisor is confined", || {
        thread_states(processes.supervisor).iter().all(|state| state["Seccomp"] == "2")
    });
    assert!(processes.nursery.is_some(), "no nursery");
    let look_ups = processes.resolver.map(children_of).unwrap_or_default();
    for pid in [processes.all(), look_ups].concat() {
        let is_supervisor = pid == processes.supervisor;
        let capabilities = if is_supervisor { NET_ADMIN } else { 0 };
        let user = if is_supervisor { expected.supervisor } else { expected.helpers };
        for state in thread_states(pid) {
            let who = format!("thread {} of {} ({pid})", state["Name"], comm(pid));
            for (set, mask) in
                [("CapEff", capabilities), ("CapPrm", capabilities), ("CapInh", 0), ("CapAmb", 0)]
            {
                assert_eq!(number(&state[set]), mask, "{set} of {who}");
            }
            if expected.is_bounded {
                assert_eq!(number(&state["CapBnd"]), capabilities, "CapBnd of {who}");
            }
            assert_eq!((state["NoNewPrivs"].as_str(), state["Seccomp"].as_str()), ("1", "2"), "{who}");
            for ids in ["Uid", "Gid"] {
                assert!(state[ids].split('\t').all(|id| id == user), "{ids} {} of {who}", state[ids]);
            }
            if user == HELPER_ID {
                assert_eq!(state["Groups"], "", "{who}");
            }
        }
    }
}

/// Returns the descriptors of `pid`: number and target.
fn targets(pid: Pid) -> Vec<(u64, String)> {
    let links = open_descriptors(pid).into_iter();
    let target = |number| fs::read_link(format!("/proc/{pid}/fd/{number}")).ok();
    links.filter_map(|number| Some((number, target(number)?.to_str().unwrap().to_owned()))).collect()
}

fn is_read_only(pid: Pid, number: u64) -> bool {
    let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{number}")).unwrap();
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap();
    i32::from_str_radix(flags.trim(), 8).unwrap() & O_ACCMODE == O_RDONLY
}

/// Checks that the helpers have no netlink socket, no packet socket, and no file open but those
/// that they need. Returns the tunnel's number of queues.
fn have_nothing_else_open(daemon: &Daemon) -> usize {
    let processes = daemon.processes();
    let is_socket = |target: &str| target.starts_with("socket:[");
    let of_supervisor = targets(processes.supervisor).into_iter();
    let is_netlink = |number| protocol(processes.supervisor, number) == "NETLINK";
    let mut sockets = of_supervisor.filter(|(_, target)| is_socket(target));
    assert!(sockets.any(|(number, _)| is_netlink(number)), "the test finds no netlink socket");
    for pid in processes.helpers() {
        let is_tunnel = pid == processes.tunnel;
        let stderr = targets(pid).into_iter().find(|(number, _)| *number == 2).map(|(_, target)| target);
        for (number, target) in targets(pid) {
            let who = format!("descriptor {number} of {}: {target}", comm(pid));
            if is_socket(&target) {
                let protocol = protocol(pid, number);
                let is_unix = protocol.starts_with("UNIX");
                let is_ours = is_unix || is_tunnel && ["UDP", "UDPv6", "TCP", "TCPv6"].contains(&&*protocol);
                assert!(is_ours, "{who}, {protocol}");
                continue;
            }
            let is_ours = number <= 2
                || target == "/dev/null"
                || stderr.as_ref() == Some(&target)
                || target.starts_with("anon_inode:")
                    && ["[eventfd]", "[eventpoll]", "[timerfd]", "[signalfd]"]
                        .iter()
                        .any(|kind| target.ends_with(kind))
                || is_tunnel && target == "/dev/net/tun"
                // it ends the helpers that outlive the supervisor
                || processes.nursery == Some(pid) && target == "anon_inode:[pidfd]"
                || is_tunnel && target.starts_with("/proc/") && is_read_only(pid, number)
                || !is_tunnel && is_image(pid, &target);
            assert!(is_ours, "{who}");
            assert!(number > 1 || target == "/dev/null", "{who}");
        }
    }
    targets(processes.tunnel).iter().filter(|(_, target)| target == "/dev/net/tun").count()
}

/// Returns the kernel's name of a socket's protocol, such as UDP, NETLINK or UNIX.
fn protocol(pid: Pid, number: u64) -> String {
    let mut name = [0_u8; 32];
    let length = rustix::fs::getxattr(format!("/proc/{pid}/fd/{number}"), "system.sockprotoname", &mut name)
        .unwrap_or_else(|error| panic!("descriptor {number} of {pid}: {error}"));
    String::from_utf8(name[..length].to_vec()).unwrap().trim_end_matches('\0').to_owned()
}

/// Returns true for the program's file, which the nursery keeps open to execute it.
fn is_image(pid: Pid, target: &str) -> bool {
    fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|image| image.to_str() == Some(target))
}

#[test]
fn each_process_has_its_rights_in_wireguard() {
    let mut plan = Plan::new(&Arc::new(Lab::new(2)), Outer::V4);
    // the networks that a kill switch requires
    plan.client.peers[0].allowed = vec!["0.0.0.0/0".to_owned(), "::/0".to_owned()];
    let start = |site: &Arc<crate::wireguard::site::Site>, text: &str, args: &[&str]| {
        let file = site.write("wg0.conf", text);
        let config = ["--config", file.to_str().unwrap(), "--workers", "3"];
        let daemon = site.launch(BINARY.as_ref(), &[&config[..], args].concat()).spawn();
        daemon.wait_for(" ready mode=");
        daemon
    };
    let address = format!("{}:9586", plan.server_site.v4);
    let extra = ["--metrics", &address, "--nat", "auto"];
    let server = start(&plan.server_site, &plan.server.wg_quick(), &extra);
    let client = start(&plan.client_site, &plan.client.wg_quick(), &["--kill-switch"]);
    plan.client_site.ping(WIREGUARD_SERVER_V4.parse::<std::net::IpAddr>().unwrap());
    for daemon in [&server, &client] {
        have_their_rights(daemon, &ROOT);
        let queues = have_nothing_else_open(daemon);
        assert!([1, 6].contains(&queues), "{queues} queues for three workers");
    }
    // and after changes that need new sockets and other routes
    let (keys, site) = (&plan.client_keys.public, &plan.server_site);
    site.wg(&["set", "wg0", "listen-port", "51999", "fwmark", "77"]);
    site.wg(&["set", "wg0", "peer", keys, "allowed-ips", "10.9.0.2/32,10.77.0.0/24"]);
    have_their_rights(&server, &ROOT);
    have_nothing_else_open(&server);
    for daemon in [client, server] {
        assert_eq!(daemon.stop().status.code(), Some(0));
    }
}

#[test]
fn each_process_has_its_rights_when_it_is_told_by_wg() {
    let plan = Plan::new(&Arc::new(Lab::new(2)), Outer::V4);
    let server = Node::start(&plan.server_site, Wontun, &plan.server);
    let client = Node::start(&plan.client_site, Wontun, &plan.client);
    client.ping(WIREGUARD_SERVER_V4);
    for node in [&server, &client] {
        have_their_rights(&node.daemon, &ROOT);
        have_nothing_else_open(&node.daemon);
    }
}

#[test]
fn each_process_has_its_rights_in_plain_mode() {
    let lab = Arc::new(Lab::new(2));
    let tunnel = crate::tunnel::Plan::new(Mode::Plain).args("--workers 2").start_on(&lab);
    tunnel.client_site.ping(SERVER_V4);
    tunnel.server_site.ping(CLIENT_V4);
    for daemon in [&tunnel.server, &tunnel.client] {
        have_their_rights(daemon, &ROOT);
        have_nothing_else_open(daemon);
    }
}

/// The rights promised on the reference card, also while a look-up runs.
#[test]
fn each_process_has_its_rights_while_a_name_is_looked_up() {
    let (lab, folder) = (Lab::new(2), Folder::new());
    let _name_server = lab.server().udp((lab.server().v4, 53));
    let resolv = folder.write("resolv.conf", "nameserver 192.0.2.1\noptions timeout:30 attempts:5\n");
    let script = format!("mount --bind {} /etc/resolv.conf;", resolv.display());
    let client = Launch::new(lab.client(), &["--peer", "tunnel.example:19988"]).prepare(&script).spawn();
    client.wait_ready();
    let resolver = client.processes().resolver.expect("a resolver");
    eventually("a look-up begins", || !children_of(resolver).is_empty());
    have_their_rights(&client, &ROOT);
}

/// As with `--cap-drop ALL --cap-add NET_ADMIN --read-only`, with `--user`, with setcap and with a
/// unit's AmbientCapabilities.
#[test]
fn each_process_has_its_rights_however_it_was_started() {
    let (lab, folder) = (Lab::new(2), Folder::new());
    let (with, without) = (Folder::new(), folder.install(Path::new(BINARY), None));
    let with = (with.install(Path::new(BINARY), Some("cap_net_admin=ep")), with);
    let server = lab.server();
    let ambient = format!("{AS_NOBODY} --inh-caps +net_admin --ambient-caps +net_admin");
    let own = |uid| Expected { supervisor: uid, helpers: uid, is_bounded: false };
    let plain = |args: &[&str]| Launch::plain(server, args).prepare(OPEN_TUN_NODE);
    for (launch, expected) in [
        (plain(&[]).wrap(BOUNDED), own("0")),
        (plain(&[]).prepare(READ_ONLY_ROOT).wrap(BOUNDED), own("0")),
        (plain(&[]).prepare(READ_ONLY_ROOT), ROOT),
        (plain(&["--user", "nobody"]), Expected { supervisor: "65534", ..ROOT }),
        (plain(&["--user", "12345:12345"]), Expected { supervisor: "12345", ..ROOT }),
        (plain(&[]).wrap(AS_NOBODY).binary(&with.0), own("65534")),
        (plain(&[]).wrap(&ambient).binary(&without), own("65534")),
        (plain(&[]).prepare("mount -t tmpfs none /proc/sys;"), ROOT),
    ] {
        let daemon = launch.spawn();
        daemon.wait_ready();
        have_their_rights(&daemon, &expected);
        have_nothing_else_open(&daemon);
        let client = Daemon::client(lab.client(), server, &[]);
        lab.client().ping(crate::bare::INNER_SERVER);
        for daemon in [client, daemon] {
            assert_eq!(daemon.stop().status.code(), Some(0));
        }
        assert!(!server.has_device("tun0"));
    }
}

/// A program that others may not execute cannot be executed by another user: the helpers run as the
/// supervisor's user.
#[test]
fn a_program_that_only_root_may_execute_runs_with_helpers_of_roots() {
    use std::os::unix::fs::PermissionsExt as _;
    let (lab, folder) = (Lab::new(2), Folder::new());
    let binary = folder.install(Path::new(BINARY), None);
    fs::set_permissions(&binary, fs::Permissions::from_mode(0o700)).unwrap();
    let server = Launch::plain(lab.server(), &[]).binary(&binary).spawn();
    server.wait_ready();
    have_their_rights(&server, &Expected { helpers: "0", ..ROOT });
    let _client = Daemon::client(lab.client(), lab.server(), &[]);
    lab.client().ping(crate::bare::INNER_SERVER);
    assert_eq!(server.stop().status.code(), Some(0));
}
