//! Property tests of coalescing: arbitrary mixtures of flows.

use proptest::prelude::*;

use super::*;

/// A packet, and its placement in the stream of its flow.
#[derive(Clone, Debug)]
struct Step {
    flow: usize,
    len: usize,
    /// Selects an anomaly; most values select none.
    oddity: u8,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let len = prop_oneof![6 => Just(300_usize), 1 => 0_usize..400];
    let step = (0_usize..6, len, any::<u8>()).prop_map(|(flow, len, oddity)| Step { flow, len, oddity });
    prop::collection::vec(step, 1..200)
}

/// Returns the packets of several flows, interleaved, with anomalies, and the flow of each.
fn mixed(flows: &[Sample], steps: &[Step]) -> Vec<(usize, Vec<u8>)> {
    let mut flows = flows.to_vec();
    let mut packets = vec![];
    for Step { flow, len, oddity } in steps {
        let flow = flow % flows.len();
        let state = &mut flows[flow];
        let mut sample = Sample { payload: payload(*len, (*oddity).into()), ..state.clone() };
        state.sequence = state.sequence.wrapping_add(u32::try_from(*len).unwrap());
        state.identification = state.identification.wrapping_add(1);
        let mut wrong = None;
        match oddity {
            1 => sample.flags |= PSH,
            2 => sample.flags |= FIN | PSH,
            3 => sample.flags |= CWR,
            4 => state.acknowledgment += 1,
            5 => sample.class |= 3,
            6 => sample.sequence = sample.sequence.wrapping_sub(300),
            7 => wrong = Some(sample.headers_len() - 1),
            8 => sample.ip_options = vec![1; 8],
            9 => state.identification = 0,
            _ => {}
        }
        let mut packet = sample.packet();
        if let Some(place) = wrong {
            packet[place] ^= 1;
        }
        packets.push((flow, packet));
    }
    packets
}

