//! UDP datagrams (RFC 768) in IP packets, for a host that has no TUN device for them.

use std::net::{IpAddr, SocketAddr};

use wontun_packet::checksum::{checksum, pseudo_header};
use wontun_packet::ip::{IPV4_HEADER, IPV6_HEADER, addresses, validate};
use wontun_packet::transport::{UDP, UDP_HEADER};

const HOPS: u8 = 64;

/// Returns the packet with a datagram; `None` if it is too long, or the addresses are of different
/// families.
pub(super) fn build(from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Option<Vec<u8>> {
    let length = u16::try_from(UDP_HEADER + payload.len()).ok()?;
    let mut packet = Vec::with_capacity(IPV6_HEADER + UDP_HEADER + payload.len());
    let mut ends = Vec::with_capacity(32);
    match (from.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            ends.extend([from.octets(), to.octets()].concat());
            let total = u16::try_from(IPV4_HEADER).ok()?.checked_add(length)?.to_be_bytes();
            // may not be fragmented
            packet.extend([0x45, 0, total[0], total[1], 0, 0, 0x40, 0, HOPS, UDP, 0, 0]);
            packet.extend_from_slice(&ends);
            let sum = checksum(&packet).to_be_bytes();
            packet.get_mut(10..12)?.copy_from_slice(&sum);
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            ends.extend([from.octets(), to.octets()].concat());
            let [high, low] = length.to_be_bytes();
            packet.extend([0x60, 0, 0, 0, high, low, UDP, HOPS]);
            packet.extend_from_slice(&ends);
        }
        _ => return None,
    }
    let start = packet.len();
    packet.extend(from.port().to_be_bytes());
    packet.extend(to.port().to_be_bytes());
    packet.extend(length.to_be_bytes());
    packet.extend([0, 0]);
    packet.extend_from_slice(payload);
    let sum = pseudo_header(&ends, UDP, length).add_bytes(packet.get(start..)?).checksum_not_zero();
    packet.get_mut(start + 6..start + 8)?.copy_from_slice(&sum.to_be_bytes());
    Some(packet)
}

/// Returns the payload of a packet if it is a whole datagram between these addresses. Its checksum
/// is not verified: WireGuard authenticates the packet.
pub(super) fn payload(packet: &[u8], from: SocketAddr, to: SocketAddr) -> Option<&[u8]> {
    validate(packet)?;
    if addresses(packet)? != (from.ip(), to.ip()) {
        return None;
    }
    let datagram = if from.is_ipv4() {
        let header: &[u8; IPV4_HEADER] = packet.first_chunk()?;
        let is_fragment = header[6] & 0x3f != 0 || header[7] != 0;
        if header[9] != UDP || is_fragment {
            return None;
        }
        packet.get(usize::from(header[0] & 0x0f) * 4..)?
    } else {
        let header: &[u8; IPV6_HEADER] = packet.first_chunk()?;
        if header[6] != UDP {
            return None;
        }
        packet.get(IPV6_HEADER..)?
    };
    let (header, payload) = datagram.split_first_chunk::<UDP_HEADER>()?;
    let field =
        |at: usize| header.get(at..at + 2).and_then(|bytes| bytes.try_into().ok()).map(u16::from_be_bytes);
    let is_ours = field(0)? == from.port() && field(2)? == to.port();
    (is_ours && usize::from(field(4)?) == datagram.len()).then_some(payload)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use wontun_packet::transport;

    fn ends(v6: bool) -> (SocketAddr, SocketAddr) {
        let ends =
            if v6 { ["[fd00::2]:4000", "[fd00::1]:41820"] } else { ["10.8.0.2:4000", "10.8.0.1:41820"] };
        (ends[0].parse().unwrap(), ends[1].parse().unwrap())
    }

    #[test]
    fn a_packet_is_one_of_the_family_with_valid_checksums() {
        for v6 in [false, true] {
            let (from, to) = ends(v6);
            for text in [&b""[..], b"a", b"an even one", &[0xff; 1200]] {
                let packet = build(from, to, text).unwrap();
                let found = transport::find(&packet).unwrap();
                assert!(found.has_valid_checksums(&packet), "{packet:02x?}");
                assert!(wontun_packet::inner::validate(&packet).is_ok());
                assert_eq!(payload(&packet, from, to), Some(text));
                assert_eq!(payload(&packet, to, from), None);
            }
        }
        assert_eq!(build(ends(false).0, ends(true).1, b""), None);
        assert_eq!(build(ends(false).0, ends(false).1, &[0; 65_520]), None);
    }

    #[test]
    fn others_are_ignored() {
        let (from, to) = ends(false);
        let packet = build(from, to, b"text").unwrap();
        for (at, value) in [(6, 0x20), (7, 1), (9, 6), (12, 11), (21, 1), (23, 1), (25, 11)] {
            let mut other = packet.clone();
            other[at] = value;
            assert_eq!(payload(&other, from, to), None, "byte {at}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..80), v6: bool) {
            let (from, to) = ends(v6);
            let _ = payload(&bytes, from, to);
            let mut packet = build(from, to, b"text").unwrap();
            let count = bytes.len().min(packet.len());
            packet[..count].copy_from_slice(&bytes[..count]);
            let _ = payload(&packet, from, to);
        }
    }
}
