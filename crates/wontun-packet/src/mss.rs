//! MSS clamping: lowers the maximum segment size (RFC 9293 section 3.7.1) in a SYN to what fits the
//! tunnel. Where "packet too big" errors are lost, path MTU discovery fails, and without clamping a
//! connection hangs at its first full segment.
//!
//! This does what `iptables -j TCPMSS --clamp-mss-to-pmtu` does, with one exception: a SYN without
//! the option is left unchanged, where the kernel adds it. The other end then sends segments of at
//! most 536 bytes, over IPv6 1220 (RFC 9293), which fit any tunnel with an MTU of 576, or of IPv6's
//! 1280; and the packet cannot grow in place.

use super::checksum;
use super::field::{set, u16_at};
use super::ip::{IPV4_HEADER, IPV6_HEADER, Version};
use super::{tcp, transport};

/// Option kinds (RFC 9293 section 3.2).
const END: u8 = 0;
const NO_OPERATION: u8 = 1;
const MSS: u8 = 2;
/// Bytes of the MSS option: kind, length, and the size itself.
const MSS_LEN: usize = 4;

/// Lowers the MSS in `packet` to what fits packets of `mtu` bytes, if it is a TCP SYN (or SYN and
/// ACK) with a larger one, and returns true if it did. Options are not counted (RFC 6691): the MSS
/// is `mtu` less 40 over IPv4, less 60 over IPv6, and at least 1.
///
/// The TCP checksum is updated, unless the packet has only a `partial_checksum`
/// ([`virtio::Header::checksum`](super::virtio::Header::checksum)), which does not cover the
/// options yet. An incorrect checksum stays incorrect. Fragments, SYNs without the option and
/// incomplete packets are left unchanged; a malformed option ends the list, as it does for the
/// receiver. For a packet that is not a SYN only a few bytes are read.
#[inline]
pub fn clamp(packet: &mut [u8], mtu: usize, partial_checksum: bool) -> bool {
    may_be_syn(packet) && clamp_syn(packet, mtu, partial_checksum).unwrap_or_default()
}

/// Cheap first check on as few bytes as suffice for nearly all packets; a packet that passes is
/// checked again.
#[inline]
fn may_be_syn(packet: &[u8]) -> bool {
    let offset = match (packet.first(), packet.get(6), packet.get(9)) {
        (Some(first @ 0x40..0x50), _, Some(&transport::TCP)) => usize::from(first & 0x0f) * 4,
        (Some(0x60..0x70), Some(&transport::TCP), _) => IPV6_HEADER,
        (Some(0x60..0x70), Some(&next), _) => return transport::is_extension(next),
        _ => return false,
    };
    packet.get(offset + tcp::FLAGS).is_some_and(|flags| flags & tcp::SYN != 0)
}

/// Clamps a likely SYN. Returns `None` if it is not a SYN after all.
#[cold]
fn clamp_syn(packet: &mut [u8], mtu: usize, partial_checksum: bool) -> Option<bool> {
    let found = transport::find(packet).filter(|found| found.protocol == transport::TCP)?;
    let segment = packet.get_mut(found.offset..)?;
    let header = tcp::Header::parse(segment)?;
    let len = header.len();
    (header.flags() & tcp::SYN != 0).then_some(())?;
    let headers = tcp::HEADER
        + match found.version {
            Version::V4 => IPV4_HEADER,
            Version::V6 => IPV6_HEADER,
        };
    // the option's maximum is 65,535
    let max_mss = u16::try_from(mtu.saturating_sub(headers).max(1)).unwrap_or(u16::MAX);
    let mut changed = false;
    let mut at = tcp::HEADER;
    let header = segment.get_mut(..len)?;
    while let Some(&kind) = header.get(at) {
        let size = match kind {
            END => break,
            NO_OPERATION => 1,
            kind => {
                let size = header.get(at + 1).copied().map_or(0, usize::from);
                if size < 2 || at + size > len {
                    break;
                }
                // of several options some hosts use the last, others the first
                if kind == MSS && size == MSS_LEN {
                    changed |= lower(header, at + 2, max_mss, partial_checksum)?;
                }
                size
            }
        };
        at += size;
    }
    Some(changed)
}

/// Lowers the MSS at offset `place` of a TCP header to `max_mss` if it is larger.
fn lower(header: &mut [u8], place: usize, max_mss: u16, partial_checksum: bool) -> Option<bool> {
    let old = u16_at(header, place)?;
    if old <= max_mss {
        return Some(false);
    }
    set(header, place, max_mss.to_be_bytes())?;
    if !partial_checksum {
        let before = u16_at(header, tcp::CHECKSUM)?;
        // at an odd offset the upper byte is the lower one of the preceding word, and vice versa
        let (old, new) =
            if place.is_multiple_of(2) { (old, max_mss) } else { (old.swap_bytes(), max_mss.swap_bytes()) };
        set(header, tcp::CHECKSUM, checksum::update(before, old, new).to_be_bytes())?;
    }
    Some(true)
}

