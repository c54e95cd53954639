//! Outer addresses: the port that is bound, the address that answers, and the resolution of a
//! peer's name.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::bare::{HELLO, INNER_CLIENT, INNER_SERVER, PORT, RawPeer};
use crate::daemon::{Daemon, END, Launch, Stopped, best_stop, field};
use crate::lab::{Host, Lab};
use crate::mounts::Folder;
use crate::waiting::{TIMEOUT, eventually};

/// Returns shell lines that give a program its own /etc/hosts, and a name server that refuses at
/// once.
pub(crate) fn own_hosts(folder: &Folder) -> String {
    folder.write("resolv.conf", "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n");
    let path = folder.path().display();
    format!("mount --bind {path}/hosts /etc/hosts; mount --bind {path}/resolv.conf /etc/resolv.conf;")
}

fn answers_from(server: &Host, client: &Host, second: IpAddr, own: IpAddr) {
    let daemon = Daemon::server(server, &[]);
    let bare = RawPeer::new(client, own, PORT);
    bare.send(HELLO, (second, PORT));
    daemon.wait_for("peer connected");
    let inner = server.udp((INNER_SERVER, 0));
    inner.send_to(b"down", (INNER_CLIENT, 7)).unwrap();
    let (_, from) = bare.receive(TIMEOUT).expect("the server sends nothing");
    assert_eq!(from, SocketAddr::new(second, PORT));
    // A real client's connected socket receives from no other address: it connects as well.
    drop(bare);
    let peer = SocketAddr::new(second, PORT).to_string();
    let _client = Launch::new(client, &["--peer", &peer]).spawn();
    client.ping_within(Duration::from_secs(6), INNER_SERVER);
}

#[test]
fn replies_leave_from_the_ipv4_address_that_the_peer_talked_to() {
    let lab = Lab::new(2);
    lab.server().ip(&["address", "add", "192.0.2.77/24", "dev", "eth0"]);
    let second = Ipv4Addr::new(192, 0, 2, 77);
    answers_from(lab.server(), lab.client(), second.into(), lab.client().v4.into());
}

#[test]
fn replies_leave_from_the_ipv6_address_that_the_peer_talked_to() {
    let lab = Lab::new(2);
    // The kernel would prefer the newest of several addresses: use the oldest and the newest.
    lab.server().ip(&["address", "add", "2001:db8::77/64", "dev", "eth0", "nodad"]);
    answers_from(lab.server(), lab.client(), lab.server().v6.into(), lab.client().v6.into());
    let second = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x77);
    answers_from(lab.server(), lab.client(), second.into(), lab.client().v6.into());
}

/// The address that the peer used is removed while the tunnel runs: the server must choose another
/// as soon as the peer sends to one.
#[test]
fn a_server_that_loses_the_peers_address_is_reached_at_another() {
    let lab = Lab::new(2);
    lab.server().ip(&["address", "add", "192.0.2.77/24", "dev", "eth0"]);
    let _server = Daemon::server(lab.server(), &[]);
    let first = Launch::new(lab.client(), &["--peer", "192.0.2.77:19988"]).spawn();
    lab.client().ping(INNER_SERVER);
    lab.server().ip(&["address", "delete", "192.0.2.77/24", "dev", "eth0"]);
    assert!(!lab.server().ping_once(INNER_CLIENT, 56));
    first.stop();
    let _second = Daemon::client(lab.client(), lab.server(), &[]);
    lab.client().ping_within(Duration::from_secs(6), INNER_SERVER);
}

#[test]
fn a_client_goes_on_with_another_port_when_19988_is_taken() {
    let lab = Lab::new(2);
    let taken = lab.client().udp((Ipv4Addr::UNSPECIFIED, PORT));
    let server = Daemon::server(lab.server(), &[]);
    let client = Daemon::client(lab.client(), lab.server(), &[]);
    let said = client.wait_for("port 19988 is in use");
    assert!(said.contains("INFO"), "{said}");
    let port = field(&client.wait_ready(), "port").map(str::to_owned);
    assert!(port.as_deref().is_some_and(|port| port != "19988" && port != "0"), "{port:?}");
    lab.client().ping(INNER_SERVER);
    // The client keeps that port: a restarted server finds the same one.
    server.stop();
    assert!(!lab.client().ping_once(INNER_SERVER, 56));
    let bare = RawPeer::new(lab.server(), lab.server().v4, PORT);
    assert_eq!(Some(bare.wait_for_hello().port().to_string()), port);
    drop(taken);
}

#[test]
fn listen_port_chooses_the_port_of_either_role() {
    let lab = Lab::new(2);
    let server = Daemon::server(lab.server(), &["--listen-port", "4500"]);
    let args = ["--peer", "192.0.2.1:4500", "--listen-port", "4501"];
    let client = Launch::new(lab.client(), &args).spawn();
    client.wait_ready();
    lab.client().ping(INNER_SERVER);
    assert_eq!(field(&server.wait_ready(), "port"), Some("4500"));
    assert_eq!(field(&client.wait_ready(), "port"), Some("4501"));
}

