//! ICMP errors to the sender of a packet that does not fit: "fragmentation needed" (RFC 792, RFC
//! 1191), and ICMPv6 "packet too big" (RFC 4443 section 3.2). Path MTU discovery depends on them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::checksum;
use super::field::{set, u16_at};
use super::ip::{self, IPV4_HEADER, IPV6_HEADER};

/// Size of the buffer for [`packet_too_big`], in bytes: no ICMPv6 error is longer (RFC 4443 section
/// 2.4 c).
pub const MAX_ERROR_LEN: usize = 1280;
/// Maximum length of an ICMP error (RFC 1812 section 4.3.2.3).
const MAX_ERROR_LEN_V4: usize = 576;

/// Bytes of ICMP header in front of the quoted packet.
const ICMP_HEADER: usize = 8;
/// The reply's time to live, and its hop limit.
const HOPS: u8 = 64;

const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
const DESTINATION_UNREACHABLE: u8 = 3;
const FRAGMENTATION_NEEDED: u8 = 4;
const PACKET_TOO_BIG: u8 = 2;
/// First ICMPv6 type that is not an error; a redirect nevertheless counts as one here.
const FIRST_INFORMATIONAL_V6: u8 = 128;
const REDIRECT_V6: u8 = 137;
/// Address mask reply. Higher types may be unknown errors; Linux does not reply to them either.
const LAST_KNOWN_V4: u8 = 18;

/// The IPv4 flag "don't fragment", and the mask of the fragment offset.
const DONT_FRAGMENT: u16 = 0x4000;
const FRAGMENT_OFFSET: u16 = 0x1fff;
/// Mask of the offset in the IPv6 fragment header.
const FRAGMENT_OFFSET_V6: u16 = 0xfff8;

/// IPv6 extension headers (RFC 8200 section 4, RFC 4302).
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION_OPTIONS: u8 = 60;
/// Maximum extension headers that are parsed; hosts do not send longer chains.
const MAX_EXTENSIONS: usize = 8;

/// Writes the reply to `packet`, which is longer than the `mtu` bytes that fit, into `out` and
/// returns its length.
///
/// Returns `None` where the RFCs forbid a reply (RFC 1122 section 3.2.2, RFC 4443 section 2.4 e):
/// `packet` is incomplete; is itself an ICMP error or a redirect, or may be one; is a fragment
/// other than the first; has a source or destination that is not a single host's address (multicast
/// too, though RFC 4443 allows it: the reply would have no source). It also returns `None` where a
/// reply would be of no use: for an IPv4 packet without DF, which may be fragmented instead, and
/// for a packet that fits the MTU in the reply, which is at least 68, over IPv6 1280.
///
/// The reply's source is the destination of `packet`: a tunnel need not have an address of its own,
/// and the sender expects packets from that address out of the tunnel, so that no reverse path
/// filter drops the reply. It is addressed to the source of `packet`, so it takes the way back.
/// Rate limiting is up to the caller (RFC 4443 section 2.4 f).
pub fn packet_too_big(packet: &[u8], mtu: usize, out: &mut [u8; MAX_ERROR_LEN]) -> Option<usize> {
    ip::validate(packet)?;
    match ip::addresses(packet)? {
        (IpAddr::V4(source), IpAddr::V4(destination)) if is_host_v4(source) && is_host_v4(destination) => {
            fragmentation_needed(packet, mtu.max(ip::IPV4_MIN_MTU as usize), source, destination, out)
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) if is_host_v6(source) && is_host_v6(destination) => {
            packet_too_big_v6(packet, mtu.max(ip::IPV6_MIN_MTU as usize), source, destination, out)
        }
        _ => None,
    }
}

