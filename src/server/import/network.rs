//! Completes the address of a server without a prefix length: linuxserver's container writes
//! `Address = 10.13.13.1` and treats it as a /24.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use crate::config::Cidr;
use crate::config::wg_quick::{Interface, Peer};
use wontun_proto::allowed_ips::Prefix;

/// Prefix lengths to try, for IPv4 and for IPv6.
const V4_LENGTHS: RangeInclusive<u8> = 16..=24;
const V6_LENGTHS: RangeInclusive<u8> = 64..=64;

/// Returns the addresses of a server to complete, each with its new prefix length: the longest
/// usual one whose network contains all peers' addresses of the family. Returns an empty list if an
/// address already has a network, or for the configuration of a client.
pub(super) fn missing_prefixes(interface: &Interface, peers: &[Peer]) -> Vec<(IpAddr, Cidr)> {
    let is_client = interface.listen_port.is_none() && peers.iter().any(|peer| peer.endpoint.is_some());
    if is_client || interface.addresses.iter().any(|cidr| cidr.prefix() < bits(cidr.address())) {
        return Vec::new();
    }
    let first_of = |v4: bool| {
        let mut addresses = interface.addresses.iter().map(|cidr| cidr.address());
        addresses.find(|address| address.is_ipv4() == v4)
    };
    let with_network = |address| Some((address, network(address, peers)?));
    [true, false].into_iter().filter_map(first_of).filter_map(with_network).collect()
}

fn network(own: IpAddr, peers: &[Peer]) -> Option<Cidr> {
    let is_address = |prefix: &&Prefix| {
        prefix.network().is_ipv4() == own.is_ipv4() && prefix.length() == bits(prefix.network())
    };
    // further networks of a peer are behind it
    let hosts = || peers.iter().filter_map(|peer| peer.allowed_ips.iter().find(is_address));
    let lengths = if own.is_ipv4() { V4_LENGTHS } else { V6_LENGTHS };
    let holds_all = |length: &u8| {
        let network = Prefix::of(own, *length);
        hosts().all(|host| network.contains(host.network()))
    };
    lengths.rev().find(holds_all).and_then(|length| Cidr::new(own, length))
}

const fn bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}
