//! Traffic of a peer: over all runs, and in calendar days and months in UTC.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::Offset;
use serde::{Deserialize, Serialize};

use wontun_proto::wireguard::Transfer;

/// Start of 2024, in seconds since 1970: a clock that shows an earlier time has not been set since
/// the host started.
const EARLIEST: i64 = 1_704_067_200;
const SECONDS_PER_DAY: u64 = 86_400;

/// A day and its month, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Today {
    /// Days since 1970-01-01.
    pub day: u32,
    /// Months since January of the year 0.
    pub month: u32,
}

impl Today {
    /// Returns the day of a time since 1970; `None` if the clock that shows it is not set.
    pub fn at(unix: Duration) -> Option<Self> {
        let time = Timestamp::from_second(i64::try_from(unix.as_secs()).ok()?).ok()?;
        if time.as_second() < EARLIEST {
            return None;
        }
        let date = Offset::UTC.to_datetime(time).date();
        let day = u32::try_from(unix.as_secs() / SECONDS_PER_DAY).ok()?;
        let month = u32::from(date.year().unsigned_abs()) * 12 + u32::from(date.month().unsigned_abs()) - 1;
        Some(Self { day, month })
    }
}

/// Returns the time from `unix`, a time since 1970, to the next midnight in UTC.
pub const fn until_midnight(unix: Duration) -> Duration {
    let today = Duration::from_secs(unix.as_secs() / SECONDS_PER_DAY * SECONDS_PER_DAY);
    Duration::from_secs(SECONDS_PER_DAY).saturating_sub(unix.saturating_sub(today))
}

/// Bytes in both directions, counting whole messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bytes {
    /// Bytes received.
    pub received: u64,
    /// Bytes sent.
    pub sent: u64,
}

impl Bytes {
    /// Returns the bytes of both directions.
    pub const fn both(self) -> u64 {
        self.received.saturating_add(self.sent)
    }
}

/// Traffic of a period, a day or a month, and of the one before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeriodTraffic {
    /// Number of the period, as in [`Today`]; 0 if there was no traffic yet.
    pub number: u32,
    /// Traffic of the period so far.
    pub current: Bytes,
    /// Traffic of the period before.
    pub previous: Bytes,
}

impl PeriodTraffic {
    /// Starts the period `number`, unless it has started already. A clock that is set back to the
    /// period before, as after a leap of NTP at midnight, does not return to that.
    fn advance(&mut self, number: u32) {
        if number == self.number || number.checked_add(1) == Some(self.number) {
            return;
        }
        let is_next = self.number.checked_add(1) == Some(number);
        let previous = if is_next { self.current } else { Bytes::default() };
        *self = Self { number, current: Bytes::default(), previous };
    }

    fn add(&mut self, increase: Transfer) {
        self.current.received = self.current.received.saturating_add(increase.received);
        self.current.sent = self.current.sent.saturating_add(increase.sent);
    }
}

/// Traffic of a peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// Traffic of all runs.
    pub total: Transfer,
    /// Traffic of the last day with traffic.
    pub day: PeriodTraffic,
    /// Traffic of the last month with traffic.
    pub month: PeriodTraffic,
}

impl Traffic {
    /// No traffic.
    pub const NONE: Self = {
        let bytes = Bytes { received: 0, sent: 0 };
        let period = PeriodTraffic { number: 0, current: bytes, previous: bytes };
        let total = Transfer { received: 0, sent: 0, packets_received: 0, packets_sent: 0 };
        Self { total, day: period, month: period }
    };

    /// Adds the increase from `before` to `now`, counters of one run. A counter that is smaller
    /// than before was reset. Without `today` the increase belongs to the last known day.
    pub fn add_increase(&mut self, before: Transfer, now: Transfer, today: Option<Today>) {
        let increase = |before: u64, now: u64| now.checked_sub(before).unwrap_or(now);
        let increase = Transfer {
            received: increase(before.received, now.received),
            sent: increase(before.sent, now.sent),
            packets_received: increase(before.packets_received, now.packets_received),
            packets_sent: increase(before.packets_sent, now.packets_sent),
        };
        let add = |total: &mut u64, increase: u64| *total = total.saturating_add(increase);
        add(&mut self.total.received, increase.received);
        add(&mut self.total.sent, increase.sent);
        add(&mut self.total.packets_received, increase.packets_received);
        add(&mut self.total.packets_sent, increase.packets_sent);
        *self = self.on(today);
        self.day.add(increase);
        self.month.add(increase);
    }

