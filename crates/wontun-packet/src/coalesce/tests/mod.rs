//! Tests of each rule, and of splitting restoring the packets that were merged.

mod properties;

use super::*;
use crate::sample::{Sample, payload, samples, slow_is_intact};
use crate::split::Split;
use crate::tcp::{ACK, CWR, ECE, FIN, RST, SYN, URG};
use crate::transport;

const LAYOUT: Layout = Layout::Short;

/// Places the packets in one buffer, with gaps as between decrypted datagrams.
fn arena(packets: &[Vec<u8>]) -> (Vec<u8>, Vec<Range<usize>>) {
    let mut arena = vec![];
    let places = packets.iter().map(|packet| {
        arena.extend([0xee; 16]);
        arena.extend(packet);
        arena.len() - packet.len()..arena.len()
    });
    let places = places.collect();
    (arena, places)
}

/// Returns all writes for these packets, batch by batch.
fn writes_of(coalescer: &mut Coalescer, packets: &[Vec<u8>]) -> Vec<Vec<u8>> {
    writes_with(coalescer, packets, |_| {})
}

/// The same, calling `before` ahead of each packet.
fn writes_with(
    coalescer: &mut Coalescer,
    packets: &[Vec<u8>],
    before: impl Fn(&mut Coalescer),
) -> Vec<Vec<u8>> {
    let (arena, places) = arena(packets);
    let mut writes = vec![];
    let mut take = |coalescer: &mut Coalescer| {
        while let Some(gather) = coalescer.poll_write(&arena) {
            assert!(gather.pieces().count() <= MAX_PIECES && gather.packets() <= MAX_SEGMENTS);
            let written: Vec<u8> = gather.pieces().flatten().copied().collect();
            assert_eq!(written.len(), gather.len());
            writes.push(written);
        }
        assert!(coalescer.is_empty());
    };
    for place in places {
        before(coalescer);
        assert_eq!(coalescer.room() == 0, coalescer.packet_count == MAX_PACKETS);
        if coalescer.handle_packet(&arena, place.clone()) == Err(CoalesceError::Full) {
            assert_eq!(coalescer.room(), 0);
            take(coalescer);
            assert_eq!(coalescer.room(), MAX_PACKETS);
            assert_eq!(coalescer.handle_packet(&arena, place), Ok(()));
        }
    }
    take(coalescer);
    writes
}

fn writes(packets: &[Vec<u8>]) -> Vec<Vec<u8>> {
    writes_of(&mut Coalescer::new(LAYOUT, true), packets)
}

/// Returns all writes for these packets if those that are complete are taken ahead of each `every`
/// packets.
fn writes_completed(packets: &[Vec<u8>], every: usize) -> Vec<Vec<u8>> {
    let mut coalescer = Coalescer::new(LAYOUT, true);
    let (arena, places) = arena(packets);
    let mut writes = vec![];
    for places in places.chunks(every) {
        while let Some(gather) = coalescer.poll_complete_write(&arena) {
            writes.push(gather.pieces().flatten().copied().collect());
        }
        assert!(coalescer.group_count <= 1, "one super-packet is kept");
        for place in places {
            coalescer.handle_packet(&arena, place.clone()).unwrap();
        }
    }
    while let Some(gather) = coalescer.poll_write(&arena) {
        writes.push(gather.pieces().flatten().copied().collect());
    }
    assert!(coalescer.is_empty());
    writes
}

/// Splits a write as the other end does.
fn cut(write: &[u8]) -> Vec<Vec<u8>> {
    let (header, packet) = Header::parse(write, LAYOUT).unwrap();
    let mut split = Split::new(&header, packet).unwrap();
    let mut packets = vec![];
    while let Some(len) = split.next_len() {
        let mut place = vec![0; len];
        split.write_next(packet, &mut place).unwrap();
        packets.push(place);
    }
    packets
}

/// Returns the number of packets in each write.
fn counts(packets: &[Sample]) -> Vec<usize> {
    let packets: Vec<_> = packets.iter().map(Sample::packet).collect();
    let writes = writes(&packets);
    let cut: Vec<_> = writes.iter().map(|write| cut(write)).collect();
    assert_eq!(cut.concat(), packets, "one flow keeps its order, and its bytes");
    cut.iter().map(Vec::len).collect()
}

