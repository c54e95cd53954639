//! Sessions are replaced after two minutes while packets flow, and none is lost.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::implementation::Implementation::{Boringtun, ConfigFile, WireguardGo, Wontun};
use super::node::Node;
use super::pair::{Outer, PORT, Plan, SERVER_V4};
use super::settings::{Keys, Peer, Settings};
use super::site::Site;
use crate::lab::Lab;
use crate::waiting::finish;

/// REKEY_AFTER_TIME, and the time of a new handshake.
const LONG_ENOUGH: Duration = Duration::from_secs(120 + 8);

/// The initiator of a session replaces it: here each other program does so with wontun, and wontun
/// with it. All in one test, since all of them wait for the same two minutes.
#[test]
fn sessions_are_replaced_without_a_loss() {
    let lab = Arc::new(Lab::new(4));
    let sites: Vec<_> = (0..4).map(|index| Arc::new(Site::new(&lab, index))).collect();
    let keys: Vec<_> = sites.iter().map(|_| Keys::new()).collect();
    let address = |index: usize| format!("10.9.0.{}", index + 1);
    let mut settings = Settings::new(&keys[0], &["10.9.0.1/24"]).port(PORT);
    for index in 1..4 {
        settings = settings.peer(Peer::new(&keys[index].public, &[&format!("{}/32", address(index))]));
    }
    let server = Node::start(&sites[0], ConfigFile, &settings);
    let clients = [(1, Wontun), (2, WireguardGo), (3, Boringtun)].map(|(index, implementation)| {
        let peer = Peer::new(&keys[0].public, &["10.9.0.0/24"]).at(Outer::V4.endpoint(&sites[0]));
        let settings = Settings::new(&keys[index], &[&format!("{}/24", address(index))]).peer(peer);
        Node::start(&sites[index], implementation, &settings)
    });
    let others = [WireguardGo, Boringtun]
        .map(|implementation| Plan::new(&Arc::new(Lab::new(2)), Outer::V6).start(implementation, ConfigFile));
    let nodes: Vec<&Node> = clients.iter().chain(others.iter().map(|pair| &pair.client)).collect();
    for node in &nodes {
        node.ping(SERVER_V4);
    }
    // From wontun's end: boringtun reports the age of a handshake in place of its time.
    let handshakes = || -> Vec<u64> {
        let at_server = keys[1..].iter().map(|keys| server.peer(&keys.public).handshake);
        at_server.chain(others.iter().map(|pair| pair.client.only_peer().handshake)).collect()
    };
    let first = handshakes();
    let start = Instant::now();
    std::thread::scope(|scope| {
        for site in nodes.iter().map(|node| &node.site) {
            scope.spawn(|| {
                let count = (LONG_ENOUGH.as_secs() * 10).to_string();
                let mut ping = site.command("ping");
                ping.args(["-n", "-q", "-i", "0.1", "-W", "5", "-c", &count, SERVER_V4]);
                let done = finish(&mut ping, LONG_ENOUGH * 2);
                assert!(done.stdout.contains(" 0% packet loss"), "{done:?}");
            });
        }
    });
    assert!(start.elapsed() >= Duration::from_secs(120));
    for ((node, first), last) in nodes.iter().zip(first).zip(handshakes()) {
        let apart = last - first;
        assert!((115..=130).contains(&apart), "{:?}: a new session after {apart} s", node.implementation);
    }
    for pair in &others {
        assert_eq!(pair.server.only_peer().endpoint, format!("[2001:db8::2]:{}", pair.client.port()));
    }
}
