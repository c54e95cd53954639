//! Rules for merging packets: those for a one_transport packet, and those for a pair.
//!
//! They follow the kernel's GRO, and guarantee that splitting restores the original packets:
//! - TCP with ACK and optionally PSH, ECE, CWR, or UDP with a checksum; with payload; no IPv4
//!   options, no extension headers, no fragment;
//! - never marked as congested (ECN CE): a receiver counts the marked packets;
//! - the same header except for lengths, checksums, IPv4 identification, TCP sequence number, PSH
//!   and CWR. This includes traffic class, TTL, flow label, acknowledgment number, window and
//!   options (timestamps are options: a sender's clock ticks about once a millisecond);
//! - the next sequence number;
//! - the next identification, unless both have DF set: it has no meaning then (RFC 6864 section
//!   4.1);
//! - CWR only on the first, and PSH only on the last, which ends the super-packet;
//! - all payloads as long as the first; a shorter one ends the super-packet;
//! - correct checksums, because nothing verifies them afterwards;
//! - no UDP to the usual ports of VXLAN and GENEVE: their receivers take single datagrams, so the
//!   kernel would only cut what is merged here, and before 6.8.5 it dropped it.

use crate::field::{u16_at, u32_at};
use crate::ip::{self, IPV4_HEADER, IPV6_HEADER, Version};
use crate::tcp::{self, ACK, CWR, ECE, PSH};
use crate::transport::{self, IPV4_IDENTIFICATION, TCP, Transport, UDP, address_bytes, udp_length};
use crate::virtio::Gso;

/// The ECN field's "congestion experienced" (RFC 3168).
const CE: u8 = 0b11;
/// The IPv4 flag "don't fragment", in the header's seventh byte, and the reserved bit, which must
/// be 0.
const DONT_FRAGMENT: u8 = 0x40;
const RESERVED: u8 = 0x80;

/// Destination ports of GENEVE (RFC 8926), and of VXLAN: that of RFC 7348, and Linux's default.
const TUNNEL_PORTS: [u16; 3] = [6081, 4789, 8472];

/// Mask of the IPv4 header bits that are the same in all packets of a super-packet.
const IPV4_SAME: [u8; IPV4_HEADER] = [
    0xff, 0xff, 0x00, 0x00, // length
    0x00, 0x00, 0xff, 0xff, // identification
    0xff, 0xff, 0x00, 0x00, // checksum
    0xff, 0xff, 0xff, 0xff, //
    0xff, 0xff, 0xff, 0xff, //
];
/// The same mask for an IPv6 header.
const IPV6_SAME: [u8; IPV6_HEADER] = [
    0xff, 0xff, 0xff, 0xff, //
    0x00, 0x00, 0xff, 0xff, // length
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, //
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, //
];
/// The same mask for a TCP header without options.
const TCP_SAME: [u8; tcp::HEADER] = [
    0xff, 0xff, 0xff, 0xff, //
    0x00, 0x00, 0x00, 0x00, // sequence number
    0xff, 0xff, 0xff, 0xff, //
    0xff, SAME_FLAGS, 0xff, 0xff, //
    0x00, 0x00, 0xff, 0xff, // checksum
];
const SAME_FLAGS: u8 = !(PSH | CWR);

/// The classification of a packet with regard to flows.
#[derive(Clone, Copy, Debug)]
pub(super) enum Class {
    /// It may be merged with others.
    Segment(Segment),
    /// It is written alone and closes its flow's group.
    Single(Transport),
    /// It may belong to any flow between its hosts: a fragment, or an incomplete packet.
    Unknown,
    /// It belongs to no flow: another protocol.
    NoFlow,
}

/// A packet that may be merged with others.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment {
    pub(super) transport: Transport,
    /// Offset of the payload.
    pub(super) headers_len: usize,
    /// True if CWR is set.
    pub(super) ecn: bool,
}

impl Segment {
    /// Returns the kind of super-packet that this packet can begin.
    pub(super) fn gso(&self) -> Option<Gso> {
        match (self.transport.protocol, self.transport.version) {
            (TCP, Version::V4) => Some(Gso::TcpV4),
            (TCP, Version::V6) => Some(Gso::TcpV6),
            (UDP, _) => Some(Gso::Udp),
            _ => None,
        }
    }
}

/// Classifies one packet. `udp`: true if UDP may be merged.
pub(super) fn classify(packet: &[u8], udp: bool) -> Class {
    let Some(transport) = transport::find(packet) else { return Class::Unknown };
    if !matches!(transport.protocol, TCP | UDP) {
        return Class::NoFlow;
    }
    match segment(packet, transport, udp) {
        Some(segment) => Class::Segment(segment),
        None => Class::Single(transport),
    }
}

