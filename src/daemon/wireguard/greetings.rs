//! Greets peers after a restart: those that were connected shortly before still use a session that
//! this run does not know, and would notice that after 15 s only. An initiation replaces it after
//! one round trip.

use std::collections::VecDeque;
use std::time::Duration;

use wontun_proto::time::Instant;
use wontun_proto::wireguard::PeerId;

/// Interval between two groups of initiations, and their number: 2000 per second, each of which
/// takes some 100 µs.
const INTERVAL: Duration = Duration::from_millis(10);
const GROUP: usize = 20;

/// Peers that are greeted.
#[derive(Debug, Default)]
pub(super) struct Greetings {
    pub(super) waiting: VecDeque<PeerId>,
    /// Time of the next group.
    pub(super) next: Option<Instant>,
    /// True once the tunnel runs.
    is_running: bool,
}

impl Greetings {
    /// Starts to greet the waiting peers: the tunnel runs.
    pub(super) fn start(&mut self, now: Instant) {
        self.is_running = true;
        self.resume(now);
    }

    /// Greets waiting peers that were added later, if the tunnel runs.
    pub(super) fn resume(&mut self, now: Instant) {
        if self.is_running && !self.waiting.is_empty() {
            self.next.get_or_insert(now);
        }
    }

    /// Returns the time at which [`Self::take_group`] must be called.
    pub(super) const fn deadline(&self) -> Option<Instant> {
        self.next
    }

    /// Takes the peers that are greeted now.
    pub(super) fn take_group(&mut self, now: Instant) -> Vec<PeerId> {
        if self.next.is_none_or(|next| now < next) {
            return Vec::new();
        }
        let group: Vec<_> = self.waiting.drain(..self.waiting.len().min(GROUP)).collect();
        self.next = (!self.waiting.is_empty()).then(|| now + INTERVAL);
        group
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::random::SystemRandom;
    use wontun_proto::wireguard::{Interface, PublicKey};

    #[test]
    fn a_thousand_peers_are_greeted_within_a_second() {
        let mut engine = Interface::new(1420, Box::new(SystemRandom::open().unwrap()));
        let mut greetings = Greetings::default();
        for number in 0..1000_u16 {
            let mut key = [9; 32];
            key[..2].copy_from_slice(&number.to_le_bytes());
            greetings.waiting.push_back(engine.add_peer(PublicKey::from_bytes(key)).unwrap());
        }
        let mut now = Instant::from_boot(Duration::from_secs(5));
        let start = now;
        assert_eq!(greetings.take_group(now), [], "before the tunnel runs");
        greetings.resume(now);
        assert_eq!(greetings.deadline(), None);
        greetings.start(now);
        let mut greeted = 0;
        while let Some(next) = greetings.deadline() {
            now = next;
            let group = greetings.take_group(now);
            assert!(group.len() <= GROUP && greetings.take_group(now).is_empty());
            greeted += group.len();
        }
        assert_eq!(greeted, 1000);
        assert!(now.since(start) <= Duration::from_secs(1));
    }
}
