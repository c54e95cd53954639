//! Assigns packets to flows.

use crate::ip::Version;
use crate::transport::{self, TCP, UDP};

/// Returns a hash of the packet's addresses, protocol and ports, with source and destination in
/// either order: both directions of a flow have the same hash. Different flows may share one. The
/// headers of the packet suffice.
pub fn hash(packet: &[u8]) -> u32 {
    let addresses = transport::address_bytes(packet).unwrap_or_default();
    let (source, destination) = addresses.split_at(addresses.len() / 2);
    let version = if addresses.len() == 8 { Version::V4 } else { Version::V6 };
    let found = transport::locate(version, packet);
    let ports = found.filter(|found| matches!(found.protocol, TCP | UDP)).and_then(|found| {
        let header = packet.get(found.offset..)?;
        header.first_chunk::<4>()
    });
    let [from, from_low, to, to_low] = ports.copied().unwrap_or_default();
    let protocol = found.map_or(0, |found| found.protocol);
    // a sum is the same in either order
    let sum = mix(source, [from, from_low]).wrapping_add(mix(destination, [to, to_low]));
    let hash = (sum ^ u64::from(protocol)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    let [a, b, c, d, ..] = hash.to_be_bytes();
    u32::from_be_bytes([a, b, c, d])
}

/// Returns a hash of one end of a flow.
fn mix(address: &[u8], port: [u8; 2]) -> u64 {
    let words = address.chunks(4).chain([&port[..]]);
    words.fold(0x9e37_79b9_7f4a_7c15_u64, |hash, word| {
        let value = word.iter().fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
        (hash ^ value).wrapping_mul(0xff51_afd7_ed55_8ccd).rotate_left(29)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Returns a UDP packet over IPv4.
    fn packet(source: u8, destination: u8, from: u16, to: u16) -> Vec<u8> {
        let mut packet = vec![0; 28];
        (packet[0], packet[3], packet[8], packet[9]) = (0x45, 28, 64, UDP);
        (packet[15], packet[19]) = (source, destination);
        packet[20..22].copy_from_slice(&from.to_be_bytes());
        packet[22..24].copy_from_slice(&to.to_be_bytes());
        packet
    }

    #[test]
    fn flows_differ_by_each_field_and_not_by_direction() {
        let one = hash(&packet(1, 2, 1000, 53));
        assert_eq!(hash(&packet(2, 1, 53, 1000)), one, "the answer");
        for other in [packet(1, 3, 1000, 53), packet(1, 2, 1001, 53), packet(1, 2, 53, 1000)] {
            assert_ne!(hash(&other), one, "{other:?}");
        }
        assert_eq!(hash(&packet(1, 2, 1000, 53)[..24]), one, "the headers suffice");
        let mut tcp = packet(1, 2, 1000, 53);
        tcp[9] = TCP;
        assert_ne!(hash(&tcp), one);
    }

    proptest! {
        #[test]
        fn any_bytes_have_a_hash(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = hash(&bytes);
        }
    }
}
