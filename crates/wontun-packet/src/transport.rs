//! The transport header of a packet: its offset, and its ties to the IP header: lengths and
//! checksums.

use super::checksum::{self, Sum};
use super::field::{set, u16_at};
use super::ip::{self, IPV4_HEADER, IPV6_HEADER, Version};
use super::tcp;

/// The protocol number of TCP.
pub const TCP: u8 = 6;
/// The protocol number of UDP.
pub const UDP: u8 = 17;
/// Bytes of a UDP header (RFC 768).
pub const UDP_HEADER: usize = 8;

/// Offsets of the length and the checksum in a UDP header.
pub(super) const UDP_LENGTH: usize = 4;
pub(super) const UDP_CHECKSUM: usize = 6;

/// IPv6 extension headers that may stand before a transport header (RFC 8200 section 4).
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;
/// Maximum extension headers that are parsed; hosts do not send longer chains.
const MAX_EXTENSIONS: usize = 8;

/// Offsets of the length, the identification and the checksum in an IPv4 header.
pub(super) const IPV4_LENGTH: usize = 2;
pub(super) const IPV4_IDENTIFICATION: usize = 4;
pub(super) const IPV4_CHECKSUM: usize = 10;

/// The transport header of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transport {
    /// The IP version.
    pub version: Version,
    /// The protocol number; [`TCP`], [`UDP`] or any other.
    pub protocol: u8,
    /// Offset of the transport header from the start of the packet, behind options and extension
    /// headers.
    pub offset: usize,
    /// True if the destination in the IP header may be an intermediate one (IPv4 options, an IPv6
    /// routing header). The checksum covers the final destination (RFC 8200 section 8.1), so it
    /// cannot be computed from the header then.
    pub source_routed: bool,
}

/// Returns true if the next header is an IPv6 extension header that [`find`] skips.
pub(super) const fn is_extension(next_header: u8) -> bool {
    matches!(next_header, HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS)
}

/// Locates the transport header of `packet`; returns `None` if it is not one complete packet, if it
/// is a fragment, or if its chain of extension headers is incomplete or too long.
pub fn find(packet: &[u8]) -> Option<Transport> {
    locate(ip::validate(packet)?, packet)
}

/// Like [`find`], of a packet of which only the headers may be given.
pub(super) fn locate(version: Version, packet: &[u8]) -> Option<Transport> {
    match version {
        Version::V4 => {
            let header: &[u8; IPV4_HEADER] = packet.first_chunk()?;
            let offset = usize::from(header[0] & 0x0f) * 4;
            // more fragments, or an offset
            let fragment = u16::from_be_bytes([header[6], header[7]]) & 0x3fff != 0;
            let source_routed = offset > IPV4_HEADER;
            (!fragment).then_some(Transport { version, protocol: header[9], offset, source_routed })
        }
        Version::V6 => {
            let mut protocol = *packet.get(6)?;
            let mut offset = IPV6_HEADER;
            let mut source_routed = false;
            for _ in 0..=MAX_EXTENSIONS {
                match protocol {
                    _ if is_extension(protocol) => {
                        source_routed |= protocol == ROUTING;
                        protocol = *packet.get(offset)?;
                        // in units of 8 bytes, the first not counted
                        offset += (usize::from(*packet.get(offset + 1)?) + 1) * 8;
                    }
                    FRAGMENT => return None,
                    _ => return Some(Transport { version, protocol, offset, source_routed }),
                }
            }
            None
        }
    }
}

/// Returns source and destination of `packet` as in its header: 8 or 32 bytes.
pub fn address_bytes(packet: &[u8]) -> Option<&[u8]> {
    match packet.first()? >> 4 {
        4 => packet.get(12..IPV4_HEADER),
        6 => packet.get(8..IPV6_HEADER),
        _ => None,
    }
}

impl Transport {
    /// Returns the offset of the checksum from the start of the transport header; `None` unless the
    /// protocol is a known one (TCP or UDP) that has the Internet checksum over a pseudo header.
    pub fn checksum_offset(&self) -> Option<usize> {
        match self.protocol {
            TCP => Some(tcp::CHECKSUM),
            UDP => Some(UDP_CHECKSUM),
            _ => None,
        }
    }

    /// Returns the bytes of all headers of `packet`: IP, options, extensions, TCP with its options
    /// or UDP. `None` if they are incomplete, or for another protocol.
    pub fn headers_len(&self, packet: &[u8]) -> Option<usize> {
        let segment = packet.get(self.offset..)?;
        match self.protocol {
            TCP => Some(self.offset + tcp::Header::parse(segment)?.len()),
            UDP => segment.first_chunk::<UDP_HEADER>().map(|_| self.offset + UDP_HEADER),
            _ => None,
        }
    }

    /// Returns the sum of the pseudo header of `packet`, whose transport header and payload are
    /// `length` bytes.
    pub(super) fn pseudo_header(&self, packet: &[u8], length: u16) -> Option<Sum> {
        Some(checksum::pseudo_header(address_bytes(packet)?, self.protocol, length))
    }

    /// Returns true if `packet` has checksums and they are correct: that of the IPv4 header, and
    /// that of TCP or UDP. It returns false for one that cannot be computed (see
    /// [`Transport::source_routed`]).
    pub fn has_valid_checksums(&self, packet: &[u8]) -> bool {
        let header = packet.get(..self.offset).unwrap_or_default();
        if self.source_routed || self.version == Version::V4 && checksum::checksum(header) != 0 {
            return false;
        }
        let verify = || {
            let segment = packet.get(self.offset..)?;
            let at = self.checksum_offset()?;
            let absent = self.protocol == UDP && u16_at(segment, at)? == 0;
            let sum = self.pseudo_header(packet, u16::try_from(segment.len()).ok()?)?.add_bytes(segment);
            Some(!absent && sum.checksum() == 0)
        };
        verify().unwrap_or_default()
    }

