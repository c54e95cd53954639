//! Limits on attempts to sign in: per address, with a delay that doubles, and for all addresses
//! together, so that many addresses guess no faster. The host itself (127.0.0.1) is not part of the
//! latter: who floods the page from the VPN cannot keep the administrator out.
//!
//! The failures of an address are those of all accounts together, and signing in forgets only those
//! of the same account: the owner of a peer cannot guess another's password any faster by signing
//! in in between.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use super::super::principal::Principal;
use wontun_proto::time::Instant;

/// Failures of an address that cause no delay.
const FREE: u32 = 4;
const FIRST_DELAY: Duration = Duration::from_secs(1);
const MAX_DELAY: Duration = Duration::from_secs(300);
/// Time after which an address's failures are forgotten.
const FORGET: Duration = Duration::from_secs(3600);
/// Maximum number of addresses whose failures are kept.
const MAX_ADDRESSES: usize = 1024;
/// Maximum number of accounts whose failures are kept apart, of an address.
const MAX_APART: usize = 8;
/// Attempts of all addresses together: as many at once, and one more at each interval.
const BURST: u32 = 20;
const INTERVAL: Duration = Duration::from_secs(3);

/// The attempts so far.
#[derive(Debug)]
pub(in crate::admin) struct Attempts {
    failures: HashMap<IpAddr, Failures>,
    /// Attempts left to all addresses.
    left: u32,
    /// Time of the last increase of `left`.
    filled: Instant,
}

/// The target of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::admin) enum Attempt {
    /// An account, which need not exist.
    Account(Principal),
    /// A link.
    Link,
    /// A name that nobody can have, or one of too many.
    Other,
}

#[derive(Clone, Debug)]
struct Failures {
    /// Number of failures, by what they were for.
    counts: Vec<(Attempt, u32)>,
    /// Time of the last one.
    at: Instant,
}

impl Failures {
    /// Returns the time before which no attempt is made.
    fn end(&self) -> Instant {
        let count = self.counts.iter().fold(0_u32, |sum, (_, count)| sum.saturating_add(*count));
        let doublings = count.checked_sub(FREE).filter(|more| *more > 0);
        let delay = doublings.map_or(Duration::ZERO, |more| {
            FIRST_DELAY.saturating_mul(1_u32.checked_shl(more - 1).unwrap_or(u32::MAX)).min(MAX_DELAY)
        });
        self.at + delay
    }
}

impl Attempts {
    pub(in crate::admin) fn new(now: Instant) -> Self {
        Self { failures: HashMap::new(), left: BURST, filled: now }
    }

    /// Counts an attempt of `from`, which is a failure until [`Self::handle_success`] is called.
    ///
    /// # Errors
    /// The time to wait: the attempt must not be made.
    pub(in crate::admin) fn begin(
        &mut self,
        from: IpAddr,
        attempt: &Attempt,
        now: Instant,
    ) -> Result<(), Duration> {
        let from = network(from);
        self.failures.retain(|_, failures| now.since(failures.at) < FORGET);
        let known = self.failures.get(&from);
        let is_known = known.is_some();
        if let Some(wait) = known.map(|known| known.end().since(now)).filter(|wait| !wait.is_zero()) {
            return Err(wait);
        }
        if !from.is_loopback() {
            self.take(now)?;
        }
        if !is_known && self.failures.len() >= MAX_ADDRESSES {
            let oldest = self.failures.iter().min_by_key(|(_, each)| each.at).map(|(&address, _)| address);
            oldest.and_then(|oldest| self.failures.remove(&oldest));
        }
        let failures = self.failures.entry(from).or_insert(Failures { counts: Vec::new(), at: now });
        failures.at = now;
        let is_new = !failures.counts.iter().any(|(other, _)| other == attempt);
        let attempt = if is_new && failures.counts.len() >= MAX_APART { &Attempt::Other } else { attempt };
        match failures.counts.iter_mut().find(|(other, _)| other == attempt) {
            Some((_, count)) => *count = count.saturating_add(1),
            None => failures.counts.push((attempt.clone(), 1)),
        }
        Ok(())
    }

