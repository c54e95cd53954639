//! UDP of programs that segment with UDP_SEGMENT: the tunnel gets many datagrams as one packet, and
//! they arrive with their original boundaries.

use std::net::{IpAddr, SocketAddr, UdpSocket};

use nix::sys::socket::{setsockopt, sockopt::RcvBufForce, sockopt::UdpGsoSegment};

use crate::streams::Pattern;
use crate::tunnel::{CLIENT_V4, CLIENT_V6, Mode, Plan, SERVER_V4, SERVER_V6, Tunnel};
use crate::waiting::uninterrupted;
use crate::wireguard::site::Site;

/// Returns the length of the headers in front of a UDP payload.
fn headers(inner: IpAddr) -> usize {
    if inner.is_ipv4() { 28 } else { 48 }
}

/// Bytes of a train that enters the tunnel as one packet; the kernel segments a larger one
/// (`gso_max_size`).
const AS_ONE: usize = 60_000;
/// Almost the largest size that a socket accepts.
const LARGEST: usize = 65_000;

/// Sends trains of datagrams from `from` to `to` and compares each datagram, in order.
fn trains_arrive(from: (&Site, IpAddr), to: (&Site, IpAddr), mtu: u32) {
    let sink = to.0.udp(SocketAddr::new(to.1, 0));
    // a train arrives at once, faster than this thread wakes up
    setsockopt(&sink, RcvBufForce, &4_000_000).unwrap();
    let socket = from.0.udp(SocketAddr::new(from.1, 0));
    socket.connect(sink.local_addr().unwrap()).unwrap();
    let full = mtu as usize - headers(to.1);
    let mut random = Pattern::new(u64::from(mtu));
    for segment in [1, 2, 33, 100, 555, 1000, full - 1, full] {
        setsockopt(&socket, UdpGsoSegment, &(segment as i32)).unwrap();
        // whole trains, trains with a shorter end, single datagrams, and less than one
        for length in [64 * segment, 63 * segment + segment / 2, 2 * segment, segment + 1, segment, 1] {
            let limit = segment * (AS_ONE / segment).min(64);
            train_arrives(&socket, &sink, &mut random, segment, length.min(limit));
        }
    }
}

fn largest_train_arrives(from: (&Site, IpAddr), to: (&Site, IpAddr), mtu: u32) {
    let sink = to.0.udp(SocketAddr::new(to.1, 0));
    setsockopt(&sink, RcvBufForce, &4_000_000).unwrap();
    let socket = from.0.udp(SocketAddr::new(from.1, 0));
    socket.connect(sink.local_addr().unwrap()).unwrap();
    let full = mtu as usize - headers(to.1);
    setsockopt(&socket, UdpGsoSegment, &(full as i32)).unwrap();
    train_arrives(&socket, &sink, &mut Pattern::new(9), full, LARGEST / full * full);
}

fn train_arrives(socket: &UdpSocket, sink: &UdpSocket, random: &mut Pattern, segment: usize, length: usize) {
    let mut train = vec![0; length];
    random.fill(&mut train);
    assert_eq!(socket.send(&train).unwrap(), length);
    let mut buffer = vec![0; 65_536];
    for (number, datagram) in train.chunks(segment).enumerate() {
        let what = format!("datagram {number} of {} of {segment} bytes", train.len().div_ceil(segment));
        let received = uninterrupted(|| sink.recv(&mut buffer))
            .unwrap_or_else(|error| panic!("{what} is lost: {error}"));
        assert_eq!(received, datagram.len(), "{what}");
        assert!(&buffer[..received] == datagram, "{what} has other bytes");
    }
}

pub(super) fn both_ways(tunnel: &Tunnel, mtu: u32) {
    let (server, client) = (tunnel.server_site.as_ref(), tunnel.client_site.as_ref());
    for (at_client, at_server) in
        [(IpAddr::from(CLIENT_V4), IpAddr::from(SERVER_V4)), (CLIENT_V6.into(), SERVER_V6.into())]
    {
        trains_arrive((client, at_client), (server, at_server), mtu);
        trains_arrive((server, at_server), (client, at_client), mtu);
    }
}

fn trains(mode: Mode, offload: &str, mtu: u32) -> (f64, f64) {
    let tunnel = Plan::new(mode).mtu(mtu).args("--offload").args(offload).start();
    // establish a session, so that no packet waits for one
    tunnel.client_site.ping(SERVER_V4);
    let joined = tunnel.joined(|| both_ways(&tunnel, mtu));
    for (from, to) in [(CLIENT_V4.into(), SERVER_V4.into()), (CLIENT_V6.into(), SERVER_V6.into())] {
        largest_train_arrives((tunnel.client_site.as_ref(), from), (tunnel.server_site.as_ref(), to), mtu);
    }
    tunnel.assert_lossless();
    joined
}

#[test]
fn trains_of_datagrams_cross_as_few_packets() {
    for mode in Mode::BOTH {
        let (read, written) = trains(mode, "auto", 1420);
        assert!(read > 5.0, "{mode:?}: {read} datagrams in one packet that was read");
        assert!(written > 5.0, "{mode:?}: {written} datagrams in one packet that was written");
    }
}

#[test]
fn trains_of_datagrams_cross_without_offloads_too() {
    for mode in Mode::BOTH {
        assert_eq!(trains(mode, "off", 1420), (1.0, 1.0), "{mode:?}");
    }
}
