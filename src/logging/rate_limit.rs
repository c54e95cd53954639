//! Rate limiting of repeated warnings.

use std::num::NonZeroU64;
use std::time::Duration;

use wontun_proto::time::Instant;

/// Number of events suppressed since the last one logged, if any: a field that a line shows only
/// when it is not zero.
pub(crate) type Suppressed = Option<NonZeroU64>;

/// Lets one event per interval through and counts the others.
#[derive(Clone, Debug)]
pub(crate) struct RateLimit {
    interval: Duration,
    last: Option<Instant>,
    suppressed: u64,
}

impl RateLimit {
    /// Creates a limit of one event per `interval`. The first one always passes.
    pub(crate) const fn new(interval: Duration) -> Self {
        Self { interval, last: None, suppressed: 0 }
    }

    /// Returns the number of events suppressed since the last one logged if an event at `now` may
    /// be logged, else `None`.
    pub(crate) fn allow(&mut self, now: Instant) -> Option<Suppressed> {
        if self.last.is_some_and(|last| now.since(last) < self.interval) {
            self.suppressed = self.suppressed.saturating_add(1);
            return None;
        }
        self.last = Some(now);
        Some(NonZeroU64::new(std::mem::take(&mut self.suppressed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_event_an_interval_and_the_rest_counted() {
        let mut limit = RateLimit::new(Duration::from_secs(10));
        let at = |millis| Instant::from_boot(Duration::from_millis(millis));
        assert_eq!(limit.allow(at(5)), Some(None), "the first, even right after boot");
        assert_eq!(limit.allow(at(5)), None);
        assert_eq!(limit.allow(at(10_004)), None);
        assert_eq!(limit.allow(at(10_005)), Some(NonZeroU64::new(2)));
        assert_eq!(limit.allow(at(10_006)), None);
        assert_eq!(limit.allow(at(90_000)), Some(NonZeroU64::new(1)));
        assert_eq!(limit.allow(at(190_000)), Some(None));
        assert_eq!(limit.allow(at(0)), None, "an instant from the past is no new interval");
    }
}
