//! Rate limits on log lines that a peer can provoke, authentic as it is. Each peer has its own, so
//! that one that is noisy does not keep another's lines from the log.

use std::collections::HashMap;
use std::num::NonZeroU64;
use std::time::Duration;

use super::WireGuard;
use crate::config::display_name;
use crate::logging::{RateLimit, Suppressed};
use crate::time::Instant;
use crate::tunnel::wireguard::{Peer, PeerId, REKEY_TIMEOUT};

/// Least time between two lines of one kind about one peer: one that keeps to the protocol begins
/// no handshake sooner.
const INTERVAL: Duration = REKEY_TIMEOUT;
/// Least time between two lines about handshakes, of whichever peers.
const ALL_HANDSHAKES: Duration = Duration::from_millis(100);

/// A kind of line.
#[derive(Clone, Copy, Debug)]
pub(super) enum Line {
    /// A completed handshake.
    Handshake,
    /// A change of the peer's endpoint, or of ours.
    Moved,
    /// A socket that was not to be had.
    Socket,
}

impl Line {
    const COUNT: usize = Self::Socket as usize + 1;
}

/// The limits of all peers that were heard.
#[derive(Debug)]
pub(super) struct PeerLog {
    limits: HashMap<PeerId, [RateLimit; Line::COUNT]>,
    handshakes: RateLimit,
}

impl Default for PeerLog {
    fn default() -> Self {
        Self { limits: HashMap::new(), handshakes: RateLimit::new(ALL_HANDSHAKES) }
    }
}

impl PeerLog {
    /// Returns the number of lines left out since the last one if a line about `peer` may be
    /// written at `now`.
    pub(super) fn allow(&mut self, peer: PeerId, line: Line, now: Instant) -> Option<Suppressed> {
        let new = || std::array::from_fn(|_| RateLimit::new(INTERVAL));
        let limits = self.limits.entry(peer).or_insert_with(new);
        let own = limits.get_mut(line as usize)?.allow(now)?;
        let others = match line {
            Line::Handshake => self.handshakes.allow(now)?,
            Line::Moved | Line::Socket => None,
        };
        let count = |suppressed: Suppressed| suppressed.map_or(0, NonZeroU64::get);
        Some(NonZeroU64::new(count(own).saturating_add(count(others))))
    }

    /// Forgets a peer that was removed.
    pub(super) fn remove(&mut self, peer: PeerId) {
        self.limits.remove(&peer);
    }
}

impl WireGuard {
    /// The name of a peer in the log.
    pub(super) fn peer_name(&self, peer: PeerId) -> String {
        let key = self.engine.peer(peer).map(Peer::public_key);
        key.map(|key| display_name(self.labels.get(&peer), key)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::random::SystemRandom;
    use crate::tunnel::wireguard::{Interface, PublicKey};

    fn peers() -> [PeerId; 2] {
        let mut engine = Interface::new(1420, Box::new(SystemRandom::open().unwrap()));
        [1, 2].map(|byte| engine.add_peer(PublicKey::from_bytes([byte; 32])).unwrap())
    }

    #[test]
    fn a_noisy_peer_silences_nobody_else() {
        let at = |millis| Instant::from_boot(Duration::from_millis(millis));
        let [noisy, quiet] = peers();
        let mut log = PeerLog::default();
        assert_eq!(log.allow(noisy, Line::Handshake, at(0)), Some(None));
        for millis in 1..5_000 {
            assert_eq!(log.allow(noisy, Line::Handshake, at(millis)), None, "{millis}");
        }
        assert_eq!(log.allow(quiet, Line::Handshake, at(4_999)), Some(None));
        assert_eq!(log.allow(noisy, Line::Moved, at(4_999)), Some(None), "another kind of line");
        assert_eq!(log.allow(noisy, Line::Handshake, at(5_100)), Some(NonZeroU64::new(4_999)));
        log.remove(noisy);
        assert_eq!(log.limits.len(), 1);
    }

    #[test]
    fn a_peer_without_a_name_is_called_by_its_key() {
        let key = PublicKey::from_bytes([1; 32]);
        assert_eq!(display_name(None, &key), "AQEBAQEBAQ…");
        assert_eq!(display_name(Some(&"laptop".parse().unwrap()), &key), "laptop");
    }
}
