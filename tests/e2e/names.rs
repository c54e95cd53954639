//! A server whose name has several addresses: when the client keeps one, and when it tries the
//! next.

use std::time::Duration;

use crate::bare::INNER_SERVER;
use crate::daemon::{Daemon, Launch};
use crate::endpoints::own_hosts;
use crate::lab::{Host, Lab};
use crate::mounts::Folder;
use crate::waiting::eventually;

/// Long enough for an unanswered client to have looked up the name twice more, after 5 s and 10 s
/// more.
const TWO_LOOKUPS: Duration = Duration::from_secs(17);

fn client_of_name(host: &Host, folder: &Folder, addresses: &[&str]) -> Daemon {
    let lines: String = addresses.iter().map(|address| format!("{address} tunnel.example\n")).collect();
    folder.write("hosts", &format!("127.0.0.1 localhost\n{lines}"));
    let arguments = ["--peer", "tunnel.example", "--log-level", "debug"];
    let client = Launch::new(host, &arguments).prepare(&own_hosts(folder)).spawn();
    client.wait_ready();
    client
}

/// No server answers `hello?`, so an idle client receives nothing although the tunnel works: it
/// must not alternate between the addresses of one server, which would treat it as an unknown
/// source at the second.
#[test]
fn an_idle_client_stays_with_the_address_that_works() {
    let (lab, folder) = (Lab::new(2), Folder::new());
    let server = Daemon::server(lab.server(), &[]);
    let client = client_of_name(lab.client(), &folder, &["192.0.2.1", "2001:db8::1"]);
    server.wait_for("peer connected");
    std::thread::sleep(TWO_LOOKUPS);
    assert!(client.count("the server's address") >= 2, "it looked again: {:?}", client.lines());
    lab.client().ping(INNER_SERVER);
    assert_eq!(server.summary().dropped("stranger"), 0, "{:?}", server.lines());
}

/// The usual case of a name with an IPv6 address on a host that has no IPv6 route.
#[test]
fn an_address_without_a_route_is_passed_over() {
    let (lab, folder) = (Lab::new(2), Folder::new());
    let server = Daemon::server(lab.server(), &[]);
    let client = client_of_name(lab.client(), &folder, &["2001:db8:ffff::1", "192.0.2.1"]);
    // a packet may overtake the first `hello?`, and is from an unknown source then
    server.wait_for("peer connected");
    lab.client().ping_within(Duration::from_secs(5), INNER_SERVER);
    std::thread::sleep(Duration::from_secs(6));
    lab.client().ping(INNER_SERVER);
    assert_eq!(client.summary().dropped("stranger"), 0, "{:?}", client.lines());
    assert_eq!(server.summary().dropped("stranger"), 0, "{:?}", server.lines());
}

#[test]
fn an_address_that_refuses_gives_way_to_the_next() {
    let (lab, folder) = (Lab::new(2), Folder::new());
    lab.server().ip(&["address", "add", "192.0.2.77/24", "dev", "eth0"]);
    let _server = Daemon::server(lab.server(), &["--listen", "192.0.2.77"]);
    let client = client_of_name(lab.client(), &folder, &["192.0.2.1", "192.0.2.77"]);
    eventually("the first address refuses", || client.summary().dropped("refused") > 0);
    lab.client().ping_within(Duration::from_secs(20), INNER_SERVER);
}

/// A missing host causes no error: only unanswered data reveals it.
#[test]
fn an_address_that_swallows_data_gives_way_to_the_next() {
    let (lab, folder) = (Lab::new(2), Folder::new());
    // no device has this link-layer address
    let dead = "192.0.2.99";
    lab.client().ip(&["neighbour", "add", dead, "lladdr", "02:00:00:00:00:99", "dev", "eth0"]);
    let _server = Daemon::server(lab.server(), &[]);
    let _client = client_of_name(lab.client(), &folder, &[dead, "192.0.2.1"]);
    lab.client().ping_within(Duration::from_secs(30), INNER_SERVER);
}

#[test]
fn a_server_that_does_not_answer_is_told_of() {
    let (lab, folder) = (Lab::new(2), Folder::new());
    let dead = "192.0.2.99";
    lab.client().ip(&["neighbour", "add", dead, "lladdr", "02:00:00:00:00:99", "dev", "eth0"]);
    let client = client_of_name(lab.client(), &folder, &[dead]);
    let told = "no answer from the server";
    eventually("it is told", || !lab.client().ping_once(INNER_SERVER, 56) && client.count(told) > 0);
    let line = client.wait_for(told);
    assert!(line.contains(" WARN ") && line.contains("192.0.2.99:19988"), "{line}");
}
