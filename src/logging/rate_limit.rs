//! Rate limiting of repeated warnings.

use std::num::NonZeroU64;
use std::time::Duration;

use wontun_proto::time::Instant;

/// Number of events suppressed since the last one logged, if any: a field that a line shows only
/// when it is not zero.
pub(crate) type Suppressed = Option<NonZeroU64>;

/// Lets one event per interval, or a few, through and counts the others.
#[derive(Clone, Debug)]
pub(crate) struct RateLimit {
    interval: Duration,
    /// Maximum number of events per interval.
    burst: u32,
    /// Start of the present interval, and the events in it that passed.
    present: Option<(Instant, u32)>,
    suppressed: u64,
}

impl RateLimit {
    /// Creates a limit of one event per `interval`. The first one always passes.
    pub(crate) const fn new(interval: Duration) -> Self {
        Self::with_burst(interval, 1)
    }

    /// Creates a limit of `burst` events per `interval`.
    pub(crate) const fn with_burst(interval: Duration, burst: u32) -> Self {
        Self { interval, burst, present: None, suppressed: 0 }
    }

    /// Returns the number of events suppressed since the last one logged if an event at `now` may
    /// be logged, else `None`.
    pub(crate) fn allow(&mut self, now: Instant) -> Option<Suppressed> {
        let present = self.present.filter(|(start, _)| now.since(*start) < self.interval);
        let (start, passed) = present.unwrap_or((now, 0));
        if passed >= self.burst {
            self.suppressed = self.suppressed.saturating_add(1);
            return None;
        }
        self.present = Some((start, passed + 1));
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

    #[test]
    fn a_burst_passes_once_an_interval() {
        let mut limit = RateLimit::with_burst(Duration::from_secs(10), 3);
        let at = |seconds| Instant::from_boot(Duration::from_secs(seconds));
        let passed: Vec<_> = (0..25).filter(|second| limit.allow(at(*second)).is_some()).collect();
        assert_eq!(passed, [0, 1, 2, 10, 11, 12, 20, 21, 22]);
        assert_eq!(limit.allow(at(40)), Some(NonZeroU64::new(2)));
    }
}