#[test]
fn listen_restricts_the_server_to_one_address() {
    let lab = Lab::new(2);
    lab.server().ip(&["address", "add", "192.0.2.77/24", "dev", "eth0"]);
    let server = Daemon::server(lab.server(), &["--listen", "192.0.2.77"]);
    // The port of the other addresses is free for other programs.
    let other = RawPeer::new(lab.server(), lab.server().v4, PORT);
    let bare = RawPeer::client(lab.client());
    bare.send(HELLO, (lab.server().v4, PORT));
    other.wait_for_hello();
    assert_eq!(server.count("peer connected"), 0);
    bare.send(HELLO, (Ipv4Addr::new(192, 0, 2, 77), PORT));
    server.wait_for("peer connected");
}

#[test]
fn a_name_is_a_peer_too() {
    let (lab, folder) = (Lab::new(2), Folder::new());
    folder.write("hosts", "127.0.0.1 localhost\n192.0.2.1 tunnel.example\n");
    let _server = Daemon::server(lab.server(), &[]);
    let client = Launch::new(lab.client(), &["--peer", "tunnel.example:19988"]).prepare(&own_hosts(&folder));
    let client = client.spawn();
    client.wait_ready();
    lab.client().ping(INNER_SERVER);
}

#[test]
fn a_name_that_does_not_resolve_is_tried_again() {
    let (lab, folder) = (Lab::new(2), Folder::new());
    folder.write("hosts", "127.0.0.1 localhost\n");
    let _server = Daemon::server(lab.server(), &[]);
    let client = Launch::new(lab.client(), &["--peer", "tunnel.example:19988"]).prepare(&own_hosts(&folder));
    let mut client = client.spawn();
    // The client logs an error with the name, and keeps running.
    client.wait_for("tunnel.example");
    assert!(client.is_running());
    folder.write("hosts", "127.0.0.1 localhost\n192.0.2.1 tunnel.example\n");
    lab.client().ping_within(Duration::from_secs(40), INNER_SERVER);
}

#[test]
fn a_name_is_resolved_again_when_the_server_stays_silent() {
    let (lab, folder) = (Lab::new(2), Folder::new());
    folder.write("hosts", "127.0.0.1 localhost\n192.0.2.99 tunnel.example\n");
    let _server = Daemon::server(lab.server(), &[]);
    let client = Launch::new(lab.client(), &["--peer", "tunnel.example:19988"]).prepare(&own_hosts(&folder));
    let client = client.spawn();
    client.wait_ready();
    folder.write("hosts", "127.0.0.1 localhost\n192.0.2.1 tunnel.example\n");
    lab.client().ping_within(Duration::from_secs(60), INNER_SERVER);
}

/// A name server that never answers: resolution must not block the loop, nor the shutdown.
#[test]
fn a_name_server_that_hangs_does_not_hold_up_the_end() {
    let (lab, folder) = (Lab::new(2), Folder::new());
    let _name_server = lab.server().udp((lab.server().v4, 53));
    folder.write("hosts", "127.0.0.1 localhost\n");
    let script = own_hosts(&folder);
    folder.write("resolv.conf", "nameserver 192.0.2.1\noptions timeout:30 attempts:5\n");
    let start = || {
        let client = Launch::new(lab.client(), &["--peer", "tunnel.example:19988"]).prepare(&script).spawn();
        client.wait_ready();
        client
    };
    let gone = |pids: &[Pid]| pids.iter().all(|pid| !Path::new(&format!("/proc/{pid}")).exists());
    let is_in_time = |stopped: &Stopped| stopped.elapsed < END;
    let stopped = best_stop(is_in_time, || {
        let client = start();
        let children = client.children();
        let stopped = client.stop();
        eventually("no process is left behind", || gone(&children));
        stopped
    });
    assert!(is_in_time(&stopped), "took {:?}", stopped.elapsed);
    // When killed it leaves no process either, and none that holds the device or the port.
    let client = start();
    let (pid, children) = (client.pid(), client.children());
    client.stop_by(pid, Signal::SIGKILL);
    eventually("no process is left behind", || gone(&children));
    start();
}

#[test]
fn a_peer_behind_our_own_tun_is_refused() {
    let lab = Lab::new(2);
    let run = Launch::new(lab.client(), &["--peer", "10.8.0.1:19988"]).run();
    assert_eq!(run.code(), 78, "{run:?}");
    assert!(run.stderr.contains("10.8.0.1") && run.stderr.contains("tun0"), "{run:?}");
}

#[test]
fn our_own_address_as_the_peer_is_refused() {
    let lab = Lab::new(2);
    for own in ["127.0.0.1", "192.0.2.2", "[2001:db8::2]"] {
        let run = Launch::new(lab.client(), &["--peer", own]).run();
        assert_eq!(run.code(), 78, "{run:?}");
        assert!(run.stderr.contains("this host's own address"), "{run:?}");
    }
}

