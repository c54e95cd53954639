//! Packet processing on one core besides the cryptography: splitting super-packets, coalescing
//! segments, checksums. `cargo bench --bench packet`. Times are the thread's CPU time.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

mod cpu;

use std::hint::black_box;
use std::ops::Range;

use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use wontun_packet::checksum;
use wontun_packet::coalesce::{Coalescer, MAX_PIECES};
use wontun_packet::split::Split;
use wontun_packet::transport::{TCP, UDP};
use wontun_packet::virtio::{Gso, Header, Layout, PartialChecksum, Segmentation};

/// Bytes of the packets that a super-packet is split into.
const MTU: usize = 1420;
/// Bytes in front of and behind a packet in a batch: WireGuard's header and tag.
const BEFORE: usize = 16;
const BEHIND: usize = 16;

type Group<'a> = BenchmarkGroup<'a, criterion::measurement::WallTime>;

/// Returns a super-packet of `len` bytes for packets of `mtu`, as a TUN device returns it: without
/// a checksum.
fn super_packet(v6: bool, protocol: u8, len: usize, mtu: usize) -> (Header, Vec<u8>) {
    let mut packet = vec![0; len];
    for (place, byte) in packet.iter_mut().enumerate() {
        *byte = (place * 7 + place / 251).to_le_bytes()[0];
    }
    let ip = if v6 { 40 } else { 20 };
    let total = u16::try_from(len).unwrap();
    if v6 {
        packet[..8].copy_from_slice(&[0x60, 0, 0, 0, 0, 0, protocol, 64]);
        packet[4..6].copy_from_slice(&(total - 40).to_be_bytes());
        packet[8..40].copy_from_slice(&[0xfd; 32]);
    } else {
        packet[..12].copy_from_slice(&[0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, protocol, 0, 0]);
        packet[2..4].copy_from_slice(&total.to_be_bytes());
        packet[12..20].copy_from_slice(&[10, 8, 0, 1, 10, 8, 0, 2]);
    }
    let (headers, offset) = if protocol == TCP {
        // an acknowledgement, no options
        packet[ip..ip + 20]
            .copy_from_slice(&[1, 2, 3, 4, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 1, 0, 0, 0, 0, 0]);
        (ip + 20, 16)
    } else {
        packet[ip..ip + 8].copy_from_slice(&[1, 2, 3, 4, 0, 0, 0, 0]);
        packet[ip + 4..ip + 6].copy_from_slice(&(total - u16::try_from(ip).unwrap()).to_be_bytes());
        (ip + 8, 6)
    };
    let gso = match (protocol, v6) {
        (TCP, false) => Gso::TcpV4,
        (TCP, true) => Gso::TcpV6,
        _ => Gso::Udp,
    };
    let header = Header {
        headers_len: u16::try_from(headers).unwrap(),
        segmentation: Some(Segmentation { gso, ecn: false, size: u16::try_from(mtu - headers).unwrap() }),
        tunnel: None,
        checksum: Some(PartialChecksum { start: u16::try_from(ip).unwrap(), offset }),
    };
    (header, packet)
}

/// Splits it as the tunnel does, to the positions where each packet would be sealed.
fn cut(header: &Header, packet: &[u8], batch: &mut [u8], mut each: impl FnMut(Range<usize>)) {
    let mut split = Split::new(header, packet).unwrap();
    let mut end = 0;
    while let Some(len) = split.next_len() {
        let place = end + BEFORE..end + BEFORE + len;
        split.write_next(packet, &mut batch[place.clone()]).unwrap();
        end = place.end + BEHIND;
        each(place);
    }
}

fn measure(group: &mut Group, name: &str, mut measured: impl FnMut()) {
    group.bench_function(name, |bencher| {
        bencher.iter_custom(|iterations| {
            let start = cpu::time();
            for _ in 0..iterations {
                measured();
            }
            cpu::time() - start
        });
    });
}

fn split(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("split");
    let len = 61_880;
    group.throughput(Throughput::Bytes(len as u64));
    let mut batch = vec![0; 70_000];
    for (name, v6, protocol) in
        [("TCP over IPv4", false, TCP), ("TCP over IPv6", true, TCP), ("UDP over IPv4", false, UDP)]
    {
        let (header, packet) = super_packet(v6, protocol, len, MTU);
        measure(&mut group, name, || {
            cut(black_box(&header), black_box(&packet), &mut batch, |place| {
                black_box(place);
            });
            black_box(&batch);
        });
    }
    group.finish();
}

/// Returns the packets to be coalesced, laid out consecutively with the tunnel's headers between
/// them.
fn stream(v6: bool, protocol: u8, count: usize, mtu: usize) -> (Vec<u8>, Vec<Range<usize>>) {
    let headers = if v6 { 40 } else { 20 } + if protocol == TCP { 20 } else { 8 };
    let (header, packet) = super_packet(v6, protocol, headers + count * (mtu - headers), mtu);
    let (mut arena, mut places) = (vec![0; 70_000], vec![]);
    cut(&header, &packet, &mut arena, |place| places.push(place));
    assert_eq!(places.len(), count);
    (arena, places)
}

fn coalesce(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("coalesce");
    for (name, v6, protocol, count, mtu) in [
        ("44 of 1,420 bytes, TCP over IPv4", false, TCP, 44, MTU),
        ("44 of 1,420 bytes, TCP over IPv6", true, TCP, 44, MTU),
        ("64 of 92 bytes, UDP over IPv4", false, UDP, 64, 92),
    ] {
        let (arena, places) = stream(v6, protocol, count, mtu);
        let mut coalescer = Coalescer::new(Layout::Short, true);
        group.throughput(Throughput::Elements(count as u64));
        let mut writes = 0;
        measure(&mut group, name, || {
            for place in &places {
                coalescer.handle_packet(black_box(&arena), place.clone()).unwrap();
            }
            writes = 0;
            while let Some(gather) = coalescer.poll_write(&arena) {
                // as for one writev
                let mut pieces = [&[][..]; MAX_PIECES];
                for (to, piece) in pieces.iter_mut().zip(gather.pieces()) {
                    *to = piece;
                }
                black_box(&pieces);
                writes += 1;
            }
        });
        assert_eq!(writes, 1, "they are joined");
    }
    group.finish();
}

fn sums(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("checksum");
    for len in [20, 92, MTU] {
        // at its offset behind WireGuard's header
        let bytes: Vec<_> = (0..BEFORE + len).map(|place| (place * 7).to_le_bytes()[0]).collect();
        group.throughput(Throughput::Bytes(len as u64));
        measure(&mut group, &format!("{len} bytes"), || {
            black_box(checksum::checksum(black_box(&bytes[BEFORE..])));
        });
    }
    group.finish();
}

criterion_group!(benches, split, coalesce, sums);
criterion_main!(benches);