proptest! {
    #[test]
    fn joining_what_was_cut_gives_the_super_packet_back(
        sample in samples(0),
        len in 1_usize..6000,
        size in 1_usize..1500,
        seed: u64,
    ) {
        let size = size.max(len.div_ceil(MAX_SEGMENTS));
        let [from, from_low, to, to_low] = sample.ports;
        let sample = Sample {
            ip_options: vec![],
            // only values that can be merged: not UDP to a port of tunnels, all of which are lower
            ports: [from, from_low, to | 0x80, to_low],
            class: sample.class & !1,
            flags: sample.flags & (PSH | ECE | CWR) | ACK,
            payload: payload(len, seed),
            ..sample
        };
        let first = Segmentation {
            gso: match (sample.tcp, sample.six) {
                (true, false) => crate::virtio::Gso::TcpV4,
                (true, true) => crate::virtio::Gso::TcpV6,
                (false, _) => crate::virtio::Gso::Udp,
            },
            ecn: sample.tcp && sample.flags & CWR != 0,
            size: u16::try_from(size).unwrap(),
        };
        let start = u16::try_from(sample.offset()).unwrap();
        let offset = u16::try_from(sample.checksum_field()).unwrap() - start;
        let header = Header {
            headers_len: u16::try_from(sample.headers_len()).unwrap(),
            segmentation: Some(first),
            tunnel: None,
            checksum: Some(PartialChecksum { start, offset }),
        };
        let super_packet = [&header.to_bytes()[..10], &sample.partial()].concat();
        let segments = cut(&super_packet);
        prop_assert_eq!(segments.len(), len.div_ceil(size));
        let written = writes(&segments);
        let expected = match segments.len() {
            1 => [&[0; 10][..], &sample.packet()].concat(),
            _ => super_packet,
        };
        prop_assert_eq!(written, [expected]);
    }

    #[test]
    fn whatever_is_joined_is_cut_into_the_same_packets(
        flows in prop::collection::vec(samples(0), 1..5),
        steps in steps(),
        every in prop::option::of(1_usize..60),
    ) {
        let flows: Vec<_> = flows
            .into_iter()
            .zip(1..)
            .map(|(flow, host)| Sample { host, flags: flow.flags & ECE | ACK, class: flow.class & !1, ..flow })
            .collect();
        let packets = mixed(&flows, &steps);
        let bytes: Vec<_> = packets.iter().map(|(_, packet)| packet.clone()).collect();
        let written = every.map_or_else(|| writes(&bytes), |every| writes_completed(&bytes, every));
        let cut: Vec<_> = written.iter().flat_map(|write| cut(write)).collect();
        for flow in 0..flows.len() {
            let host = flows[flow].host;
            let of_flow = |packet: &&Vec<u8>| packet[if flows[flow].six { 23 } else { 15 }] == host
                && (packet[0] >> 4 == 6) == flows[flow].six;
            let came: Vec<_> = packets
                .iter()
                .filter(|(of, _)| *of == flow)
                .map(|(_, packet)| without_identification(packet))
                .collect();
            let written: Vec<_> = cut.iter().filter(of_flow).map(|it| without_identification(it)).collect();
            prop_assert_eq!(written, came);
        }
        prop_assert_eq!(cut.len(), packets.len());
        // incorrect checksums stay incorrect, correct ones correct
        let intact = |packets: &[Vec<u8>]| packets
            .iter()
            .filter(|packet| transport::find(packet).is_some_and(|it| slow_is_intact(packet, it.offset)))
            .count();
        prop_assert_eq!(intact(&cut), intact(&bytes));
    }

    #[test]
    fn the_short_way_joins_what_the_long_one_does(
        flows in prop::collection::vec(samples(0), 1..3),
        steps in steps(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..60, any::<u8>()), 0..6),
    ) {
        let flows: Vec<_> = flows
            .into_iter()
            .map(|flow| Sample { flags: flow.flags & ECE | ACK, class: flow.class & !1, ip_options: vec![], ..flow })
            .collect();
        let mut packets: Vec<_> = mixed(&flows, &steps).into_iter().map(|(_, packet)| packet).collect();
        for (packet, place, change) in changes {
            let packet = packet.get_mut(&mut packets);
            // where the sums stay correct, more than one rule must detect it
            if let [first, second] = [place & !1, place & !1 | 8].map(|place| packet.get(place).copied())
                && let (Some(first), Some(second)) = (first, second)
            {
                packet[place & !1] = second;
                packet[place & !1 | 8] = first;
            }
            if let Some(byte) = packet.get_mut(place).filter(|_| change & 1 == 1) {
                *byte ^= change;
            }
        }
        let long = writes_with(&mut Coalescer::new(LAYOUT, true), &packets, |it| it.latest = OPEN_FLOWS);
        prop_assert_eq!(writes(&packets), long);
    }

    #[test]
    fn any_bytes_are_answered(packets in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..120), 0..20)) {
        let packets: Vec<_> = packets
            .into_iter()
            .map(|mut packet| {
                if let [first, _, high, low, _, _, flags, ..] = packet.as_mut_slice() {
                    *first = 0x45;
                    (*high, *low, *flags) = (0, 0, *flags & 0x40);
                }
                if let Ok(len) = u8::try_from(packet.len()) && len > 9 {
                    packet[3] = len;
                    packet[9] = if packet[9] & 1 == 0 { 6 } else { 17 };
                }
                packet
            })
            .collect();
        let written: Vec<_> = writes(&packets).iter().map(|write| write[10..].to_vec()).collect();
        prop_assert_eq!(written.len(), packets.len());
        // an arena other than the one that was shown is an error of the caller, but must not panic
        let (arena, places) = arena(&packets);
        let mut coalescer = Coalescer::new(LAYOUT, true);
        for place in places {
            let _ = coalescer.handle_packet(&arena, place);
        }
        while let Some(gather) = coalescer.poll_write(&arena[..arena.len() / 2]) {
            let _ = gather.pieces().count();
        }
    }
}
