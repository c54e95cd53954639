//! Assigns packets to flows.

use wontun_packet::transport::{self, TCP, UDP};

/// Number of flows that are told apart.
pub(super) const FLOWS: usize = 256;

/// Returns the number of the packet's flow: a hash of its addresses, protocol and ports. Flows may
/// share a number, and only a peer's own do so.
pub(super) fn number(packet: &[u8]) -> u8 {
    let addresses = transport::address_bytes(packet).unwrap_or_default();
    let found = transport::find(packet);
    let ports = found.filter(|found| matches!(found.protocol, TCP | UDP)).and_then(|found| {
        let header = packet.get(found.offset..)?;
        header.first_chunk::<4>()
    });
    let protocol = [found.map_or(0, |found| found.protocol)];
    let words = addresses.chunks(4).chain(ports.map(<[u8; 4]>::as_slice)).chain([&protocol[..]]);
    let hash = words.fold(0x9e37_79b9_7f4a_7c15_u64, |hash, word| {
        let value = word.iter().fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
        (hash ^ value).wrapping_mul(0xff51_afd7_ed55_8ccd).rotate_left(29)
    });
    let [first, ..] = hash.wrapping_mul(0xc4ce_b9fe_1a85_ec53).to_be_bytes();
    first
}
