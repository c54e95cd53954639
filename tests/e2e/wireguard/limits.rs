//! Rates and quotas of a peer.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::implementation::Implementation;
use super::pair::{CLIENT_V4, Outer, Pair, Plan, SERVER_V4};
use crate::lab::{Host, Lab, heavy};
use crate::waiting::{TIMEOUT, finish};

/// Returns the server's file with these comments on its client.
fn file(plan: &Plan, comments: &[&str]) -> String {
    let lines: String = comments.iter().map(|comment| format!("# {comment}\n")).collect();
    plan.server.wg_quick().replacen("[Peer]\n", &format!("[Peer]\n{lines}"), 1)
}

/// Gives the server's file these comments, and waits until it was read.
fn reload(pair: &Pair, comments: &[&str]) {
    let seen = pair.server.daemon.count("reloaded the configuration");
    pair.server.site.write("wg0.conf", &file(&pair.plan, comments));
    pair.server.daemon.signal(Signal::SIGHUP);
    pair.server.daemon.wait_for_more("reloaded the configuration", seen);
}

fn start() -> Pair {
    let pair = Plan::new(&Arc::new(Lab::new(2)), Outer::V4)
        .start(Implementation::ConfigFile, Implementation::ConfigFile);
    pair.client.ping(SERVER_V4);
    pair
}

/// Sends as much as TCP can for `time`; returns the bits per second that arrive.
fn bulk(from: &Host, to: &Host, address: &str, time: Duration) -> f64 {
    let address: Ipv4Addr = address.parse().unwrap();
    let listener = to.listen((address, 0));
    let port = listener.local_addr().unwrap().port();
    let mut sender = from.connect((address, port));
    let (mut receiver, _) = listener.accept().unwrap();
    sender.set_write_timeout(Some(TIMEOUT)).unwrap();
    receiver.set_read_timeout(Some(TIMEOUT)).unwrap();
    let start = Instant::now();
    let writer = thread::spawn(move || while sender.write_all(&[7; 16_384]).is_ok() {});
    let mut buffer = vec![0; 1 << 20];
    let mut bytes = 0;
    while start.elapsed() < time {
        bytes += receiver.read(&mut buffer).unwrap();
    }
    let elapsed = start.elapsed();
    reset(receiver);
    writer.join().unwrap();
    bytes as f64 * 8.0 / elapsed.as_secs_f64()
}

/// Closes a connection at once, with what is still under way.
fn reset(stream: TcpStream) {
    socket2::Socket::from(stream).set_linger(Some(Duration::ZERO)).unwrap();
}

/// Returns the times of `count` pings in milliseconds, in ascending order.
fn pings(pair: &Pair, count: usize) -> Vec<f64> {
    let mut ping = pair.client.site.command("ping");
    ping.args(["-n", "-i", "0.1", "-W", "0.5", "-c", &count.to_string(), SERVER_V4]);
    let done = finish(&mut ping, TIMEOUT);
    let times = done.stdout.split("time=").skip(1).map(|rest| rest.split(' ').next().unwrap());
    let mut times: Vec<f64> = times.map(|time| time.parse().unwrap()).collect();
    times.sort_by(f64::total_cmp);
    times
}

#[test]
fn a_rate_is_reached_while_pings_are_short_and_a_reload_changes_it() {
    const RATE: f64 = 20e6;
    let _guard = heavy();
    let pair = start();
    let (server, client) = (pair.server.site.host(), pair.client.site.host());
    let handshake = pair.server.only_peer().handshake;
    reload(&pair, &["RateUp = 20Mbit", "RateDown = 20Mbit"]);
    for (from, to, address) in [(client, server, SERVER_V4), (server, client, CLIENT_V4)] {
        let (rate, times) = thread::scope(|scope| {
            let bulk = scope.spawn(|| bulk(from, to, address, Duration::from_millis(1700)));
            let times = pings(&pair, 13);
            (bulk.join().unwrap(), times)
        });
        assert!((RATE * 0.9..RATE * 1.02).contains(&rate), "to {address}: {rate}");
        assert!(times.len() > 10 && times[times.len() / 2] < 30.0, "to {address}: {times:?}");
    }
    reload(&pair, &["RateDown = 5Mbit"]);
    let time = Duration::from_millis(500);
    let down = bulk(server, client, CLIENT_V4, time);
    assert!((3.5e6..6e6).contains(&down), "{down}");
    let up = bulk(client, server, SERVER_V4, time);
    assert!(up > RATE * 1.5, "without a limit: {up}");
    assert_eq!(pair.server.only_peer().handshake, handshake, "the session stays");
    let summary = pair.server.daemon.summary();
    assert!((1..2000).contains(&summary.dropped("over_rate")), "{summary:?}");
}

#[test]
fn a_quota_ends_and_the_peer_is_cut_or_slow() {
    let _guard = heavy();
    let pair = start();
    let (server, client) = (pair.server.site.host(), pair.client.site.host());
    reload(&pair, &["Quota = 300kB/month"]);
    assert_eq!(pings(&pair, 2).len(), 2);
    // 1.4 kB each, and as much back
    let mut flood = pair.client.site.command("ping");
    flood.args(["-n", "-q", "-i", "0.002", "-W", "0.2", "-s", "1300", "-c", "150", SERVER_V4]);
    let said = finish(&mut flood, TIMEOUT).stdout;
    let answered: usize =
        said.split(" packets transmitted, ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!((90..115).contains(&answered), "{said}");
    pair.server.daemon.wait_for("over quota: dropping all packets of the peer until the month ends");
    assert_eq!(pings(&pair, 2).len(), 0);
    assert!(pair.server.daemon.summary().dropped("over_quota") > 30);

    // a change of the rules counts from the same traffic
    reload(&pair, &["Quota = 300kB/month", "OverQuota = 2Mbit"]);
    client.ping(SERVER_V4.parse::<Ipv4Addr>().unwrap());
    for (from, to, address) in [(client, server, SERVER_V4), (server, client, CLIENT_V4)] {
        let rate = bulk(from, to, address, Duration::from_millis(700));
        assert!((1e6..2.5e6).contains(&rate), "to {address}: {rate}");
    }
    reload(&pair, &["Quota = 1GB/month", "OverQuota = 2Mbit"]);
    pair.server.daemon.wait_for("no longer over quota");
    let rate = bulk(client, server, SERVER_V4, Duration::from_millis(300));
    assert!(rate > 10e6, "{rate}");
}
