//! Packets for tests, and a slow checksum oracle that shares no code with the tested functions.

use proptest::prelude::*;

/// Returns the sum as RFC 1071 describes it: word by word, carries added at the end.
pub(super) fn slow_sum(bytes: &[u8]) -> u16 {
    let mut total: u64 = 0;
    for word in bytes.chunks(2) {
        total += u64::from(word[0]) << 8 | word.get(1).copied().map_or(0, u64::from);
    }
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    u16::try_from(total).unwrap()
}

fn slow_transport_sum(packet: &[u8], offset: usize) -> u16 {
    let addresses = if packet[0] >> 4 == 4 { &packet[12..20] } else { &packet[8..40] };
    let length = u16::try_from(packet.len() - offset).unwrap().to_be_bytes();
    slow_sum(&[addresses, &[0, slow_protocol(packet, offset)], &length, &packet[offset..]].concat())
}

fn slow_protocol(packet: &[u8], offset: usize) -> u8 {
    if packet[0] >> 4 == 4 {
        return packet[9];
    }
    let (mut protocol, mut at) = (packet[6], 40);
    while at < offset {
        protocol = packet[at];
        at += (usize::from(packet[at + 1]) + 1) * 8;
    }
    protocol
}

/// Returns true if the IPv4 header and the TCP or UDP header at `offset` hold checksums and these
/// are correct.
pub(super) fn slow_is_intact(packet: &[u8], offset: usize) -> bool {
    let absent = slow_protocol(packet, offset) == 17 && packet[offset + 6..offset + 8] == [0, 0];
    let header = packet[0] >> 4 == 6 || slow_sum(&packet[..offset]) == 0xffff;
    header && !absent && slow_transport_sum(packet, offset) == 0xffff
}

/// A packet, described by its fields.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    pub(super) six: bool,
    pub(super) tcp: bool,
    /// The last byte of the source address.
    pub(super) host: u8,
    pub(super) ports: [u8; 4],
    pub(super) class: u8,
    pub(super) hop_limit: u8,
    /// IPv4 only.
    pub(super) identification: u16,
    /// IPv4 only.
    pub(super) dont_fragment: bool,
    /// IPv4 options, or IPv6 extension headers (destination options): multiples of 4, or of 8.
    pub(super) ip_options: Vec<u8>,
    pub(super) sequence: u32,
    pub(super) acknowledgment: u32,
    pub(super) flags: u8,
    pub(super) window: u16,
    pub(super) tcp_options: Vec<u8>,
    pub(super) payload: Vec<u8>,
}

impl Default for Sample {
    fn default() -> Self {
        Self {
            six: false,
            tcp: true,
            host: 1,
            ports: [0x12, 0x34, 0, 80],
            class: 0,
            hop_limit: 64,
            identification: 0xfffe,
            dont_fragment: true,
            ip_options: vec![],
            sequence: 0xffff_ff00,
            acknowledgment: 0x0102_0304,
            flags: 0x10,
            window: 500,
            tcp_options: vec![],
            payload: vec![],
        }
    }
}

impl Sample {
    /// Returns the offset of the transport header.
    pub(super) fn offset(&self) -> usize {
        (if self.six { 40 } else { 20 }) + self.ip_options.len()
    }

    /// Returns the offset of the payload.
    pub(super) fn headers_len(&self) -> usize {
        self.offset() + if self.tcp { 20 + self.tcp_options.len() } else { 8 }
    }

