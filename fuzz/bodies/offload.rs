//! Splitting and coalescing: arbitrary reads of a tun device, and streams of packets with
//! deviations chosen by a script of bytes. Also MSS clamping of a packet, and the ICMP error for
//! one that is too big. Shared by the fuzzer and by the ordinary test that replays its corpus.

use super::script::{byte, take};
use arbitrary::Unstructured;
use wontun_packet::coalesce::{CoalesceError, Coalescer, MAX_PIECES, MAX_SEGMENTS};
use wontun_packet::icmp_error::{self, MAX_ERROR_LEN};
use wontun_packet::split::Split;
use wontun_packet::transport::{self, TCP, UDP};
use wontun_packet::virtio::{Header, Layout};
use wontun_packet::{ip, mss};

/// Computes the checksum of RFC 1071 in a simple way, independent of the code under test.
fn sum(bytes: &[u8]) -> u16 {
    let mut total = 0_u32;
    for word in bytes.chunks(2) {
        total += u32::from(word[0]) << 8 | word.get(1).copied().map_or(0, u32::from);
        total = (total & 0xffff) + (total >> 16);
    }
    total.try_into().expect("folded")
}

fn transport_sum(packet: &[u8], offset: usize, protocol: u8) -> u16 {
    let addresses = if packet[0] >> 4 == 4 { &packet[12..20] } else { &packet[8..40] };
    let length = u16::try_from(packet.len() - offset).expect("a packet").to_be_bytes();
    sum(&[addresses, &[0, protocol], &length, &packet[offset..]].concat())
}

/// Splits a read of a tun device; `None` if it is refused.
fn cut(read: &[u8], layout: Layout) -> Option<Vec<Vec<u8>>> {
    let (header, packet) = Header::parse(read, layout).ok()?;
    let mut split = Split::new(&header, packet).ok()?;
    let mut packets = vec![];
    while let Some(len) = split.next_len() {
        let remaining = split.remaining();
        let mut place = vec![0; len];
        assert_eq!(split.write_next(packet, &mut place), Some(len));
        assert_eq!(split.remaining(), remaining - 1);
        packets.push(place);
    }
    assert_eq!(split.remaining(), 0);
    Some(packets)
}

/// Splits a read of a tun device: the header and the packet as they are, or with corrected lengths.
fn split(script: &mut Unstructured) {
    let how = byte(script);
    let layout =
        [Layout::Short, Layout::Long, Layout::Tunnel, Layout::Long][usize::from(how & 1 | how >> 1 & 2)];
    let mut read = take(script, usize::MAX).to_vec();
    let start = layout.len();
    if how & 2 == 0 && read.len() >= start + 40 {
        let len = u16::try_from(read.len() - start).unwrap_or(u16::MAX);
        let (place, len) = if read[start] >> 4 == 4 { (start + 2, len) } else { (start + 4, len - 40) };
        read[place..place + 2].copy_from_slice(&len.to_be_bytes());
    }
    let Some(packets) = cut(&read, layout) else { return };
    let (header, whole) = Header::parse(&read, layout).expect("it was cut");
    let Some(segmentation) = header.segmentation else {
        assert_eq!(packets.len(), 1);
        assert_eq!(packets[0].len(), whole.len());
        return;
    };
    let found = transport::find(whole).expect("it was cut");
    let headers_len = found.headers_len(whole).expect("it was cut");
    let mut payload = vec![];
    for (number, packet) in packets.iter().enumerate() {
        assert!(ip::validate(packet).is_some());
        assert_eq!(transport::find(packet), Some(found), "headers stay");
        let last = number + 1 == packets.len();
        let size = packet.len() - headers_len;
        assert!(size == usize::from(segmentation.size) || last && size < usize::from(segmentation.size));
        assert!(whole[0] >> 4 == 6 || sum(&packet[..found.offset]) == 0xffff);
        if !found.source_routed {
            assert!(found.has_valid_checksums(packet));
            assert_eq!(transport_sum(packet, found.offset, found.protocol), 0xffff);
        }
        payload.extend_from_slice(&packet[headers_len..]);
    }
    assert!(payload == whole[headers_len..], "the payload is what it was");
}

