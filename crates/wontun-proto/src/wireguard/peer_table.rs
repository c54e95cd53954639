//! The peers of an interface, by id and by public key.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::index::PeerId;
use super::key::PublicKey;
use super::peer::Peer;

/// Reason why a peer cannot be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddPeerError {
    /// The public key belongs to the interface's own private key.
    #[error("the peer's public key is this interface's own; expected the key of another host")]
    OwnKey,
    /// No peer id is left.
    #[error("the interface has the maximum number of peers; remove some first")]
    Full,
}

/// A slot for a peer, and the number of peers that it held before.
#[derive(Default)]
struct Slot {
    generation: u32,
    peer: Option<Box<Peer>>,
}

/// All peers. The map is ordered, not hashed: unknown senders choose the keys that are looked up.
#[derive(Default)]
pub(super) struct PeerTable {
    slots: Vec<Slot>,
    free: Vec<u32>,
    by_key: BTreeMap<PublicKey, PeerId>,
}

impl PeerTable {
    /// Adds the peer that `new` returns for an id; returns the id, or `None` if none is left.
    pub(super) fn insert(&mut self, public: PublicKey, new: impl FnOnce(PeerId) -> Peer) -> Option<PeerId> {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                let slot = u32::try_from(self.slots.len()).ok()?;
                self.slots.push(Slot::default());
                slot
            }
        };
        let entry = self.slots.get_mut(slot as usize)?;
        let id = PeerId { slot, generation: entry.generation };
        entry.peer = Some(Box::new(new(id)));
        self.by_key.insert(public, id);
        Some(id)
    }

    /// Removes and returns a peer.
    pub(super) fn remove(&mut self, id: PeerId) -> Option<Box<Peer>> {
        let slot = self.slots.get_mut(id.slot as usize).filter(|slot| slot.generation == id.generation)?;
        let peer = slot.peer.take()?;
        self.by_key.remove(peer.public_key());
        // a slot whose generations are used up is not reused
        if let Some(generation) = slot.generation.checked_add(1) {
            slot.generation = generation;
            self.free.push(id.slot);
        }
        Some(peer)
    }

    pub(super) fn get(&self, id: PeerId) -> Option<&Peer> {
        let slot = self.slots.get(id.slot as usize).filter(|slot| slot.generation == id.generation)?;
        slot.peer.as_deref()
    }

    pub(super) fn get_mut(&mut self, id: PeerId) -> Option<&mut Peer> {
        let slot = self.slots.get_mut(id.slot as usize).filter(|slot| slot.generation == id.generation)?;
        slot.peer.as_deref_mut()
    }

    pub(super) fn by_key(&self, public: &PublicKey) -> Option<PeerId> {
        self.by_key.get(public).copied()
    }

    /// Returns all ids, in the order of the public keys.
    pub(super) fn ids(&self) -> impl Iterator<Item = PeerId> {
        self.by_key.values().copied()
    }

    /// Like [`Self::ids`], for the keys that follow `key`; all if it is `None`.
    pub(super) fn ids_after(&self, key: Option<&PublicKey>) -> impl Iterator<Item = PeerId> {
        let begin = key.map_or(Bound::Unbounded, Bound::Excluded);
        self.by_key.range((begin, Bound::Unbounded)).map(|(_, id)| *id)
    }

    pub(super) fn len(&self) -> usize {
        self.by_key.len()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Peer> {
        self.slots.iter_mut().filter_map(|slot| slot.peer.as_deref_mut())
    }
}
