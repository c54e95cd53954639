//! The outermost header of a packet: IPv4 (RFC 791) or IPv6 (RFC 8200).

use std::net::IpAddr;

/// Bytes of an IPv4 header without options.
pub const IPV4_HEADER: usize = 20;
/// Bytes of an IPv6 header without extensions.
pub const IPV6_HEADER: usize = 40;
/// Minimum MTU of an IPv4 link (RFC 791).
pub const IPV4_MIN_MTU: u32 = 68;
/// Minimum MTU of an IPv6 link (RFC 8200); with a smaller one the kernel removes IPv6 from a
/// device.
pub const IPV6_MIN_MTU: u32 = 1280;

/// The IP version of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// Returns the version of `packet` if it is one complete packet: the header is complete and its
/// length field equals the number of bytes given. Checksums are left to the kernel, which verifies
/// them anyway.
///
/// A jumbogram (RFC 2675) has its length elsewhere and 0 in this field; it cannot cross a UDP
/// datagram.
pub fn validate(packet: &[u8]) -> Option<Version> {
    match packet.first()? >> 4 {
        4 => {
            let header: &[u8; IPV4_HEADER] = packet.first_chunk()?;
            let header_length = usize::from(header[0] & 0x0f) * 4;
            let total_length = usize::from(u16::from_be_bytes([header[2], header[3]]));
            (header_length >= IPV4_HEADER && header_length <= total_length && total_length == packet.len())
                .then_some(Version::V4)
        }
        6 => {
            let header: &[u8; IPV6_HEADER] = packet.first_chunk()?;
            let payload_length = usize::from(u16::from_be_bytes([header[4], header[5]]));
            (IPV6_HEADER + payload_length == packet.len()).then_some(Version::V6)
        }
        _ => None,
    }
}

/// Returns source and destination of `packet`; `None` if its header is incomplete.
pub fn addresses(packet: &[u8]) -> Option<(IpAddr, IpAddr)> {
    match packet.first()? >> 4 {
        4 => {
            let header: &[u8; IPV4_HEADER] = packet.first_chunk()?;
            let (source, destination) = (header[12..].first_chunk::<4>()?, header[16..].first_chunk::<4>()?);
            Some((IpAddr::from(*source), IpAddr::from(*destination)))
        }
        6 => {
            let header: &[u8; IPV6_HEADER] = packet.first_chunk()?;
            let (source, destination) = (header[8..].first_chunk::<16>()?, header[24..].first_chunk::<16>()?);
            Some((IpAddr::from(*source), IpAddr::from(*destination)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn v4(options: usize, payload: usize) -> Vec<u8> {
        let mut packet = vec![0; IPV4_HEADER + options * 4 + payload];
        packet[0] = 0x40 | u8::try_from(5 + options).unwrap();
        let length = u16::try_from(packet.len()).unwrap();
        packet[2..4].copy_from_slice(&length.to_be_bytes());
        packet
    }

    fn v6(payload: u16) -> Vec<u8> {
        let mut packet = vec![0; IPV6_HEADER + usize::from(payload)];
        packet[0] = 0x60;
        packet[4..6].copy_from_slice(&payload.to_be_bytes());
        packet
    }

    #[test]
    fn addresses_are_read_from_either_header() {
        let mut packet = v4(1, 3);
        packet[12..20].copy_from_slice(&[10, 8, 0, 1, 10, 8, 0, 3]);
        assert_eq!(addresses(&packet), Some(([10, 8, 0, 1].into(), [10, 8, 0, 3].into())));
        let mut packet = v6(3);
        packet[8..24].copy_from_slice(&[1; 16]);
        packet[24..40].copy_from_slice(&[2; 16]);
        assert_eq!(addresses(&packet), Some(([1; 16].into(), [2; 16].into())));
        assert_eq!(addresses(&packet[..39]), None);
        assert_eq!(addresses(&[]), None);
    }

    #[test]
    fn the_hello_is_no_packet() {
        assert_eq!(validate(b"hello?"), None);
        assert_eq!(validate(b""), None);
    }

    #[test]
    fn a_header_longer_than_the_packet_is_refused() {
        let mut packet = v4(0, 0);
        packet[0] = 0x46;
        assert_eq!(validate(&packet), None);
        packet[0] = 0x44;
        assert_eq!(validate(&packet), None);
    }

    proptest! {
        #[test]
        fn whole_packets_pass(options in 0usize..=10, payload in 0usize..2000) {
            prop_assert_eq!(validate(&v4(options, payload)), Some(Version::V4));
            prop_assert_eq!(validate(&v6(u16::try_from(payload).unwrap())), Some(Version::V6));
        }

        #[test]
        fn one_byte_more_or_less_does_not(payload in 1usize..2000, six: bool) {
            let mut packet = if six { v6(u16::try_from(payload).unwrap()) } else { v4(0, payload) };
            packet.push(0);
            prop_assert_eq!(validate(&packet), None);
            packet.truncate(packet.len() - 2);
            prop_assert_eq!(validate(&packet), None);
        }

        #[test]
        fn other_versions_do_not(mut packet in prop::collection::vec(any::<u8>(), 1..100), version in 0u8..16) {
            packet[0] = version << 4 | packet[0] & 0x0f;
            if version != 4 && version != 6 {
                prop_assert_eq!(validate(&packet), None);
            }
        }
    }
}
