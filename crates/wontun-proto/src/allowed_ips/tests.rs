use super::*;
use proptest::prelude::*;

fn prefix(text: &str) -> Prefix {
    let (address, length) = text.split_once('/').unwrap();
    Prefix::new(address.parse().unwrap(), length.parse().unwrap()).unwrap()
}

fn table(peer_prefixes: &[(&str, u32)]) -> AllowedIps<u32> {
    let mut table = AllowedIps::new();
    for (text, peer) in peer_prefixes {
        table.insert(prefix(text), *peer);
    }
    table.check();
    table
}

fn listed(table: &AllowedIps<u32>, peer: u32) -> Vec<String> {
    table.prefixes_of(peer).map(|prefix| prefix.to_string()).collect()
}

impl AllowedIps<u32> {
    fn find(&self, address: &str) -> Option<u32> {
        self.lookup(address.parse().unwrap())
    }

    /// Checks the invariants, and returns the number of nodes.
    fn check(&self) -> usize {
        let ((v4, v4_nodes), (v6, v6_nodes)) = (self.v4.check(), self.v6.check());
        assert_eq!((v4 + v6, v4 + v6 == 0), (self.len(), self.is_empty()));
        let listed: usize = self.peer_prefixes.keys().map(|&peer| self.prefixes_of(peer).count()).sum();
        assert_eq!(listed, self.len());
        let free = std::iter::successors(self.entry(self.free), |entry| self.entry(entry.next)).count();
        assert_eq!(listed + free, self.entries.len());
        v4_nodes + v6_nodes
    }
}

#[test]
fn the_longest_prefix_wins_whatever_the_order() {
    let peer_prefixes =
        [("0.0.0.0/0", 0), ("10.0.0.0/8", 1), ("10.1.0.0/16", 2), ("10.1.1.1/32", 3), ("::/0", 4)];
    let backwards: Vec<_> = peer_prefixes.iter().rev().copied().collect();
    for table in [table(&peer_prefixes), table(&backwards)] {
        for (address, peer) in [
            ("9.255.255.255", 0),
            ("10.0.255.255", 1),
            ("10.1.1.0", 2),
            ("10.1.1.1", 3),
            ("10.1.1.2", 2),
            ("11.0.0.0", 0),
            ("::ffff:10.1.1.1", 4),
        ] {
            assert_eq!(table.find(address), Some(peer), "{address}");
        }
    }
}

#[test]
fn a_short_prefix_takes_nothing_from_a_long_one() {
    // the source 10.0.0.2 is peer 2's although peer 1's prefix covers it too
    let table = table(&[("10.0.0.2/32", 2), ("10.0.0.0/24", 1)]);
    assert_eq!(table.find("10.0.0.2"), Some(2));
    assert_eq!(table.find("10.0.0.3"), Some(1));
}

#[test]
fn a_prefix_moves_to_the_last_peer_that_claims_it() {
    let mut table = table(&[("10.0.0.0/8", 1), ("10.1.0.0/16", 1), ("fd00::/8", 1)]);
    assert_eq!(table.insert(prefix("10.0.0.0/8"), 2), Some(1));
    assert_eq!((table.find("10.2.0.1"), table.find("10.1.0.1")), (Some(2), Some(1)));
    assert_eq!(listed(&table, 1), ["10.1.0.0/16", "fd00::/8"]);
    assert_eq!(listed(&table, 2), ["10.0.0.0/8"]);
    assert_eq!(table.insert(prefix("10.1.0.0/16"), 1), Some(1));
    assert_eq!(listed(&table, 1), ["fd00::/8", "10.1.0.0/16"]);
    assert_eq!(table.len(), 3);
}

