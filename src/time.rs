//! The one kind of time the program knows: nanoseconds since boot, suspend included.
//!
//! `std::time::Instant` reads CLOCK_MONOTONIC, which stands still while a laptop sleeps: keys would outlive
//! their limits and a dead peer would look alive. The engines never read a clock; they are handed one of these.

use std::ops::{Add, Sub};
use std::time::Duration;

/// A point in time on CLOCK_BOOTTIME, as the time passed since boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(Duration);

impl Instant {
    /// The instant that lies `since_boot` after the machine's start.
    pub const fn from_boot(since_boot: Duration) -> Self {
        Self(since_boot)
    }

    /// Time since boot, as timerfd takes it.
    pub const fn since_boot(self) -> Duration {
        self.0
    }

    /// Time since `earlier`; zero if `earlier` lies in the future.
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
