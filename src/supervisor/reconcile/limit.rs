//! A limit on repairs: wontun does not fight for ever with a program that removes again what was
//! put back.

use std::collections::VecDeque;
use std::time::Duration;

use crate::time::Instant;

/// Repairs that are made at once.
const AT_ONCE: usize = 5;
/// Time in which so many are.
const TIME: Duration = Duration::from_secs(60);
/// Least time between two repairs beyond these.
const INTERVAL: Duration = Duration::from_secs(1);

/// Times of the last repairs, and of the next.
#[derive(Debug, Default)]
pub(super) struct RepairLimit {
    made: VecDeque<Instant>,
    due: Option<Instant>,
}

impl RepairLimit {
    /// Returns true if something may be put back now; otherwise it is due later.
    pub(super) fn allow(&mut self, now: Instant) -> bool {
        while self.made.front().is_some_and(|at| now.since(*at) >= TIME) {
            self.made.pop_front();
        }
        let next = self.made.back().map_or(now, |last| *last + INTERVAL);
        if self.made.len() >= AT_ONCE && now < next {
            self.due = Some(next);
            return false;
        }
        if self.made.len() >= AT_ONCE {
            self.made.pop_front();
        }
        self.made.push_back(now);
        self.due = None;
        true
    }

    /// Returns the time at which something is to be put back.
    pub(super) const fn deadline(&self) -> Option<Instant> {
        self.due
    }

    /// Returns true if that time has come.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.due.is_some_and(|due| now >= due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_in_a_minute_are_made_at_once_and_then_one_a_second() {
        let at = |millis| Instant::from_boot(Duration::from_millis(millis));
        let mut limit = RepairLimit::default();
        let made = (0..10_000).step_by(10).filter(|millis| limit.allow(at(*millis))).count();
        assert_eq!(made, 5 + 9);
        assert!(limit.deadline().is_some_and(|due| due <= at(11_000)));
        assert!(!limit.is_due(at(9_990)) && limit.is_due(at(11_000)));
        assert!((0..5).all(|again| limit.allow(at(120_000 + again))), "a minute later");
        assert!(limit.deadline().is_none() && !limit.allow(at(120_006)));
    }
}
