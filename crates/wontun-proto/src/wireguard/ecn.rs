//! Congestion marks across the tunnel: copied from the packet to its datagram, and merged back (RFC
//! 6040).
//!
//! The kernel's WireGuard does the same with two differences, which predate that RFC: if the packet
//! is marked as congested, its datagram is marked ECT(0) (`INET_ECN_encapsulate` in
//! `net/inet_ecn.h`); and it ignores that `INET_ECN_decapsulate` requires a packet to be dropped.

use wontun_packet::DropReason;
use wontun_packet::checksum;

/// Traffic class of handshake messages: DSCP AF41, as in the kernel.
pub const HANDSHAKE_CLASS: u8 = 0x88;

const MASK: u8 = 0b11;
const NOT_ECT: u8 = 0b00;
const ECT_1: u8 = 0b01;
const ECT_0: u8 = 0b10;
const CE: u8 = 0b11;

/// Returns the traffic class of the datagram that carries `packet`: its ECN mark, and no DSCP.
pub fn outer_class(packet: &[u8]) -> u8 {
    class(packet).unwrap_or_default() & MASK
}

fn class(packet: &[u8]) -> Option<u8> {
    let [first, second, ..] = *packet else { return None };
    match first >> 4 {
        4 => Some(second),
        6 => Some(first << 4 | second >> 4),
        _ => None,
    }
}

/// Returns true if the sender of `packet` supports ECN.
pub fn is_capable(packet: &[u8]) -> bool {
    class(packet).is_some_and(|class| class & MASK != NOT_ECT)
}

/// Marks `packet`, whose sender supports ECN, as congested (RFC 3168).
pub fn mark(packet: &mut [u8]) {
    if let Some(class) = class(packet) {
        set(packet, class | CE);
    }
}

/// Merges the ECN mark of a datagram's traffic class `outer` into the packet that it carried.
///
/// # Errors
/// Fails for a congestion mark on a packet whose sender does not support ECN: RFC 6040 requires it
/// to be dropped, as a router would have dropped it.
pub(super) fn merge(outer: u8, packet: &mut [u8]) -> Result<(), DropReason> {
    let Some(class) = class(packet) else { return Ok(()) };
    let inner = class & MASK;
    let merged = match (inner, outer & MASK) {
        (NOT_ECT, CE) => return Err(DropReason::Congested),
        (ECT_0 | ECT_1, CE) => CE,
        (ECT_0, ECT_1) => ECT_1,
        _ => inner,
    };
    if merged != inner {
        set(packet, class & !MASK | merged);
    }
    Ok(())
}

fn set(packet: &mut [u8], class: u8) {
    match packet {
        [first, second, ..] if *first >> 4 == 6 => {
            *first = 0x60 | class >> 4;
            *second = class << 4 | *second & 0x0f;
        }
        [first, second, _, _, _, _, _, _, _, _, sum_high, sum_low, ..] => {
            let old = u16::from_be_bytes([*first, *second]);
            let new = u16::from_be_bytes([*first, class]);
            let sum = checksum::update(u16::from_be_bytes([*sum_high, *sum_low]), old, new);
            *second = class;
            [*sum_high, *sum_low] = sum.to_be_bytes();
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn v4(class: u8, rest: [u8; 18]) -> Vec<u8> {
        let mut packet = vec![0x45, class];
        packet.extend(rest);
        packet[10..12].copy_from_slice(&[0, 0]);
        let sum = sum(&packet);
        packet[10..12].copy_from_slice(&(!sum).to_be_bytes());
        packet
    }

    fn sum(packet: &[u8]) -> u16 {
        let mut total: u32 = packet.chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(word[1])).sum();
        while total > 0xffff {
            total = (total & 0xffff) + (total >> 16);
        }
        u16::try_from(total).unwrap()
    }

    #[test]
    fn the_table_of_rfc_6040() {
        // rows: inner mark; columns: outer mark NOT_ECT, ECT_1, ECT_0, CE
        for (inner, row) in [
            (NOT_ECT, [Some(NOT_ECT), Some(NOT_ECT), Some(NOT_ECT), None]),
            (ECT_1, [Some(ECT_1), Some(ECT_1), Some(ECT_1), Some(CE)]),
            (ECT_0, [Some(ECT_0), Some(ECT_1), Some(ECT_0), Some(CE)]),
            (CE, [Some(CE), Some(CE), Some(CE), Some(CE)]),
        ] {
            for (outer, expected) in (0_u8..).zip(row) {
                let mut packet = v4(0xb8 | inner, [1; 18]);
                let merged = merge(0x20 | outer, &mut packet).ok().map(|()| packet[1]);
                assert_eq!(merged, expected.map(|mark| 0xb8 | mark));
            }
        }
    }

    proptest! {
        #[test]
        fn only_the_mark_changes_and_the_checksum_stays_right(class: u8, rest: [u8; 18], outer: u8, label: [u8; 4]) {
            let mut packet = v4(class, rest);
            prop_assert_eq!(outer_class(&packet), class & MASK);
            if merge(outer, &mut packet).is_ok() {
                prop_assert_eq!(sum(&packet), 0xffff);
                prop_assert_eq!(packet[1] & !MASK, class & !MASK);
            }
            let mut packet = [0x60 | class >> 4, class << 4 | label[0] & 0x0f, label[1], label[2]];
            prop_assert_eq!(outer_class(&packet), class & MASK);
            if merge(outer, &mut packet).is_ok() {
                prop_assert_eq!(packet[0], 0x60 | class >> 4);
                prop_assert_eq!(packet[1] & 0x0f, label[0] & 0x0f);
                prop_assert_eq!(packet[1] >> 4 & 0b1100, class & 0b1100);
            }
        }
    }
}
