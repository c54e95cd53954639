//! Which handshake messages are worth curve work, and when: a bounded queue, cookies, and a share for each source.
//!
//! A message with a valid mac1 waits in the queue. When the queue fills, whoever comes must first prove its address
//! with a cookie. A source that sends more than its share must do so at once, before it can fill the queue: then
//! one flooder puts itself, and nobody else, into cookie mode. One that proved its address and still sends more than
//! its share is cut off.

use std::collections::VecDeque;
use std::time::Duration;

use super::endpoint::Endpoint;
use super::mac::{self, CookieSecret, MacKeys, Macs};
use super::message::{CookieReply, Initiation, Response};
use super::random::Random;
use super::rate_limit::RateLimiter;
use crate::counters::DropReason;
use crate::time::Instant;

/// Handshake messages that may wait.
pub const MAX_QUEUED: usize = 4096;
/// So many waiting mean that we are under load.
pub const LOAD_THRESHOLD: usize = MAX_QUEUED / 8;
/// How long we take ourselves to be under load after the queue was last that full.
pub const LOAD_HOLD: Duration = Duration::from_secs(1);
/// Cookie replies that may wait to be sent.
pub const MAX_REPLIES: usize = 256;

/// A handshake message that waits for its turn.
#[derive(Clone, Copy)]
pub(super) enum Handshake {
    Initiation(Initiation),
    Response(Response),
}

/// The gate before the curve work.
pub(super) struct Admission {
    queue: VecDeque<(Endpoint, Handshake)>,
    replies: VecDeque<(Endpoint, CookieReply)>,
    loaded: Option<Instant>,
    cookies: CookieSecret,
    /// Tokens of addresses that anybody may have forged.
    unproven: RateLimiter,
    /// Tokens of addresses that a cookie proved.
    proven: RateLimiter,
}

impl Admission {
    pub(super) fn new() -> Self {
        Self {
            queue: VecDeque::new(),
            replies: VecDeque::new(),
            loaded: None,
            cookies: CookieSecret::new(),
            unproven: RateLimiter::default(),
            proven: RateLimiter::default(),
        }
    }

    /// Whether everybody must prove its address now.
    pub(super) fn is_under_load(&mut self, now: Instant) -> bool {
        if self.queue.len() >= LOAD_THRESHOLD {
            self.loaded = Some(now);
        }
        self.loaded.is_some_and(|loaded| now.since(loaded) < LOAD_HOLD)
    }

    /// Lets `handshake`, which is `message`, wait for its turn, or says why not.
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
        if self.is_under_load(now) || !self.unproven.take(address, now) {
            let cookie = self.cookies.cookie(&from, random, now);
            if !message.has_valid_mac2(&cookie) {
                if self.replies.len() >= MAX_REPLIES {
                    return Err(DropReason::HandshakeQueueFull);
                }
                self.replies
                    .extend(mac::cookie_reply(keys, message, cookie, random).map(|reply| (from, reply)));
                return Err(DropReason::NoCookie);
            }
            if !self.proven.take(address, now) {
                return Err(DropReason::RateLimited);
            }
        }
        if self.queue.len() >= MAX_QUEUED {
            return Err(DropReason::HandshakeQueueFull);
        }
        self.queue.push_back((from, handshake));
        Ok(())
    }

    /// The message that waited longest.
    pub(super) fn poll_handshake(&mut self) -> Option<(Endpoint, Handshake)> {
        let next = self.queue.pop_front();
        if self.queue.is_empty() && self.queue.capacity() > LOAD_THRESHOLD {
            // after a flood its memory is given back
            self.queue = VecDeque::new();
        }
        next
    }

    /// A cookie reply to send.
    pub(super) fn poll_reply(&mut self) -> Option<(Endpoint, CookieReply)> {
        self.replies.pop_front()
    }

    /// Messages that wait.
    pub(super) fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// Drops what waits: it was meant for a key that is no longer ours.
    pub(super) fn clear(&mut self) {
        self.queue.clear();
        self.replies.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::super::key::PublicKey;
    use super::super::mac::CookieJar;
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

        fn knock(&mut self, from: Endpoint, jar: &mut CookieJar, now: Instant) -> Result<(), DropReason> {
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
            let _ = gate.knock(from(1, 1), &mut CookieJar::default(), at(0));
        }
        assert_eq!(gate.admission.waiting(), 5, "no more than the flooder's burst waits");
        assert!(!gate.admission.is_under_load(at(0)));
        assert_eq!(gate.admission.replies.len(), MAX_REPLIES);
        assert_eq!(
            gate.knock(from(2, 1), &mut CookieJar::default(), at(0)),
            Ok(()),
            "another gets in without"
        );
    }

    #[test]
    fn fault_15_a_cookie_is_for_one_port_and_its_owner_has_a_share_too() {
        let mut gate = Gate::new();
        let mut jar = CookieJar::default();
        while gate.knock(from(1, 1), &mut jar, at(0)) == Ok(()) {}
        let (to, reply) = gate.admission.poll_reply().unwrap();
        assert_eq!(to, from(1, 1));
        assert!(jar.handle_reply(&gate.keys, &reply, at(0)));
        assert_eq!(gate.knock(from(1, 2), &mut jar, at(0)), Err(DropReason::NoCookie));
        let allowed = (0..100).filter(|_| gate.knock(from(1, 1), &mut jar, at(0)).is_ok()).count();
        assert_eq!(allowed, 5);
        assert_eq!(gate.knock(from(1, 1), &mut jar, at(0)), Err(DropReason::RateLimited));
    }

    #[test]
    fn many_sources_are_a_load_until_a_second_after_the_queue_is_empty_enough() {
        let mut gate = Gate::new();
        let mut jar = CookieJar::default();
        let honest = from(u32::MAX, 1);
        for source in 0..50_000 {
            let _ = gate.knock(from(source, 1), &mut CookieJar::default(), at(0));
            while gate.admission.poll_reply().is_some() {}
        }
        assert_eq!(gate.admission.waiting(), LOAD_THRESHOLD);
        assert_eq!(gate.knock(honest, &mut jar, at(0)), Err(DropReason::NoCookie));
        let (to, reply) = gate.admission.poll_reply().unwrap();
        assert_eq!(to, honest);
        assert!(jar.handle_reply(&gate.keys, &reply, at(0)));
        assert_eq!(gate.knock(honest, &mut jar, at(0)), Ok(()), "with a cookie there is room");
        while gate.admission.poll_handshake().is_some() {}
        assert!(gate.admission.is_under_load(at(999)));
        assert!(!gate.admission.is_under_load(at(1000)));
    }
}