    /// Forgets the failures of `from` that were for the same.
    pub(in crate::admin) fn handle_success(&mut self, from: IpAddr, attempt: &Attempt) {
        let from = network(from);
        let Some(failures) = self.failures.get_mut(&from) else { return };
        failures.counts.retain(|(other, _)| other != attempt);
        if failures.counts.is_empty() {
            self.failures.remove(&from);
        }
    }

    /// Takes one of the attempts of all addresses.
    fn take(&mut self, now: Instant) -> Result<(), Duration> {
        let passed = now.since(self.filled);
        let more = u32::try_from(passed.as_secs() / INTERVAL.as_secs()).unwrap_or(u32::MAX);
        if more > 0 {
            self.left = self.left.saturating_add(more).min(BURST);
            self.filled = now;
        }
        self.left = self.left.checked_sub(1).ok_or(INTERVAL.saturating_sub(now.since(self.filled)))?;
        Ok(())
    }
}

/// Returns the address, or of IPv6 its /64: a host has all addresses of it.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) if !v6.is_loopback() => Ipv6Addr::from_bits(v6.to_bits() & !0 << 64).into(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_boot(Duration::from_millis(millis))
    }

    const ADMIN: Attempt = Attempt::Account(Principal::Admin);

    #[test]
    fn an_address_waits_longer_each_time() {
        let mut attempts = Attempts::new(at(0));
        let from: IpAddr = "127.0.0.1".parse().unwrap();
        let (mut now, mut waits) = (0, Vec::new());
        for _ in 0..16 {
            while let Err(wait) = attempts.begin(from, &ADMIN, at(now)) {
                waits.push(wait.as_secs());
                now += u64::try_from(wait.as_millis()).unwrap();
            }
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert!(attempts.begin("10.8.0.2".parse().unwrap(), &ADMIN, at(now)).is_ok(), "another address");
        attempts.handle_success(from, &ADMIN);
        assert!(attempts.begin(from, &ADMIN, at(now)).is_ok());
        assert!(attempts.begin(from, &ADMIN, at(now + 3_600_000)).is_ok(), "forgotten");
    }

    #[test]
    fn signing_in_forgets_no_failures_of_other_accounts() {
        let mut attempts = Attempts::new(at(0));
        let from: IpAddr = "127.0.0.1".parse().unwrap();
        let owner = |number: usize| Attempt::Account(Principal::Owner(format!("o{number}").parse().unwrap()));
        let mut guesses = 0;
        for _ in 0..20 {
            guesses += u32::from(attempts.begin(from, &ADMIN, at(0)).is_ok());
            if attempts.begin(from, &owner(1), at(0)).is_ok() {
                attempts.handle_success(from, &owner(1));
            }
        }
        assert_eq!(guesses, 5);
        attempts.handle_success(from, &ADMIN);
        assert!(attempts.failures.is_empty());
        // of many names no more are kept than of a few
        for number in 0..20 {
            let _ = attempts.begin(from, &owner(number), at(number as u64 * 1_000_000));
        }
        let failures = attempts.failures.values().next().unwrap();
        assert!(failures.counts.len() <= MAX_APART + 1, "{failures:?}");
    }

    #[test]
    fn many_addresses_guess_no_faster_and_keep_nobody_on_the_host_out() {
        let mut attempts = Attempts::new(at(0));
        let mut count = 0;
        for second in 0..3000_u64 {
            let from = IpAddr::from([
                10,
                9,
                u8::try_from(second / 250).unwrap(),
                u8::try_from(second % 250).unwrap(),
            ]);
            count += u32::from(attempts.begin(from, &ADMIN, at(second * 1000)).is_ok());
        }
        assert!((1000..1025).contains(&count), "{count}");
        assert!(attempts.begin("127.0.0.1".parse().unwrap(), &ADMIN, at(3_000_000)).is_ok());
        assert!(attempts.failures.len() <= MAX_ADDRESSES);
    }

    #[test]
    fn an_ipv6_network_is_one_address() {
        let mut attempts = Attempts::new(at(0));
        let failed = (0..20_u16).filter(|n| {
            attempts.begin(Ipv6Addr::new(0xfd00, 0, 0, 1, 0, 0, 0, *n).into(), &ADMIN, at(0)).is_err()
        });
        assert_eq!(failed.count(), 20 - 5);
        assert!(attempts.begin("fd00:0:0:2::1".parse().unwrap(), &ADMIN, at(0)).is_ok());
    }
}