/// Returns the next packet of one of four flows, with the script's changes.
fn packet(script: &mut Unstructured, sequences: &mut [u32; 8], identification: &mut u16) -> Vec<u8> {
    let step = byte(script);
    let (six, tcp) = (step & 1 != 0, step & 2 != 0);
    let flow = usize::from(step & 7);
    let len = [100_u16, 100, 100, 1400, 37, 0, 9000, byte(script).into()][usize::from(step >> 3 & 7)];
    let odd = step & 0x80 != 0;
    let segment = if tcp { 20 } else { 8 } + len;
    let protocol = if tcp { TCP } else { UDP };
    *identification = identification.wrapping_add(1);
    let mut packet = vec![];
    if six {
        packet.extend([0x60, 0, 0, 0]);
        packet.extend(segment.to_be_bytes());
        packet.extend([protocol, 64]);
        packet.extend([0xfd; 31]);
        packet.push(step & 4);
    } else {
        packet.extend([0x45, 0]);
        packet.extend((20 + segment).to_be_bytes());
        packet.extend(identification.to_be_bytes());
        packet.extend([step & 0x40, 0, 64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, step & 4]);
    }
    let offset = packet.len();
    packet.extend([1, 2, 3, 4]);
    if tcp {
        packet.extend(sequences[flow].to_be_bytes());
        packet.extend([0, 0, 0, 9, 0x50, 0x10, 1, 0, 0, 0, 0, 0]);
        sequences[flow] = sequences[flow].wrapping_add(len.into());
    } else {
        packet.extend(segment.to_be_bytes());
        packet.extend([0, 0]);
    }
    packet.extend((0..len).map(|place| place.to_be_bytes()[1] ^ step));
    // changed before or after the checksums are computed
    let changes = if odd { usize::from(byte(script) & 3) } else { 0 };
    for _ in 0..changes {
        change(script, &mut packet);
    }
    if !six {
        let header = usize::from(packet[0] & 0x0f) * 4;
        packet[10..12].fill(0);
        let checksum = !sum(&packet[..header.min(packet.len())]);
        packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    }
    let field = offset + if tcp { 16 } else { 6 };
    packet[field..field + 2].fill(0);
    let checksum = match !transport_sum(&packet, offset, protocol) {
        0 => 0xffff,
        checksum => checksum,
    };
    packet[field..field + 2].copy_from_slice(&checksum.to_be_bytes());
    if odd && byte(script) & 3 == 0 {
        change(script, &mut packet);
    }
    packet
}

/// Replaces one byte of the headers; the version stays.
fn change(script: &mut Unstructured, packet: &mut [u8]) {
    let place = usize::from(byte(script)) % packet.len().min(80);
    let mask = if place == 0 { 0x0f } else { 0xff };
    packet[place] ^= byte(script) & mask;
}

/// Removes the fields that splitting need not restore: the identification where DF makes it
/// meaningless, and the checksum over it.
fn comparable(packet: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    if packet[0] >> 4 == 4 && packet[6] & 0x40 != 0 {
        packet[4..6].fill(0);
        packet[10..12].fill(0);
    }
    packet
}

/// Returns the addresses, protocol and ports.
fn flow(packet: &[u8]) -> Option<Vec<u8>> {
    let found = transport::find(packet)?;
    let ports = packet.get(found.offset..found.offset + 4)?;
    Some([transport::address_bytes(packet)?, &[found.protocol], ports].concat())
}

fn coalesce(script: &mut Unstructured) {
    let how = byte(script);
    let layout =
        [Layout::Short, Layout::Long, Layout::Tunnel, Layout::Long][usize::from(how & 1 | how >> 1 & 2)];
    let udp = how & 2 == 0;
    let mut coalescer = Coalescer::new(layout, udp);
    let (mut sequences, mut identification) = ([0xffff_f000; 8], 0xfff0);
    while !script.is_empty() {
        let (mut arena, mut places, mut came) = (vec![], vec![], vec![]);
        for _ in 0..=byte(script) {
            if script.is_empty() {
                break;
            }
            let packet = packet(script, &mut sequences, &mut identification);
            arena.extend([0xee; 16]);
            places.push(arena.len()..arena.len() + packet.len());
            arena.extend(&packet);
            came.push(packet);
        }
        let mut left = vec![];
        let mut take = |coalescer: &mut Coalescer| {
            while let Some(gather) = coalescer.poll_write(&arena) {
                assert!(gather.packets() <= MAX_SEGMENTS && gather.pieces().count() <= MAX_PIECES);
                let written = gather.pieces().collect::<Vec<_>>().concat();
                assert!(written.len() == gather.len() && written.len() <= layout.len() + 65_535);
                let packets = cut(&written, layout).expect("what we write is understood");
                assert_eq!(packets.len(), gather.packets());
                if packets.len() == 1 {
                    assert!(written[..layout.len()].iter().all(|byte| *byte == 0));
                }
                left.extend(packets);
            }
            assert!(coalescer.is_empty());
        };
        for place in places {
            if coalescer.handle_packet(&arena, place.clone()) == Err(CoalesceError::Full) {
                take(&mut coalescer);
                assert_eq!(coalescer.handle_packet(&arena, place), Ok(()));
            }
        }
        take(&mut coalescer);
        // stable, so the order within a flow stays
        let order = |packets: Vec<Vec<u8>>| {
            let mut packets: Vec<_> =
                packets.iter().map(|packet| (flow(packet), comparable(packet))).collect();
            packets.sort_by(|one, other| one.0.cmp(&other.0));
            packets
        };
        let (left, came) = (order(left), order(came));
        assert_eq!(left.len(), came.len());
        assert!(left == came, "every flow's packets leave as they came");
    }
}

