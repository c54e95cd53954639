//! Cryptokey routing with 100,000 prefixes: the time to load them, and the time of a lookup. `cargo
//! bench --bench routing`. Times are the thread's CPU time.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

mod cpu;

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use criterion::{Criterion, criterion_group, criterion_main};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use wontun_proto::allowed_ips::{AllowedIps, Prefix};

const PREFIXES: u32 = 100_000;
const LOOKUPS: usize = 1 << 14;

/// Generates prefixes with lengths as providers assign them: few short ones, most of one length,
/// and single hosts.
fn prefix(random: &mut ChaCha20Rng, is_v6: bool) -> Prefix {
    let (network, length) = if is_v6 {
        let bits = u128::from(random.next_u64()) << 64 | u128::from(random.next_u64());
        // 2000::/3, the range from which addresses are assigned
        let address = Ipv6Addr::from_bits(bits >> 3 | 1 << 125);
        (IpAddr::V6(address), [32, 40, 44, 48, 48, 48, 56, 64, 64, 128][random.next_u32() as usize % 10])
    } else {
        let address = Ipv4Addr::from_bits(random.next_u32());
        (IpAddr::V4(address), [16, 20, 22, 24, 24, 24, 24, 28, 32, 32][random.next_u32() as usize % 10])
    };
    Prefix::new(network, length).unwrap()
}

/// Returns a random address in `prefix`.
fn address(random: &mut ChaCha20Rng, prefix: Prefix) -> IpAddr {
    match prefix.network() {
        IpAddr::V4(network) => {
            let host = u32::MAX.unbounded_shr(prefix.length().into());
            IpAddr::V4(Ipv4Addr::from_bits(network.to_bits() | random.next_u32() & host))
        }
        IpAddr::V6(network) => {
            let bits = u128::from(random.next_u64()) << 64 | u128::from(random.next_u64());
            let host = u128::MAX.unbounded_shr(prefix.length().into());
            IpAddr::V6(Ipv6Addr::from_bits(network.to_bits() | bits & host))
        }
    }
}

fn load(prefixes: &[Prefix]) -> AllowedIps<u32> {
    let mut table = AllowedIps::new();
    for (peer, prefix) in (0..).zip(prefixes) {
        table.insert(*prefix, peer);
    }
    table
}

fn routing(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("100,000 prefixes");
    for (family, is_v6) in [("IPv4", false), ("IPv6", true)] {
        let mut random = ChaCha20Rng::seed_from_u64(7);
        let prefixes: Vec<_> = (0..PREFIXES).map(|_| prefix(&mut random, is_v6)).collect();
        let table = load(&prefixes);
        let addresses: Vec<_> = (0..LOOKUPS)
            .map(|_| {
                let of = prefixes[random.next_u32() as usize % prefixes.len()];
                address(&mut random, of)
            })
            .collect();
        // each lookup depends on the one before, as a packet's does on what is known of the packet
        let mut next = 0;
        group.bench_function(format!("{family}: look-up"), |bencher| {
            bencher.iter_custom(|iterations| {
                let start = cpu::time();
                for _ in 0..iterations {
                    let found = black_box(table.lookup(addresses[next]));
                    next = (next + 1 + usize::from(found.is_none())) % LOOKUPS;
                }
                cpu::time() - start
            });
        });
        group.sample_size(10);
        group.bench_function(format!("{family}: load"), |bencher| {
            bencher.iter_custom(|iterations| {
                let start = cpu::time();
                for _ in 0..iterations {
                    black_box(load(&prefixes));
                }
                cpu::time() - start
            });
        });
        group.sample_size(100);
    }
    group.finish();
}

criterion_group!(benches, routing);
criterion_main!(benches);