fn fragmentation_needed(
    packet: &[u8],
    mtu: usize,
    source: Ipv4Addr,
    destination: Ipv4Addr,
    out: &mut [u8; MAX_ERROR_LEN],
) -> Option<usize> {
    let fragment = u16_at(packet, 6)?;
    if packet.len() <= mtu || fragment & DONT_FRAGMENT == 0 || fragment & FRAGMENT_OFFSET != 0 {
        return None;
    }
    if *packet.get(9)? == ICMP && is_error_v4(*packet.get(usize::from(packet.first()? & 0x0f) * 4)?) {
        return None;
    }
    let quoted = packet.get(..packet.len().min(MAX_ERROR_LEN_V4 - IPV4_HEADER - ICMP_HEADER))?;
    let len = IPV4_HEADER + ICMP_HEADER + quoted.len();
    let (header, message) = out.get_mut(..len)?.split_at_mut_checked(IPV4_HEADER)?;
    header.fill(0);
    // precedence: internetwork control (RFC 1812 section 4.3.2.5)
    set(header, 0, [0x45, 0xc0])?;
    set(header, 2, u16::try_from(len).ok()?.to_be_bytes())?;
    set(header, 6, DONT_FRAGMENT.to_be_bytes())?;
    set(header, 8, [HOPS, ICMP])?;
    set(header, 12, destination.octets())?;
    set(header, 16, source.octets())?;
    let checksum = checksum::checksum(header);
    set(header, 10, checksum.to_be_bytes())?;

    let [mtu_high, mtu_low] = u16::try_from(mtu).ok()?.to_be_bytes();
    set(message, 0, [DESTINATION_UNREACHABLE, FRAGMENTATION_NEEDED, 0, 0, 0, 0, mtu_high, mtu_low])?;
    message.get_mut(ICMP_HEADER..)?.copy_from_slice(quoted);
    let checksum = checksum::checksum(message);
    set(message, 2, checksum.to_be_bytes())?;
    Some(len)
}

fn packet_too_big_v6(
    packet: &[u8],
    mtu: usize,
    source: Ipv6Addr,
    destination: Ipv6Addr,
    out: &mut [u8; MAX_ERROR_LEN],
) -> Option<usize> {
    if packet.len() <= mtu || !may_be_answered_v6(packet)? {
        return None;
    }
    let quoted = packet.get(..packet.len().min(MAX_ERROR_LEN - IPV6_HEADER - ICMP_HEADER))?;
    let len = IPV6_HEADER + ICMP_HEADER + quoted.len();
    let payload = u16::try_from(ICMP_HEADER + quoted.len()).ok()?;
    let (header, message) = out.get_mut(..len)?.split_at_mut_checked(IPV6_HEADER)?;
    header.fill(0);
    set(header, 0, [0x60])?;
    set(header, 4, payload.to_be_bytes())?;
    set(header, 6, [ICMPV6, HOPS])?;
    set(header, 8, destination.octets())?;
    set(header, 24, source.octets())?;

    set(message, 0, [PACKET_TOO_BIG, 0, 0, 0])?;
    set(message, 4, u32::try_from(mtu).ok()?.to_be_bytes())?;
    message.get_mut(ICMP_HEADER..)?.copy_from_slice(quoted);
    let pseudo_header = checksum::pseudo_header(header.get(8..)?, ICMPV6, payload);
    let checksum = pseudo_header.add_bytes(message).checksum();
    set(message, 2, checksum.to_be_bytes())?;
    Some(len)
}

/// Returns true if the address may be a single host's: not this network's (0.0.0.0/8), loopback,
/// multicast, reserved or broadcast.
const fn is_host_v4(address: Ipv4Addr) -> bool {
    !matches!(address.octets(), [0 | 127 | 224.., ..])
}

/// Returns true if the address may be a single host's: not unspecified, loopback or multicast.
const fn is_host_v6(address: Ipv6Addr) -> bool {
    !(address.is_unspecified() || address.is_loopback() || address.is_multicast())
}

/// Returns true for destination unreachable, source quench, redirect, time exceeded, parameter
/// problem, and unknown types.
const fn is_error_v4(kind: u8) -> bool {
    matches!(kind, 3 | 4 | 5 | 11 | 12) || kind > LAST_KNOWN_V4
}

