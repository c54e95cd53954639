//! Long TCP streams in both directions at once, with every byte compared.

use std::net::IpAddr;

use crate::lab::heavy;
use crate::tunnel::{Mode, Plan, SERVER_V4, SERVER_V6};
use crate::wireguard::pair::Outer;

const MEGABYTE: u64 = 1_000_000;

/// Smallest average number of tunnel packets in one super-packet over a stream. It is usually forty
/// and more; on a busy machine there are many acknowledgements, which are sent singly.
const JOINED: f64 = 3.0;

fn carries_joined(mode: Mode, inner: impl Into<IpAddr>, outer: Outer, bytes: u64) {
    let _one_at_a_time = heavy();
    let tunnel = Plan::new(mode).outer(outer).args("--offload auto").start();
    let connection = tunnel.connect(inner);
    let (read, written) = tunnel.joined(|| connection.exchange(bytes));
    assert!(
        read > JOINED && written > JOINED,
        "{read} packets in one that is read, {written} in one written"
    );
}

fn carries_one_by_one(mode: Mode, inner: impl Into<IpAddr>, outer: Outer, bytes: u64) {
    let _one_at_a_time = heavy();
    let tunnel = Plan::new(mode).outer(outer).args("--offload off").start();
    let connection = tunnel.connect(inner);
    let (read, written) = tunnel.joined(|| connection.exchange(bytes));
    assert!((read, written) == (1.0, 1.0), "{read} packets in one that is read, {written} in one written");
}

#[test]
fn a_gigabyte_each_way_in_plain_mode() {
    carries_joined(Mode::Plain, SERVER_V4, Outer::V4, 1000 * MEGABYTE);
}

#[test]
fn ipv6_in_plain_mode() {
    carries_joined(Mode::Plain, SERVER_V6, Outer::V4, 250 * MEGABYTE);
}

#[test]
fn a_gigabyte_each_way_in_wireguard() {
    carries_joined(Mode::WireGuard, SERVER_V4, Outer::V4, 1000 * MEGABYTE);
}

#[test]
fn ipv6_in_wireguard_over_ipv6() {
    carries_joined(Mode::WireGuard, SERVER_V6, Outer::V6, 250 * MEGABYTE);
}

#[test]
fn ipv6_in_plain_mode_over_ipv6_without_offloads() {
    carries_one_by_one(Mode::Plain, SERVER_V6, Outer::V6, 100 * MEGABYTE);
}

#[test]
fn ipv4_in_wireguard_without_offloads() {
    carries_one_by_one(Mode::WireGuard, SERVER_V4, Outer::V4, 100 * MEGABYTE);
}