    /// Returns the traffic with the periods of `today`: what was the current day may be the
    /// previous one.
    #[must_use]
    pub fn on(mut self, today: Option<Today>) -> Self {
        if let Some(today) = today {
            self.day.advance(today.day);
            self.month.advance(today.month);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn today(date: &str) -> Option<Today> {
        let time: Timestamp = date.parse().unwrap();
        Today::at(Duration::from_secs(u64::try_from(time.as_second()).unwrap()))
    }

    const fn counters(bytes: u64) -> Transfer {
        Transfer { received: bytes, sent: 2 * bytes, packets_received: 1, packets_sent: 2 }
    }

    #[test]
    fn totals_continue_over_restarts_of_the_counters() {
        let mut traffic = Traffic::NONE;
        traffic.add_increase(counters(0), counters(10), None);
        traffic.add_increase(counters(10), counters(25), None);
        // the peer was removed and added again
        traffic.add_increase(counters(25), counters(5), None);
        assert_eq!((traffic.total.received, traffic.total.sent), (30, 60));
        traffic.add_increase(counters(0), Transfer { received: u64::MAX, ..Transfer::default() }, None);
        assert_eq!(traffic.total.received, u64::MAX, "no overflow");
        assert_eq!(traffic.day.current.both(), u64::MAX);
    }

    #[test]
    fn a_day_and_a_month_end_in_utc() {
        let mut traffic = Traffic::NONE;
        let mut add = |bytes, date| {
            traffic.add_increase(counters(0), counters(bytes), today(date));
            let [day, month] = [traffic.day, traffic.month];
            [day.current, day.previous, month.current, month.previous].map(|bytes| bytes.received)
        };
        assert_eq!(add(1, "2026-10-30T23:59:59Z"), [1, 0, 1, 0]);
        assert_eq!(add(2, "2026-10-31T00:00:00Z"), [2, 1, 3, 0]);
        assert_eq!(add(4, "2026-10-31T23:59:59Z"), [6, 1, 7, 0]);
        assert_eq!(add(8, "2026-11-01T00:00:00Z"), [8, 6, 8, 7]);
        assert_eq!(add(16, "2026-11-03T00:00:00Z"), [16, 0, 24, 7], "a day without traffic");
        assert_eq!(add(32, "2027-01-01T00:00:00Z"), [32, 0, 32, 0], "a month without traffic");
        assert_eq!(add(64, "2026-12-31T23:59:59Z"), [96, 0, 96, 0], "NTP stepped back at midnight");
        assert_eq!(add(1, "1970-01-01T00:00:10Z"), [97, 0, 97, 0], "the clock is not set yet");
        assert_eq!(add(2, "2026-11-15T00:00:00Z"), [2, 0, 2, 0], "the clock was in the future");
        let shown = traffic.on(today("2026-12-01T00:00:00Z"));
        assert_eq!((shown.month.current.received, shown.month.previous.received), (0, 2));
        assert_eq!((shown.day.current.received, shown.day.previous.received), (0, 0));
        assert_eq!(shown.total, traffic.total);
    }

    #[test]
    fn midnight_is_found() {
        let at = |date: &str| {
            let time: Timestamp = date.parse().unwrap();
            until_midnight(Duration::try_from(time.as_duration()).unwrap())
        };
        assert_eq!(at("2026-11-29T00:00:00Z"), Duration::from_secs(86_400));
        assert_eq!(at("2026-11-29T23:59:59.25Z"), Duration::from_millis(750));
    }

    proptest! {
        #[test]
        fn any_time_is_handled(seconds: u64, earlier: u32, numbers: [u32; 2]) {
            let mut traffic = Traffic::NONE;
            (traffic.day.number, traffic.month.number) = (numbers[0], numbers[1]);
            for seconds in [seconds, earlier.into(), seconds] {
                traffic.add_increase(counters(0), counters(1), Today::at(Duration::from_secs(seconds)));
                prop_assert!(until_midnight(Duration::from_secs(seconds)) <= Duration::from_secs(86_400));
            }
            prop_assert_eq!(traffic.total.received, 3);
            prop_assert!((1..=3).contains(&traffic.month.current.received));
        }
    }
}