/// Returns `count` consecutive packets with 100 bytes of payload.
fn stream(first: &Sample, count: u16) -> Vec<Sample> {
    let number = |number: u16| Sample {
        identification: first.identification.wrapping_add(number),
        sequence: first.sequence.wrapping_add(100 * u32::from(number)),
        payload: payload(100, number.into()),
        ..first.clone()
    };
    (0..count).map(number).collect()
}

/// Returns one sample of each of the four kinds of flows.
fn kinds() -> Vec<Sample> {
    let kind = |six, tcp| Sample { six, tcp, ..Sample::default() };
    vec![kind(false, true), kind(true, true), kind(false, false), kind(true, false)]
}

fn changed(sample: &Sample, change: impl FnOnce(&mut Sample)) -> Sample {
    let mut sample = sample.clone();
    change(&mut sample);
    sample
}

fn without_identification(packet: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    if packet.first().is_some_and(|first| first >> 4 == 4) && packet[6] & 0x40 != 0 {
        // and without the checksum that covers it
        packet[4..6].fill(0);
        packet[10..12].fill(0);
    }
    packet
}

#[test]
fn segments_that_follow_each_other_become_one() {
    for kind in kinds() {
        assert_eq!(counts(&stream(&kind, 5)), [5]);
        assert_eq!(counts(&stream(&kind, 1)), [1]);
    }
}

#[test]
fn a_super_packet_of_two_messages_is_written_once() {
    // what two super-packets of 47 segments are in messages of 45; PSH ends each of them
    for kind in kinds() {
        let mut packets = stream(&kind, 94);
        if kind.tcp {
            packets[46].flags |= PSH;
            packets[93].flags |= PSH;
        }
        let packets: Vec<_> = packets.iter().map(Sample::packet).collect();
        let written: Vec<_> = writes_completed(&packets, 45).iter().map(|write| cut(write)).collect();
        let counts: Vec<_> = written.iter().map(Vec::len).collect();
        // the kernel joins 64 datagrams of UDP at most
        assert_eq!(counts, if kind.tcp { [47, 47] } else { [64, 30] });
        assert_eq!(written.concat(), packets);
    }
}

#[test]
fn a_super_packet_that_was_kept_ends_as_any_other() {
    let kind = Sample::default();
    let complete = |packets: &[Sample], every| {
        let packets: Vec<_> = packets.iter().map(Sample::packet).collect();
        let written: Vec<_> = writes_completed(&packets, every).iter().map(|write| cut(write)).collect();
        assert_eq!(written.concat(), packets);
        written.iter().map(Vec::len).collect::<Vec<_>>()
    };
    let mut packets = stream(&kind, 9);
    assert_eq!(complete(&packets, 2), [9]);
    // another acknowledgment number
    packets[5..].iter_mut().for_each(|packet| packet.acknowledgment += 1);
    assert_eq!(complete(&packets, 2), [5, 4]);
    // another flow: the first one was complete when the packets of the other had been added
    let other = changed(&kind, |it| it.host += 1);
    let packets = [stream(&kind, 3), stream(&other, 3)].concat();
    assert_eq!(complete(&packets, 3), [3, 3]);
}

#[test]
fn a_super_packet_is_described_as_the_kernel_wants_it() {
    for (kind, gso) in kinds().iter().zip([1, 4, 5, 5]) {
        let mut packets = stream(kind, 3);
        packets[2].payload.truncate(7);
        let headers_len = kind.headers_len();
        let whole = Sample {
            payload: packets.iter().flat_map(|packet| packet.payload.clone()).collect(),
            ..kind.clone()
        };
        let packets: Vec<_> = packets.iter().map(Sample::packet).collect();
        let written = writes(&packets);
        assert_eq!(written.len(), 1);
        let (virtio, packet) = written[0].split_at(10);
        assert_eq!(packet, whole.partial());
        let word = |value: usize| u16::try_from(value).unwrap().to_ne_bytes();
        let offset = kind.checksum_field() - kind.offset();
        let fields = [word(headers_len), word(100), word(kind.offset()), word(offset)].concat();
        assert_eq!(virtio, [&[1, gso][..], &fields].concat());
        // the header, then each payload, not copied
        let (arena, places) = arena(&packets);
        let mut coalescer = Coalescer::new(Layout::Long, true);
        for place in &places {
            coalescer.handle_packet(&arena, place.clone()).unwrap();
        }
        let gather = coalescer.poll_write(&arena).unwrap();
        let pieces: Vec<_> = gather.pieces().collect();
        assert_eq!((pieces.len(), pieces[0].len()), (4, 12 + headers_len));
        for (piece, place) in pieces[1..].iter().zip(places) {
            assert_eq!(piece.as_ptr_range(), arena[place][headers_len..].as_ptr_range());
        }
    }
}

