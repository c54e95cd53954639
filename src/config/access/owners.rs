//! Addresses and their owners, by the longest prefix.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use wontun_proto::allowed_ips::Prefix;

/// Addresses with the same owner. IPv4 addresses are 32-bit numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OwnedRange<T> {
    pub(crate) addresses: RangeInclusive<u128>,
    pub(crate) owner: T,
}

/// Returns the addresses that have an owner, in ascending order: the owner of an address is that of
/// the longest prefix that contains it, which may be none. All prefixes are of the same family and
/// different. Neighbours with the same owner are one range.
pub(super) fn disjoint<T: Copy + PartialEq>(
    prefixes: impl Iterator<Item = (Prefix, Option<T>)>,
) -> Vec<OwnedRange<T>> {
    let mut prefixes: Vec<_> = prefixes.map(|(prefix, owner)| (bounds(prefix), owner)).collect();
    // a prefix comes before those that it contains
    prefixes.sort_unstable_by_key(|((first, last), _)| (*first, std::cmp::Reverse(*last)));
    let mut ranges = Ranges { found: Vec::new(), next: Some(0) };
    let mut open: Vec<(u128, Option<T>)> = Vec::new();
    for ((first, last), owner) in prefixes {
        while let Some((end, owner)) = open.pop_if(|(end, _)| *end < first) {
            ranges.end(end, owner);
        }
        if let Some(((_, owner), before)) = open.last().zip(first.checked_sub(1)) {
            ranges.end(before, *owner);
        }
        ranges.next = Some(first);
        open.push((last, owner));
    }
    while let Some((end, owner)) = open.pop() {
        ranges.end(end, owner);
    }
    ranges.found
}

struct Ranges<T> {
    found: Vec<OwnedRange<T>>,
    /// The first address after the last range; `None` after the last address of all.
    next: Option<u128>,
}

impl<T: Copy + PartialEq> Ranges<T> {
    /// Ends a range of `owner`, which began after the last one.
    fn end(&mut self, end: u128, owner: Option<T>) {
        let Some(start) = self.next.filter(|start| *start <= end) else { return };
        self.next = end.checked_add(1);
        let Some(owner) = owner else { return };
        match self.found.last_mut() {
            Some(last) if last.owner == owner && last.addresses.end().checked_add(1) == Some(start) => {
                last.addresses = *last.addresses.start()..=end;
            }
            _ => self.found.push(OwnedRange { addresses: start..=end, owner }),
        }
    }
}

/// Returns the first and the last address.
fn bounds(prefix: Prefix) -> (u128, u128) {
    let (first, bits) = match prefix.network() {
        IpAddr::V4(network) => (u128::from(network.to_bits()), 32),
        IpAddr::V6(network) => (network.to_bits(), 128),
    };
    (first, first | u128::MAX.unbounded_shr(128 - bits + u32::from(prefix.length())))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use wontun_proto::allowed_ips::AllowedIps;

    #[test]
    fn the_last_address_is_part_of_the_range() {
        let all = Prefix::of("::".parse::<IpAddr>().unwrap(), 0);
        let last = Prefix::of(IpAddr::from([0xff; 16]), 128);
        let found = disjoint([(all, Some(1)), (last, Some(2))].into_iter());
        let ranges: Vec<_> = found.into_iter().map(|range| (range.addresses, range.owner)).collect();
        assert_eq!(ranges, [(0..=u128::MAX - 1, 1), (u128::MAX..=u128::MAX, 2)]);
    }

    proptest! {
        #[test]
        fn every_address_has_the_owner_of_its_longest_prefix(
            prefixes in prop::collection::vec((any::<[u8; 4]>(), 0_u8..=32, prop::option::of(0..3_u8)), 0..12),
            addresses in prop::collection::vec(any::<[u8; 4]>(), 3),
        ) {
            let mut owners = AllowedIps::new();
            for (network, length, owner) in prefixes {
                owners.insert(Prefix::new(network.into(), length).unwrap(), owner);
            }
            let ranges = disjoint(owners.iter());
            prop_assert!(ranges.windows(2).all(|pair| pair[0].addresses.end() < pair[1].addresses.start()));
            let edges = owners.iter().flat_map(|(prefix, _)| {
                let (first, last) = bounds(prefix);
                [first, last, first.saturating_sub(1), (last + 1).min(u128::from(u32::MAX))]
            });
            let given = addresses.iter().map(|address| u128::from(u32::from_be_bytes(*address)));
            for address in edges.chain(given).collect::<Vec<_>>() {
                let v4 = std::net::Ipv4Addr::from(u32::try_from(address).unwrap());
                let found = ranges.iter().find(|range| range.addresses.contains(&address)).map(|range| range.owner);
                prop_assert_eq!(found, owners.lookup(v4.into()).flatten(), "{}", v4);
            }
        }
    }
}
