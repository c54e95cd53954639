//! A path whose MTU drops below the tunnel's datagrams at one moment: then they cannot be segments
//! of one message, since the kernel does not segment datagrams that it would have to fragment.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::lab::{Host, Lab};
use crate::tunnel::{Mode, Plan, SERVER_V4, Tunnel};
use crate::waiting::{SetAtEnd, eventually};
use crate::wireguard::pair::Outer;

const MEGABYTE: u64 = 1_000_000;
const NARROW: u32 = 1280;
const WIDE: u32 = 1500;

/// Sets the path MTU of the hosts' routes. The interfaces keep theirs: a veth drops packets larger
/// than its far end's MTU, without an ICMP error.
fn set_path(lab: &Lab, outer: Outer, mtu: u32) {
    let mtu = mtu.to_string();
    for host in [lab.server(), lab.client()] {
        match outer {
            Outer::V4 => host.ip(&["route", "change", "192.0.2.0/24", "dev", "eth0", "mtu", &mtu]),
            // IPv6 chooses the route with the better metric: this one is added beside the kernel's
            Outer::V6 => host.ip(&[
                "-6",
                "route",
                "replace",
                "2001:db8::/64",
                "dev",
                "eth0",
                "metric",
                "1",
                "mtu",
                &mtu,
            ]),
        };
    }
}

/// Returns the number of packets that the interface sent for each datagram of the tunnel while
/// `work` ran: more than one with fragments, less with messages that the interface segments.
fn packets_per_datagram(tunnel: &Tunnel, work: impl FnOnce()) -> f64 {
    let counts = || (tunnel.client.summary().tx_packets, packets_sent(&tunnel.client_site));
    let before = counts();
    work();
    let after = counts();
    (after.1 - before.1) as f64 / (after.0 - before.0) as f64
}

fn packets_sent(host: &Host) -> u64 {
    host.device_packets("eth0").1
}

fn a_stream_survives_a_narrower_path(mode: Mode, outer: Outer) {
    let lab = Arc::new(Lab::new(2));
    let tunnel = Plan::new(mode).outer(outer).args("--offload auto").start_on(&lab);
    let connection = tunnel.connect(SERVER_V4);
    // no queue on the path overflows, so any loss is the tunnel's
    connection.bound_windows();
    let ended = AtomicBool::new(false);
    let carried = || tunnel.client.summary().tx_bytes;
    let until = |what: &str, bytes: u64| eventually(what, || carried() >= bytes);
    thread::scope(|scope| {
        let stream = scope.spawn(|| connection.exchange_while(|_| !ended.load(Ordering::Relaxed)));
        let _end = SetAtEnd(&ended);
        let wide = packets_per_datagram(&tunnel, || until("the stream flows", 5 * MEGABYTE));
        assert!(wide < 0.5, "{wide} packets a datagram on the wide path");
        set_path(&lab, outer, NARROW);
        let begin = carried();
        until("the stream flows on when the path is narrow", begin + MEGABYTE);
        let narrow = packets_per_datagram(&tunnel, || {
            until("the stream flows on the narrow path", begin + 6 * MEGABYTE);
        });
        // acknowledgements need no second fragment
        assert!(narrow > 1.3, "{narrow} packets a datagram on the narrow path");
        ended.store(true, Ordering::Relaxed);
        stream.join().unwrap();
    });
    set_path(&lab, outer, WIDE);
    // for some seconds the old path MTU is assumed
    eventually("datagrams leave together again", || {
        thread::sleep(std::time::Duration::from_secs(1));
        let connection = tunnel.connect(SERVER_V4);
        connection.bound_windows();
        packets_per_datagram(&tunnel, || connection.exchange(MEGABYTE)) < 0.5
    });
    tunnel.assert_lossless();
}

#[test]
fn a_stream_survives_a_narrower_path_in_plain_mode() {
    a_stream_survives_a_narrower_path(Mode::Plain, Outer::V4);
}

#[test]
fn a_stream_survives_a_narrower_path_in_plain_mode_over_ipv6() {
    a_stream_survives_a_narrower_path(Mode::Plain, Outer::V6);
}

#[test]
fn a_stream_survives_a_narrower_path_in_wireguard() {
    a_stream_survives_a_narrower_path(Mode::WireGuard, Outer::V4);
}

#[test]
fn a_stream_survives_a_narrower_path_in_wireguard_over_ipv6() {
    a_stream_survives_a_narrower_path(Mode::WireGuard, Outer::V6);
}
