//! The peers of an interface by their ids, each behind a lock of its own: threads that carry
//! packets find and lock a peer without the interface.
//!
//! The slots are in chunks that never move, each twice as long as the one before, so that finding
//! one takes no lock. A thread locks one peer at a time, and may do so while it has the interface;
//! it must not wait for the interface while it has a peer.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::{MappedMutexGuard, Mutex, MutexGuard};

use super::endpoint::Endpoint;
use super::index::PeerId;
use super::keypair::{EndedSessions, Sealing};
use super::peer::Peer;
use crate::time::Instant;
use wontun_packet::DropReason;
use wontun_packet::split::PacketLengths;

/// Number of slots in the first chunk.
const FIRST: u32 = 16;
/// Number of chunks, which have slots for all ids but the last sixteen.
const CHUNKS: usize = 28;

/// A slot for a peer, in a cache line of its own.
#[derive(Default)]
#[repr(align(64))]
struct Slot(Mutex<Occupant>);

/// The peer in a slot, and the number of peers that it held before.
#[derive(Default)]
struct Occupant {
    generation: u32,
    peer: Option<Box<Peer>>,
}

/// All slots, and what else is needed to carry packets.
#[derive(Default)]
struct Shared {
    chunks: [OnceLock<Box<[Slot]>>; CHUNKS],
    /// MTU of the device, past which nothing is padded; 0 if it is unknown.
    mtu: AtomicUsize,
    ended: EndedSessions,
}

/// The peers of an interface, for threads that carry packets.
#[derive(Clone, Default)]
pub struct Peers(Arc<Shared>);

/// A locked peer.
pub struct PeerGuard<'a> {
    peer: MappedMutexGuard<'a, Peer>,
    mtu: usize,
    #[cfg(debug_assertions)]
    _only: only::Only,
}

/// Returns the chunk of a slot, and its index there; `None` for the last ones, which do not exist.
const fn place(slot: u32) -> Option<(usize, usize)> {
    let Some(number) = slot.checked_add(FIRST) else { return None };
    let chunk = number.ilog2() - FIRST.ilog2();
    Some((chunk as usize, (number - (FIRST << chunk)) as usize))
}

impl Peers {
    /// Returns a peer, locked; `None` if it was removed. The caller has no other.
    pub fn lock(&self, id: PeerId) -> Option<PeerGuard<'_>> {
        #[cfg(debug_assertions)]
        let only = only::Only::new();
        let occupant = self.slot(id.slot)?.0.lock();
        let peer = MutexGuard::try_map(occupant, |occupant| {
            let Occupant { generation, peer } = occupant;
            peer.as_deref_mut().filter(|_| *generation == id.generation)
        });
        Some(PeerGuard {
            peer: peer.ok()?,
            mtu: self.mtu(),
            #[cfg(debug_assertions)]
            _only: only,
        })
    }

    /// Returns the number of sessions that ended and whose keys were overwritten.
    pub fn ended_sessions(&self) -> u64 {
        self.0.ended.count()
    }

    pub(super) fn ended(&self) -> &EndedSessions {
        &self.0.ended
    }

    pub(super) fn set_mtu(&self, mtu: usize) {
        self.0.mtu.store(mtu, Ordering::Relaxed);
    }

    pub(super) fn mtu(&self) -> usize {
        self.0.mtu.load(Ordering::Relaxed)
    }

    /// Puts the peer that `new` returns for its id into an empty slot.
    pub(super) fn insert(&self, slot: u32, new: impl FnOnce(PeerId) -> Peer) -> Option<PeerId> {
        let (chunk, index) = place(slot)?;
        let slots =
            self.0.chunks.get(chunk)?.get_or_init(|| {
                std::iter::repeat_with(Slot::default).take((FIRST as usize) << chunk).collect()
            });
        let mut occupant = slots.get(index)?.0.lock();
        let id = PeerId { slot, generation: occupant.generation };
        occupant.peer = Some(Box::new(new(id)));
        Some(id)
    }

    /// Removes and returns a peer, and true if its slot can be used again: one whose generations
    /// are used up cannot.
    pub(super) fn remove(&self, id: PeerId) -> Option<(Box<Peer>, bool)> {
        let mut occupant = self.slot(id.slot)?.0.lock();
        if occupant.generation != id.generation {
            return None;
        }
        let peer = occupant.peer.take()?;
        let next = occupant.generation.checked_add(1);
        occupant.generation = next.unwrap_or(occupant.generation);
        Some((peer, next.is_some()))
    }

    fn slot(&self, slot: u32) -> Option<&Slot> {
        let (chunk, index) = place(slot)?;
        self.0.chunks.get(chunk)?.get()?.get(index)
    }
}

impl PeerGuard<'_> {
    /// Prepares to send packets to the peer: reserves counters, and returns the means to encrypt
    /// with them and the peer's endpoint; `None` if the packets have to be staged.
    ///
    /// # Errors
    /// Returns the reason to drop them: no endpoint.
    pub fn begin_send(
        &mut self,
        packets: PacketLengths,
        now: Instant,
    ) -> Result<Option<(Sealing, Endpoint)>, DropReason> {
        let mtu = self.mtu;
        self.peer.begin_send(packets, mtu, now)
    }
}

impl Deref for PeerGuard<'_> {
    type Target = Peer;

    fn deref(&self) -> &Peer {
        &self.peer
    }
}

impl DerefMut for PeerGuard<'_> {
    fn deref_mut(&mut self) -> &mut Peer {
        &mut self.peer
    }
}

/// Checks that a thread locks one peer at a time.
#[cfg(debug_assertions)]
mod only {
    use std::cell::Cell;

    thread_local! {
        static HAS_PEER: Cell<bool> = const { Cell::new(false) };
    }

    pub(super) struct Only(());

    impl Only {
        pub(super) fn new() -> Self {
            assert!(!HAS_PEER.replace(true), "this thread has locked a peer already");
            Self(())
        }
    }

    impl Drop for Only {
        fn drop(&mut self) {
            HAS_PEER.set(false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_slot_has_a_place_of_its_own() {
        let mut expected = (0, 0);
        for slot in 0..100_000 {
            assert_eq!(place(slot), Some(expected));
            expected.1 += 1;
            if expected.1 == (FIRST as usize) << expected.0 {
                expected = (expected.0 + 1, 0);
            }
        }
        assert_eq!(place(u32::MAX), None);
        assert_eq!(place(u32::MAX - FIRST), Some((CHUNKS - 1, (FIRST << (CHUNKS - 1)) as usize - 1)));
    }
}
