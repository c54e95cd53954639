//! Datagrams, streams, sessions and nonces over several hand-overs.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::flow::Flow;
use super::{hand_over, write};
use crate::daemon::field;
use crate::lab::{Lab, heavy};
use crate::streams::Connection;
use crate::waiting::SetAtEnd;
use crate::wireguard::capture::{Capture, Frame};
use crate::wireguard::implementation::Implementation;
use crate::wireguard::pair::{CLIENT_V4, CLIENT_V6, Outer, PORT, Plan, SERVER_V4, SERVER_V6};

const HAND_OVERS: usize = 10;
const ECHO: u16 = 7777;

fn at(address: &str) -> SocketAddr {
    SocketAddr::new(address.parse().unwrap(), ECHO)
}

/// Panics if two data messages have the same receiver index and counter. Returns the number of data
/// messages and of initiations.
pub(super) fn check_nonces(frames: &[Frame]) -> (usize, usize) {
    let outer = frames.iter().filter(|frame| frame.from.1 == PORT || frame.to.1 == PORT);
    let (mut seen, mut initiations) = (BTreeMap::new(), 0);
    for frame in outer {
        match frame.kind() {
            Some(4) => {
                let nonce: [u8; 12] = *frame.payload[4..].first_chunk().unwrap();
                let before = seen.insert((frame.from, nonce), frame.payload.clone());
                assert_eq!(before, None, "a nonce is used twice: {nonce:?}");
            }
            Some(1) => initiations += 1,
            _ => {}
        }
    }
    (seen.len(), initiations)
}

/// Ten hand-overs of the server (`of_server`) or the client, while 1,000 datagrams a second go in
/// each direction, over both protocols, and a TCP stream.
fn nothing_is_lost(of_server: bool, arguments: &[&str]) {
    let _guard = heavy();
    let plan = Plan::new(&Arc::new(Lab::new(2)), Outer::V4);
    write(&plan.server_site, &plan.server);
    write(&plan.client_site, &plan.client);
    let mut pair = plan.start(Implementation::ConfigFile, Implementation::ConfigFile);
    pair.client.ping(SERVER_V4);
    let (server, client) = (Arc::clone(&pair.plan.server_site), Arc::clone(&pair.plan.client_site));
    let handshake = pair.client.only_peer().handshake;
    for site in [&server, &client] {
        // the capture sees each datagram
        site.ip(&["link", "set", "eth0", "gso_max_segs", "1"]);
    }
    let capture = Capture::start(if of_server { &client } else { &server });
    let connection = Connection::open(&server, at(SERVER_V4), &client);
    connection.bound_windows();
    let flows = [Flow::start(&client, &server, at(SERVER_V4)), Flow::start(&server, &client, at(CLIENT_V4))];
    let is_done = AtomicBool::new(false);
    let paused = thread::scope(|scope| {
        let _end = SetAtEnd(&is_done);
        scope.spawn(|| {
            connection.exchange_while(|_| {
                thread::sleep(Duration::from_millis(20));
                !is_done.load(Ordering::Relaxed)
            })
        });
        let (site, node) = if of_server { (&server, &mut pair.server) } else { (&client, &mut pair.client) };
        let paused = (0..HAND_OVERS).map(|_| {
            // the hand-overs themselves are over within milliseconds
            flows.iter().for_each(|flow| flow.wait_for(100));
            hand_over(site, &mut node.daemon, arguments);
            let line = node.daemon.wait_for("took the tunnel over");
            field(&line, "paused").unwrap().to_owned()
        });
        paused.collect::<Vec<_>>()
    });
    let tallies = flows.map(Flow::stop);
    let (messages, initiations) = check_nonces(&capture.stop());
    eprintln!("{tallies:?}; paused for {paused:?}; {messages} data messages, {initiations} initiations");
    assert!(tallies.iter().all(|tally| (tally.lost, tally.repeated) == (0, 0)), "{tallies:?}");
    assert!(tallies.iter().all(|tally| tally.sent > 500), "{tallies:?}");
    let sent: u64 = tallies.iter().map(|tally| tally.sent).sum();
    assert!(messages as u64 > sent, "the capture is complete");
    assert_eq!(initiations, 0, "the sessions continue");
    assert_eq!(pair.client.only_peer().handshake, handshake);
    assert!(pair.server.only_peer().handshake.abs_diff(handshake) <= 1);
    pair.client.ping(SERVER_V6);
    pair.server.ping(CLIENT_V6);
}

#[test]
fn ten_hand_overs_of_a_server_lose_no_datagram_and_use_no_nonce_twice() {
    nothing_is_lost(true, &[]);
}

#[test]
fn ten_hand_overs_of_a_client_with_one_worker_lose_nothing() {
    nothing_is_lost(false, &["--workers", "1"]);
}