/// Returns true if the packet is neither an ICMPv6 error or redirect nor a fragment other than the
/// first; `None` if it ends before that can be determined.
fn may_be_answered_v6(packet: &[u8]) -> Option<bool> {
    let mut next_header = *packet.get(6)?;
    let mut offset = IPV6_HEADER;
    for _ in 0..=MAX_EXTENSIONS {
        let length = packet.get(offset + 1).copied().map(usize::from);
        let size = match next_header {
            ICMPV6 => {
                let kind = *packet.get(offset)?;
                return Some(kind >= FIRST_INFORMATIONAL_V6 && kind != REDIRECT_V6);
            }
            FRAGMENT if u16_at(packet, offset + 2)? & FRAGMENT_OFFSET_V6 != 0 => return Some(false),
            FRAGMENT => 8,
            HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS => (length? + 1) * 8,
            // in units of 4 bytes, the first two not counted
            AUTHENTICATION => (length? + 2) * 4,
            _ => return Some(true),
        };
        next_header = *packet.get(offset)?;
        offset += size;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::sample::{Sample, samples, slow_sum};
    use super::*;
    use proptest::prelude::*;

    fn answer(packet: &[u8], mtu: usize) -> Option<Vec<u8>> {
        // prior contents of the buffer
        let mut out = [0xa5; MAX_ERROR_LEN];
        let len = packet_too_big(packet, mtu, &mut out)?;
        assert!(out[len..].iter().all(|byte| *byte == 0xa5));
        Some(out[..len].to_vec())
    }

    /// Asserts that the reply meets the RFCs, verified by the slow oracle.
    fn check(packet: &[u8], told: usize, answer: &[u8]) {
        let told = u16::try_from(told).unwrap().to_be_bytes();
        let len = u16::try_from(answer.len()).unwrap();
        if packet[0] >> 4 == 4 {
            assert_eq!(answer.len(), 576.min(28 + packet.len()));
            let [high, low] = len.to_be_bytes();
            assert_eq!(answer[..10], [0x45, 0xc0, high, low, 0, 0, 0x40, 0, 64, 1]);
            assert_eq!(slow_sum(&answer[..20]), 0xffff);
            assert_eq!((&answer[12..16], &answer[16..20]), (&packet[16..20], &packet[12..16]));
            assert_eq!((&answer[20..22], &answer[24..28]), (&[3, 4][..], &[0, 0, told[0], told[1]][..]));
            assert_eq!(slow_sum(&answer[20..]), 0xffff);
            assert_eq!(answer[28..], packet[..answer.len() - 28]);
            let header = usize::from(packet[0] & 0x0f) * 4;
            assert!(answer.len() - 28 >= header + 8);
        } else {
            assert_eq!(answer.len(), 1280.min(48 + packet.len()));
            let [high, low] = (len - 40).to_be_bytes();
            assert_eq!(answer[..8], [0x60, 0, 0, 0, high, low, 58, 64]);
            assert_eq!((&answer[8..24], &answer[24..40]), (&packet[24..40], &packet[8..24]));
            assert_eq!((&answer[40..42], &answer[44..48]), (&[2, 0][..], &[0, 0, told[0], told[1]][..]));
            let pseudo_header = [&answer[8..40], &[0, 0, high, low, 0, 0, 0, 58]].concat();
            assert_eq!(slow_sum(&[&pseudo_header, &answer[40..]].concat()), 0xffff);
            assert_eq!(answer[48..], packet[..answer.len() - 48]);
        }
    }

    fn big(six: bool) -> Vec<u8> {
        Sample { six, payload: vec![7; 1400], ..Sample::default() }.packet()
    }

    /// Builds an IPv6 packet with extension headers, given as next header and bytes.
    fn extended(headers: &[(u8, &[u8])], last: u8, message: &[u8]) -> Vec<u8> {
        let mut packet = big(true);
        let mut place = 6;
        let mut at = 40;
        for &(kind, header) in headers {
            packet[place] = kind;
            place = at;
            packet[at..at + header.len()].copy_from_slice(header);
            at += header.len();
        }
        packet[place] = last;
        packet[at..at + message.len()].copy_from_slice(message);
        packet
    }

    #[test]
    fn the_reported_mtu_has_a_minimum_and_must_be_smaller() {
        for (six, mtu, told) in [
            (false, 1439, Some(1439)),
            (false, 1440, None),
            (false, 1441, None),
            (false, 67, Some(68)),
            (false, 0, Some(68)),
            (false, usize::MAX, None),
            (true, 1459, Some(1459)),
            (true, 1460, None),
            (true, 1279, Some(1280)),
            (true, 0, Some(1280)),
        ] {
            let packet = big(six);
            let answer = answer(&packet, mtu);
            assert_eq!(answer.is_some(), told.is_some(), "{six} {mtu}");
            if let (Some(answer), Some(told)) = (answer, told) {
                check(&packet, told, &answer);
            }
        }
        let fits = Sample { six: true, payload: vec![0; 1280 - 60], ..Sample::default() }.packet();
        assert_eq!((fits.len(), answer(&fits, 600)), (1280, None), "a smaller packet cannot be asked for");
    }

    #[test]
    fn ipv4_without_df_and_fragments_but_the_first_are_not_answered() {
        for (flags, answered) in [
            ([0x40, 0], true),
            ([0x60, 0], true),
            ([0, 0], false),
            ([0x20, 0], false),
            ([0x40, 1], false),
            ([0x5f, 0], false),
        ] {
            let mut packet = big(false);
            packet[6..8].copy_from_slice(&flags);
            assert_eq!(answer(&packet, 1300).is_some(), answered, "{flags:?}");
        }
    }

    #[test]
    fn errors_are_not_answered() {
        for kind in 0..=255_u8 {
            let mut packet = big(false);
            packet[9] = 1;
            packet[20] = kind;
            let error = [3, 4, 5, 11, 12].contains(&kind) || kind > 18;
            assert_eq!(answer(&packet, 1300).is_none(), error, "{kind}");
            // behind options
            packet[0] = 0x46;
            packet[24] = kind;
            packet[20] = 8;
            assert_eq!(answer(&packet, 1300).is_none(), error, "{kind}");

            let error = kind < 128 || kind == 137;
            for headers in [
                &[][..],
                &[(0, &[0; 8][..])],
                &[
                    (60, &[0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
                    (43, &[0; 8]),
                    (44, &[0, 9, 0, 1, 5, 5, 5, 5]),
                ],
                &[(51, &[0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])],
            ] {
                let packet = extended(headers, 58, &[kind]);
                assert_eq!(answer(&packet, 1300).is_none(), error, "{kind} {headers:?}");
            }
        }
    }

    #[test]
    fn fragments_of_ipv6_but_the_first_are_not_answered() {
        for (offset, answered) in [([0, 0], true), ([0, 1], true), ([0, 8], false), ([0x80, 1], false)] {
            let packet = extended(&[(44, &[0, 0, offset[0], offset[1], 1, 2, 3, 4])], 17, &[]);
            assert_eq!(answer(&packet, 1300).is_some(), answered, "{offset:?}");
        }
    }

    #[test]
    fn extension_headers_without_an_end_are_not_answered() {
        assert_eq!(answer(&extended(&[(0, &[0, 255])], 0, &[]), 1300), None);
        let chain = [(60, &[0; 8][..]); 8];
        assert!(answer(&extended(&chain, 17, &[]), 1300).is_some());
        assert_eq!(answer(&extended(&[(60, &[0; 8][..]); 9], 17, &[]), 1300), None);
    }

    #[test]
    fn only_hosts_are_answered() {
        for (address, host) in [
            ([10, 0, 0, 1], true),
            ([223, 255, 255, 255], true),
            ([0, 0, 0, 0], false),
            ([0, 1, 2, 3], false),
            ([127, 0, 0, 1], false),
            ([224, 0, 0, 1], false),
            ([239, 1, 1, 1], false),
            ([240, 0, 0, 1], false),
            ([255, 255, 255, 255], false),
        ] {
            for place in [12, 16] {
                let mut packet = big(false);
                packet[place..place + 4].copy_from_slice(&address);
                assert_eq!(answer(&packet, 1300).is_some(), host, "{address:?}");
            }
        }
        for (address, host) in
            [("2001:db8::1", true), ("fe80::1", true), ("::", false), ("::1", false), ("ff02::1", false)]
        {
            let address: Ipv6Addr = address.parse().unwrap();
            for place in [8, 24] {
                let mut packet = big(true);
                packet[place..place + 16].copy_from_slice(&address.octets());
                assert_eq!(answer(&packet, 1300).is_some(), host, "{address:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn every_answer_is_right(sample in samples(2000), mtu in 0_usize..2100) {
            let packet = sample.packet();
            let told = mtu.max(if sample.six { 1280 } else { 68 });
            let expected = packet.len() > told && (sample.six || sample.dont_fragment);
            let answer = answer(&packet, mtu);
            prop_assert_eq!(answer.is_some(), expected);
            if let Some(answer) = answer {
                check(&packet, told, &answer);
                // never in reply to an ICMP error of our own
                prop_assert_eq!(super::packet_too_big(&answer, 68, &mut [0; MAX_ERROR_LEN]), None);
            }
        }

        #[test]
        fn any_bytes_are_answered(
            mut packet in prop::collection::vec(any::<u8>(), 0..1500),
            lead in prop::sample::select(vec![&[][..], &[0x45, 0, 0, 0, 0, 0, 0x40, 0], &[0x60]]),
            mtu: usize,
            small in 0_usize..1500,
        ) {
            let len = u16::try_from(packet.len()).unwrap();
            if len >= 40 && !lead.is_empty() {
                packet[..lead.len()].copy_from_slice(lead);
                let (at, told) = if lead[0] == 0x45 { (2, len) } else { (4, len - 40) };
                set(&mut packet, at, told.to_be_bytes()).unwrap();
            }
            for mtu in [mtu, small] {
                if let Some(answer) = answer(&packet, mtu) {
                    check(&packet, mtu.max(if packet[0] >> 4 == 4 { 68 } else { 1280 }), &answer);
                }
            }
        }
    }
}
