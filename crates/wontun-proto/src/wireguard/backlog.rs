//! Queue of handshake messages beyond their source's rate limit. No message is refused while there
//! is room, and the messages of a flooder wait behind its own flood.
//!
//! A thousand honest peers behind one address, whose server was restarted, look like one flooder.
//! They are let through here within two seconds, without cookies; a flooder gets no more than that.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::endpoint::Endpoint;
use super::queued::{Handshake, MAX_QUEUED};
use super::rate_limit::Source;
use crate::time::Instant;

/// Maximum number of messages that wait in the backlog.
pub const MAX_BACKLOG: usize = MAX_QUEUED / 2;
/// Maximum number of them from one source, so that two sources that flood leave room for others.
pub const MAX_BACKLOG_OF_SOURCE: usize = MAX_QUEUED / 4;
/// Pause between two releases.
pub const RELEASE_INTERVAL: Duration = Duration::from_millis(10);
/// Number of messages per release. With the pause this bounds the cost of all flooders together:
/// the Curve25519 operations for 1000 messages per second, about a tenth of a core.
pub const RELEASE_SIZE: usize = 10;

/// The waiting messages, in the order in which they arrived.
#[derive(Default)]
pub(super) struct Backlog {
    queue: VecDeque<(Endpoint, Handshake)>,
    /// Number of waiting messages per source. An ordered map, since attackers choose the addresses.
    of_source: BTreeMap<Source, usize>,
    next_release: Option<Instant>,
}

impl Backlog {
    /// Adds a message; returns false if there is no room for it.
    pub(super) fn push(&mut self, from: Endpoint, handshake: Handshake, now: Instant) -> bool {
        if self.queue.len() >= MAX_BACKLOG {
            return false;
        }
        let of_source = self.of_source.entry(Source::of(from.remote.ip())).or_default();
        if *of_source >= MAX_BACKLOG_OF_SOURCE {
            return false;
        }
        *of_source += 1;
        self.queue.push_back((from, handshake));
        self.next_release.get_or_insert(now + RELEASE_INTERVAL);
        true
    }

    /// Returns the time of the next release.
    pub(super) const fn poll_timeout(&self) -> Option<Instant> {
        self.next_release
    }

    /// Returns true if a release is due, and schedules the next one after the pause.
    pub(super) fn take_due(&mut self, now: Instant) -> bool {
        let is_due = self.next_release.is_some_and(|due| now >= due);
        if is_due {
            self.next_release = Some(now + RELEASE_INTERVAL);
        }
        is_due
    }

    /// Removes and returns the message that waited longest.
    pub(super) fn pop(&mut self) -> Option<(Endpoint, Handshake)> {
        let next = self.queue.pop_front();
        if let Some((from, _)) = &next {
            let source = Source::of(from.remote.ip());
            if let Some(of_source) = self.of_source.get_mut(&source) {
                *of_source -= 1;
                if *of_source == 0 {
                    self.of_source.remove(&source);
                }
            }
        }
        if self.queue.is_empty() {
            // frees the memory, and the timer that wakes the event loop
            self.clear();
        }
        next
    }

    /// Returns the number of waiting messages.
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    /// Drops all messages.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::Initiation;
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_boot(Duration::from_secs(1000) + Duration::from_millis(millis))
    }

    fn from(address: u32) -> Endpoint {
        Endpoint::new((std::net::Ipv4Addr::from(address), 1).into())
    }

    fn message() -> Handshake {
        Handshake::Initiation(Initiation { sender: 1, noise: [2; 108], mac1: [0; 16], mac2: [0; 16] })
    }

    #[test]
    fn each_source_has_its_room_and_all_together_have() {
        let mut backlog = Backlog::default();
        for source in 0..4 {
            let room = (0..10_000).filter(|_| backlog.push(from(source), message(), at(0))).count();
            assert_eq!(room, if source < 2 { MAX_BACKLOG_OF_SOURCE } else { 0 });
        }
        assert_eq!(backlog.len(), MAX_BACKLOG);
        assert_eq!(backlog.pop().unwrap().0, from(0), "who came first goes first");
        assert!(!backlog.push(from(1), message(), at(0)));
        assert!(backlog.push(from(2), message(), at(0)));
        while backlog.pop().is_some() {}
        assert!(backlog.of_source.is_empty() && backlog.queue.capacity() == 0);
    }

    #[test]
    fn a_release_is_due_only_while_somebody_waits() {
        let mut backlog = Backlog::default();
        assert_eq!(backlog.poll_timeout(), None);
        backlog.push(from(1), message(), at(0));
        backlog.push(from(1), message(), at(5));
        assert_eq!(backlog.poll_timeout(), Some(at(10)));
        assert!(!backlog.take_due(at(9)) && backlog.take_due(at(10)) && !backlog.take_due(at(19)));
        backlog.pop();
        assert_eq!(backlog.poll_timeout(), Some(at(20)));
        backlog.pop();
        assert_eq!(backlog.poll_timeout(), None);
    }
}
