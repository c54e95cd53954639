//! Receiver indices, by which peers address sessions and handshakes: random, so that they cannot be
//! guessed, and found in one lookup.
//!
//! If data messages have several receivers, such as the workers of a tunnel, each peer has one, and
//! the indices that are allocated for the peer select it ([`receiver_of`]).

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::num::NonZeroU32;

use super::random::{self, Random};

/// Id of a peer of an interface. The id of a removed peer is never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId {
    pub(super) slot: u32,
    pub(super) generation: u32,
}

impl PeerId {
    /// Returns the one of `receivers` of data messages, counted from 0, that a peer's messages go
    /// to.
    pub const fn receiver(self, receivers: NonZeroU32) -> u32 {
        self.slot % receivers.get()
    }
}

/// Hasher of the table. Its keys are random numbers chosen here, so it only has to spread them over
/// the high bits.
#[derive(Default)]
struct IndexHasher(u64);

impl Hasher for IndexHasher {
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

/// Returns the receiver, counted from 0, of data messages with the receiver index `index`: the
/// index, read in network byte order, modulo the number of receivers. A socket filter reads it in
/// that order in the message (`wontun_proto::io::steering`).
const fn receiver_of(index: u32, receivers: NonZeroU32) -> u32 {
    u32::from_be_bytes(index.to_le_bytes()) % receivers.get()
}

/// Changes `index` as little as possible so that it selects `receiver`.
const fn with_receiver(index: u32, receiver: u32, receivers: NonZeroU32) -> u32 {
    let read = u32::from_be_bytes(index.to_le_bytes());
    let first = read - read % receivers.get();
    let fitting = match first.checked_add(receiver) {
        Some(fitting) => fitting,
        // the last indices are too few for all receivers
        None => first - receivers.get() + receiver,
    };
    u32::from_le_bytes(fitting.to_be_bytes())
}

/// Map from indices to peers.
pub(super) struct IndexTable {
    peers: HashMap<u32, PeerId, BuildHasherDefault<IndexHasher>>,
    receivers: NonZeroU32,
}

impl Default for IndexTable {
    fn default() -> Self {
        Self { peers: HashMap::default(), receivers: NonZeroU32::MIN }
    }
}

impl IndexTable {
    /// Sets the number of receivers of data messages. Indices in use do not change.
    pub(super) const fn set_receivers(&mut self, receivers: NonZeroU32) {
        self.receivers = receivers;
    }

    /// Returns the receiver of a peer's data messages.
    pub(super) const fn receiver(&self, peer: PeerId) -> u32 {
        peer.receiver(self.receivers)
    }

    /// Allocates a random index for `peer` that selects its receiver.
    pub(super) fn allocate(&mut self, peer: PeerId, random: &mut dyn Random) -> u32 {
        let receiver = self.receiver(peer);
        let mut number = random::number(random);
        let mut index = with_receiver(number, receiver, self.receivers);
        while self.peers.contains_key(&index) {
            number = number.wrapping_add(random::number(random) | 1);
            index = with_receiver(number, receiver, self.receivers);
        }
        debug_assert!(receiver_of(index, self.receivers) == receiver);
        self.peers.insert(index, peer);
        index
    }

    /// Adds the index `index` of `peer`, which another process has allocated. Returns false if the
    /// index is in use.
    pub(super) fn adopt(&mut self, index: u32, peer: PeerId) -> bool {
        let is_free = !self.peers.contains_key(&index);
        if is_free {
            self.peers.insert(index, peer);
        }
        is_free
    }

    /// Frees an index.
    pub(super) fn free(&mut self, index: u32) {
        self.peers.remove(&index);
    }

    /// Returns the peer that the index belongs to.
    pub(super) fn peer(&self, index: u32) -> Option<PeerId> {
        self.peers.get(&index).copied()
    }

    /// Returns the number of indices in use.
    pub(super) fn len(&self) -> usize {
        self.peers.len()
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
    fn indices_lead_to_their_peers_receiver_and_are_random_otherwise() {
        for receivers in [2, 3, 7, 256].map(|number| NonZeroU32::new(number).unwrap()) {
            let mut table = IndexTable::default();
            table.set_receivers(receivers);
            let mut random = Seeded::new(2);
            let mut ones = [0; 32];
            for slot in 0..4096 {
                let peer = PeerId { slot, generation: 0 };
                let index = table.allocate(peer, &mut random);
                assert_eq!(receiver_of(index, receivers), slot % receivers.get());
                assert_eq!(table.receiver(peer), slot % receivers.get());
                (0..32).for_each(|bit| ones[bit] += index >> bit & 1);
            }
            // the byte with the remainder depends on the receiver
            assert!(ones[..24].iter().all(|ones| (1800..2300).contains(ones)), "{ones:?}");
        }
    }

    #[test]
    fn the_last_indices_lead_to_every_receiver_too() {
        let receivers = NonZeroU32::new(7).unwrap();
        for receiver in 0..7 {
            assert_eq!(receiver_of(with_receiver(u32::MAX, receiver, receivers), receivers), receiver);
        }
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
