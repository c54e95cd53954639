//! Lookups of a worker for packets of peers, without the lock: the peers, each of which has a lock
//! of its own, the allowed IPs, and the peers of receiver indices.

use std::num::NonZeroU32;
use std::sync::Arc;

use arc_swap::ArcSwapOption;

use wontun_proto::allowed_ips::AllowedIps;
use wontun_proto::wireguard::{PeerGuard, PeerId, Peers};

/// Number of sets of receiver indices whose peers a worker remembers.
const SETS: usize = 512;
/// Number of receiver indices in a set.
const WAYS: usize = 4;

/// A receiver index and its peer.
type KnownPeer = (u32, PeerId);

/// The allowed IPs as workers read them without the lock; `None` while they are changed.
pub(super) type PublishedAllowedIps = Arc<ArcSwapOption<AllowedIps<PeerId>>>;

/// The lookups of one worker.
pub struct PeerLookup {
    pub(super) peers: Peers,
    pub(super) allowed_ips: PublishedAllowedIps,
    /// Number of workers that peers are distributed to.
    pub(super) workers: NonZeroU32,
    /// Peers of receiver indices, each in the set that the index selects, the latest first. One
    /// that is not up to date does no harm: the peer has no session with that index.
    known: Box<[[Option<KnownPeer>; WAYS]]>,
}

impl std::fmt::Debug for PeerLookup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PeerLookup").finish_non_exhaustive()
    }
}

impl PeerLookup {
    pub(super) fn new(peers: Peers, allowed_ips: PublishedAllowedIps, workers: NonZeroU32) -> Self {
        let known = vec![[None; WAYS]; SETS].into_boxed_slice();
        Self { peers, allowed_ips, workers, known }
    }

    /// Returns the set of an index, which is random but for its remainder by the number of workers.
    fn set(index: u32) -> usize {
        usize::try_from(index.wrapping_mul(0x9e37_79b9) >> 23).unwrap_or_default()
    }

    /// Remembers the peer of a receiver index, in place of the one that was remembered first in the
    /// same set.
    pub(super) fn remember(&mut self, index: u32, peer: PeerId) {
        let Some(set) = self.known.get_mut(Self::set(index)) else { return };
        let is_same = |known: &Option<KnownPeer>| known.is_some_and(|(known, _)| known == index);
        let replaced = set.iter().position(is_same).unwrap_or(WAYS - 1);
        if let Some(moved) = set.get_mut(..=replaced) {
            moved.rotate_right(1);
        }
        if let Some(first) = set.first_mut() {
            *first = Some((index, peer));
        }
    }

    /// Returns the peer that has a session with this receiver index, locked, if it is remembered.
    pub(super) fn peer_of_index(&self, index: u32) -> Option<PeerGuard<'_>> {
        let set = self.known.get(Self::set(index))?;
        let (_, peer) = set.iter().flatten().find(|(known, _)| *known == index)?;
        let mut peer = self.peers.lock(*peer)?;
        peer.has_session_with(index).then_some(peer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::random::SystemRandom;
    use wontun_proto::time::Instant;
    use wontun_proto::wireguard::{Interface, PrivateKey};

    #[test]
    fn every_index_has_a_set() {
        assert_eq!(SETS, 1 << 9);
        for index in [0, 1, u32::MAX, 0x9e37_79b9] {
            assert!(PeerLookup::set(index) < SETS);
        }
    }

    /// Forged datagrams with any index make a worker wait for no peer, and sessions in the same set
    /// do not displace each other.
    #[test]
    fn sessions_in_one_set_are_all_remembered() {
        let mut engine = Interface::new(1420, Box::new(SystemRandom::open().unwrap()));
        engine.set_private_key(Some(PrivateKey::from_bytes(&[7; 32])), Instant::default());
        let peer = engine.add_peer(PrivateKey::from_bytes(&[8; 32]).public_key()).unwrap();
        let peers = engine.peers();
        let mut lookup = PeerLookup::new(peers, PublishedAllowedIps::default(), NonZeroU32::MIN);
        let same: Vec<u32> = (0..).filter(|index| PeerLookup::set(*index) == 7).take(6).collect();
        let known = |lookup: &PeerLookup| -> Vec<u32> {
            lookup.known[7].iter().flatten().map(|(index, _)| *index).collect()
        };
        for index in &same[..4] {
            lookup.remember(*index, peer);
        }
        assert_eq!(known(&lookup), [same[3], same[2], same[1], same[0]]);
        let locked = engine.peer(peer);
        assert!(lookup.peer_of_index(same[5]).is_none());
        drop(locked);
        lookup.remember(same[1], peer);
        assert_eq!(known(&lookup), [same[1], same[3], same[2], same[0]]);
        lookup.remember(same[4], peer);
        assert_eq!(known(&lookup), [same[4], same[1], same[3], same[2]]);
    }
}
