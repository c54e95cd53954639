//! The end of a peer's access.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Span, SpanRelativeTo, Timestamp, Unit};

const EXPECTED: &str =
    "a date such as 2026-12-31, which is its last day in UTC, or a time such as 2026-12-31T18:00:00Z";

/// The time at which a peer's access ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Expiry(Timestamp);

impl Expiry {
    /// Parses a date, a time, or a duration from `now` on, such as `30d`, `12h` or `2w`.
    ///
    /// # Errors
    /// A description of a valid value.
    pub fn parse_from(text: &str, now: SystemTime) -> Result<Self, String> {
        let expected = || format!("{EXPECTED}, or a duration such as 30d, 12h or 2w");
        if let Ok(expiry) = text.parse() {
            return Ok(expiry);
        }
        let span: Span = text.parse().map_err(|_| expected())?;
        let days = SpanRelativeTo::days_are_24_hours();
        let seconds = span.total((Unit::Second, days)).map_err(|_| expected())?;
        if seconds < 1.0 {
            return Err(expected());
        }
        let after = Duration::try_from_secs_f64(seconds).map_err(|_| expected())?;
        let now = Timestamp::try_from(now).map_err(|_| expected())?;
        let end = now.checked_add(after).map_err(|_| expected())?;
        let whole = Timestamp::from_second(end.as_second()).map_err(|_| expected())?;
        Ok(Self(whole))
    }

    /// Returns the expiry at a time since 1970; `None` if it is beyond the year 9999.
    pub fn from_epoch(time: Duration) -> Option<Self> {
        Timestamp::from_second(i64::try_from(time.as_secs()).ok()?).ok().map(Self)
    }

    /// Returns the time since 1970; zero for an earlier time.
    pub fn since_epoch(self) -> Duration {
        Duration::from_secs(u64::try_from(self.0.as_second()).unwrap_or_default())
    }

    /// Returns the last day in UTC, if the access ends with a day.
    fn last_day(self) -> Option<Date> {
        let end = TimeZone::UTC.to_datetime(self.0);
        (end.time() == jiff::civil::Time::midnight()).then(|| end.date().yesterday().ok()).flatten()
    }
}

impl FromStr for Expiry {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        // the parser of dates accepts times too, and forgets them
        let is_date = text.len() == "2026-12-31".len();
        if is_date && let Ok(date) = text.parse::<Date>() {
            let end = date.tomorrow().and_then(|day| day.to_zoned(TimeZone::UTC));
            return end.map(|end| Self(end.timestamp())).map_err(|_| EXPECTED);
        }
        let time: Timestamp = text.parse().map_err(|_| EXPECTED)?;
        Timestamp::from_second(time.as_second()).map(Self).map_err(|_| EXPECTED)
    }
}

impl fmt::Display for Expiry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.last_day() {
            Some(day) => day.fmt(f),
            None => self.0.fmt(f),
        }
    }
}
