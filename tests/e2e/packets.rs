//! Small packets with valid checksums, for tests that drive wontun by hand.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4};

const UDP: u8 = 17;

/// Builds an IPv4 packet without options.
pub(crate) fn ipv4(protocol: u8, source: Ipv4Addr, destination: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
    let length = (20 + payload.len()) as u16;
    let mut packet = vec![0x45, 0];
    packet.extend(length.to_be_bytes());
    packet.extend([0, 0, 0x40, 0, 64, protocol, 0, 0]);
    packet.extend(source.octets());
    packet.extend(destination.octets());
    let sum = checksum(&packet);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend(payload);
    packet
}

/// Builds a UDP datagram in IPv4.
pub(crate) fn udp4(source: SocketAddrV4, destination: SocketAddrV4, payload: &[u8]) -> Vec<u8> {
    let length = (8 + payload.len()) as u16;
    let mut datagram = Vec::new();
    datagram.extend(source.port().to_be_bytes());
    datagram.extend(destination.port().to_be_bytes());
    datagram.extend(length.to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(payload);
    let mut pseudo = vec![0, UDP];
    pseudo.extend(source.ip().octets());
    pseudo.extend(destination.ip().octets());
    pseudo.extend(length.to_be_bytes());
    pseudo.extend(&datagram);
    let sum = checksum(&pseudo);
    datagram[6..8].copy_from_slice(&(if sum == 0 { 0xffff } else { sum }).to_be_bytes());
    ipv4(UDP, *source.ip(), *destination.ip(), &datagram)
}

/// Builds an IPv6 packet without extension headers.
pub(crate) fn ipv6(next_header: u8, source: Ipv6Addr, destination: Ipv6Addr, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend((payload.len() as u16).to_be_bytes());
    packet.extend([next_header, 64]);
    packet.extend(source.octets());
    packet.extend(destination.octets());
    packet.extend(payload);
    packet
}

/// Returns true for a packet that the tunnel must forward: an IPv4 or IPv6 packet as long as the
/// datagram. Independent of the program's own check.
pub(crate) fn is_well_formed(datagram: &[u8]) -> bool {
    let be16 = |at: usize| usize::from(u16::from_be_bytes([datagram[at], datagram[at + 1]]));
    match datagram.first().map(|byte| byte >> 4) {
        Some(4) if datagram.len() >= 20 => {
            let header = usize::from(datagram[0] & 15) * 4;
            header >= 20 && header <= datagram.len() && be16(2) == datagram.len()
        }
        Some(6) if datagram.len() >= 40 => be16(4) + 40 == datagram.len(),
        _ => false,
    }
}

fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = 0;
    for pair in bytes.chunks(2) {
        sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
