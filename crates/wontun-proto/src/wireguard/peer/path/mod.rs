//! Changes of the network path to a peer: the host has moved to another network, or was suspended.
//!
//! A peer that is in use is sent an initiation at once, which moves its endpoint and shows that the
//! new path works. A network may need time until it carries datagrams (a captive portal, a modem
//! that is not registered yet), and nothing reports that: for [`EAGER_TIME`], initiations to a
//! configured address are repeated at shorter intervals than
//! [`REKEY_TIMEOUT`](crate::wireguard::REKEY_TIMEOUT). Earlier ones are kept meanwhile, as for a
//! peer with several addresses, so that an answer that takes longer than the interval is accepted.
//!
//! A path that changes all the time causes few initiations ([`Limit`]). In between, a keepalive in
//! the present session moves the endpoint.

mod change;

use std::time::Duration;

use super::super::REKEY_TIMEOUT;
use crate::time::Instant;

/// Time after a change of the path for which initiations are repeated at short intervals.
pub const EAGER_TIME: Duration = Duration::from_secs(120);
/// Interval between two initiations to one address meanwhile.
pub const EAGER_INTERVAL: Duration = Duration::from_secs(1);
/// Minimum pause between two initiations meanwhile, to different addresses.
pub(super) const MIN_EAGER_PAUSE: Duration = Duration::from_millis(250);
/// Number of initiations that changes of the path cause without delay; one more each
/// [`REKEY_TIMEOUT`].
const BURST: u32 = 4;

/// State of the handshakes after changes of the path.
#[derive(Debug, Default)]
pub(super) struct PathState {
    /// End of the time in which initiations are repeated at short intervals.
    eager_until: Option<Instant>,
    /// Time of an initiation that the limit has postponed.
    pub(super) due: Option<Instant>,
    limit: Limit,
}

/// Rate limit: a token bucket.
#[derive(Debug, Default)]
struct Limit {
    /// Number of tokens that were taken and not returned yet.
    taken: u32,
    /// Time since which the last token is being returned.
    since: Instant,
}

impl Limit {
    /// Takes a token, and returns the time from which on it may be used.
    fn take(&mut self, now: Instant) -> Instant {
        let returned = now.since(self.since).as_secs() / REKEY_TIMEOUT.as_secs();
        self.taken = self.taken.saturating_sub(u32::try_from(returned).unwrap_or(u32::MAX));
        if self.taken == 0 || returned > 0 {
            self.since = now;
        }
        if self.taken < BURST {
            self.taken += 1;
            return now;
        }
        self.since + REKEY_TIMEOUT
    }
}

impl PathState {
    /// Returns true if initiations are repeated at short intervals.
    pub(super) fn is_eager(&self, now: Instant) -> bool {
        self.eager_until.is_some_and(|until| now < until)
    }

    /// Repeats initiations at short intervals from now on.
    pub(super) fn begin(&mut self, now: Instant) {
        self.eager_until = Some(now + EAGER_TIME);
    }

    /// Ends that: the path works, or the peer is under load. If an initiation was postponed, the
    /// answer may have come by an earlier path.
    pub(super) const fn end(&mut self) {
        if self.due.is_none() {
            self.eager_until = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_flaps_costs_few_initiations() {
        let at = |millis| Instant::from_boot(Duration::from_millis(millis));
        let mut limit = Limit::default();
        let times: Vec<_> = (0..20_000_u64)
            .step_by(100)
            .filter(|millis| limit.take(at(100_000 + millis)) <= at(100_000 + millis))
            .collect();
        assert_eq!(times, [0, 100, 200, 300, 5_000, 10_000, 15_000]);
        let later: Vec<_> = (0..5).map(|n| limit.take(at(200_000 + n)) <= at(200_000 + n)).collect();
        assert_eq!(later, [true, true, true, true, false], "after a rest");
    }
}
