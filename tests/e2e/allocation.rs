//! No packet costs an allocation. A preloaded library counts the allocations of the process that
//! carries packets.
//!
//! Nothing else happens in that process between two readings of the counter, so all allocations in
//! between were made by the workers.

use std::fs::{File, Permissions};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::sync::Arc;

use crate::daemon::{Daemon, Launch};
use crate::lab::{Lab, heavy};
use crate::mounts::{BINARY, Folder};
use crate::preload::{self, Preload};
use crate::streams::Connection;
use crate::tunnel::{CLIENT_V4, DEVICE, SERVER_V4};
use crate::waiting::uninterrupted;
use crate::wireguard::implementation::Implementation;
use crate::wireguard::node::Node;
use crate::wireguard::pair::Outer;
use crate::wireguard::settings::{Keys, Peer, Settings};
use crate::wireguard::site::Site;

const LIBRARY: &str = "allocation-counter.so";

const MEGABYTE: u64 = 1_000_000;

/// A tunnel whose allocations are counted.
struct Counter {
    daemon: Daemon,
    count: File,
    _folder: Folder,
}

/// Starts a counted tunnel on a host.
fn start_counter(site: &Site, args: &[&str]) -> Counter {
    let folder = Folder::new();
    let library = preload::build(folder.path(), LIBRARY, include_str!("allocation.c"));
    let preload = Preload::new(&library, folder.path().join("counter"));
    let path = preload.file("allocations");
    std::fs::write(&path, [0; 8]).unwrap();
    // the process runs as another user
    std::fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
    let args = [args, &["--workers", "2", "--offload", "auto"]].concat();
    let daemon = site.launch(BINARY.as_ref(), &args).wrap(&preload.wrapper()).spawn();
    daemon.wait_for("ready ");
    preload::check(daemon.tunnel_pid(), LIBRARY);
    Counter { daemon, count: File::open(path).unwrap(), _folder: folder }
}

/// Returns the number of allocations so far.
fn allocations(counter: &Counter) -> u64 {
    let mut bytes = [0; 8];
    counter.count.read_exact_at(&mut bytes, 0).unwrap();
    u64::from_ne_bytes(bytes)
}

/// Sends streams in both directions, then single packets. The first round makes the allocations
/// that a tunnel makes only once.
fn nothing_is_allocated(counter: &Counter, server: &Site, client: &Site) {
    client.ping(SERVER_V4);
    let connection = Connection::open(server, (SERVER_V4, 0), client);
    let sink = server.udp((SERVER_V4, 0));
    let socket = client.udp((CLIENT_V4, 0));
    socket.connect(sink.local_addr().unwrap()).unwrap();
    let work = |bytes: u64| {
        Connection::open(server, (SERVER_V4, 0), client).exchange(bytes);
        for _ in 0..500 {
            connection.say_hello();
            socket.send(&[0; 1000]).unwrap();
            uninterrupted(|| sink.recv(&mut [0; 1000])).unwrap();
        }
    };
    work(20 * MEGABYTE);
    let mut before = allocations(counter);
    assert!(before > 0, "a tunnel that starts allocates, or nothing is counted");
    // the kernel may report a change of the device in between, which is not a packet
    let mut rounds = Vec::new();
    while rounds.last() != Some(&0) {
        work(50 * MEGABYTE);
        let after = allocations(counter);
        rounds.push(after - before);
        before = after;
        assert!(rounds.last() == Some(&0) || rounds.len() < 4, "allocations of each round: {rounds:?}");
    }
}

#[test]
fn nothing_is_allocated_for_packets_in_plain_mode() {
    let _one_at_a_time = heavy();
    let lab = Arc::new(Lab::new(2));
    let server = Launch::plain(lab.server(), &["--address", &format!("{SERVER_V4}/24")]).spawn();
    server.wait_ready();
    let [at_server, at_client] = [0, 1].map(|index| Site::new(&lab, index));
    let (peer, address) = (format!("{}:19988", lab.server().v4), format!("{CLIENT_V4}/24"));
    let counter =
        start_counter(&at_client, &["plain", "--peer", &peer, "--address", &address, "--tun", DEVICE]);
    server.wait_for("peer connected");
    nothing_is_allocated(&counter, &at_server, &at_client);
    assert!(counter.daemon.stop().status.success());
}

#[test]
fn nothing_is_allocated_for_packets_in_wireguard() {
    let _one_at_a_time = heavy();
    let lab = Arc::new(Lab::new(2));
    let [at_server, at_client] = [0, 1].map(|index| Arc::new(Site::new(&lab, index)));
    let keys = [Keys::new(), Keys::new()];
    let server = Settings::new(&keys[0], &[&format!("{SERVER_V4}/24")])
        .port(crate::wireguard::pair::PORT)
        .peer(Peer::new(&keys[1].public, &[&format!("{CLIENT_V4}/32")]));
    let client = Settings::new(&keys[1], &[&format!("{CLIENT_V4}/24")])
        .peer(Peer::new(&keys[0].public, &["10.9.0.0/24"]).at(Outer::V4.endpoint(&at_server)));
    let _server: Daemon = Node::named(DEVICE, &at_server, Implementation::ConfigFile, &server).daemon;
    let counter = start_counter(&at_client, &["-f", DEVICE]);
    crate::waiting::eventually("wg finds the tunnel", || {
        at_client.try_wg(&["show", DEVICE]).status.success()
    });
    let file = at_client.write("tun0.setconf", &client.setconf());
    at_client.wg(&["setconf", DEVICE, file.to_str().unwrap()]);
    at_client.ip(&["address", "add", &client.addresses[0], "dev", DEVICE]);
    at_client.ip(&["link", "set", DEVICE, "up"]);
    nothing_is_allocated(&counter, &at_server, &at_client);
    assert!(counter.daemon.stop().status.success());
}