    /// Returns the packet with correct checksums, computed by the slow oracle.
    pub(super) fn packet(&self) -> Vec<u8> {
        let mut packet = self.without_checksum();
        let at = self.checksum_field();
        let sum = match !slow_transport_sum(&packet, self.offset()) {
            0 => 0xffff,
            sum => sum,
        };
        packet[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        packet
    }

    /// Returns the packet as the kernel passes it where the device completes checksums: with the
    /// sum of the pseudo header.
    pub(super) fn partial(&self) -> Vec<u8> {
        let mut packet = self.without_checksum();
        let at = self.checksum_field();
        let segment = slow_sum(&packet[self.offset()..]);
        let pseudo = u32::from(slow_transport_sum(&packet, self.offset())) + 0xffff - u32::from(segment);
        let pseudo = u16::try_from(if pseudo > 0xffff { pseudo - 0xffff } else { pseudo }).unwrap();
        packet[at..at + 2].copy_from_slice(&pseudo.to_be_bytes());
        packet
    }

    /// Returns the offset of the transport checksum.
    pub(super) fn checksum_field(&self) -> usize {
        self.offset() + if self.tcp { 16 } else { 6 }
    }

    fn without_checksum(&self) -> Vec<u8> {
        let protocol = if self.tcp { 6 } else { 17 };
        let segment = self.headers_len() - self.offset() + self.payload.len();
        let mut packet = vec![];
        if self.six {
            packet.extend([0x60 | self.class >> 4, self.class << 4 | 5, 6, 7]);
            packet.extend(u16::try_from(self.ip_options.len() + segment).unwrap().to_be_bytes());
            let next = if self.ip_options.is_empty() { protocol } else { 60 };
            packet.extend([next, self.hop_limit]);
            packet.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, self.host]);
            packet.extend([0xfd, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
            packet.extend(&self.ip_options);
            if !self.ip_options.is_empty() {
                packet[40] = protocol;
                packet[41] = u8::try_from(self.ip_options.len() / 8 - 1).unwrap();
            }
        } else {
            let words = u8::try_from(self.offset() / 4).unwrap();
            packet.extend([0x40 | words, self.class]);
            packet.extend(u16::try_from(self.offset() + segment).unwrap().to_be_bytes());
            packet.extend(self.identification.to_be_bytes());
            packet.extend([u8::from(self.dont_fragment) << 6, 0, self.hop_limit, protocol, 0, 0]);
            packet.extend([10, 8, 0, self.host, 10, 9, 0, 2]);
            packet.extend(&self.ip_options);
            let sum = !slow_sum(&packet);
            packet[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        packet.extend(self.ports);
        if self.tcp {
            packet.extend(self.sequence.to_be_bytes());
            packet.extend(self.acknowledgment.to_be_bytes());
            packet.extend([u8::try_from(5 + self.tcp_options.len() / 4).unwrap() << 4, self.flags]);
            packet.extend(self.window.to_be_bytes());
            packet.extend([0; 4]);
            packet.extend(&self.tcp_options);
        } else {
            packet.extend(u16::try_from(segment).unwrap().to_be_bytes());
            packet.extend([0; 2]);
        }
        packet.extend(&self.payload);
        packet
    }
}

/// Generates packets with at most `payload` bytes behind their headers.
pub(super) fn samples(payload: usize) -> impl Strategy<Value = Sample> {
    let ip = (any::<bool>(), any::<u8>(), any::<u8>(), any::<u8>(), any::<u16>(), any::<bool>());
    let options = |words: usize| prop_oneof![3 => Just(vec![]), 1 => prop::collection::vec(any::<[u8; 4]>(), 0..=words).prop_map(|it| it.concat())];
    let tcp = (any::<bool>(), any::<[u8; 4]>(), any::<u32>(), any::<u32>(), any::<u8>(), any::<u16>());
    let payload = prop::collection::vec(any::<u8>(), 0..=payload);
    (ip, options(10), tcp, options(10), payload).prop_map(
        |(ip, mut ip_options, tcp, tcp_options, payload)| {
            let (six, host, class, hop_limit, identification, dont_fragment) = ip;
            let (tcp, ports, sequence, acknowledgment, flags, window) = tcp;
            if six {
                ip_options.truncate(ip_options.len() & !7);
            }
            Sample {
                six,
                tcp,
                host,
                ports,
                class,
                hop_limit,
                identification,
                dont_fragment,
                ip_options,
                sequence,
                acknowledgment,
                flags,
                window,
                tcp_options,
                payload,
            }
        },
    )
}

/// Returns `len` pseudo-random bytes derived from `seed`.
pub(super) fn payload(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        state.to_be_bytes()[0]
    };
    (0..len).map(|_| next()).collect()
}
