//! Admission of handshake messages before the Curve25519 operations: a bounded queue, cookies, and
//! a rate limit per source.
//!
//! A message with a valid mac1 waits in the queue. When the queue fills, the interface is under
//! load, and each sender must first prove its address with a cookie.
//!
//! One source alone does not cause load: its messages beyond the rate limit wait in the [`Backlog`]
//! and continue when the queue is nearly empty. So a flooder delays no other source, and many peers
//! behind one address get through without cookies. Only if the backlog has no room left for a
//! source must that source, and no other, present a cookie.
//!
//! The kernel has no rate limit while it is not under load: one flooder fills the queue, and every
//! sender needs a cookie.

use std::collections::VecDeque;
use std::time::Duration;

use super::backlog::{Backlog, MAX_BACKLOG, RELEASE_SIZE};
use super::endpoint::Endpoint;
use super::mac::{self, CookieChecker, MacKeys, Macs};
use super::message::CookieReply;
use super::queued::{Handshake, MAX_QUEUED};
use super::random::Random;
use super::rate_limit::RateLimiter;
use crate::time::Instant;
use wontun_packet::DropReason;

/// Number of waiting messages from which on the interface is under load.
pub const LOAD_THRESHOLD: usize = MAX_QUEUED / 8;
/// Time for which it stays under load after the queue was last that full.
pub const LOAD_HOLD: Duration = Duration::from_secs(1);
/// Maximum number of cookie replies that wait to be sent.
pub const MAX_REPLIES: usize = 256;
/// Maximum number of messages in the queue itself.
const MAX_IN_QUEUE: usize = MAX_QUEUED - MAX_BACKLOG;
/// Number of waiting messages from which on nothing is released from the backlog.
const NEARLY_EMPTY: usize = 16;

/// Admission control before the Curve25519 operations.
pub(super) struct Admission {
    queue: VecDeque<(Endpoint, Handshake)>,
    /// Messages beyond their source's rate limit.
    backlog: Backlog,
    replies: VecDeque<(Endpoint, CookieReply)>,
    loaded: Option<Instant>,
    cookie_checker: CookieChecker,
    /// Rate limit of addresses that may be forged.
    unproven: RateLimiter,
    /// Rate limit of addresses that a cookie has proved.
    proven: RateLimiter,
}

impl Admission {
    pub(super) fn new() -> Self {
        Self {
            queue: VecDeque::new(),
            backlog: Backlog::default(),
            replies: VecDeque::new(),
            loaded: None,
            cookie_checker: CookieChecker::new(),
            unproven: RateLimiter::default(),
            proven: RateLimiter::default(),
        }
    }

    /// Returns true if every sender must prove its address now.
    pub(super) fn is_under_load(&mut self, now: Instant) -> bool {
        if self.queue.len() >= LOAD_THRESHOLD {
            self.loaded = Some(now);
        }
        self.loaded.is_some_and(|loaded| now.since(loaded) < LOAD_HOLD)
    }

    /// Queues `handshake`, whose macs are those of `message`, or returns the reason to drop it.
    pub(super) fn handle(
        &mut self,
        from: Endpoint,
        message: &impl Macs,
        handshake: Handshake,
        keys: &MacKeys,
        random: &mut dyn Random,
        now: Instant,
    ) -> Result<(), DropReason> {
        if !message.has_valid_mac1(keys) {
            return Err(DropReason::BadMac1);
        }
        let address = from.remote.ip();
        let loaded = self.is_under_load(now);
        if !loaded && self.unproven.take(address, now) {
            return self.push(from, handshake);
        }
        // beyond the rate limit, or under load: from here on a cookie matters
        let cookie = self.cookie_checker.cookie(&from, random, now);
        let is_proven = message.has_valid_mac2(&cookie);
        if is_proven && self.proven.take(address, now) {
            return self.push(from, handshake);
        }
        if (is_proven || !loaded) && self.backlog.push(from, handshake, now) {
            return Ok(());
        }
        if is_proven {
            return Err(DropReason::RateLimited);
        }
        if self.replies.len() >= MAX_REPLIES {
            return Err(DropReason::HandshakeQueueFull);
        }
        self.replies.extend(mac::cookie_reply(keys, message, cookie, random).map(|reply| (from, reply)));
        Err(DropReason::NoCookie)
    }

    fn push(&mut self, from: Endpoint, handshake: Handshake) -> Result<(), DropReason> {
        if self.queue.len() >= MAX_IN_QUEUE {
            return Err(DropReason::HandshakeQueueFull);
        }
        self.queue.push_back((from, handshake));
        Ok(())
    }

