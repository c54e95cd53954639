//! UDP (RFC 768) inside IP, as far as the tunnel needs it.

use std::net::{IpAddr, SocketAddr};

use super::ip::{IPV4_HEADER, IPV6_HEADER};

const UDP: u8 = 17;
/// The next-header value of IPv6's fragment header, and its length in bytes (RFC 8200 section 4.5).
const FRAGMENT: u8 = 44;
const FRAGMENT_HEADER: usize = 8;

/// Returns true if the packet is a UDP datagram to `endpoint`, or a fragment that may belong to
/// one: only the first fragment holds the port. Of the extension headers only the fragment header
/// is parsed.
pub fn is_addressed_to(packet: &[u8], endpoint: SocketAddr) -> bool {
    match endpoint.ip() {
        IpAddr::V4(address) => {
            let Some(header) = packet.first_chunk::<IPV4_HEADER>().filter(|header| header[0] >> 4 == 4)
            else {
                return false;
            };
            let fragment_offset = u16::from_be_bytes([header[6] & 0x1f, header[7]]);
            header[9] == UDP
                && header[16..] == address.octets()
                && (fragment_offset > 0
                    || destination_port(packet, usize::from(header[0] & 0x0f) * 4) == Some(endpoint.port()))
        }
        IpAddr::V6(address) => {
            let Some(header) = packet.first_chunk::<IPV6_HEADER>().filter(|header| header[0] >> 4 == 6)
            else {
                return false;
            };
            if header[24..] != address.octets() {
                return false;
            }
            match header[6] {
                UDP => destination_port(packet, IPV6_HEADER) == Some(endpoint.port()),
                FRAGMENT => {
                    let Some(&[next_header, _, offset_high, offset_low]) =
                        packet.get(IPV6_HEADER..).and_then(<[u8]>::first_chunk)
                    else {
                        return false;
                    };
                    let fragment_offset = u16::from_be_bytes([offset_high, offset_low]) >> 3;
                    let port = destination_port(packet, IPV6_HEADER + FRAGMENT_HEADER);
                    next_header == UDP && (fragment_offset > 0 || port == Some(endpoint.port()))
                }
                _ => false,
            }
        }
    }
}

/// Returns the destination port of the UDP header that begins at byte `offset`.
fn destination_port(packet: &[u8], offset: usize) -> Option<u16> {
    let port = packet.get(offset..)?.get(2..)?.first_chunk()?;
    Some(u16::from_be_bytes(*port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PORT: [u8; 2] = 19_988u16.to_be_bytes();

    fn v4(protocol: u8, offset: u16) -> Vec<u8> {
        let mut packet = vec![0; 28];
        packet[0] = 0x45;
        packet[6..8].copy_from_slice(&offset.to_be_bytes());
        packet[9] = protocol;
        packet[16..20].copy_from_slice(&[192, 0, 2, 1]);
        packet[22..24].copy_from_slice(&PORT);
        packet
    }

    fn v6(fragment_offset: Option<u16>) -> Vec<u8> {
        let mut packet = vec![0; 40];
        packet[0] = 0x60;
        packet[6] = UDP;
        packet[24..40].copy_from_slice(&"2001:db8::1".parse::<std::net::Ipv6Addr>().unwrap().octets());
        if let Some(offset) = fragment_offset {
            packet[6] = FRAGMENT;
            let [high, low] = (offset << 3).to_be_bytes();
            packet.extend([UDP, 0, high, low, 0, 0, 0, 0]);
        }
        packet.extend([0, 0, PORT[0], PORT[1], 0, 0, 0, 0]);
        packet
    }

    #[test]
    fn the_address_and_the_port_decide() {
        let endpoint = "192.0.2.1:19988".parse().unwrap();
        assert!(is_addressed_to(&v4(UDP, 0), endpoint));
        assert!(is_addressed_to(&v4(UDP, 185), endpoint), "a later fragment");
        assert!(is_addressed_to(&v4(UDP, 0x2000), endpoint), "the first fragment");
        assert!(!is_addressed_to(&v4(6, 0), endpoint), "TCP");
        assert!(!is_addressed_to(&v4(UDP, 0), "192.0.2.1:19989".parse().unwrap()));
        assert!(!is_addressed_to(&v4(UDP, 0), "192.0.2.2:19988".parse().unwrap()));
        assert!(!is_addressed_to(&v4(UDP, 0), "[2001:db8::1]:19988".parse().unwrap()));
    }

    #[test]
    fn in_ipv6_too() {
        let endpoint = "[2001:db8::1]:19988".parse().unwrap();
        for packet in [v6(None), v6(Some(0)), v6(Some(181))] {
            assert!(is_addressed_to(&packet, endpoint));
        }
        for other in ["[2001:db8::1]:1", "[2001:db8::2]:19988"] {
            assert!(!is_addressed_to(&v6(None), other.parse().unwrap()));
            assert!(!is_addressed_to(&v6(Some(0)), other.parse().unwrap()));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered(packet in prop::collection::vec(any::<u8>(), 0..80), v6_endpoint: bool) {
            let endpoint = if v6_endpoint { "[::]:0" } else { "0.0.0.0:0" };
            let _ = is_addressed_to(&packet, endpoint.parse().unwrap());
        }

        #[test]
        fn a_cut_packet_is_answered(cut in 0usize..56) {
            let endpoint = "[2001:db8::1]:19988".parse().unwrap();
            let _ = is_addressed_to(v6(Some(0)).get(..cut).unwrap_or_default(), endpoint);
        }
    }
}