#[cfg(test)]
mod tests {
    use super::super::sample::{Sample, samples, slow_is_intact};
    use super::*;
    use proptest::prelude::*;

    fn syn(six: bool, options: &[u8]) -> Sample {
        let mut tcp_options = options.to_vec();
        tcp_options.resize(options.len().next_multiple_of(4), END);
        Sample { six, flags: tcp::SYN, tcp_options, ..Sample::default() }
    }

    /// Returns the options of `sample` after clamping; compares everything else here.
    fn clamped(sample: &Sample, mtu: usize) -> Vec<u8> {
        let before = sample.packet();
        let mut packet = before.clone();
        let changed = clamp(&mut packet, mtu, false);
        assert_eq!(changed, packet != before);
        assert!(slow_is_intact(&packet, sample.offset()));
        let options = packet[sample.offset() + 20..sample.headers_len()].to_vec();
        // everything else in the packet is unchanged; the checksum, verified above, has two zeros
        let expected = Sample { tcp_options: options.clone(), ..sample.clone() };
        let without_checksum = |mut packet: Vec<u8>| {
            packet[sample.checksum_field()..][..2].fill(0);
            packet
        };
        assert_eq!(without_checksum(packet), without_checksum(expected.packet()));
        // where the device completes the checksum only the option differs
        let mut partial = sample.partial();
        let field = partial[sample.checksum_field()..][..2].to_vec();
        assert_eq!(clamp(&mut partial, mtu, true), changed);
        assert_eq!(partial[sample.checksum_field()..][..2], field);
        assert_eq!(without_checksum(partial), without_checksum(expected.packet()));
        options
    }

    #[test]
    fn it_is_lowered_and_never_raised() {
        for (six, mtu, told, expected) in [
            (false, 1420, 1460, 1380),
            (false, 1420, 1381, 1380),
            (false, 1420, 1380, 1380),
            (false, 1420, 536, 536),
            (true, 1420, 1440, 1360),
            (true, 1420, 1220, 1220),
            (true, 1280, 65_535, 1220),
            (false, 65_575, 65_535, 65_535),
            (false, 70_000, 65_535, 65_535),
            (false, 1420, 0, 0),
            (false, 41, 9, 1),
            (false, 40, 9, 1),
            (false, 0, 9, 1),
            (true, 0, 9, 1),
        ] {
            let [high, low] = u16::to_be_bytes(told);
            let [to_high, to_low] = u16::to_be_bytes(expected);
            let sample = syn(six, &[MSS, 4, high, low]);
            assert_eq!(clamped(&sample, mtu), [MSS, 4, to_high, to_low], "{six} {mtu} {told}");
            let answer = Sample { flags: tcp::SYN | tcp::ACK | tcp::ECE, ..sample };
            assert_eq!(clamped(&answer, mtu), [MSS, 4, to_high, to_low]);
        }
    }

    #[test]
    fn it_is_found_among_other_options_at_any_place() {
        // 1460 becomes 1380
        for before in
            [&[][..], &[1], &[1, 1], &[1, 1, 1], &[3, 3, 7], &[4, 2], &[8, 10, 2, 4, 9, 9, 9, 9, 9, 9]]
        {
            for six in [false, true] {
                let options = [before, &[MSS, 4, 0x05, 0xb4, 3, 3, 7]].concat();
                let mtu = if six { 1440 } else { 1420 };
                let after = clamped(&syn(six, &options), mtu);
                assert_eq!(after[..options.len()], [before, &[MSS, 4, 0x05, 0x64, 3, 3, 7]].concat());
            }
        }
    }

    #[test]
    fn each_of_several_is_lowered() {
        let after = clamped(&syn(false, &[MSS, 4, 0xff, 0xff, 1, MSS, 4, 0x10, 0]), 1420);
        assert_eq!(after[..9], [MSS, 4, 0x05, 0x64, 1, MSS, 4, 0x05, 0x64]);
    }

    #[test]
    fn what_is_no_mss_stays() {
        for options in [
            &[][..],
            // behind the end of the list
            &[END, MSS, 4, 0xff, 0xff],
            // another length
            &[MSS, 3, 0xff, MSS, 5, 0xff, 0xff, 0xff],
            // no length, or one that is too small or reaches beyond the header
            &[1, 1, 1, MSS],
            &[3, 0, MSS, 4, 0xff, 0xff],
            &[3, 1, MSS, 4, 0xff, 0xff],
            &[3, 9, MSS, 4, 0xff, 0xff, 1, 1],
            &[1, MSS, 4, 0xff],
            // the value of another option
            &[254, 6, MSS, 4, 0xff, 0xff],
        ] {
            let sample = Sample { payload: vec![0xff; 8], ..syn(false, options) };
            assert_eq!(clamped(&sample, 1420), sample.tcp_options, "{options:?}");
        }
    }