#[test]
fn a_packet_alone_is_written_as_it_came() {
    for packet in [vec![], vec![0x45; 3], Sample::default().packet(), payload(2000, 1)] {
        assert_eq!(writes(std::slice::from_ref(&packet)), [[&[0; 10][..], &packet].concat()]);
    }
}

#[test]
fn a_changed_header_is_not_joined() {
    for kind in kinds() {
        let mut changes: Vec<fn(&mut Sample)> = vec![|it| it.class = 4, |it| it.hop_limit = 63];
        if kind.tcp {
            changes.push(|it| it.acknowledgment += 1);
            changes.push(|it| it.window += 1);
            changes.push(|it| it.flags = ACK | ECE);
            changes.push(|it| it.flags = ACK | CWR);
            changes.push(|it| it.sequence += 1);
            changes.push(|it| it.sequence -= 1);
            changes.push(|it| it.tcp_options = vec![1, 1, 1, 1]);
            for flag in [FIN, SYN, RST, URG] {
                let mut packets = stream(&kind, 4);
                packets[2].flags |= flag;
                assert_eq!(counts(&packets), [2, 1, 1], "{flag:#x}");
            }
            changes.push(|it| it.flags = 0);
        }
        if !kind.six {
            changes.push(|it| it.dont_fragment = false);
        }
        for (number, change) in changes.iter().enumerate() {
            let packets = stream(&kind, 4);
            let packets = [&packets[..2], &[changed(&packets[2], change)]].concat();
            assert_eq!(counts(&packets), [2, 1], "change {number} of {kind:?}");
        }
        // but a flow whose packets all have these is merged
        for change in [|it: &mut Sample| it.class = 0xb9, |it: &mut Sample| it.tcp_options = vec![1; 12]] {
            assert_eq!(counts(&stream(&changed(&kind, change), 3)), [3]);
        }
    }
}