fn segment(packet: &[u8], transport: Transport, udp: bool) -> Option<Segment> {
    let headers_len = transport.headers_len(packet)?;
    let (fixed, class) = match transport.version {
        Version::V4 => (IPV4_HEADER, *packet.get(1)?),
        Version::V6 => (IPV6_HEADER, (u16_at(packet, 0)? >> 4).to_be_bytes()[1]),
    };
    let reserved = transport.version == Version::V4 && packet.get(6)? & RESERVED != 0;
    if transport.offset != fixed || class & CE == CE || reserved || headers_len >= packet.len() {
        return None;
    }
    let segment = packet.get(transport.offset..)?;
    let mut ecn = false;
    let fits = if transport.protocol == TCP {
        let flags = tcp::Header::parse(segment)?.flags();
        ecn = flags & CWR != 0;
        flags & ACK != 0 && flags & !(ACK | PSH | ECE | CWR) == 0
    } else {
        let is_tunnel = u16_at(segment, 2).is_some_and(|port| TUNNEL_PORTS.contains(&port));
        udp && !is_tunnel && udp_length(segment).map(usize::from) == Some(segment.len())
    };
    fits.then_some(Segment { transport, headers_len, ecn })
}

/// Returns true if a TCP packet has PSH set.
pub(super) fn has_psh(packet: &[u8], segment: &Segment) -> bool {
    segment.transport.protocol == TCP
        && packet.get(segment.transport.offset + tcp::FLAGS).is_some_and(|flags| flags & PSH != 0)
}

/// Returns true if `next`, provided that it also [`continues`] the group that begins with `first`,
/// is a segment of the same flow with headers of the same lengths. The two functions compare
/// complementary parts of the headers.
pub(super) fn is_like(first: &[u8], next: &[u8], segment: &Segment) -> bool {
    let Segment { transport, headers_len, .. } = *segment;
    let at = transport.offset;
    next.len() > headers_len
        && ip::validate(next) == Some(transport.version)
        && (transport.protocol == TCP
            || u32_at(first, at) == u32_at(next, at)
                && next.get(at..).is_some_and(|it| udp_length(it).map(usize::from) == Some(it.len())))
}

/// Returns true if two packets are between the same two hosts.
pub(super) fn same_hosts(one: &[u8], other: &[u8]) -> bool {
    address_bytes(one).is_some_and(|addresses| address_bytes(other) == Some(addresses))
}

/// Returns true if two packets belong to one flow: the same protocol, addresses and ports.
pub(super) fn same_flow(
    one: &[u8],
    one_transport: &Transport,
    other: &[u8],
    other_transport: &Transport,
) -> bool {
    let ports = |packet: &[u8], transport: &Transport| u32_at(packet, transport.offset);
    one_transport.protocol == other_transport.protocol
        && one_transport.version == other_transport.version
        && ports(one, one_transport) == ports(other, other_transport)
        && same_hosts(one, other)
}

/// Returns true if `next` directly follows a super-packet that begins with `first` and has `count`
/// packets with `size` bytes of payload each; both are of the same flow. Lengths and checksums are
/// not checked here.
pub(super) fn continues(first: &[u8], next: &[u8], segment: &Segment, count: u8, size: u16) -> bool {
    let Segment { transport, headers_len, .. } = *segment;
    let at = transport.offset;
    let ip = match transport.version {
        Version::V4 => same(first, next, 0, &IPV4_SAME) && continues_identification(first, next, count),
        Version::V6 => same(first, next, 0, &IPV6_SAME),
    };
    let options = at + tcp::HEADER..headers_len;
    ip && (transport.protocol != TCP
        || same(first, next, at, &TCP_SAME)
            && (options.is_empty() || first.get(options.clone()) == next.get(options))
            && continues_stream(first, next, at, count, size))
}

/// Returns true if the headers at `at` agree in all bits that are set in `mask`.
fn same<const N: usize>(first: &[u8], next: &[u8], at: usize, mask: &[u8; N]) -> bool {
    let (Some(first), Some(next)) = (first.get(at..), next.get(at..)) else { return false };
    let (Some(first), Some(next)) = (first.first_chunk::<N>(), next.first_chunk::<N>()) else { return false };
    // compares all bytes, without a branch for each, so that the loop is vectorized
    first.iter().zip(next).zip(mask).fold(0, |differ, ((one, other), mask)| differ | (one ^ other) & mask)
        == 0
}

fn continues_identification(first: &[u8], next: &[u8], count: u8) -> bool {
    // `next` has the same flags
    let atomic = first.get(6).is_some_and(|flags| flags & DONT_FRAGMENT != 0);
    let expected = u16_at(first, IPV4_IDENTIFICATION).map(|it| it.wrapping_add(count.into()));
    atomic || u16_at(next, IPV4_IDENTIFICATION) == expected
}

fn continues_stream(first: &[u8], next: &[u8], at: usize, count: u8, size: u16) -> bool {
    let sequence = |packet| u32_at(packet, at + tcp::SEQUENCE);
    let sent = u32::from(count) * u32::from(size);
    let reduced = next.get(at + tcp::FLAGS).is_none_or(|flags| flags & CWR != 0);
    !reduced && sequence(next) == sequence(first).map(|sequence| sequence.wrapping_add(sent))
}
