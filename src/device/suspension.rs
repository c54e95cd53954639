//! Notices that the machine was suspended: keys that were in memory then are not used afterwards,
//! as in the kernel.

use std::io;
use std::time::Duration;

use crate::io::timer::now_and_suspended;

/// CLOCK_BOOTTIME goes on while the machine is suspended, CLOCK_MONOTONIC does not. Both are read
/// one after the other, so that their difference varies by less than this, and no suspension is as
/// short.
const TOLERANCE: Duration = Duration::from_millis(1);
/// Readings of which the most exact is taken at the start.
const READINGS: usize = 16;

/// The time that the machine has been suspended, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Suspension(Duration);

impl Suspension {
    /// # Errors
    /// The system's.
    pub(super) fn new() -> io::Result<Self> {
        let mut known = Duration::ZERO;
        for _ in 0..READINGS {
            known = known.max(now_and_suspended()?.1);
        }
        Ok(Self(known))
    }

    /// Returns true if the machine has been suspended since the last time, of which `suspended` is
    /// the evidence.
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
