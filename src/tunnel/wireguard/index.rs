//! The indices that peers address us by: random, so that nobody can guess one, and found in one look-up.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::random::{self, Random};

/// Names a peer of an interface. The id of a removed peer is never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId {
    pub(super) slot: u32,
    pub(super) generation: u32,
}

/// The keys of the table are random numbers of our own: spreading them over the high bits is all there is to do.
#[derive(Default)]
struct Spread(u64);

impl Hasher for Spread {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte));
        }
    }

    fn write_u32(&mut self, number: u32) {
        self.0 = (self.0 ^ u64::from(number)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

/// Which index belongs to which peer.
#[derive(Default)]
pub(super) struct IndexTable(HashMap<u32, PeerId, BuildHasherDefault<Spread>>);

impl IndexTable {
    /// A new random index for `peer`.
    pub(super) fn allocate(&mut self, peer: PeerId, random: &mut dyn Random) -> u32 {
        let mut index = random::number(random);
        while self.0.contains_key(&index) {
            index = index.wrapping_add(random::number(random) | 1);
        }
        self.0.insert(index, peer);
        index
    }

    /// Takes an index out of use.
    pub(super) fn free(&mut self, index: u32) {
        self.0.remove(&index);
    }

    /// Whose index it is.
    pub(super) fn peer(&self, index: u32) -> Option<PeerId> {
        self.0.get(&index).copied()
    }

    /// Indices in use.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::super::random::Seeded;
    use super::*;

    const PEER: PeerId = PeerId { slot: 1, generation: 2 };

    #[test]
    fn fault_12_indices_are_random_over_the_whole_range() {
        let mut table = IndexTable::default();
        let mut random = Seeded::new(1);
        let indices: Vec<_> = (0..4096).map(|_| table.allocate(PEER, &mut random)).collect();
        assert_eq!(table.len(), 4096);
        for bit in 0..32 {
            let ones = indices.iter().filter(|index| *index >> bit & 1 == 1).count();
            assert!((1800..2300).contains(&ones), "bit {bit} is set in {ones} of 4096");
        }
        let mut steps: Vec<_> = indices.windows(2).map(|pair| pair[1].wrapping_sub(pair[0])).collect();
        steps.sort_unstable();
        steps.dedup();
        assert!(steps.len() > 4000, "neighbours tell nothing about each other");
        assert_eq!(table.peer(indices[7]), Some(PEER));
        table.free(indices[7]);
        assert_eq!(table.peer(indices[7]), None);
    }

    #[test]
    fn a_taken_index_is_not_given_twice() {
        struct Constant;
        impl Random for Constant {
            fn fill(&mut self, out: &mut [u8]) {
                out.fill(0);
            }
        }
        let mut table = IndexTable::default();
        assert_eq!([(); 3].map(|()| table.allocate(PEER, &mut Constant)), [0, 1, 2]);
    }
}
