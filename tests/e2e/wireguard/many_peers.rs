//! One server with a thousand peers and more.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::implementation::Implementation;
use super::memory::{resident_kilobytes, with_idle_peers};
use super::node::Node;
use super::pair::{Outer, PORT, Plan, SERVER_V4};
use super::probe::Probe;
use super::settings::{Keys, Peer, Settings};
use super::site::Site;
use crate::lab::{Lab, heavy};
use crate::streams::Connection;

const PEERS: u32 = 1000;

/// Each peer has its own inner and outer address. They complete handshakes and ping in sequence;
/// then all ping at once.
fn a_thousand_peers_ping(server: Implementation) {
    let _guard = heavy();
    let lab = Arc::new(Lab::new(2));
    let site = Arc::new(Site::new(&lab, 0));
    // The clients' host answers for all of 198.18.0.0/16.
    lab.client().ip(&["route", "add", "local", "198.18.0.0/16", "dev", "lo"]);
    lab.server().ip(&["route", "add", "198.18.0.0/16", "via", "192.0.2.2"]);
    let own = Keys::new();
    let keys: Vec<_> = (0..PEERS).map(|_| Keys::new()).collect();
    let inner = |number: u32| Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 9, 16, 0)) + number);
    let mut settings = Settings::new(&own, &["10.9.0.1/16"]).port(PORT);
    for (number, keys) in (0..).zip(&keys) {
        settings = settings.peer(Peer::new(&keys.public, &[&format!("{}/32", inner(number))]));
    }
    let mut node = Node::start(&site, server, &settings);
    let configured = resident_kilobytes(node.daemon.pid());
    let target = SocketAddr::from((lab.server().v4, PORT));
    let mut peers: Vec<_> = (0..)
        .zip(&keys)
        .map(|(number, keys)| {
            let outer = Ipv4Addr::from(u32::from(Ipv4Addr::new(198, 18, 0, 0)) + number);
            let socket = lab.client().udp(SocketAddrV4::new(outer, 51820));
            Probe::new(socket, keys, &own.public, target, inner(number))
        })
        .collect();
    let start = Instant::now();
    for peer in &mut peers {
        peer.shake_hands();
        peer.ping(1);
    }
    let connected = start.elapsed();
    let start = Instant::now();
    for round in 2..6 {
        let requests: Vec<_> = peers.iter_mut().map(|peer| peer.echo_request(round)).collect();
        for (peer, request) in peers.iter().zip(&requests) {
            peer.send(request);
        }
        for peer in &mut peers {
            peer.expect_echo(round);
        }
    }
    let pinged = start.elapsed();
    eprintln!(
        "{PEERS} peers: handshake and ping, one by one, {connected:?}; four pings each, {pinged:?}; resident \
        {configured} kB before, {} kB after",
        resident_kilobytes(node.daemon.pid())
    );
    let shown = node.peers();
    assert_eq!(shown.len(), PEERS as usize);
    for (number, keys) in (0_u32..).zip(&keys) {
        let state = shown.iter().find(|state| state.public == keys.public).unwrap();
        assert!(state.handshake > 0, "{state:?}");
        let outer = Ipv4Addr::from(u32::from(Ipv4Addr::new(198, 18, 0, 0)) + number);
        assert_eq!(state.endpoint, format!("{outer}:51820"));
    }
    assert!(node.daemon.is_running());
    assert!(connected < Duration::from_secs(60), "a thousand handshakes took {connected:?}");
}

between!(a_thousand_peers_ping: {
    of_a_file: (ConfigFile),
    told_by_wg: (Wontun),
});

/// Bytes of a stream, half of them in each direction.
const STREAM: u64 = 200_000_000;

/// The cost of idle peers to the active one is printed, not judged: no machine is quiet enough for
/// that.
#[test]
fn a_stream_flows_beside_ten_thousand_idle_peers() {
    let _guard = heavy();
    let server_v4: Ipv4Addr = SERVER_V4.parse().unwrap();
    for idle in [0, 1_000, 10_000] {
        let mut plan = Plan::new(&Arc::new(Lab::new(2)), Outer::V4);
        plan.server = with_idle_peers(&plan.server, idle);
        let start = Instant::now();
        let server = Node::start(&plan.server_site, Implementation::ConfigFile, &plan.server);
        let started = start.elapsed();
        let client = Node::start(&plan.client_site, Implementation::ConfigFile, &plan.client);
        client.ping(SERVER_V4);
        let connection = Connection::open(&server.site, (server_v4, 0), &client.site);
        let start = Instant::now();
        connection.exchange(STREAM / 2);
        let seconds = start.elapsed().as_secs_f64();
        eprintln!(
            "{idle} idle peers: ready after {started:?}, {} kB resident, {:.0} Mbit/s both ways together",
            resident_kilobytes(server.daemon.pid()),
            STREAM as f64 * 8e-6 / seconds
        );
        assert_eq!(server.peers().len() as u64, idle + 1);
    }
}
