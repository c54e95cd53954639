//! Rate limit of repairs: wontun does not fight forever with a program that removes again what was
//! restored.

use std::collections::VecDeque;
use std::time::Duration;

use wontun_proto::time::Instant;

/// Number of repairs that are made without delay.
const BURST: usize = 5;
/// Period for that number.
const PERIOD: Duration = Duration::from_secs(60);
/// Minimum interval between further repairs.
const INTERVAL: Duration = Duration::from_secs(1);

/// Times of the last repairs.
#[derive(Debug, Default)]
pub(crate) struct RepairLimit {
    repairs: VecDeque<Instant>,
}

impl RepairLimit {
    /// Returns the time from which on the next repair is allowed.
    pub(crate) fn allowed_at(&mut self, now: Instant) -> Instant {
        while self.repairs.front().is_some_and(|at| now.since(*at) >= PERIOD) {
            self.repairs.pop_front();
        }
        match self.repairs.back() {
            Some(last) if self.is_reached() => now.max(*last + INTERVAL),
            _ => now,
        }
    }

    /// Records a repair.
    pub(crate) fn record(&mut self, now: Instant) {
        if self.is_reached() {
            self.repairs.pop_front();
        }
        self.repairs.push_back(now);
    }

    /// Returns true if there were so many repairs recently that they are limited.
    pub(crate) fn is_reached(&self) -> bool {
        self.repairs.len() >= BURST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_in_a_minute_are_made_at_once_and_then_one_a_second() {
        let at = |millis| Instant::from_boot(Duration::from_millis(millis));
        let mut limit = RepairLimit::default();
        let mut allow = |millis| {
            let allowed = limit.allowed_at(at(millis)) <= at(millis);
            if allowed {
                limit.record(at(millis));
            }
            allowed
        };
        let made = (0..10_000).step_by(10).filter(|millis| allow(*millis)).count();
        assert_eq!(made, 5 + 9);
        assert!((0..5).all(|again| allow(120_000 + again)), "a minute later");
        assert!(!allow(120_006));
        assert_eq!(limit.allowed_at(at(120_006)), at(121_004));
    }
}
