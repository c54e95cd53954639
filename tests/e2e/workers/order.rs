//! A flow stays in order with any number of workers, whatever the others do.

use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt::RcvBufForce};

use super::lab::{CLIENTS, Star};
use crate::lab::{Host, heavy};
use crate::streams::Connection;
use crate::tunnel::SERVER_V4;
use crate::waiting::{SetAtEnd, uninterrupted};

/// Returns the number of TCP segments that arrived at a host before one that was sent earlier.
fn out_of_order(host: &Host) -> u64 {
    let text = host.inside(|| std::fs::read_to_string("/proc/thread-self/net/netstat")).unwrap();
    let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:"));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let mut both = names.split_whitespace().zip(values.split_whitespace());
    both.find(|(name, _)| *name == "TCPOFOQueue").unwrap().1.parse().unwrap()
}

/// Sends as much as it can from the second client until `ended`.
fn flood(star: &Star, ended: &AtomicBool) {
    let (socket, _sink) = star.udp(1);
    while !ended.load(Ordering::Relaxed) {
        // a full queue is the purpose of a flood
        let _ = socket.send(&[0; 1000]);
    }
}

/// Runs `work` while the second client floods.
fn beside_a_flood(star: &Star, work: impl FnOnce()) {
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| flood(star, &ended));
        let _end = SetAtEnd(&ended);
        work();
    });
}

fn tcp_stays_in_order(star: &Star) {
    let connection = Connection::open(&star.server_site, (SERVER_V4, 0), &star.client_sites[0]);
    // no queue on the path overflows: a lost segment would put all behind it out of order
    connection.bound_windows();
    connection.exchange(50_000_000);
    for host in [&star.server_site, &star.client_sites[0]] {
        assert_eq!(out_of_order(host), 0, "segments came out of order");
    }
}

/// Sends twenty thousand numbers, for half a second at least; those that arrive must be in order.
/// Returns how many arrived.
fn numbers_stay_in_order(from: &UdpSocket, to: &UdpSocket) -> u64 {
    setsockopt(to, RcvBufForce, &8_000_000).unwrap();
    // longer than a pause of the machine, which would end the count
    to.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let start = Instant::now();
    thread::scope(|scope| {
        scope.spawn(|| {
            let (mut number, mut datagram) = (0_u64, [0; 1000]);
            while start.elapsed() < Duration::from_millis(500) || number < 20_000 {
                number += 1;
                datagram[..8].copy_from_slice(&number.to_be_bytes());
                from.send(&datagram).unwrap();
            }
        });
        let (mut last, mut count, mut late, mut buffer) = (0, 0, 0, [0; 2000]);
        while let Ok(length) = uninterrupted(|| to.recv(&mut buffer)) {
            assert_eq!(length, 1000);
            let number = u64::from_be_bytes(*buffer.first_chunk().unwrap());
            late += u64::from(number <= last);
            last = number.max(last);
            count += 1;
        }
        assert_eq!(late, 0, "of {count} datagrams up to number {last}");
        count
    })
}

fn udp_stays_in_order(star: &Star) {
    let (client, server) = star.udp(0);
    for (from, to) in [(&client, &server), (&server, &client)] {
        let count = numbers_stay_in_order(from, to);
        assert!(count > 1000, "only {count} datagrams arrived");
    }
}

#[test]
fn a_tcp_flow_stays_in_order() {
    let _one_at_a_time = heavy();
    let star = Star::spread(&["--offload", "auto"]);
    tcp_stays_in_order(&star);
    beside_a_flood(&star, || tcp_stays_in_order(&star));
}

#[test]
fn a_udp_flow_stays_in_order() {
    let _one_at_a_time = heavy();
    for offload in ["auto", "off"] {
        let star = Star::spread(&["--offload", offload]);
        udp_stays_in_order(&star);
        beside_a_flood(&star, || udp_stays_in_order(&star));
    }
}

/// The clients' packets to each other come in by one worker and their answers by the other; the
/// server's kernel forwards both from the device to the device.
#[test]
fn flows_between_clients_stay_in_order() {
    let _one_at_a_time = heavy();
    let star = Star::spread(&["--offload", "auto"]);
    star.server_site.shell("echo 1 >/proc/sys/net/ipv4/ip_forward");
    let [near, far] = &star.client_sites;
    let connection = Connection::open(far, (CLIENTS[1], 0), near);
    connection.bound_windows();
    connection.exchange(50_000_000);
    for host in [near, far] {
        assert_eq!(out_of_order(host), 0, "segments came out of order");
    }
    let [sender, receiver] = [near.udp((CLIENTS[0], 0)), far.udp((CLIENTS[1], 0))];
    sender.connect(receiver.local_addr().unwrap()).unwrap();
    receiver.connect(sender.local_addr().unwrap()).unwrap();
    // until the first answer, the sender's own queue is not settled
    sender.send(b"question").unwrap();
    uninterrupted(|| receiver.recv(&mut [0; 32])).unwrap();
    receiver.send(b"answer").unwrap();
    uninterrupted(|| sender.recv(&mut [0; 32])).unwrap();
    let answers = receiver.try_clone().unwrap();
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                answers.send(b"answer").unwrap();
                thread::sleep(Duration::from_millis(1));
            }
        });
        let _end = SetAtEnd(&ended);
        let count = numbers_stay_in_order(&sender, &receiver);
        assert!(count > 1000, "only {count} datagrams arrived");
    });
}
