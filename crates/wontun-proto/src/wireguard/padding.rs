//! Padding of packets to 16 bytes before encryption, and its removal by the packet's own length.

use super::message::DATA_OVERHEAD;
use wontun_packet::ip::{IPV4_HEADER, IPV6_HEADER};

/// Padded packets have a length that is a multiple of this many bytes.
pub const PADDING_MULTIPLE: usize = 16;

/// Length of the largest packet whose message fits into any UDP datagram: 65,507 bytes over IPv4.
pub const MAX_PACKET_LEN: usize = 65_507 - DATA_OVERHEAD;

/// Returns the length to which a packet of `len` bytes is padded: a multiple of 16, but at most
/// [`MAX_PACKET_LEN`] and at most `mtu`, which is 0 if it is unknown. A packet that is longer
/// already is not padded: the MTU may have changed, if the device was moved to another namespace.
/// (The kernel pads the part of such a packet beyond the MTU; its MTU is never out of date.)
pub const fn padded_len(len: usize, mtu: usize) -> usize {
    let max = if mtu == 0 || mtu > MAX_PACKET_LEN { MAX_PACKET_LEN } else { mtu };
    let padded = len.next_multiple_of(PADDING_MULTIPLE);
    if padded <= max {
        padded
    } else if len < max {
        max
    } else {
        len
    }
}

/// Returns the length of the IP packet at the front of a decrypted payload; `None` if there is no
/// whole packet.
pub fn packet_len(payload: &[u8]) -> Option<usize> {
    let len = match payload.first()? >> 4 {
        4 => {
            let [_, _, high, low, ..] = *payload.first_chunk::<IPV4_HEADER>()?;
            let len = usize::from(u16::from_be_bytes([high, low]));
            (len >= IPV4_HEADER).then_some(len)?
        }
        6 => {
            let [_, _, _, _, high, low, ..] = *payload.first_chunk::<IPV6_HEADER>()?;
            IPV6_HEADER + usize::from(u16::from_be_bytes([high, low]))
        }
        _ => return None,
    };
    (len <= payload.len()).then_some(len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn fault_11_payloads_are_padded_to_16_bytes_but_never_past_the_mtu() {
        for (len, mtu, padded) in [
            (0, 1420, 0),
            (1, 1420, 16),
            (16, 1420, 16),
            (1400, 1420, 1408),
            (1409, 1420, 1420),
            (1420, 1420, 1420),
            (1421, 1420, 1421),
            (9000, 1420, 9000),
            (1439, 1440, 1440),
            (0, 0, 0),
            (1, 0, 16),
            (1409, 0, 1424),
            (65_472, 65_535, 65_472),
            (65_473, 65_535, 65_475),
            (65_475, 0, 65_475),
            (65_476, 65_535, 65_476),
        ] {
            assert_eq!(padded_len(len, mtu), padded, "{len} of {mtu}");
        }
    }

    #[test]
    fn a_packet_shorter_than_it_says_is_none() {
        let mut v4 = vec![0; 32];
        v4[0] = 0x45;
        v4[3] = 21;
        assert_eq!(packet_len(&v4), Some(21));
        assert_eq!(packet_len(&v4[..21]), Some(21));
        assert_eq!(packet_len(&v4[..20]), None);
        v4[3] = 19;
        assert_eq!(packet_len(&v4), None);
        let mut v6 = vec![0; 48];
        v6[0] = 0x60;
        v6[5] = 8;
        assert_eq!(packet_len(&v6), Some(48));
        v6[5] = 9;
        assert_eq!(packet_len(&v6), None);
        assert_eq!(packet_len(&[]), None);
        assert_eq!(packet_len(&[0x75; 64]), None);
    }

    proptest! {
        #[test]
        fn padding_holds_the_packet_and_the_mtu(len in 0_usize..70_000, mtu in 576_usize..66_000) {
            let padded = padded_len(len, mtu);
            prop_assert!(padded >= len && padded < len + PADDING_MULTIPLE);
            prop_assert!(padded <= mtu || padded == len);
            let max = mtu.min(MAX_PACKET_LEN);
            prop_assert!(padded.is_multiple_of(PADDING_MULTIPLE) || padded == max || len > max);
        }
    }
}
