//! Detection of IPv6 neighbour discovery messages (RFC 4861).

use super::ip::IPV6_HEADER;

/// Router solicitation and advertisement, neighbour solicitation and advertisement, redirect.
const NEIGHBOUR_DISCOVERY: std::ops::RangeInclusive<u8> = 133..=137;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const ICMPV6: u8 = 58;
const DESTINATION_OPTIONS: u8 = 60;

/// Maximum extension headers that are parsed; hosts do not send longer chains.
const MAX_EXTENSIONS: usize = 8;

/// Returns true if the IPv6 packet is a neighbour discovery message. Fragments are not examined:
/// hosts ignore neighbour discovery in fragments (RFC 6980).
pub fn is_neighbour_discovery(packet: &[u8]) -> bool {
    find_type(packet).is_some_and(|kind| NEIGHBOUR_DISCOVERY.contains(&kind))
}

/// Returns the type of the ICMPv6 message in the packet; `None` if it carries none.
fn find_type(packet: &[u8]) -> Option<u8> {
    let mut next_header = *packet.get(6)?;
    let mut offset = IPV6_HEADER;
    for _ in 0..=MAX_EXTENSIONS {
        match next_header {
            ICMPV6 => return packet.get(offset).copied(),
            HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS => {
                next_header = *packet.get(offset)?;
                // in units of 8 bytes, the first not counted (RFC 8200 section 4.3)
                offset += (usize::from(*packet.get(offset + 1)?) + 1) * 8;
            }
            _ => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn packet(headers: &[(u8, usize)], kind: u8) -> Vec<u8> {
        let mut packet = vec![0; IPV6_HEADER];
        packet[0] = 0x60;
        let mut place = 6;
        for &(header, units) in headers {
            packet[place] = header;
            place = packet.len();
            packet.extend(vec![0; units * 8]);
            packet[place + 1] = u8::try_from(units - 1).unwrap();
        }
        packet[place] = ICMPV6;
        packet.extend([kind, 0, 0, 0]);
        packet
    }

    #[test]
    fn only_its_five_types_also_behind_extension_headers() {
        for headers in
            [&[][..], &[(HOP_BY_HOP, 1)], &[(HOP_BY_HOP, 1), (DESTINATION_OPTIONS, 3), (ROUTING, 2)]]
        {
            for kind in 0..=255 {
                assert_eq!(is_neighbour_discovery(&packet(headers, kind)), (133..=137).contains(&kind));
            }
        }
    }

    #[test]
    fn another_protocol_is_not() {
        let mut udp = packet(&[], 133);
        udp[6] = 17;
        assert!(!is_neighbour_discovery(&udp));
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered(packet in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = is_neighbour_discovery(&packet);
        }

        #[test]
        fn a_cut_packet_is_answered(cut in 0usize..80) {
            let whole = packet(&[(HOP_BY_HOP, 1), (ROUTING, 2)], 134);
            let _ = is_neighbour_discovery(whole.get(..cut).unwrap_or(&whole));
        }
    }
}
