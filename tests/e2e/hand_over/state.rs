//! The state of the host over a hand-over: rules, routes and tables stay, the file's changes apply,
//! and nothing is left at the end.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::{hand_over, launch_successor, write};
use crate::lab::Lab;
use crate::mounts::BINARY;
use crate::separation::host_state::{host_state, is_as_before};
use crate::waiting::{SetAtEnd, TIMEOUT, eventually, finish};
use crate::wireguard::capture::Capture;
use crate::wireguard::implementation::Implementation;
use crate::wireguard::kill_switch;
use crate::wireguard::pair::{CLIENT_V4, Outer, PORT, Plan, SERVER_V4};
use crate::wireguard::settings::{Keys, Peer};

#[test]
fn the_kill_switch_stays_closed_and_the_host_is_as_before() {
    let mut plan = Plan::new(&Arc::new(Lab::new(2)), Outer::V4);
    plan.client.peers[0].allowed = vec!["0.0.0.0/0".to_owned(), "::/0".to_owned()];
    let (server, client) = (Arc::clone(&plan.server_site), Arc::clone(&plan.client_site));
    let _server = kill_switch::start(&server, &plan.server, &[]);
    let clean = host_state(&client);
    let mut daemon = kill_switch::start(&client, &plan.client, &["--kill-switch"]);
    client.ping(SERVER_V4.parse::<IpAddr>().unwrap());
    let running = host_state(&client);
    let capture = Capture::start(&server);
    let monitor = client.path().join("monitor");
    let mut changes = client.command("ip");
    changes.args(["monitor", "route", "rule", "address"]);
    let mut changes = changes.stdout(std::fs::File::create(&monitor).unwrap()).spawn().unwrap();
    let is_done = AtomicBool::new(false);
    thread::scope(|scope| {
        let _end = SetAtEnd(&is_done);
        let is_done = &is_done;
        // to the server's address outside the tunnel, from another port than the tunnel's
        let outside = client.udp(SocketAddr::new([0, 0, 0, 0].into(), 0));
        let target = SocketAddr::new(server.v4.into(), 9);
        scope.spawn(move || send_until(&outside, target, is_done));
        for _ in 0..3 {
            hand_over(&client, &mut daemon, &["--kill-switch"]);
            daemon.wait_for("sandbox ");
        }
    });
    changes.kill().unwrap();
    changes.wait().unwrap();
    let leaked: Vec<_> =
        capture.stop().into_iter().filter(|frame| frame.to == (server.v4.into(), 9)).collect();
    let on_the_wire = leaked.iter().filter(|frame| frame.from.0 == IpAddr::from(client.v4)).count();
    assert_eq!(on_the_wire, 0, "{:?}", leaked.first());
    let changes = std::fs::read_to_string(&monitor).unwrap();
    let deleted: Vec<_> =
        changes.lines().filter(|line| line.contains("Deleted") && !line.contains("cache")).collect();
    assert!(deleted.is_empty(), "{deleted:#?}");
    client.ping(SERVER_V4.parse::<IpAddr>().unwrap());
    // the tables are in another order
    assert_eq!(sorted(&host_state(&client)), sorted(&running));
    // it owns what it has taken over: the end is complete
    assert_eq!(daemon.stop().status.code(), Some(0));
    is_as_before(&client, &clean);
}

fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<_> = text.lines().collect();
    lines.sort_unstable();
    lines
}

fn send_until(socket: &UdpSocket, target: SocketAddr, is_done: &AtomicBool) {
    while !is_done.load(Ordering::Relaxed) {
        let _ = socket.send_to(b"outside", target);
        thread::sleep(std::time::Duration::from_millis(2));
    }
}

#[test]
fn control_sockets_and_metrics_are_taken_over_too() {
    let plan = Plan::new(&Arc::new(Lab::new(2)), Outer::V4);
    write(&plan.server_site, &plan.server);
    let mut pair = plan.start(Implementation::ConfigFile, Implementation::ConfigFile);
    pair.client.ping(SERVER_V4);
    let site = Arc::clone(&pair.plan.server_site);
    hand_over(&site, &mut pair.server.daemon, &["--metrics", "127.0.0.1:9100"]);
    let received = pair.server.only_peer().received;
    assert!(received > 0, "the transfer is counted on");
    hand_over(&site, &mut pair.server.daemon, &["--metrics", "127.0.0.1:9100"]);
    assert!(pair.server.only_peer().received >= received);
    let scrape = site.inside(|| {
        use std::io::{Read as _, Write as _};
        let mut stream = std::net::TcpStream::connect("127.0.0.1:9100").unwrap();
        stream.write_all(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    });
    assert!(scrape.contains("wontun_"), "{scrape}");
    let command = |arguments: &[&str]| finish(site.command(BINARY).args(arguments), TIMEOUT);
    assert!(command(&["health", "wg0"]).status.success());
    let reloaded = command(&["reload", "wg0"]);
    assert!(reloaded.status.success(), "{}", reloaded.stderr);
    pair.server.daemon.wait_for("eload");
    // the socket's file goes with the last process
    assert_eq!(pair.server.daemon.stop().status.code(), Some(0));
    assert!(!site.socket("wg0").exists() && !site.has_device("wg0"));
}

#[test]
fn changes_of_the_file_apply() {
    let plan = Plan::new(&Arc::new(Lab::new(2)), Outer::V4);
    write(&plan.server_site, &plan.server);
    let mut pair = plan.start(Implementation::ConfigFile, Implementation::ConfigFile);
    pair.client.ping(SERVER_V4);
    let site = Arc::clone(&pair.plan.server_site);
    let other = Keys::new().public;
    let mut settings =
        pair.plan.server.clone().peer(Peer::new(&other, &["10.66.0.0/24"])).mtu(1300).port(PORT + 1);
    settings.addresses = vec!["10.9.0.1/24".to_owned(), "10.99.0.1/24".to_owned()];
    write(&site, &settings);
    hand_over(&site, &mut pair.server.daemon, &[]);
    let daemon = &pair.server.daemon;
    eventually("the port has changed", || pair.server.port() == PORT + 1);
    assert_eq!((pair.server.peers().len(), site.mtu("wg0")), (2, 1300));
    let addresses = site.ip(&["address", "show", "dev", "wg0"]);
    assert!(addresses.contains("10.99.0.1/24") && !addresses.contains("fd00:9::1"), "{addresses}");
    assert!(site.ip(&["route", "show", "dev", "wg0"]).contains("10.66.0.0/24"));
    // the session continues from the new port
    pair.server.ping(CLIENT_V4);
    assert_eq!(daemon.count("handshake completed"), 0);
}

#[test]
fn another_private_key_begins_without_sessions() {
    let plan = Plan::new(&Arc::new(Lab::new(2)), Outer::V4);
    write(&plan.server_site, &plan.server);
    let mut pair = plan.start(Implementation::ConfigFile, Implementation::ConfigFile);
    pair.client.ping(SERVER_V4);
    let site = Arc::clone(&pair.plan.server_site);
    let mut settings = pair.plan.server.clone();
    settings.private = Keys::new().private;
    write(&site, &settings);
    hand_over(&site, &mut pair.server.daemon, &[]);
    pair.server.daemon.wait_for("without the sessions of its peers");
    // back with the first key, by the usual way
    write(&site, &pair.plan.server);
    let successor = launch_successor(&site, &[]);
    successor.wait_for("without the sessions of its peers");
    pair.server.daemon = successor;
    pair.client.ping(SERVER_V4);
}
