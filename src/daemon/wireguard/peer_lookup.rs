//! Lookups of a worker for packets of peers, without the lock: the peers, each of which has a lock
//! of its own, the allowed IPs, and the peers of receiver indices.

use std::num::NonZeroU32;
use std::sync::Arc;

use arc_swap::ArcSwapOption;

use wontun_proto::allowed_ips::AllowedIps;
use wontun_proto::wireguard::{PeerGuard, PeerId, Peers};

/// Number of receiver indices whose peers a worker remembers.
const KNOWN: usize = 1024;

/// The allowed IPs as workers read them without the lock; `None` while they are changed.
pub(super) type PublishedAllowedIps = Arc<ArcSwapOption<AllowedIps<PeerId>>>;

/// The lookups of one worker.
pub struct PeerLookup {
    pub(super) peers: Peers,
    pub(super) allowed_ips: PublishedAllowedIps,
    /// Number of workers that peers are distributed to.
    pub(super) workers: NonZeroU32,
    /// Peers of receiver indices, each at the place that the index selects. One that is not up to
    /// date does no harm: the peer has no session with that index.
    known: Box<[Option<(u32, PeerId)>]>,
}

impl std::fmt::Debug for PeerLookup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PeerLookup").finish_non_exhaustive()
    }
}

impl PeerLookup {
    pub(super) fn new(peers: Peers, allowed_ips: PublishedAllowedIps, workers: NonZeroU32) -> Self {
        let known = vec![None; KNOWN].into_boxed_slice();
        Self { peers, allowed_ips, workers, known }
    }

    /// Returns the place of an index, which is random but for its remainder by the number of
    /// workers.
    fn place(index: u32) -> usize {
        usize::try_from(index.wrapping_mul(0x9e37_79b9) >> 22).unwrap_or_default()
    }

    /// Remembers the peer of a receiver index.
    pub(super) fn remember(&mut self, index: u32, peer: PeerId) {
        if let Some(known) = self.known.get_mut(Self::place(index)) {
            *known = Some((index, peer));
        }
    }

    /// Returns the peer that has a session with this receiver index, locked, if it is remembered.
    pub(super) fn peer_of_index(&self, index: u32) -> Option<PeerGuard<'_>> {
        let (known, peer) = (*self.known.get(Self::place(index))?)?;
        let mut peer = self.peers.lock(peer).filter(|_| known == index)?;
        peer.has_session_with(index).then_some(peer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_index_has_a_place() {
        assert_eq!(KNOWN, 1 << 10);
        for index in [0, 1, u32::MAX, 0x9e37_79b9] {
            assert!(PeerLookup::place(index) < KNOWN);
        }
    }
}