/// Clamps and answers the script as a packet: as it is, or with a corrected length, and as TCP with
/// valid checksums.
fn clamp_and_answer(script: &mut Unstructured) {
    let how = byte(script);
    let mtu = usize::from(byte(script)) << 8 | usize::from(byte(script));
    let mut packet = take(script, usize::MAX).to_vec();
    if how & 1 == 0 && packet.len() >= 40 {
        let len = u16::try_from(packet.len()).unwrap_or(u16::MAX);
        let (place, len) = if packet[0] >> 4 == 4 { (2, len) } else { (4, len - 40) };
        packet[place..place + 2].copy_from_slice(&len.to_be_bytes());
    }
    answer(&packet, mtu);
    let tcp = transport::find(&packet)
        .filter(|found| found.protocol == TCP && !found.source_routed)
        .filter(|found| found.headers_len(&packet).is_some());
    if let Some(found) = tcp {
        packet[found.offset + 16..found.offset + 18].fill(0);
        let checksum = !transport_sum(&packet, found.offset, TCP);
        packet[found.offset + 16..found.offset + 18].copy_from_slice(&checksum.to_be_bytes());
    }
    let before = packet.clone();
    let partial = how & 2 != 0;
    let changed = mss::clamp(&mut packet, mtu, partial);
    assert_eq!((changed, packet.len()), (packet != before, before.len()));
    if !changed {
        return;
    }
    let found = transport::find(&packet).expect("it was a SYN");
    let options = found.offset + 20..found.headers_len(&packet).expect("it was a SYN");
    assert!(found.protocol == TCP && before[found.offset + 13] & 2 != 0);
    let field = found.offset + 16..found.offset + 18;
    for (place, (now, then)) in packet.iter().zip(&before).enumerate() {
        assert!(now == then || options.contains(&place) || !partial && field.contains(&place));
    }
    if !partial && !found.source_routed {
        assert_eq!(transport_sum(&packet, found.offset, TCP), 0xffff);
    }
    assert!(!mss::clamp(&mut packet, mtu, partial), "once is enough");
}

fn answer(packet: &[u8], mtu: usize) {
    let mut out = [0; MAX_ERROR_LEN];
    let Some(len) = icmp_error::packet_too_big(packet, mtu, &mut out) else { return };
    let answer = &out[..len];
    assert_eq!(ip::validate(answer), ip::validate(packet));
    let (source, destination) = ip::addresses(packet).expect("it was answered");
    assert_eq!(ip::addresses(answer), Some((destination, source)));
    if answer[0] >> 4 == 4 {
        assert!(len <= 576 && packet[6] & 0x40 != 0);
        assert!(answer[20..22] == [3, 4] && sum(&answer[..20]) == 0xffff && sum(&answer[20..]) == 0xffff);
        assert_eq!(answer[28..], packet[..len - 28]);
        assert_eq!(usize::from(u16::from_be_bytes([answer[26], answer[27]])), mtu.max(68));
    } else {
        assert!(answer[40..42] == [2, 0] && transport_sum(answer, 40, 58) == 0xffff);
        assert_eq!(answer[48..], packet[..len - 48]);
        assert_eq!(
            u32::from_be_bytes([answer[44], answer[45], answer[46], answer[47]]) as usize,
            mtu.max(1280)
        );
    }
    assert!(packet.len() > mtu);
    assert_eq!(
        icmp_error::packet_too_big(answer, 0, &mut [0; MAX_ERROR_LEN]),
        None,
        "no answer to an answer"
    );
}

/// Runs one script.
///
/// # Panics
/// If an invariant is violated.
pub(crate) fn run(script: &[u8]) {
    let mut script = Unstructured::new(script);
    match byte(&mut script) & 3 {
        0 => split(&mut script),
        2 => clamp_and_answer(&mut script),
        _ => coalesce(&mut script),
    }
}