    /// Sets the length fields in `packet`, which may consist of headers only, to those of a packet
    /// of `total` bytes: the length and the checksum of the IP header, and the length of the UDP
    /// header. Returns `None` where they do not fit.
    pub(super) fn set_length(&self, packet: &mut [u8], total: u16) -> Option<()> {
        self.set_lengths(packet, total)?;
        if self.version == Version::V4 {
            set(packet, IPV4_CHECKSUM, [0; 2])?;
            let checksum = checksum::checksum(packet.get(..self.offset)?);
            set(packet, IPV4_CHECKSUM, checksum.to_be_bytes())?;
        }
        Some(())
    }

    /// The same without the checksum.
    pub(super) fn set_lengths(&self, packet: &mut [u8], total: u16) -> Option<()> {
        match self.version {
            Version::V4 => set(packet, IPV4_LENGTH, total.to_be_bytes())?,
            Version::V6 => {
                let payload = usize::from(total).checked_sub(IPV6_HEADER)?;
                set(packet, 4, u16::try_from(payload).ok()?.to_be_bytes())?;
            }
        }
        if self.protocol == UDP {
            set(packet, self.offset + UDP_LENGTH, self.segment_len(total)?.to_be_bytes())?;
        }
        Some(())
    }

    /// Returns the number of bytes that the transport checksum covers in a packet of `total` bytes.
    pub(super) fn segment_len(&self, total: u16) -> Option<u16> {
        total.checked_sub(u16::try_from(self.offset).ok()?)
    }
}

/// Returns the length field of the UDP header at the front of `segment`.
pub(super) fn udp_length(segment: &[u8]) -> Option<u16> {
    u16_at(segment, UDP_LENGTH)
}

#[cfg(test)]
mod tests {
    use super::super::sample::{Sample, samples, slow_is_intact};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn it_is_found_behind_extension_headers() {
        let mut packet = vec![0; IPV6_HEADER];
        packet[0] = 0x60;
        packet[6] = HOP_BY_HOP;
        packet.extend([DESTINATION_OPTIONS, 0, 0, 0, 0, 0, 0, 0]);
        packet.extend([UDP, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        packet.extend([0; 9]);
        packet[5] = 33;
        let found = Transport { version: Version::V6, protocol: UDP, offset: 64, source_routed: false };
        assert_eq!(find(&packet), Some(found));
        assert_eq!(found.headers_len(&packet), Some(72));
        packet[40] = ROUTING;
        assert_eq!(find(&packet), Some(Transport { source_routed: true, ..found }));
        packet[48] = FRAGMENT;
        assert_eq!(find(&packet), None);
    }

    #[test]
    fn extension_headers_that_do_not_end_are_given_up() {
        let mut packet = vec![0; IPV6_HEADER + 80];
        packet[0] = 0x60;
        packet[5] = 80;
        assert_eq!(find(&packet), None);
    }

    #[test]
    fn fragments_are_not_looked_into() {
        let mut packet = Sample { six: false, tcp: true, payload: vec![1; 10], ..Sample::default() }.packet();
        assert!(find(&packet).is_some());
        for (flags, whole) in [(0x40, true), (0x80, true), (0x20, false), (0x01, false)] {
            packet[6] = flags;
            assert_eq!(find(&packet).is_some(), whole, "{flags:#x}");
        }
    }

    #[test]
    fn udp_without_a_checksum_is_not_intact() {
        for six in [false, true] {
            let mut packet = Sample { six, tcp: false, payload: vec![1; 10], ..Sample::default() }.packet();
            let transport = find(&packet).unwrap();
            assert!(transport.has_valid_checksums(&packet));
            set(&mut packet, transport.offset + UDP_CHECKSUM, [0; 2]).unwrap();
            assert!(!transport.has_valid_checksums(&packet));
        }
    }

    proptest! {
        #[test]
        fn a_packet_is_intact_if_the_slow_oracle_says_so(sample in samples(200), place: usize, change: u8) {
            let mut packet = sample.packet();
            let transport = find(&packet).unwrap();
            prop_assert!(slow_is_intact(&packet, transport.offset));
            // IPv4 options may include a source route, which is not distinguished from others
            prop_assert_eq!(transport.has_valid_checksums(&packet), sample.six || sample.ip_options.is_empty());
            // a changed byte is detected, unless no checksum covers it
            let place = place % packet.len();
            packet[place] ^= change;
            if let Some(transport) = find(&packet).filter(|t| matches!(t.protocol, TCP | UDP) && !t.source_routed)
                && transport.headers_len(&packet).is_some()
            {
                prop_assert_eq!(transport.has_valid_checksums(&packet), slow_is_intact(&packet, transport.offset));
            }
        }

        #[test]
        fn any_bytes_are_answered(mut packet in prop::collection::vec(any::<u8>(), 0..150), version in 0_u8..3) {
            // correct lengths, so that more than the first check is reached
            let len = u16::try_from(packet.len()).unwrap();
            if packet.len() >= 40 {
                match version {
                    0 => {
                        packet[0] = 0x40 | packet[0] & 0x0f;
                        set(&mut packet, 2, len.to_be_bytes()).unwrap();
                    }
                    1 => {
                        packet[0] = 0x60;
                        set(&mut packet, 4, (len - 40).to_be_bytes()).unwrap();
                    }
                    _ => {}
                }
            }
            let _ = address_bytes(&packet);
            if let Some(transport) = find(&packet) {
                let _ = transport.headers_len(&packet);
                let _ = transport.has_valid_checksums(&packet);
                let _ = transport.set_length(&mut packet, len / 2);
            }
        }
    }
}