#[test]
fn what_is_removed_uncovers_what_it_hid() {
    let mut table = table(&[("10.0.0.0/8", 1), ("10.0.0.0/9", 2), ("10.128.0.0/9", 3)]);
    assert!(!table.remove_if_owned(prefix("10.0.0.0/9"), 3), "it is another's");
    assert_eq!(table.find("10.0.0.1"), Some(2));
    assert!(table.remove_if_owned(prefix("10.0.0.0/9"), 2));
    assert_eq!(table.find("10.0.0.1"), Some(1));
    assert_eq!(table.remove(prefix("10.0.0.0/8")), Some(1));
    assert_eq!((table.find("10.0.0.1"), table.find("10.128.0.1")), (None, Some(3)));
    assert_eq!(table.remove(prefix("10.0.0.0/8")), None);
    assert_eq!(table.remove(prefix("10.0.0.0/7")), None);
    table.check();
}

#[test]
fn every_length_nests() {
    let ones: Ipv6Addr = Ipv6Addr::from_bits(u128::MAX);
    let mut table = AllowedIps::new();
    for length in 0..=128 {
        table.insert(Prefix::new(ones.into(), length).unwrap(), u32::from(length));
    }
    table.check();
    for length in 0..128 {
        let leaves = Ipv6Addr::from_bits(u128::MAX ^ (1 << (127 - length)));
        assert_eq!(table.lookup_v6(leaves), Some(length));
    }
    assert_eq!(table.lookup_v6(ones), Some(128));
    for length in (0..=128).rev() {
        assert_eq!(table.lookup_v6(ones), Some(length));
        assert_eq!(table.remove_peer(length), 1);
    }
    table.check();
    assert!(table.is_empty());
}

#[test]
fn memory_is_used_again() {
    let mut table = AllowedIps::new();
    for round in 0..10 {
        for host in 0..1000_u32 {
            let address = Ipv4Addr::from_bits(host.wrapping_mul(0x9e37_79b9) ^ round);
            table.insert(Prefix::new(address.into(), 32).unwrap(), host % 7);
        }
        let removed: usize = (0..7).map(|peer| table.remove_peer(peer)).sum();
        assert_eq!(removed, 1000);
        table.check();
    }
    assert_eq!((table.check(), table.entries.len()), (2 * 1000 - 1, 1000));
    assert!(table.peer_prefixes.is_empty());
}

#[test]
fn a_prefix_takes_the_memory_that_is_documented() {
    let entry = size_of::<Entry<u32>>();
    assert_eq!(2 * size_of::<trie::Node<u32>>() + entry, 76);
    assert_eq!(2 * size_of::<trie::Node<u128>>() + entry, 100);
}

/// A reference implementation that compares every prefix.
#[derive(Debug, Default)]
struct Naive(Vec<(Prefix, u32)>);

impl Naive {
    fn remove_if(&mut self, gone: impl Fn(Prefix, u32) -> bool) -> Vec<u32> {
        self.0.extract_if(.., |(prefix, peer)| gone(*prefix, *peer)).map(|(_, peer)| peer).collect()
    }

    /// Returns an existing prefix instead of `prefix`, more often than not.
    fn some_of(&self, prefix: Prefix) -> Prefix {
        self.0.get(usize::from(prefix.length())).map_or(prefix, |(there, _)| *there)
    }

    fn lookup(&self, address: IpAddr) -> Option<u32> {
        let matching = self.0.iter().filter(|(prefix, _)| prefix.contains(address));
        matching.max_by_key(|(prefix, _)| prefix.length()).map(|(_, peer)| *peer)
    }
}

#[derive(Clone, Debug)]
enum Change {
    Insert(Prefix, u32),
    Remove(Prefix),
    RemoveFrom(Prefix, u32),
    RemovePeer(u32),
}

/// Returns addresses with long common prefixes, so that prefixes nest and branch at every depth.
fn any_address() -> impl Strategy<Value = IpAddr> {
    let crowded = (any::<u128>(), any::<u128>(), 0_u32..=128)
        .prop_map(|(mask, bits, shift)| (mask & bits).unbounded_shr(shift));
    prop_oneof![
        crowded.clone().prop_map(|bits| IpAddr::V4(Ipv4Addr::from_bits((bits >> 96) as u32))),
        crowded.prop_map(|bits| IpAddr::V6(Ipv6Addr::from_bits(bits))),
        (0_u32..16).prop_map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits << 28))),
        any::<IpAddr>(),
    ]
}

