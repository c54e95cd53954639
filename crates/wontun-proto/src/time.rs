//! Time as nanoseconds since boot, suspend included; the program uses no other monotonic time.
//!
//! `std::time::Instant` reads CLOCK_MONOTONIC, which stops while a laptop is suspended: keys would
//! outlive their limits, and a dead peer would seem alive. The engines never read a clock; their
//! callers pass an `Instant`.

use std::ops::{Add, Sub};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A point in time on CLOCK_BOOTTIME, as the time since boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Instant(Duration);

impl Instant {
    /// Returns the instant `since_boot` after boot.
    pub const fn from_boot(since_boot: Duration) -> Self {
        Self(since_boot)
    }

    /// Returns the time since boot, as timerfd takes it.
    pub const fn since_boot(self) -> Duration {
        self.0
    }

    /// Returns the time since `earlier`; zero if `earlier` is in the future.
    pub const fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(span))
    }
}

impl Sub<Duration> for Instant {
    type Output = Self;

    fn sub(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(span))
    }
}
