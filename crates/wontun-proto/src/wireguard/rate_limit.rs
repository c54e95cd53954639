//! A token bucket per source: 20 handshake messages per second, in bursts of 5; an IPv6 /64 is one
//! source.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use crate::time::Instant;

/// Handshake messages per second allowed for one source.
pub const HANDSHAKES_PER_SECOND: u32 = 20;
/// Handshake messages that a source can send at once after a pause.
pub const HANDSHAKE_BURST: u32 = 5;
/// Maximum number of sources with a bucket; beyond it, messages of other sources are refused.
pub const MAX_SOURCES: usize = 1 << 16;

const COST: Duration = Duration::from_nanos(1_000_000_000 / HANDSHAKES_PER_SECOND as u64);
const FULL: Duration =
    Duration::from_nanos(1_000_000_000 / HANDSHAKES_PER_SECOND as u64 * HANDSHAKE_BURST as u64);
/// Idle time after which a bucket is full again and can be removed.
const FORGET_AFTER: Duration = Duration::from_secs(1);

/// A source of messages: an IPv4 address, or the /64 of an IPv6 address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Source {
    V4(u32),
    V6(u64),
}

impl Source {
    /// Returns the source that `address` belongs to.
    pub(super) fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.to_bits()),
            IpAddr::V6(address) => Self::V6((address.to_bits() >> 64) as u64),
        }
    }
}

/// The buckets. An ordered map, since attackers choose the addresses and could make hashes collide.
#[derive(Default)]
pub(super) struct RateLimiter {
    /// Tokens of each source, as time, and when they were counted.
    buckets: BTreeMap<Source, (Duration, Instant)>,
    last_sweep: Instant,
}

impl RateLimiter {
    /// Takes a token of the source of `address`; returns false if none is left.
    pub(super) fn take(&mut self, address: IpAddr, now: Instant) -> bool {
        if now.since(self.last_sweep) >= FORGET_AFTER {
            self.last_sweep = now;
            self.buckets.retain(|_, (_, counted)| now.since(*counted) < FORGET_AFTER);
        }
        let source = Source::of(address);
        if let Some((tokens, counted)) = self.buckets.get_mut(&source) {
            *tokens = tokens.saturating_add(now.since(*counted)).min(FULL);
            *counted = now;
            return match tokens.checked_sub(COST) {
                Some(rest) => {
                    *tokens = rest;
                    true
                }
                None => false,
            };
        }
        if self.buckets.len() >= MAX_SOURCES {
            return false;
        }
        self.buckets.insert(source, (FULL.saturating_sub(COST), now));
        true
    }

    /// Returns the number of sources with a bucket.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.buckets.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_boot(Duration::from_secs(1000) + Duration::from_millis(millis))
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn five_at_once_and_twenty_a_second() {
        let mut limiter = RateLimiter::default();
        let source = address("192.0.2.1");
        let at_once = (0..100).filter(|_| limiter.take(source, at(0))).count();
        assert_eq!(at_once, 5);
        let in_ten_seconds = (1..=10_000).filter(|milli| limiter.take(source, at(*milli))).count();
        assert_eq!(in_ten_seconds, 200);
        assert!(limiter.take(address("192.0.2.2"), at(10_000)), "another source is not hurt");
        assert!(
            (0..100).filter(|_| limiter.take(source, at(20_000))).count() == 5,
            "no more than a burst is saved"
        );
    }

    #[test]
    fn an_ipv6_network_is_one_source_and_a_mapped_address_its_ipv4() {
        let mut limiter = RateLimiter::default();
        let allowed = (0..100).filter(|i| limiter.take(address(&format!("2001:db8::{i}")), at(0))).count();
        assert_eq!(allowed, 5);
        assert!(limiter.take(address("2001:db8:0:1::1"), at(0)));
        let allowed = (0..100).filter(|_| limiter.take(address("::ffff:192.0.2.1"), at(0))).count();
        assert_eq!(allowed, 5);
        assert!(!limiter.take(address("192.0.2.1"), at(0)));
    }

    #[test]
    fn memory_is_bounded_and_given_back() {
        let mut limiter = RateLimiter::default();
        for source in 0..100_000_u32 {
            let allowed = limiter.take(IpAddr::V4(source.into()), at(0));
            assert_eq!(allowed, (source as usize) < MAX_SOURCES);
        }
        assert_eq!(limiter.len(), MAX_SOURCES);
        assert!(limiter.take(address("192.0.2.1"), at(1000)));
        assert_eq!(limiter.len(), 1);
    }
}
