//! Limits on attempts to sign in: per address, with a delay that doubles, and for all addresses
//! together, so that many addresses guess no faster. The host itself (127.0.0.1) is not part of the
//! latter: who floods the page from the VPN cannot keep the administrator out.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use wontun_proto::time::Instant;

/// Failures of an address that cause no delay.
const FREE: u32 = 4;
const FIRST_DELAY: Duration = Duration::from_secs(1);
const MAX_DELAY: Duration = Duration::from_secs(300);
/// Time after which an address's failures are forgotten.
const FORGET: Duration = Duration::from_secs(3600);
/// Maximum number of addresses whose failures are kept.
const MAX_ADDRESSES: usize = 1024;
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

#[derive(Clone, Copy, Debug)]
struct Failures {
    count: u32,
    /// Time of the last one.
    at: Instant,
}

impl Failures {
    /// Returns the time before which no attempt is made.
    fn end(self) -> Instant {
        let doublings = self.count.checked_sub(FREE).filter(|more| *more > 0);
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
    pub(in crate::admin) fn begin(&mut self, from: IpAddr, now: Instant) -> Result<(), Duration> {
        let from = network(from);
        self.failures.retain(|_, failures| now.since(failures.at) < FORGET);
        let known = self.failures.get(&from).copied();
        if let Some(wait) = known.map(|known| known.end().since(now)).filter(|wait| !wait.is_zero()) {
            return Err(wait);
        }
        if !from.is_loopback() {
            self.take(now)?;
        }
        if known.is_none() && self.failures.len() >= MAX_ADDRESSES {
            let oldest = self.failures.iter().min_by_key(|(_, each)| each.at).map(|(&address, _)| address);
            oldest.and_then(|oldest| self.failures.remove(&oldest));
        }
        let count = known.map_or(0, |known| known.count).saturating_add(1);
        self.failures.insert(from, Failures { count, at: now });
        Ok(())
    }

    /// Forgets the failures of `from`.
    pub(in crate::admin) fn handle_success(&mut self, from: IpAddr) {
        self.failures.remove(&network(from));
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

    #[test]
    fn an_address_waits_longer_each_time() {
        let mut attempts = Attempts::new(at(0));
        let from: IpAddr = "127.0.0.1".parse().unwrap();
        let (mut now, mut waits) = (0, Vec::new());
        for _ in 0..16 {
            while let Err(wait) = attempts.begin(from, at(now)) {
                waits.push(wait.as_secs());
                now += u64::try_from(wait.as_millis()).unwrap();
            }
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert!(attempts.begin("10.8.0.2".parse().unwrap(), at(now)).is_ok(), "another address");
        attempts.handle_success(from);
        assert!(attempts.begin(from, at(now)).is_ok());
        assert!(attempts.begin(from, at(now + 3_600_000)).is_ok(), "forgotten");
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
            count += u32::from(attempts.begin(from, at(second * 1000)).is_ok());
        }
        assert!((1000..1025).contains(&count), "{count}");
        assert!(attempts.begin("127.0.0.1".parse().unwrap(), at(3_000_000)).is_ok());
        assert!(attempts.failures.len() <= MAX_ADDRESSES);
    }

    #[test]
    fn an_ipv6_network_is_one_address() {
        let mut attempts = Attempts::new(at(0));
        let failed = (0..20_u16)
            .filter(|n| attempts.begin(Ipv6Addr::new(0xfd00, 0, 0, 1, 0, 0, 0, *n).into(), at(0)).is_err());
        assert_eq!(failed.count(), 20 - 5);
        assert!(attempts.begin("fd00:0:0:2::1".parse().unwrap(), at(0)).is_ok());
    }
}
