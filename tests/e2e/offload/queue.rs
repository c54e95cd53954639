//! The queue of packets from the device: small packets of other flows are sent before bulk traffic
//! that waits, and bulk senders are told to slow down.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{setsockopt, sockopt::RcvBufForce, sockopt::UdpGsoSegment};

use crate::tunnel::{CLIENT_V4, Mode, Plan, SERVER_V4, Tunnel};
use crate::waiting::{eventually, uninterrupted};

/// Number of super-packets that wait, and of the datagrams in each.
const TRAINS: usize = 8;
const DATAGRAMS: usize = 40;

fn tunnel(mode: Mode, queue: &str) -> Tunnel {
    let args = format!("--workers 1 --offload auto --queue {queue}");
    let tunnel = Plan::new(mode).mtu(1420).args(&args).start();
    // establish a session, so that no packet waits for one
    tunnel.client_site.ping(SERVER_V4);
    tunnel
}

/// Returns the number of bulk datagrams that arrive before a small one, which entered the device
/// after all of them.
fn before_the_small_one(tunnel: &Tunnel) -> usize {
    let sink = tunnel.server_site.udp(SocketAddr::new(SERVER_V4.into(), 0));
    setsockopt(&sink, RcvBufForce, &4_000_000).unwrap();
    sink.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let sender = || {
        let socket: UdpSocket = tunnel.client_site.udp(SocketAddr::new(CLIENT_V4.into(), 0));
        socket.connect(sink.local_addr().unwrap()).unwrap();
        socket
    };
    let (bulk, voice) = (sender(), sender());
    setsockopt(&bulk, UdpGsoSegment, &1300).unwrap();

    let process = tunnel.client.tunnel_pid();
    kill(process, Signal::SIGSTOP).unwrap();
    eventually("the client is stopped", || {
        std::fs::read_dir(format!("/proc/{process}/task")).unwrap().all(|task| {
            let stat = std::fs::read_to_string(task.unwrap().path().join("stat")).unwrap();
            stat.rsplit(')').next().unwrap().trim_start().starts_with('T')
        })
    });
    for _ in 0..TRAINS {
        bulk.send(&[1; 1300 * DATAGRAMS]).unwrap();
    }
    voice.send(&[2; 160]).unwrap();
    kill(process, Signal::SIGCONT).unwrap();

    let mut buffer = [0; 2000];
    let mut receive = || {
        let len = uninterrupted(|| sink.recv(&mut buffer)).unwrap();
        (len, buffer[0])
    };
    let before = std::iter::from_fn(|| Some(receive())).take_while(|received| *received != (160, 2)).count();
    for _ in before..TRAINS * DATAGRAMS {
        assert_eq!(receive(), (1300, 1));
    }
    before
}

#[test]
fn small_packets_overtake_bulk_traffic() {
    for mode in Mode::BOTH {
        let before = before_the_small_one(&tunnel(mode, "fq"));
        // the first two super-packets leave together
        assert!(before <= 2 * DATAGRAMS, "{mode:?}: {before}");
        let before = before_the_small_one(&tunnel(mode, "fifo"));
        assert_eq!(before, TRAINS * DATAGRAMS, "{mode:?}");
    }
}

/// Sends bulk traffic, as much as the device takes, for some time, and returns the number of early
/// drops of the sending end.
fn early_drops(tunnel: &Tunnel) -> u64 {
    let sink = tunnel.server_site.udp(SocketAddr::new(SERVER_V4.into(), 0));
    let bulk = tunnel.client_site.udp(SocketAddr::new(CLIENT_V4.into(), 0));
    bulk.connect(sink.local_addr().unwrap()).unwrap();
    setsockopt(&bulk, UdpGsoSegment, &1300).unwrap();
    let end = Instant::now() + Duration::from_millis(500);
    while Instant::now() < end {
        bulk.send(&[1; 1300 * DATAGRAMS]).unwrap();
    }
    tunnel.client.summary().dropped("early_drop")
}

#[test]
fn bulk_senders_are_told_to_slow_down() {
    for mode in Mode::BOTH {
        let told = early_drops(&tunnel(mode, "fq"));
        assert!((1..1000).contains(&told), "{mode:?}: {told}");
        assert_eq!(early_drops(&tunnel(mode, "fifo")), 0, "{mode:?}");
    }
}
