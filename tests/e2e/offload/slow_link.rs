//! A link of this host that is slower than the tunnel: a small packet does not wait behind
//! megabytes in front of it, and the link is used as before.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt::TcpCongestion};

use crate::lab::heavy;
use crate::tunnel::{Mode, Plan, SERVER_V4};
use crate::waiting::{TIMEOUT, finish, uninterrupted};

/// Rate of the link in bytes per second; what waits in front of it can take [`QUEUE`].
const RATE: u32 = 20_000_000 / 8;
const QUEUE: &str = "400ms";
/// Duration of the upload.
const UPLOAD: Duration = Duration::from_secs(5);

/// Result of an upload.
#[derive(Debug)]
struct Seen {
    /// Median of the round trips beside it, in milliseconds.
    ping: f64,
    /// Number of those round trips.
    answered: usize,
    /// Part of the link's rate that was used, headers excluded.
    used: f64,
    /// Number of packets that the client's tunnel dropped.
    dropped: u64,
    /// Number of packets marked as congested that the server has received.
    marked: u64,
}

fn upload(mode: Mode, ecn: bool) -> Seen {
    let tunnel = Plan::new(mode).mtu(1420).args("--offload auto").start();
    for site in [&tunnel.client_site, &tunnel.server_site] {
        site.shell(&format!("echo {} > /proc/sys/net/ipv4/tcp_ecn", u8::from(ecn)));
    }
    tunnel.client_site.shell(&format!(
        "tc qdisc add dev eth0 root tbf rate {}bit burst 32k latency {QUEUE}",
        u64::from(RATE) * 8
    ));
    let listener = tunnel.server_site.listen(SocketAddr::new(SERVER_V4.into(), 0));
    let mut sender = tunnel.client_site.connect(listener.local_addr().unwrap());
    // by which the window grows until something is lost
    setsockopt(&sender, TcpCongestion, &OsString::from("cubic")).unwrap();
    let (mut receiver, _) = uninterrupted(|| listener.accept()).unwrap();
    let (times, used) = std::thread::scope(|scope| {
        scope.spawn(move || {
            let start = Instant::now();
            while start.elapsed() < UPLOAD {
                sender.write_all(&[0; 65_536]).unwrap();
            }
        });
        let reader = scope.spawn(move || {
            let (start, mut buffer, mut bytes) = (Instant::now(), vec![0; 65_536], 0);
            while let length @ 1.. = uninterrupted(|| receiver.read(&mut buffer)).unwrap() {
                bytes += u32::try_from(length).unwrap();
            }
            f64::from(bytes) / start.elapsed().as_secs_f64() / f64::from(RATE)
        });
        // until the sender's window has grown
        std::thread::sleep(Duration::from_secs(1));
        let mut ping = tunnel.client_site.command("ping");
        ping.args(["-n", "-i", "0.1", "-c", "31", "-W", "1", &SERVER_V4.to_string()]);
        let output = finish(&mut ping, TIMEOUT).stdout;
        let mut times: Vec<f64> = output
            .split("time=")
            .skip(1)
            .map(|rest| rest.split_whitespace().next().unwrap().parse().unwrap())
            .collect();
        times.sort_by(f64::total_cmp);
        (times, reader.join().unwrap())
    });
    let count = |name: &str| -> u64 {
        let number = tunnel.server_site.shell(&format!("nstat -asz {name} | awk '/{name}/ {{print $2}}'"));
        number.trim().parse().unwrap()
    };
    assert_eq!(count("IpExtInCsumErrors"), 0, "headers with wrong checksums");
    let dropped = tunnel.client.summary().all_dropped();
    let (ping, answered) = (times.get(times.len() / 2).copied().unwrap_or(f64::INFINITY), times.len());
    Seen { ping, answered, used, dropped, marked: count("IpExtInCEPkts") }
}

/// Uploads up to three times until one is as it must be: a pause of the machine spoils one.
fn one_upload_is_good(mode: Mode, ecn: bool, is_good: impl Fn(&Seen) -> bool) {
    let mut all = Vec::new();
    while all.len() < 3 {
        let seen = upload(mode, ecn);
        if seen.ping < 50.0 && seen.answered > 20 && seen.used > 0.75 && is_good(&seen) {
            return;
        }
        all.push(seen);
    }
    panic!("{mode:?}: {all:#?}");
}

#[test]
fn a_ping_does_not_wait_in_front_of_a_slow_link() {
    let _guard = heavy();
    for mode in Mode::BOTH {
        one_upload_is_good(mode, false, |seen| {
            assert_eq!(seen.marked, 0, "{mode:?}: {seen:?}");
            (1..2000).contains(&seen.dropped)
        });
    }
}

#[test]
fn nothing_is_dropped_where_congestion_can_be_marked() {
    let _guard = heavy();
    one_upload_is_good(Mode::WireGuard, true, |seen| seen.dropped == 0 && seen.marked > 0);
}
