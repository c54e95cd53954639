//! ChaCha20-Poly1305 of several libraries, used as in the tunnel: batches of 44 packets (one
//! super-packet's), in place, with the key set up once. `cargo bench` in this folder shows the time
//! per batch, `./compare.py 5` the time per packet over several runs. Times are the thread's CPU
//! time.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

#[path = "../cpu/mod.rs"]
mod cpu;
#[cfg(ipsec_mb)]
#[allow(dead_code, unused_imports, reason = "its tests are the project's")]
#[path = "../../crates/wontun-sys/src/ipsec_mb.rs"]
mod ipsec_mb;
mod libraries;

use std::hint::black_box;
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};

use libraries::{Aead, TAG};

/// Packets of one batch: a super-packet of 64 KiB in segments of 1420 bytes.
const BATCH: usize = 44;
/// Bytes in front of each packet: WireGuard's header.
const HEADER: usize = 16;
/// Bytes that are processed between two clock reads: they fit a core's L2 cache, and the cost of a
/// clock read is negligible against them.
const BETWEEN: usize = 256 * 1024;

fn nonce(counter: u64) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&counter.to_le_bytes());
    nonce
}

/// Packets laid out consecutively, as in a buffer for `UDP_SEGMENT`.
struct Packets {
    bytes: Vec<u8>,
    len: usize,
}

impl Packets {
    fn new(len: usize, batches: usize) -> Self {
        let stride = HEADER + len + TAG;
        let bytes = (0..stride * BATCH * batches).map(|place| place.to_le_bytes()[0]).collect();
        Self { bytes, len }
    }

    fn seal<A: Aead>(&mut self, aead: &mut A, batches: usize, counter: u64) {
        let stride = HEADER + self.len + TAG;
        for (packet, counter) in self.bytes.chunks_exact_mut(stride).take(batches * BATCH).zip(counter..) {
            let (data, tag) = packet[HEADER..].split_at_mut(self.len);
            tag.copy_from_slice(&aead.seal(nonce(counter), data));
        }
    }

    fn open<A: Aead>(&mut self, aead: &mut A, batches: usize, counter: u64) {
        let stride = HEADER + self.len + TAG;
        for (packet, counter) in self.bytes.chunks_exact_mut(stride).take(batches * BATCH).zip(counter..) {
            let (data, tag) = packet[HEADER..].split_at_mut(self.len);
            let tag = (&*tag).try_into().unwrap();
            assert!(aead.open(nonce(counter), data, tag));
        }
    }
}

/// Asserts that the library gives the same results as the one that the tunnel uses: otherwise the
/// comparison would be invalid.
fn agrees<A: Aead>(len: usize) {
    let mut ours = Packets::new(len, 1);
    let mut theirs = Packets::new(len, 1);
    let plain = ours.bytes.clone();
    ours.seal(&mut libraries::Ring::new([7; 32]), 1, 0x0102_0304_0506);
    let mut aead = A::new([7; 32]);
    theirs.seal(&mut aead, 1, 0x0102_0304_0506);
    assert!(ours.bytes == theirs.bytes, "{}", A::NAME);
    let mut wrong = theirs.bytes[HEADER..HEADER + len].to_vec();
    assert!(!aead.open(nonce(0x0102_0304_0506), &mut wrong, [0; TAG]), "{}", A::NAME);
    theirs.open(&mut aead, 1, 0x0102_0304_0506);
    let packets = |bytes: &[u8]| {
        bytes.chunks(HEADER + len + TAG).flat_map(|it| it[..HEADER + len].to_vec()).collect::<Vec<_>>()
    };
    assert!(packets(&theirs.bytes) == packets(&plain), "{}", A::NAME);
}

fn library<A: Aead>(group: &mut BenchmarkGroup<'_, WallTime>, len: usize, seal: bool) {
    agrees::<A>(len);
    let mut aead = A::new([3; 32]);
    let at_once = BETWEEN / ((HEADER + len + TAG) * BATCH);
    let mut packets = Packets::new(len, at_once);
    packets.seal(&mut aead, at_once, 0);
    let sealed = packets.bytes.clone();
    group.bench_function(A::NAME, |bencher| {
        bencher.iter_custom(|iterations| {
            let mut total = Duration::ZERO;
            let mut left = usize::try_from(iterations).unwrap();
            while left > 0 {
                let batches = left.min(at_once);
                left -= batches;
                packets.bytes.copy_from_slice(&sealed);
                let start = cpu::time();
                if seal {
                    packets.seal(&mut aead, batches, 0);
                } else {
                    packets.open(&mut aead, batches, 0);
                }
                total += cpu::time() - start;
                black_box(&packets.bytes);
            }
            total
        });
    });
}

fn compare(criterion: &mut Criterion) {
    for len in [1420, 64] {
        for (what, seal) in [("seal", true), ("open", false)] {
            let mut group = criterion.benchmark_group(format!("{what} {len} bytes"));
            group.throughput(Throughput::Elements(BATCH as u64));
            group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(2));
            library::<libraries::Ring>(&mut group, len, seal);
            #[cfg(feature = "aws-lc")]
            library::<libraries::AwsLc>(&mut group, len, seal);
            library::<libraries::RustCrypto010>(&mut group, len, seal);
            library::<libraries::RustCrypto011>(&mut group, len, seal);
            library::<libraries::Graviola>(&mut group, len, seal);
            library::<libraries::Rscrypto>(&mut group, len, seal);
            #[cfg(feature = "openssl")]
            library::<libraries::OpenSsl>(&mut group, len, seal);
            #[cfg(ipsec_mb)]
            library::<libraries::IpsecMb>(&mut group, len, seal);
            group.finish();
        }
    }
}

criterion_group!(benches, compare);
criterion_main!(benches);