fn any_prefix() -> impl Strategy<Value = Prefix> {
    let few =
        (0_u32..8, 0_u8..=4).prop_map(|(bits, length)| (Ipv4Addr::from_bits(bits << 28).into(), length));
    prop_oneof![few, (any_address(), 0_u8..=128)].prop_map(|(address, length)| {
        Prefix::new(address, length % if address.is_ipv4() { 33 } else { 129 }).unwrap()
    })
}

fn any_change() -> impl Strategy<Value = Change> {
    prop_oneof![
        12 => (any_prefix(), 0..4_u32).prop_map(|(prefix, peer)| Change::Insert(prefix, peer)),
        4 => any_prefix().prop_map(Change::Remove),
        2 => (any_prefix(), 0..4_u32).prop_map(|(prefix, peer)| Change::RemoveFrom(prefix, peer)),
        1 => (0..4_u32).prop_map(Change::RemovePeer),
    ]
}

/// Returns the first and last address of the network, and their neighbours outside.
fn edges(prefix: Prefix) -> [IpAddr; 4] {
    match prefix.network() {
        IpAddr::V4(v4) => {
            let first = v4.to_bits();
            let last = first | u32::MAX.unbounded_shr(prefix.length().into());
            [first, last, first.wrapping_sub(1), last.wrapping_add(1)]
                .map(|bits| Ipv4Addr::from_bits(bits).into())
        }
        IpAddr::V6(v6) => {
            let first = v6.to_bits();
            let last = first | u128::MAX.unbounded_shr(prefix.length().into());
            [first, last, first.wrapping_sub(1), last.wrapping_add(1)]
                .map(|bits| Ipv6Addr::from_bits(bits).into())
        }
    }
}

proptest! {
    #[test]
    fn answers_as_a_naive_router_does(
        changes in prop::collection::vec(any_change(), 0..80),
        addresses in prop::collection::vec(any_address(), 20),
    ) {
        let mut table = AllowedIps::new();
        let mut naive = Naive::default();
        for change in changes {
            match change {
                Change::Insert(prefix, peer) => {
                    let before = naive.remove_if(|other, _| other == prefix);
                    naive.0.push((prefix, peer));
                    prop_assert_eq!(table.insert(prefix, peer), before.first().copied());
                }
                Change::Remove(prefix) => {
                    let prefix = naive.some_of(prefix);
                    let before = naive.remove_if(|other, _| other == prefix);
                    prop_assert_eq!(table.remove(prefix), before.first().copied());
                }
                Change::RemoveFrom(prefix, peer) => {
                    let prefix = naive.some_of(prefix);
                    let before = naive.remove_if(|other, owner| (other, owner) == (prefix, peer));
                    prop_assert_eq!(table.remove_if_owned(prefix, peer), !before.is_empty());
                }
                Change::RemovePeer(peer) => {
                    let before = naive.remove_if(|_, owner| owner == peer);
                    prop_assert_eq!(table.remove_peer(peer), before.len());
                }
            }
            table.check();
        }
        for peer in 0..4 {
            let expected: Vec<_> =
                naive.0.iter().filter(|(_, owner)| *owner == peer).map(|(prefix, _)| *prefix).collect();
            prop_assert_eq!(table.prefixes_of(peer).collect::<Vec<_>>(), expected);
        }
        let sorted = |mut all: Vec<(Prefix, u32)>| { all.sort_unstable(); all };
        prop_assert_eq!(sorted(table.iter().collect()), sorted(naive.0.clone()));
        let edges = naive.0.iter().flat_map(|(prefix, _)| edges(*prefix));
        for address in edges.chain(addresses) {
            prop_assert_eq!(table.lookup(address), naive.lookup(address), "{}", address);
        }
    }
}
