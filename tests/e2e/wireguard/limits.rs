//! Rates and quotas of a peer.

use std::fmt::Debug;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::implementation::Implementation;
use super::node::Node;
use super::pair::{CLIENT_V4, Outer, Plan, SERVER_V4};
use super::restart;
use crate::daemon::Daemon;
use crate::lab::{Host, Lab, heavy};
use crate::waiting::{TIMEOUT, eventually, finish};

/// Time of a stream that need not be exact.
const SHORT: Duration = Duration::from_millis(400);

/// A server with a file, and its client.
struct Limited {
    plan: Plan,
    server: Daemon,
    client: Node,
}

impl Limited {
    fn start(comments: &[&str]) -> Self {
        let plan = Plan::new(&Arc::new(Lab::new(2)), Outer::V4);
        write(&plan, comments);
        let server = restart::start(&plan.server_site, &[]);
        let client = Node::start(&plan.client_site, Implementation::ConfigFile, &plan.client);
        client.ping(SERVER_V4);
        Self { plan, server, client }
    }

    /// Gives the server's file these comments, and waits until it was read.
    fn reload(&self, comments: &[&str]) {
        let seen = self.server.count("reloaded the configuration");
        write(&self.plan, comments);
        self.server.signal(Signal::SIGHUP);
        self.server.wait_for_more("reloaded the configuration", seen);
    }

    /// Returns both directions: sender, receiver and its address.
    fn directions(&self) -> [(&Host, &Host, &str); 2] {
        let (server, client) = (self.plan.server_site.host(), self.plan.client_site.host());
        [(client, server, SERVER_V4), (server, client, CLIENT_V4)]
    }

    /// Returns the times of `count` pings in milliseconds, in ascending order.
    fn pings(&self, count: usize) -> Vec<f64> {
        let mut ping = self.client.site.command("ping");
        ping.args(["-n", "-i", "0.1", "-W", "0.5", "-c", &count.to_string(), SERVER_V4]);
        let done = finish(&mut ping, TIMEOUT);
        let times = done.stdout.split("time=").skip(1).map(|rest| rest.split(' ').next().unwrap());
        let mut times: Vec<f64> = times.map(|time| time.parse().unwrap()).collect();
        times.sort_by(f64::total_cmp);
        times
    }

    /// Sends large pings as [`Self::flood`] does, but one at a time, until one is not answered.
    /// Returns the number of answers.
    fn pings_until_cut(&self) -> usize {
        (0..150).take_while(|_| self.client.site.ping_once([10, 9, 0, 1], 1300)).count()
    }

    /// Returns the number of answers to `count` large pings, each of 2.8 kB with its answer.
    fn flood(&self, count: usize) -> usize {
        let mut ping = self.client.site.command("ping");
        ping.args([
            "-n",
            "-q",
            "-i",
            "0.002",
            "-W",
            "0.2",
            "-s",
            "1300",
            "-c",
            &count.to_string(),
            SERVER_V4,
        ]);
        let said = finish(&mut ping, TIMEOUT).stdout;
        let answered = said.split(" packets transmitted, ").nth(1).and_then(|rest| rest.split(' ').next());
        answered.unwrap_or_else(|| panic!("{said}")).parse().unwrap()
    }
}

/// Writes the server's file with these comments on its client.
fn write(plan: &Plan, comments: &[&str]) {
    let lines: String = comments.iter().map(|comment| format!("# {comment}\n")).collect();
    let text = plan.server.wg_quick().replacen("[Peer]\n", &format!("[Peer]\n{lines}"), 1);
    plan.server_site.write("wg0.conf", &text);
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

/// Measures up to five times until the result `is_good`: a pause of the machine lowers a rate and
/// delays pings. Limits that a pause cannot exceed are up to `measure`.
fn one_of_five<T: Debug>(what: &str, mut measure: impl FnMut() -> T, is_good: impl Fn(&T) -> bool) {
    let mut seen = Vec::new();
    while seen.len() < 5 {
        let result = measure();
        if is_good(&result) {
            return;
        }
        seen.push(result);
    }
    panic!("{what}: {seen:?}");
}

/// Closes a connection at once, with what is still under way.
fn reset(stream: TcpStream) {
    socket2::Socket::from(stream).set_linger(Some(Duration::ZERO)).unwrap();
}

#[test]
fn a_rate_is_reached_while_pings_are_short_and_a_reload_changes_it() {
    const RATE: f64 = 20e6;
    let _guard = heavy();
    let limited = Limited::start(&["RateUp = 20Mbit", "RateDown = 20Mbit"]);
    let mut streams = 0;
    for (from, to, address) in limited.directions() {
        let measure = || {
            streams += 1;
            let (rate, times) = thread::scope(|scope| {
                let bulk = scope.spawn(|| bulk(from, to, address, Duration::from_millis(1700)));
                let times = limited.pings(13);
                (bulk.join().unwrap(), times)
            });
            assert!(rate < RATE * 1.02, "to {address}: {rate}");
            (rate, times)
        };
        one_of_five(&format!("to {address}"), measure, |(rate, times)| {
            *rate >= RATE * 0.9 && times.len() > 10 && times[times.len() / 2] < 30.0
        });
    }
    limited.reload(&["RateDown = 5Mbit"]);
    let [up, down] = limited.directions().map(|(from, to, address)| move || bulk(from, to, address, SHORT));
    one_of_five("without a limit", up, |rate| *rate > RATE * 1.5);
    let down = || {
        streams += 1;
        let rate = down();
        assert!(rate < 6e6, "{rate}");
        rate
    };
    one_of_five("with another limit", down, |rate| *rate >= 3.5e6);
    assert_eq!(limited.server.count("handshake completed"), 1, "the session stays");
    let summary = limited.server.summary();
    assert!((1..streams * 2000 / 3).contains(&summary.dropped("over_rate")), "{streams}: {summary:?}");
}

#[test]
fn a_quota_ends_and_the_peer_is_cut_or_slow() {
    let _guard = heavy();
    let mut limited = Limited::start(&["Quota = 300kB/month"]);
    limited.client.ping_exactly(SERVER_V4, 2, 56);
    let answered = limited.pings_until_cut();
    assert!((90..115).contains(&answered), "{answered}");
    limited.server.wait_for("over quota: dropping all packets of the peer until the month ends");
    assert_eq!(limited.flood(40), 0);
    eventually("they are counted", || limited.server.summary().dropped("over_quota") > 30);

    // a restart counts what the earlier run has carried, and answers handshakes
    limited.server.stop();
    limited.server = restart::start(&limited.plan.server_site, &[]);
    limited.server.wait_for("over quota: dropping all packets");
    limited.server.wait_for("handshake completed");
    assert_eq!(limited.pings(1).len(), 0);

    limited.reload(&["Quota = 300kB/month", "OverQuota = 2Mbit"]);
    limited.client.ping(SERVER_V4);
    for (from, to, address) in limited.directions() {
        let measure = || {
            let rate = bulk(from, to, address, SHORT);
            assert!(rate < 2.5e6, "to {address}: {rate}");
            rate
        };
        one_of_five(&format!("to {address}"), measure, |rate| *rate >= 1e6);
    }
    limited.reload(&["Quota = 1GB/month", "OverQuota = 2Mbit"]);
    limited.server.wait_for("no longer over quota");
    let [(from, to, address), _] = limited.directions();
    one_of_five("within the quota", || bulk(from, to, address, SHORT), |rate| *rate > 10e6);
}