    /// Returns the time of the next [`Self::handle_timeout`].
    pub(super) const fn poll_timeout(&self) -> Option<Instant> {
        self.backlog.poll_timeout()
    }

    /// Releases messages from the backlog if the queue is nearly empty.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if self.backlog.take_due(now) && self.queue.len() < NEARLY_EMPTY {
            self.queue.extend((0..RELEASE_SIZE).map_while(|_| self.backlog.pop()));
        }
    }

    /// Removes and returns the message that waited longest.
    pub(super) fn poll_handshake(&mut self) -> Option<(Endpoint, Handshake)> {
        let next = self.queue.pop_front();
        if self.queue.is_empty() && self.queue.capacity() > LOAD_THRESHOLD {
            // frees the memory after a flood
            self.queue = VecDeque::new();
        }
        next
    }

    /// Returns true if a cookie reply waits.
    pub(super) fn has_reply(&self) -> bool {
        !self.replies.is_empty()
    }

    /// Returns the next cookie reply to send.
    pub(super) fn poll_reply(&mut self) -> Option<(Endpoint, CookieReply)> {
        self.replies.pop_front()
    }

    /// Returns the number of messages in the queue.
    pub(super) fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// Returns the number of messages in the backlog.
    pub(super) fn backlog(&self) -> usize {
        self.backlog.len()
    }

    /// Drops the waiting messages: they were meant for a private key that was replaced.
    pub(super) fn clear(&mut self) {
        self.queue.clear();
        self.backlog.clear();
        self.replies.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::super::backlog::MAX_BACKLOG_OF_SOURCE;
    use super::super::key::PublicKey;
    use super::super::mac::LatestCookie;
    use super::super::message::Initiation;
    use super::super::random::Seeded;
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_boot(Duration::from_secs(1000) + Duration::from_millis(millis))
    }

    fn from(address: u32, port: u16) -> Endpoint {
        Endpoint::new((std::net::Ipv4Addr::from(address), port).into())
    }

    struct Gate {
        admission: Admission,
        keys: MacKeys,
        random: Seeded,
    }

    impl Gate {
        fn new() -> Self {
            let keys = MacKeys::new(&PublicKey::from_bytes([1; 32]));
            Self { admission: Admission::new(), keys, random: Seeded::new(1) }
        }

        fn knock(&mut self, from: Endpoint, jar: &mut LatestCookie, now: Instant) -> Result<(), DropReason> {
            let mut message = Initiation { sender: 1, noise: [2; 108], mac1: [0; 16], mac2: [0; 16] };
            jar.sign(&self.keys, &mut message, now);
            let handshake = Handshake::Initiation(message);
            self.admission.handle(from, &message, handshake, &self.keys, &mut self.random, now)
        }
    }

    #[test]
    fn without_a_valid_mac1_nothing_waits() {
        let mut gate = Gate::new();
        let message = Initiation { sender: 1, noise: [2; 108], mac1: [0; 16], mac2: [0; 16] };
        let handshake = Handshake::Initiation(message);
        let refused =
            gate.admission.handle(from(1, 1), &message, handshake, &gate.keys, &mut gate.random, at(0));
        assert_eq!(refused, Err(DropReason::BadMac1));
        assert!(gate.admission.poll_handshake().is_none() && gate.admission.poll_reply().is_none());
    }

    #[test]
    fn fault_15_one_flooder_puts_only_itself_into_cookie_mode() {
        let mut gate = Gate::new();
        for _ in 0..100_000 {
            let _ = gate.knock(from(1, 1), &mut LatestCookie::default(), at(0));
        }
        assert_eq!(gate.admission.waiting(), 5, "no more than the flooder's burst is in the queue");
        assert_eq!(gate.admission.backlog.len(), MAX_BACKLOG_OF_SOURCE);
        assert!(!gate.admission.is_under_load(at(0)));
        assert_eq!(gate.admission.replies.len(), MAX_REPLIES);
        assert_eq!(
            gate.knock(from(2, 1), &mut LatestCookie::default(), at(0)),
            Ok(()),
            "another gets in without"
        );
        assert_eq!(gate.admission.waiting(), 6, "and at once");
    }

    #[test]
    fn fault_15_a_flooder_that_goes_on_gets_no_more_than_its_share_and_the_releases() {
        let mut gate = Gate::new();
        let (mut worked, mut others) = (0, 0);
        for milli in 0..5_000 {
            for _ in 0..4 {
                let _ = gate.knock(from(1, 1), &mut LatestCookie::default(), at(milli));
            }
            if milli % 200 == 0 {
                let other = from(2, 1);
                assert_eq!(gate.knock(other, &mut LatestCookie::default(), at(milli)), Ok(()));
                others += 1;
            }
            gate.admission.handle_timeout(at(milli));
            while let Some((from, _)) = gate.admission.poll_handshake() {
                worked += 1;
                others -= usize::from(from.remote.ip() == std::net::Ipv4Addr::from(2));
            }
            assert_eq!(others, 0, "nobody waits longer than the flooder's burst takes");
            while gate.admission.poll_reply().is_some() {}
        }
        assert!((4_500..=5_250).contains(&worked), "{worked}");
    }

    #[test]
    fn a_thousand_peers_behind_one_address_get_through_in_two_seconds_beside_a_flooder() {
        let mut gate = Gate::new();
        let (mut served, mut last) = (std::collections::BTreeSet::new(), 0);
        for milli in 0..4_000_u64 {
            // the flooder was there first
            for _ in 0..if milli == 0 { 2_000 } else { 2 } {
                let _ = gate.knock(from(1, 1), &mut LatestCookie::default(), at(milli));
            }
            if milli == 1_000 {
                for port in 0..1_000 {
                    assert_eq!(gate.knock(from(2, port), &mut LatestCookie::default(), at(milli)), Ok(()));
                }
            }
            gate.admission.handle_timeout(at(milli));
            while let Some((from, _)) = gate.admission.poll_handshake() {
                if from.remote.ip() == std::net::Ipv4Addr::from(2) {
                    served.insert(from.remote.port());
                    last = milli;
                }
            }
        }
        assert_eq!(served.len(), 1_000);
        assert!(last <= 1_000 + 2_100, "{last}");
        assert!(!gate.admission.is_under_load(at(4_000)));
    }

    #[test]
    fn fault_15_a_cookie_is_for_one_port_and_its_owner_has_a_share_too() {
        let mut gate = Gate::new();
        let mut jar = LatestCookie::default();
        while gate.knock(from(1, 1), &mut jar, at(0)) == Ok(()) {}
        let (to, reply) = gate.admission.poll_reply().unwrap();
        assert_eq!(to, from(1, 1));
        assert!(jar.handle_reply(&gate.keys, &reply, at(0)));
        assert_eq!(gate.knock(from(1, 2), &mut jar, at(0)), Err(DropReason::NoCookie));
        let waiting = gate.admission.waiting();
        let allowed = (0..100).filter(|_| gate.knock(from(1, 1), &mut jar, at(0)).is_ok()).count();
        assert_eq!(allowed, 5);
        assert_eq!(gate.admission.waiting(), waiting + 5, "who has a cookie passes by the backlog");
        assert_eq!(gate.knock(from(1, 1), &mut jar, at(0)), Err(DropReason::RateLimited));
    }

    #[test]
    fn many_sources_are_a_load_until_a_second_after_the_queue_is_empty_enough() {
        let mut gate = Gate::new();
        let mut jar = LatestCookie::default();
        let honest = from(u32::MAX, 1);
        for source in 0..10_000 {
            let _ = gate.knock(from(source, 1), &mut LatestCookie::default(), at(0));
            while gate.admission.poll_reply().is_some() {}
        }
        assert_eq!(gate.admission.waiting(), LOAD_THRESHOLD);
        assert_eq!(gate.knock(honest, &mut jar, at(0)), Err(DropReason::NoCookie));
        let (to, reply) = gate.admission.poll_reply().unwrap();
        assert_eq!(to, honest);
        assert!(jar.handle_reply(&gate.keys, &reply, at(0)));
        assert_eq!(gate.knock(honest, &mut jar, at(0)), Ok(()), "with a cookie there is room");
        for _ in 0..10 {
            assert_eq!(gate.knock(honest, &mut jar, at(0)), Ok(()), "also beyond its share");
        }
        assert_eq!((gate.admission.waiting(), gate.admission.backlog.len()), (LOAD_THRESHOLD + 5, 6));
        gate.admission.handle_timeout(at(10));
        assert_eq!(gate.admission.backlog.len(), 6, "which has to wait for quieter times");
        while gate.admission.poll_handshake().is_some() {}
        gate.admission.handle_timeout(at(20));
        assert_eq!((gate.admission.waiting(), gate.admission.backlog.len()), (6, 0));
        assert_eq!(gate.admission.poll_timeout(), None);
        assert!(gate.admission.is_under_load(at(999)));
        assert!(!gate.admission.is_under_load(at(1000)));
    }
}