/// Recomputes the checksums, if the packet still has any.
fn with_checksums(mut packet: Vec<u8>) -> Vec<u8> {
    let Some(transport) = transport::find(&packet) else { return packet };
    let len = u16::try_from(packet.len()).unwrap();
    transport.set_length(&mut packet, len).unwrap();
    if let Some(field) = transport.checksum_offset() {
        let at = transport.offset + field;
        packet[at..at + 2].fill(0);
        let pseudo = transport.pseudo_header(&packet, transport.segment_len(len).unwrap()).unwrap();
        let checksum = pseudo.add_bytes(&packet[transport.offset..]).checksum_not_zero();
        packet[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
    }
    packet
}

#[test]
fn no_bit_of_a_header_is_lost() {
    for kind in kinds() {
        let kind = Sample { tcp_options: vec![1; 12], ..kind };
        let packets: Vec<_> = stream(&kind, 3).iter().map(Sample::packet).collect();
        assert_eq!(writes(&packets).len(), 1);
        for bit in 0..kind.headers_len() * 8 {
            let mut packets = packets.clone();
            packets[2][bit / 8] ^= 1 << (bit % 8);
            packets[2] = with_checksums(packets[2].clone());
            let cut: Vec<_> = writes(&packets).iter().flat_map(|write| cut(write)).collect();
            let same = cut
                .iter()
                .map(|it| without_identification(it))
                .eq(packets.iter().map(|it| without_identification(it)));
            assert!(same, "bit {bit} of {kind:?}");
        }
    }
}

#[test]
fn other_flows_do_not_end_a_flow() {
    for kind in kinds() {
        let one = stream(&kind, 4);
        let changes: [fn(&mut Sample); 4] =
            [|it| it.host = 9, |it| it.ports[1] = 9, |it| it.ports[3] = 9, |it| it.tcp ^= true];
        for change in changes {
            let other = stream(&changed(&kind, change), 4);
            let mixed: Vec<_> =
                one.iter().zip(&other).flat_map(|(one, other)| [one.packet(), other.packet()]).collect();
            let counts: Vec<_> = writes(&mixed).iter().map(|write| cut(write).len()).collect();
            assert_eq!(counts, [4, 4]);
        }
    }
}

#[test]
fn a_congested_packet_goes_alone() {
    for kind in kinds() {
        let marked = changed(&kind, |it| it.class = 3);
        assert_eq!(counts(&stream(&marked, 3)), [1, 1, 1]);
        let mut packets = stream(&changed(&kind, |it| it.class = 2), 5);
        packets[2].class = 3;
        assert_eq!(counts(&packets), [2, 1, 2]);
    }
}

#[test]
fn push_ends_a_super_packet() {
    let mut packets = stream(&Sample::default(), 6);
    packets[2].flags |= PSH;
    packets[3].flags |= PSH;
    assert_eq!(counts(&packets), [3, 1, 2]);
}

#[test]
fn only_the_first_segment_has_cwr() {
    for six in [false, true] {
        let mut packets = stream(&Sample { six, ..Sample::default() }, 5);
        packets[0].flags |= CWR;
        packets[3].flags |= CWR;
        assert_eq!(counts(&packets), [3, 2]);
        let written = writes(&[packets[0].packet(), packets[1].packet()]);
        assert_eq!(written[0][1], if six { 0x84 } else { 0x81 });
    }
}

#[test]
fn all_but_the_last_are_of_one_length() {
    for kind in kinds() {
        let mut packets = stream(&kind, 6);
        packets[2].payload.truncate(99);
        for packet in &mut packets[3..] {
            packet.sequence -= 1;
        }
        assert_eq!(counts(&packets), [3, 3]);
        let mut packets = stream(&kind, 3);
        packets[1].payload.push(1);
        packets[2].sequence += 1;
        assert_eq!(counts(&packets), [1, 2]);
        // a packet without payload, such as a bare acknowledgment
        let mut packets = stream(&kind, 4);
        packets[1].payload.clear();
        assert_eq!(counts(&packets)[..2], [1, 1]);
    }
}

#[test]
fn identifications_count_up_unless_they_mean_nothing() {
    let mut kind = Sample { dont_fragment: false, ..Sample::default() };
    assert_eq!(counts(&stream(&kind, 4)), [4], "over the wrap");
    let mut packets = stream(&kind, 4);
    packets[2].identification += 7;
    assert_eq!(counts(&packets), [2, 1, 1]);
    kind.dont_fragment = true;
    let mut packets: Vec<_> = stream(&kind, 4);
    for packet in &mut packets {
        packet.identification = 0;
    }
    let packets: Vec<_> = packets.iter().map(Sample::packet).collect();
    assert_eq!(writes(&packets).len(), 1);
}

#[test]
fn a_wrong_checksum_is_left_to_the_kernel_to_find() {
    for kind in kinds() {
        let packets: Vec<_> = stream(&kind, 5).iter().map(Sample::packet).collect();
        for number in 0..5 {
            let mut places = vec![kind.checksum_field(), kind.headers_len() + 50];
            if !kind.six {
                places.push(10);
            }
            for place in places {
                let mut packets = packets.clone();
                packets[number][place] ^= 0x10;
                let written = writes(&packets);
                let alone = [&[0; 10][..], &packets[number]].concat();
                assert!(written.contains(&alone));
                assert_eq!(written.iter().flat_map(|write| cut(write)).collect::<Vec<_>>(), packets);
                assert_eq!(written.len(), [2, 3, 3, 3, 2][number]);
            }
        }
    }
}

#[test]
fn udp_without_a_checksum_or_a_wrong_length_goes_alone() {
    let packets: Vec<_> = stream(&kinds()[2], 3).iter().map(Sample::packet).collect();
    for (place, bytes) in [(26, [0, 0]), (24, [0, 107]), (24, [0, 109]), (24, [0, 0])] {
        let mut packets = packets.clone();
        packets[1][place..place + 2].copy_from_slice(&bytes);
        assert_eq!(writes(&packets).len(), 3);
    }
    // and all of it for a device that does not accept UDP super-packets
    assert_eq!(writes_of(&mut Coalescer::new(LAYOUT, false), &packets).len(), 3);
}

#[test]
fn datagrams_of_vxlan_and_geneve_go_alone() {
    for port in [4789_u16, 8472, 6081] {
        let [high, low] = port.to_be_bytes();
        let tunnel = changed(&kinds()[2], |it| it.ports = [0x80, 1, high, low]);
        assert_eq!(counts(&stream(&tunnel, 3)), [1, 1, 1]);
        let from_there = changed(&kinds()[2], |it| it.ports = [high, low, 0x80, 1]);
        assert_eq!(counts(&stream(&from_there, 3)), [3]);
    }
}

#[test]
fn options_extensions_and_fragments_go_alone_and_in_order() {
    for kind in kinds() {
        let options = changed(&kind, |it| it.ip_options = vec![1; 8]);
        let mut packets = stream(&kind, 4);
        packets[2].ip_options = vec![1; 8];
        assert_eq!(counts(&packets), [2, 1, 1]);
        assert_eq!(counts(&stream(&options, 3)), [1, 1, 1]);
        // a fragment may belong to any flow between the two hosts
        let mut packets: Vec<_> = stream(&kind, 4).iter().map(Sample::packet).collect();
        let mut fragment = packets[2].clone();
        if kind.six {
            fragment[6] = 44;
        } else {
            fragment[6] |= 0x20;
        }
        packets.insert(2, fragment);
        let written = writes(&packets);
        assert_eq!(written.len(), 3);
        assert_eq!(written[1][10..], packets[2]);
        // but not between other hosts
        packets[2][if kind.six { 23 } else { 15 }] = 99;
        assert_eq!(writes(&packets).len(), 2);
    }
}

#[test]
fn a_tcp_header_cut_short_keeps_its_place_in_its_flow() {
    let mut packets: Vec<_> = stream(&Sample::default(), 4).iter().map(Sample::packet).collect();
    let mut broken = packets[2].clone();
    broken[32] = 0x10;
    packets.insert(2, broken);
    let written: Vec<_> = writes(&packets).iter().flat_map(|write| cut(write)).collect();
    assert_eq!(written, packets);
}

#[test]
fn it_grows_to_what_a_packet_can_hold() {
    for kind in kinds() {
        assert_eq!(counts(&stream(&kind, 130)), [64, 64, 2]);
        let size = 1400;
        let fits = (65_535 - kind.headers_len()) / size;
        let packets: Vec<_> = (0..50_u16)
            .map(|number| Sample {
                identification: kind.identification.wrapping_add(number),
                sequence: kind.sequence.wrapping_add(u32::from(number) * 1400),
                payload: payload(size, number.into()),
                ..kind.clone()
            })
            .collect();
        assert_eq!(counts(&packets), [fits, 50 - fits]);
        let packets: Vec<_> = packets.iter().map(Sample::packet).collect();
        assert!(writes(&packets).iter().all(|write| write.len() <= 10 + 65_535));
    }
}

#[test]
fn more_flows_than_can_be_open_are_still_in_order() {
    let flows: Vec<_> = (0..20).map(|host| stream(&Sample { host, ..Sample::default() }, 6)).collect();
    let packets: Vec<_> =
        (0..6).flat_map(|number| flows.iter().map(move |flow| flow[number].packet())).collect();
    let written: Vec<_> = writes(&packets).iter().flat_map(|write| cut(write)).collect();
    for flow in &flows {
        let expected: Vec<_> = flow.iter().map(Sample::packet).collect();
        let got: Vec<_> = written.iter().filter(|it| it[15] == flow[0].host).cloned().collect();
        assert_eq!(got, expected);
    }
    assert_eq!(written.len(), packets.len());
}

#[test]
fn a_full_or_half_written_batch_takes_nothing() {
    let packet = Sample::default().packet();
    let mut coalescer = Coalescer::new(LAYOUT, true);
    for _ in 0..MAX_PACKETS {
        assert_eq!(coalescer.handle_packet(&packet, 0..packet.len()), Ok(()));
    }
    for _ in 0..MAX_PACKETS {
        assert_eq!(coalescer.handle_packet(&packet, 0..packet.len()), Err(CoalesceError::Full));
        assert!(coalescer.poll_write(&packet).is_some() && !coalescer.is_empty());
    }
    assert!(coalescer.poll_write(&packet).is_none() && coalescer.is_empty());
    assert_eq!(coalescer.handle_packet(&packet, 0..packet.len()), Ok(()));
    let outside = packet.len() - 1..packet.len() + 1;
    assert_eq!(coalescer.handle_packet(&packet, outside), Err(CoalesceError::OutOfBounds));
}
