//! An authenticated but noisy peer does not fill the log, and log lines name the peer.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::noise_peer::NoisePeer;
use crate::lab::Lab;
use crate::mounts::BINARY;
use crate::waiting::eventually;
use crate::wireguard::pair::{Outer, PORT, Plan};

const SERVER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 1), PORT);

#[test]
fn handshakes_and_moves_of_one_peer_are_rate_limited_and_name_it() {
    const HANDSHAKES: usize = 60;
    const MOVES: usize = 500;
    let lab = Arc::new(Lab::new(2));
    let plan = Plan::new(&lab, Outer::V4);
    let text = plan.server.wg_quick().replace("[Peer]", "[Peer]\n# Name = laptop of Ann");
    let file = plan.server_site.write("wg0.conf", &text);
    let args = ["--config", file.to_str().unwrap(), "--log-level", "debug"];
    let daemon = plan.server_site.launch(BINARY.as_ref(), &args).spawn();
    daemon.wait_for(" ready mode=");

    let start = Instant::now();
    let sockets = [40_000, 40_001].map(|port| lab.client().udp(SocketAddr::from((lab.client().v4, port))));
    let [socket, other] = sockets;
    let mut peer = NoisePeer::new(socket, &plan.client_keys, &plan.server_keys.public, SERVER.into());
    let mut session = peer.shake_hands();
    for _ in 1..HANDSHAKES {
        // an initiation that comes sooner is not answered
        sleep(Duration::from_millis(25));
        session = peer.shake_hands();
    }
    for _ in 0..MOVES {
        peer.send_packet_from(&other, &mut session, &[]);
        peer.send_packet(&mut session, &[]);
    }
    // every message arrived, of 32 bytes each: 1,000, and a confirmation of each handshake
    let least = (2 * MOVES * 32) as u64;
    eventually("all is received", || {
        let shown = plan.server_site.wg(&["show", "wg0", "transfer"]);
        shown.split_whitespace().nth(1).is_some_and(|bytes| bytes.parse::<u64>().unwrap() >= least)
    });
    daemon.summary();
    // one at once, and one more for every five seconds
    let most = 2 + start.elapsed().as_secs() as usize / 5;
    for what in ["handshake completed", "endpoint moved", "no connected socket"] {
        let lines: Vec<_> = daemon.lines().into_iter().filter(|line| line.contains(what)).collect();
        assert!(lines.len() <= most, "{} lines of {what:?}, of which {most} are fine", lines.len());
        let key = &plan.client_keys.public[..10];
        for line in lines {
            assert!(line.contains("laptop of Ann") && !line.contains(key), "{line}");
        }
    }
    assert!(daemon.count("handshake completed") > 0 && daemon.count("endpoint moved") > 0);
}
