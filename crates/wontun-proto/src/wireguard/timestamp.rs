//! TAI64N timestamps, which prevent the replay of handshake initiations.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Length of a timestamp in bytes.
pub const TIMESTAMP_LEN: usize = 12;

/// TAI64 label of the UNIX epoch: 2^62, and the ten leap seconds of 1970.
const UNIX_EPOCH: u64 = 0x4000_0000_0000_000a;
/// Granularity to which timestamps are rounded down, so that they reveal little about the time of
/// events.
const STEP_NANOS: u32 = 1 << 25;

/// A point in time in the format of initiations (TAI64N). Timestamps compare like their bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Timestamp([u8; TIMESTAMP_LEN]);

impl Timestamp {
    /// Returns the timestamp with these bytes: seconds and nanoseconds, both big-endian.
    pub const fn from_bytes(bytes: [u8; TIMESTAMP_LEN]) -> Self {
        Self(bytes)
    }

    /// Returns its bytes.
    pub const fn as_bytes(&self) -> &[u8; TIMESTAMP_LEN] {
        &self.0
    }

    /// Returns the timestamp of a time since 1970.
    pub fn from_unix(unix: Duration) -> Self {
        Self::new(UNIX_EPOCH.saturating_add(unix.as_secs()), unix.subsec_nanos())
    }

    fn new(seconds: u64, nanos: u32) -> Self {
        let mut bytes = [0; TIMESTAMP_LEN];
        let (front, back) = bytes.split_at_mut(8);
        front.copy_from_slice(&seconds.to_be_bytes());
        back.copy_from_slice(&nanos.to_be_bytes());
        Self(bytes)
    }

    /// Returns the time since 1970; zero for earlier times.
    pub fn unix(self) -> Duration {
        let (front, back) = self.0.split_at(8);
        let number = |bytes: &[u8]| bytes.iter().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
        let nanos = u32::try_from(number(back)).unwrap_or_default().min(999_999_999);
        Duration::new(number(front).saturating_sub(UNIX_EPOCH), nanos)
    }
}

/// Generator of strictly increasing timestamps, even if the wall clock is set back. All peers share
/// one: a peer that is removed and added again still remembers the last timestamp.
#[derive(Debug, Default)]
pub(super) struct TimestampGenerator {
    /// The last timestamp: seconds since the epoch, and nanoseconds.
    last: Option<(u64, u32)>,
}

impl TimestampGenerator {
    /// Returns a timestamp for the time `unix` since 1970, or the smallest one above the last if
    /// that is later.
    pub(super) fn generate(&mut self, unix: Duration) -> Timestamp {
        let nanos = unix.subsec_nanos();
        let wanted = (unix.as_secs(), nanos - nanos % STEP_NANOS);
        let timestamp = match self.last {
            Some((seconds, 999_999_999)) if wanted <= (seconds, 999_999_999) => {
                (seconds.saturating_add(1), 0)
            }
            Some((seconds, nanos)) if wanted <= (seconds, nanos) => (seconds, nanos + 1),
            _ => wanted,
        };
        self.last = Some(timestamp);
        Timestamp::new(UNIX_EPOCH.saturating_add(timestamp.0), timestamp.1)
    }

    /// Generates only timestamps later than `timestamp` from now on.
    pub(super) fn skip_to(&mut self, timestamp: Timestamp) {
        let unix = timestamp.unix();
        self.last = self.last.max(Some((unix.as_secs(), unix.subsec_nanos())));
    }

    /// Returns the timestamp that was generated last, or the one passed to [`Self::skip_to`] if
    /// that is later.
    pub(super) fn last(&self) -> Option<Timestamp> {
        self.last.map(|(seconds, nanos)| Timestamp::new(UNIX_EPOCH.saturating_add(seconds), nanos))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_stamp_is_tai64n_with_coarse_nanoseconds() {
        let timestamp = TimestampGenerator::default().generate(Duration::new(0x1234_5678, 999_999_999));
        assert_eq!(timestamp.as_bytes()[..8], (0x4000_0000_1234_5678_u64 + 10).to_be_bytes());
        assert_eq!(timestamp.as_bytes()[8..], (29_u32 << 25).to_be_bytes());
    }

    proptest! {
        #[test]
        fn stamps_grow_whatever_the_clock_does(times in prop::collection::vec((0_u64..3, 0_u32..1_000_000_000), 1..200)) {
            let mut timestamps = TimestampGenerator::default();
            let stamps: Vec<_> = times.into_iter().map(|(s, n)| timestamps.generate(Duration::new(s, n))).collect();
            prop_assert!(stamps.is_sorted_by(|a, b| a < b));
        }
    }

    #[test]
    fn a_stamp_is_read_as_the_time_it_was_made_from() {
        let time = Duration::new(1_700_000_000, 3 << 25);
        assert_eq!(TimestampGenerator::default().generate(time).unix(), time);
        assert_eq!(Timestamp::from_bytes([0; TIMESTAMP_LEN]).unix(), Duration::ZERO);
        let last = Timestamp::from_bytes([0xff; TIMESTAMP_LEN]).unix();
        assert!(last > time, "no overflow");
    }

    #[test]
    fn stamps_are_later_than_one_of_an_earlier_run() {
        let kept = Timestamp::from_unix(Duration::new(1_700_000_000, 5));
        let mut timestamps = TimestampGenerator::default();
        assert_eq!(timestamps.last(), None);
        timestamps.skip_to(kept);
        assert_eq!(timestamps.last(), Some(kept));
        // the clock was set back to 1970
        assert_eq!(
            timestamps.generate(Duration::ZERO),
            Timestamp::from_unix(Duration::new(1_700_000_000, 6))
        );
        timestamps.skip_to(Timestamp::from_unix(Duration::from_secs(1)));
        let later = Duration::from_secs(1_700_000_001);
        assert_eq!(timestamps.generate(later), Timestamp::from_unix(later));
        assert_eq!(timestamps.last(), Some(Timestamp::from_unix(later)));
    }

    #[test]
    fn a_full_second_carries() {
        let mut timestamps = TimestampGenerator { last: Some((5, 999_999_999)) };
        assert_eq!(timestamps.generate(Duration::from_secs(1)), Timestamp::new(UNIX_EPOCH + 6, 0));
    }
}
