//! The peers of an interface, by id and by public key.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::index::PeerId;
use super::key::PublicKey;
use super::peer::Peer;
use super::slots::{PeerGuard, Peers};

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

/// All peers. The map is ordered, not hashed: unknown senders choose the keys that are looked up.
#[derive(Default)]
pub(super) struct PeerTable {
    peers: Peers,
    /// Number of slots that have held a peer.
    slots: u32,
    free: Vec<u32>,
    by_key: BTreeMap<PublicKey, PeerId>,
}

impl PeerTable {
    /// Adds the peer that `new` returns for an id; returns the id, or `None` if none is left.
    pub(super) fn insert(&mut self, public: PublicKey, new: impl FnOnce(PeerId) -> Peer) -> Option<PeerId> {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                let slot = self.slots;
                self.slots = slot.checked_add(1)?;
                slot
            }
        };
        let id = self.peers.insert(slot, new)?;
        self.by_key.insert(public, id);
        Some(id)
    }

    /// Removes and returns a peer.
    pub(super) fn remove(&mut self, id: PeerId) -> Option<Box<Peer>> {
        let (peer, is_reusable) = self.peers.remove(id)?;
        self.by_key.remove(peer.public_key());
        if is_reusable {
            self.free.push(id.slot);
        }
        Some(peer)
    }

    /// Returns the peers for other threads.
    pub(super) const fn peers(&self) -> &Peers {
        &self.peers
    }

    /// Returns a peer, locked.
    pub(super) fn lock(&self, id: PeerId) -> Option<PeerGuard<'_>> {
        self.peers.lock(id)
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
}
