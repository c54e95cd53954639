//! Conversion of networks to ranges of addresses.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use wontun_proto::allowed_ips::Prefix;

/// Returns the addresses of one family that lie in any of `prefixes`: ranges in ascending order
/// that neither overlap nor touch. IPv4 addresses are 32-bit numbers.
pub(super) fn merged(prefixes: &[Prefix], v6: bool) -> Vec<RangeInclusive<u128>> {
    let of_family = prefixes.iter().filter(|prefix| prefix.network().is_ipv6() == v6);
    let mut ranges: Vec<_> = of_family.map(|prefix| range(*prefix)).collect();
    ranges.sort_unstable_by_key(|range| *range.start());
    let mut merged: Vec<RangeInclusive<u128>> = Vec::new();
    for range in ranges {
        match merged.last_mut() {
            Some(last) if range.start().saturating_sub(1) <= *last.end() => {
                *last = *last.start()..=*last.end().max(range.end());
            }
            _ => merged.push(range),
        }
    }
    merged
}

/// Returns the addresses of a network.
pub(super) fn range(prefix: Prefix) -> RangeInclusive<u128> {
    let (first, bits) = match prefix.network() {
        IpAddr::V4(network) => (u128::from(network.to_bits()), 32),
        IpAddr::V6(network) => (network.to_bits(), 128),
    };
    let shared = 128 - bits + u32::from(prefix.length());
    first..=first | u128::MAX.unbounded_shr(shared)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn prefix(text: &str) -> Prefix {
        let (address, length) = text.split_once('/').unwrap();
        Prefix::new(address.parse().unwrap(), length.parse().unwrap()).unwrap()
    }

    #[test]
    fn neighbours_become_one() {
        let all = ["10.8.0.0/24", "fd00::/64", "10.8.1.0/24", "10.8.0.7/32", "10.9.0.1/32"].map(prefix);
        assert_eq!(merged(&all, false), [0x0a08_0000..=0x0a08_01ff, 0x0a09_0001..=0x0a09_0001]);
        assert_eq!(merged(&all, true), [0xfd00 << 112..=(0xfd00 << 112) + u128::from(u64::MAX)]);
        assert_eq!(merged(&[prefix("0.0.0.0/0"), prefix("255.0.0.0/8")], false), [0..=0xffff_ffff]);
        assert_eq!(merged(&[prefix("::/0"), prefix("::/128")], true), [0..=u128::MAX]);
        assert_eq!(merged(&[], true), []);
    }

    proptest! {
        #[test]
        fn the_ranges_hold_what_the_prefixes_hold(
            prefixes in prop::collection::vec((any::<[u8; 4]>(), 0_u8..=32), 0..12),
            address: [u8; 4],
        ) {
            let prefixes: Vec<Prefix> =
                prefixes.into_iter().map(|(network, length)| Prefix::new(network.into(), length).unwrap()).collect();
            let ranges = merged(&prefixes, false);
            let mut addresses = vec![IpAddr::from(address)];
            addresses.extend(prefixes.iter().map(|prefix| prefix.network()));
            for address in addresses {
                let IpAddr::V4(v4) = address else { unreachable!() };
                prop_assert_eq!(
                    ranges.iter().any(|range| range.contains(&u128::from(v4.to_bits()))),
                    prefixes.iter().any(|prefix| prefix.contains(address))
                );
            }
            prop_assert!(ranges.windows(2).all(|pair| *pair[0].end() + 1 < *pair[1].start()));
        }
    }
}