/// A name that resolves to an address inside the tunnel is not an error, but the address is never
/// used.
#[test]
fn a_name_that_points_into_our_own_tun_is_not_used() {
    let (lab, folder) = (Lab::new(2), Folder::new());
    folder.write("hosts", "127.0.0.1 localhost\n10.8.0.1 tunnel.example\n");
    let client = Launch::new(lab.client(), &["--peer", "tunnel.example:19988"]).prepare(&own_hosts(&folder));
    let client = client.spawn();
    let said = client.wait_for("tunnel.example");
    assert!(said.contains("WARN") && said.contains("tunnel"), "{said}");
    assert_eq!(lab.client().device_packets("tun0"), (0, 0), "its own hello? went into the tunnel");
}

/// IPv6 is disabled for new devices, as by Docker: IPv4 continues after one warning that names the
/// flag to use.
#[test]
fn an_inner_ipv6_address_where_ipv6_is_disabled_gives_one_warning() {
    let lab = Lab::new(2);
    lab.client().shell("echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6");
    let _server = Daemon::server(lab.server(), &[]);
    let addresses = ["--address", "10.8.0.3/24", "--address", "fd00:8::3/64"];
    let client = Daemon::client(lab.client(), lab.server(), &addresses);
    lab.client().ping(INNER_SERVER);
    let warning = client.wait_for("--sysctl");
    assert!(warning.contains("WARN") && warning.contains("disable_ipv6=0"), "{warning}");
    assert_eq!(client.count("--sysctl"), 1);
}

/// A kernel without IPv6 answers `socket(AF_INET6, …)` with EAFNOSUPPORT; strace simulates it. A
/// first run finds the numbers of those calls, a second one makes them fail.
#[test]
fn a_host_without_ipv6_works() {
    let (lab, folder) = (Lab::new(2), Folder::new());
    let trace = folder.path().join("trace");
    let file = trace.display();
    let look =
        Launch::plain(lab.server(), &[]).wrap(&format!("strace -D -f -o {file} -e trace=socket")).spawn();
    look.wait_ready();
    let main = format!("{} ", look.pid());
    look.stop();
    let calls = std::fs::read_to_string(&trace).unwrap();
    // strace counts the calls of each process separately
    let calls = calls.lines().filter(|line| line.starts_with(&main) && line.contains("socket(")).enumerate();
    let inet6: Vec<usize> =
        calls.filter(|(_, line)| line.contains("AF_INET6")).map(|(at, _)| at + 1).collect();
    let first = inet6.first().expect("the server opens an IPv6 socket");
    // One worker's call fails, and no other socket of that family is tried, neither of the other
    // workers nor of a peer.
    let without =
        format!("strace -D -f -o {file} -e trace=socket -e inject=socket:error=EAFNOSUPPORT:when={first}");
    let server = Launch::plain(lab.server(), &[]).wrap(&without).spawn();
    server.wait_ready();
    let main = format!("{} ", server.pid());
    let calls = std::fs::read_to_string(&trace).unwrap();
    let inet6 = calls.lines().filter(|line| line.starts_with(&main) && line.contains("AF_INET6"));
    assert_eq!(inet6.count(), 1, "{calls}");
    let _client = Daemon::client(lab.client(), lab.server(), &[]);
    lab.client().ping(INNER_SERVER);
}

/// A host with `disable_ipv6` set everywhere: the sockets open, no address exists.
#[test]
fn a_host_with_ipv6_switched_off_works() {
    let lab = Lab::new(2);
    for host in [lab.server(), lab.client()] {
        host.shell("for f in all default lo eth0; do echo 1 > /proc/sys/net/ipv6/conf/$f/disable_ipv6; done");
    }
    let _server = Daemon::server(lab.server(), &[]);
    let _client = Daemon::client(lab.client(), lab.server(), &[]);
    lab.client().ping(INNER_SERVER);
}

/// Two tunnels on one host use two devices and two ports.
#[test]
fn a_second_tunnel_on_one_host_takes_another_name_and_port() {
    let lab = Lab::new(2);
    let _first = Daemon::server(lab.server(), &[]);
    let args = ["--tun", "tun1", "--address", "10.9.0.1/24", "--listen-port", "19989"];
    let _second = Daemon::server(lab.server(), &args);
    let one = Daemon::client(lab.client(), lab.server(), &[]);
    let args = ["--peer", "192.0.2.1:19989", "--tun", "tun1", "--address", "10.9.0.3/24"];
    let two = Launch::new(lab.client(), &args).spawn();
    two.wait_ready();
    lab.client().ping(INNER_SERVER);
    lab.client().ping(Ipv4Addr::new(10, 9, 0, 1));
    eventually("both count", || one.summary().rx_packets > 0 && two.summary().rx_packets > 0);
}
