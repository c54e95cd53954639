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

    /// Returns true if the machine has been suspended since the last call, as shown by the total
    /// `suspended`.
    pub(super) fn observe(&mut self, suspended: Duration) -> bool {
        let was_suspended = suspended > self.0 + TOLERANCE;
        self.0 = self.0.max(suspended);
        was_suspended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_jump_is_a_suspension_and_each_once() {
        let mut suspension = Suspension(Duration::from_secs(100));
        for (milliseconds, expected) in [
            (100_000, false),
            (99_000, false),
            (100_001, false),
            (100_900, true),
            (100_900, false),
            (400_000, true),
        ] {
            assert_eq!(suspension.observe(Duration::from_millis(milliseconds)), expected, "{milliseconds}");
        }
    }

    #[test]
    fn a_machine_that_is_awake_is_not_suspended() {
        let mut suspension = Suspension::new().unwrap();
        for _ in 0..10_000 {
            assert!(!suspension.observe(now_and_suspended().unwrap().1));
        }
    }
}