    #[test]
    fn what_lies_before_a_malformed_option_counts() {
        for malformed in [[3, 0, 0, 0], [1, 1, 3, 3], [1, 1, 1, 3]] {
            let after = clamped(&syn(false, &[&[MSS, 4, 0xff, 0xff][..], &malformed].concat()), 1420);
            assert_eq!(after, [&[MSS, 4, 0x05, 0x64][..], &malformed].concat());
        }
    }

    #[test]
    fn other_packets_stay() {
        let stays = |mut packet: Vec<u8>, why: &str| {
            let before = packet.clone();
            assert!(!clamp(&mut packet, 600, false), "{why}");
            assert_eq!(packet, before, "{why}");
        };
        for six in [false, true] {
            let sample = syn(six, &[MSS, 4, 0xff, 0xff]);
            stays(Sample { flags: !tcp::SYN, ..sample.clone() }.packet(), "no SYN");
            let payload = vec![0xff; 40];
            stays(Sample { tcp: false, payload, ..sample.clone() }.packet(), "UDP");
            let whole = sample.packet();
            for cut in 0..whole.len() {
                stays(whole[..cut].to_vec(), "cut");
            }
            stays([whole.as_slice(), &[0]].concat(), "longer than it says");
            for data_offset in [0x00, 0x40, 0x70, 0xf0] {
                let mut packet = whole.clone();
                packet[sample.offset() + 12] = data_offset;
                stays(packet, "a TCP header of no length");
            }
        }
        for fragment in [0x20, 0x01] {
            let mut packet = syn(false, &[MSS, 4, 0xff, 0xff]).packet();
            packet[6] = fragment;
            stays(packet, "a fragment");
        }
        let ip_options = vec![0; 8];
        let mut packet = Sample { ip_options, ..syn(true, &[MSS, 4, 0xff, 0xff]) }.packet();
        packet[6] = 44;
        packet[43] = 1;
        stays(packet, "the first fragment of IPv6");
    }

    /// Generates options: arbitrary bytes, and well-formed lists.
    fn options() -> impl Strategy<Value = Vec<u8>> {
        let option = prop_oneof![
            3 => any::<[u8; 2]>().prop_map(|[high, low]| vec![MSS, 4, high, low]),
            3 => Just(vec![NO_OPERATION]),
            1 => Just(vec![3, 3, 7]),
            1 => prop::collection::vec(any::<u8>(), 1..5),
        ];
        prop::collection::vec(option, 0..10).prop_map(|options| {
            let mut options = options.concat();
            options.truncate(40);
            options.resize(options.len().next_multiple_of(4), END);
            options
        })
    }

    /// Returns each MSS in the options, by an independent parser.
    fn mss_values(options: &[u8]) -> Vec<u16> {
        match options {
            [] | [END, ..] => vec![],
            [NO_OPERATION, rest @ ..] => mss_values(rest),
            [MSS, 4, high, low, rest @ ..] => {
                [vec![u16::from(*high) << 8 | u16::from(*low)], mss_values(rest)].concat()
            }
            [_, len, ..] if *len >= 2 => options.get(usize::from(*len)..).map(mss_values).unwrap_or_default(),
            _ => vec![],
        }
    }

    proptest! {
        #[test]
        fn every_syn_is_clamped_and_nothing_else(sample in samples(60), tcp_options in options(), mtu in 68_usize..10_000) {
            let sample = Sample { tcp: true, tcp_options, ..sample };
            let options = clamped(&sample, mtu);
            let (before, after) = (mss_values(&sample.tcp_options), mss_values(&options));
            if sample.flags & tcp::SYN == 0 {
                prop_assert_eq!(&options, &sample.tcp_options);
            } else {
                let max_mss = mtu.saturating_sub(if sample.six { 60 } else { 40 }).max(1);
                let expected: Vec<_> =
                    before.into_iter().map(|mss| mss.min(u16::try_from(max_mss).unwrap())).collect();
                prop_assert_eq!(after, expected);
            }
            let again = Sample { tcp_options: options.clone(), ..sample };
            prop_assert_eq!(clamped(&again, mtu), options);
        }

        #[test]
        fn any_bytes_are_answered(
            mut packet in prop::collection::vec(any::<u8>(), 0..150),
            lead in prop::sample::select(vec![&[][..], &[0x45, 0, 0, 0, 0, 0, 0, 0, 0, 6], &[0x60, 0, 0, 0, 0, 0, 6]]),
            mtu: usize,
            partial: bool,
        ) {
            let len = u16::try_from(packet.len()).unwrap();
            if len >= 60 && !lead.is_empty() {
                packet[..lead.len()].copy_from_slice(lead);
                let (at, told) = if lead[0] == 0x45 { (2, len) } else { (4, len - 40) };
                set(&mut packet, at, told.to_be_bytes()).unwrap();
            }
            let before = packet.clone();
            let changed = clamp(&mut packet, mtu, partial);
            prop_assert_eq!(packet.len(), before.len());
            prop_assert_eq!(changed, packet != before);
        }
    }
}
