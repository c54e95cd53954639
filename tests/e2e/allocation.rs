//! No packet costs an allocation: a tunnel's loop runs in a process of this test's own program, whose allocator counts.
//!
//! It is the program's own device with its two workers, on a host like any other. Nothing else happens in that process
//! between two readings of the counter, so what was allocated in between was allocated by the workers.

use std::alloc::System;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use wontun::config::{Config, Tuning};
use wontun::device::{Device, PlainTunnel, WireGuard};
use wontun::sandbox::Confinement;

use crate::daemon::{Daemon, Launch};
use crate::lab::{Lab, heavy};
use crate::streams::Connection;
use crate::tunnel::{CLIENT_V4, DEVICE, SERVER_V4};
use crate::waiting::uninterrupted;
use crate::wireguard::implementation::Implementation;
use crate::wireguard::node::Node;
use crate::wireguard::pair::Outer;
use crate::wireguard::settings::{Keys, Peer, Settings};
use crate::wireguard::site::Site;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Tells the process that is to count what it is to be: the client of the plain server at this address, or
/// [`FOR_WG`].
const ROLE: &str = "ALLOCATION_TEST_ROLE";

/// A WireGuard interface for wg(8).
const FOR_WG: &str = "wg";

/// What a line of its begins with.
const ALLOCATED: &str = "allocations: ";

const MEGABYTE: u64 = 1_000_000;

/// The process that counts. Every now and then it says how often something was allocated by then.
#[test]
#[ignore = "no test of its own: the tests below start it"]
fn counter() {
    let tuning = Tuning { workers: 2, offload: true, clamp_mss: None };
    let role = std::env::var(ROLE).expect("started by one of the tests below");
    std::thread::spawn(move || match role.as_str() {
        FOR_WG => {
            Device::<WireGuard>::open(DEVICE.parse().unwrap(), None, tuning, None).unwrap().run().unwrap()
        }
        peer => {
            let config = Config {
                peer: Some(peer.parse().unwrap()),
                tun: DEVICE.parse().unwrap(),
                addresses: vec![format!("{CLIENT_V4}/24").parse().unwrap()],
                mtu: None,
                configure: true,
                listen: Vec::new(),
                listen_port: None,
                keepalive: Duration::from_secs(25),
            };
            Device::<PlainTunnel>::open(config.checked().unwrap(), tuning, Confinement::default())
                .unwrap()
                .run()
                .unwrap();
        }
    });
    loop {
        let stats = ALLOCATOR.stats();
        // standard error has no buffer: to write to it allocates nothing
        writeln!(std::io::stderr(), "{ALLOCATED}{}", stats.allocations + stats.reallocations).unwrap();
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// That process, on a host.
fn start_counter(site: &Site, role: &str) -> Daemon {
    let args = ["--exact", "allocation::counter", "--ignored", "--nocapture", "--test-threads", "1"];
    site.launch(&std::env::current_exe().unwrap(), &args).env(ROLE, role).spawn()
}

/// How often it has allocated something by now.
fn allocations(counter: &Daemon) -> usize {
    // the next line may have been written already
    let line = counter.wait_for_more(ALLOCATED, counter.count(ALLOCATED) + 1);
    line.strip_prefix(ALLOCATED).unwrap().parse().unwrap()
}

/// Streams both ways, and packets that come one by one. What a tunnel makes once is there after the first.
fn nothing_is_allocated(counter: &Daemon, server: &Site, client: &Site) {
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
    // the kernel may tell of a change of the device in between, which is no packet
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
    let counter = start_counter(&at_client, &format!("{}:19988", lab.server().v4));
    server.wait_for("peer connected");
    nothing_is_allocated(&counter, &at_server, &at_client);
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
    let counter = start_counter(&at_client, FOR_WG);
    crate::waiting::eventually("wg finds the tunnel", || {
        at_client.try_wg(&["show", DEVICE]).status.success()
    });
    let file = at_client.write("tun0.setconf", &client.setconf());
    at_client.wg(&["setconf", DEVICE, file.to_str().unwrap()]);
    at_client.ip(&["address", "add", &client.addresses[0], "dev", DEVICE]);
    at_client.ip(&["link", "set", DEVICE, "up"]);
    nothing_is_allocated(&counter, &at_server, &at_client);
}
