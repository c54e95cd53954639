//! Handshakes with public keys that no peer has, and when the log mentions them. A client repeats
//! its handshake every 5 s, and anybody who knows this interface's public key can send any number
//! of keys: the state has a fixed size.

use std::time::Duration;

use crate::logging::{RateLimit, Suppressed};
use wontun_proto::time::Instant;
use wontun_proto::wireguard::PublicKey;

/// Minimum interval between two lines about one key.
const KEY_INTERVAL: Duration = Duration::from_secs(600);
/// Number of keys that are remembered for that.
const KEYS: usize = 8;
/// Maximum number of lines within [`LINES_INTERVAL`].
const MAX_LINES: u32 = 5;
const LINES_INTERVAL: Duration = Duration::from_secs(60);

/// The keys mentioned last, and the limit of all lines.
#[derive(Debug)]
pub(super) struct UnknownKeys {
    /// The newest replaces the oldest.
    mentioned: [Option<(PublicKey, Instant)>; KEYS],
    next: usize,
    lines: RateLimit,
}

impl Default for UnknownKeys {
    fn default() -> Self {
        let lines = RateLimit::with_burst(LINES_INTERVAL, MAX_LINES);
        Self { mentioned: [None; KEYS], next: 0, lines }
    }
}

impl UnknownKeys {
    /// Returns the number of suppressed lines if a line about `key` may be logged at `now`.
    pub(super) fn allow(&mut self, key: &PublicKey, now: Instant) -> Option<Suppressed> {
        let mut mentioned = self.mentioned.iter().flatten();
        if mentioned.any(|(other, at)| other == key && now.since(*at) < KEY_INTERVAL) {
            return None;
        }
        let suppressed = self.lines.allow(now)?;
        if let Some(slot) = self.mentioned.get_mut(self.next) {
            *slot = Some((*key, now));
        }
        self.next = (self.next + 1) % KEYS;
        Some(suppressed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_retries_is_mentioned_once_and_a_flood_is_limited() {
        let at = |seconds| Instant::from_boot(Duration::from_secs(seconds));
        let key = |number: u64| {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&number.to_le_bytes());
            PublicKey::from_bytes(bytes)
        };
        let mut keys = UnknownKeys::default();
        let told: Vec<_> =
            (0..300).map(|n| n * 5).filter(|second| keys.allow(&key(1), at(*second)).is_some()).collect();
        assert_eq!(told, [0, 600, 1200]);
        // 100 keys a second for a minute, and the honest client's
        let told = (0..6000).filter(|n| keys.allow(&key(10 + n), at(1500 + n / 100)).is_some()).count();
        assert_eq!(told, MAX_LINES as usize);
        assert!(keys.allow(&key(1), at(1600)).is_none(), "still remembered");
        assert!(keys.allow(&key(1), at(1800)).is_some());
    }
}
