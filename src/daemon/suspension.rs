//! Detects suspensions of the machine: keys that were in memory then are not used afterwards, as in
//! the kernel.

use std::io;
use std::time::Duration;

use crate::net::timer::now_and_suspended;

/// Maximum error of a measurement: CLOCK_BOOTTIME continues while the machine is suspended,
/// CLOCK_MONOTONIC does not. They are read one after the other, so that their difference varies by
/// less than this, and any suspension is longer.
const TOLERANCE: Duration = Duration::from_millis(1);
/// Number of measurements at the start, of which the most exact one is used.
const READINGS: usize = 16;

/// Total time that the machine has been suspended, as known so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Suspension(Duration);

impl Suspension {
    /// Measures the total time suspended so far.
    ///
    /// # Errors
    /// An error of the system.
    pub(super) fn new() -> io::Result<Self> {
        let mut known = Duration::ZERO;
        for _ in 0..READINGS {
            known = known.max(now_and_suspended()?.1);
        }
        Ok(Self(known))
    }

    /// Returns the time for which the machine has been suspended since the last call, as shown by
    /// the total `suspended`; `None` if it has not.
    pub(super) fn observe(&mut self, suspended: Duration) -> Option<Duration> {
        let known = self.0;
        self.0 = known.max(suspended);
        let last = suspended.saturating_sub(known);
        (last > TOLERANCE).then_some(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_jump_is_a_suspension_and_each_once() {
        let mut suspension = Suspension(Duration::from_secs(100));
        for (milliseconds, expected) in [
            (100_000, None),
            (99_000, None),
            (100_001, None),
            (100_901, Some(900)),
            (100_901, None),
            (400_000, Some(299_099)),
        ] {
            let observed = suspension.observe(Duration::from_millis(milliseconds));
            assert_eq!(observed, expected.map(Duration::from_millis), "{milliseconds}");
        }
    }

    #[test]
    fn a_machine_that_is_awake_is_not_suspended() {
        let mut suspension = Suspension::new().unwrap();
        for _ in 0..10_000 {
            assert_eq!(suspension.observe(now_and_suspended().unwrap().1), None);
        }
    }
}
