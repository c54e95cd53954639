//! Parsing, checking and building of IPv4 and IPv6 packets, as a VPN needs them: pure functions
//! over byte slices, without sockets, clocks or allocation per packet.
//!
//! - [`ip`], [`tcp`], [`udp`], [`icmpv6`], [`transport`]: header fields
//! - [`checksum`]: the Internet checksum (RFC 1071), computed and updated
//! - [`virtio`]: `struct virtio_net_hdr` in front of a TUN device's packets
//! - [`split`]: segmentation of a super-packet (GSO)
//! - [`coalesce`]: joining of one flow's packets to a super-packet (GRO)
//! - [`flow`]: a hash of a packet's flow
//! - [`mss`]: lowering of the MSS of TCP SYN segments
//! - [`icmp_error`]: ICMP errors for packets that exceed an MTU (RFC 1191, RFC 8201)
//! - [`inner`]: the checks that a tunnelled packet passes
//! - [`DropReason`]: the reasons for dropping a packet
//!
//! All functions accept arbitrary bytes: they return an error or `None`, and never panic.
#![forbid(unsafe_code)]

pub mod checksum;
pub mod coalesce;
mod drop_reason;
mod field;
pub mod flow;
pub mod icmp_error;
pub mod icmpv6;
pub mod inner;
pub mod ip;
pub mod mss;
mod outer_headers;
pub mod split;
pub mod tcp;
pub mod transport;
pub mod udp;
pub mod virtio;

pub use drop_reason::DropReason;

#[cfg(test)]
mod sample;
