//! Quotas of traffic.

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Rate;
use super::rate::{self, amount, format_amount};

const EXPECTED: &str = "an amount per day or month, such as 100GB/month or 2GiB/day \
    (units B, kB, MB, GB, TB, KiB, MiB, GiB and TiB)";
const UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("kB", 1_000),
    ("B", 1),
];

/// Traffic of both directions in a period.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quota {
    /// Bytes received and sent.
    pub bytes: NonZeroU64,
    /// The period.
    pub period: QuotaPeriod,
}

/// Period of a quota, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum QuotaPeriod {
    /// A calendar day.
    Day,
    /// A calendar month.
    Month,
}

impl fmt::Display for QuotaPeriod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Day => "day",
            Self::Month => "month",
        })
    }
}

impl FromStr for Quota {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let (bytes, period) = text.split_once('/').ok_or(EXPECTED)?;
        let period = match period.trim() {
            day if day.eq_ignore_ascii_case("day") => QuotaPeriod::Day,
            month if month.eq_ignore_ascii_case("month") => QuotaPeriod::Month,
            _ => return Err(EXPECTED),
        };
        let bytes = amount(bytes.trim(), &UNITS).and_then(NonZeroU64::new).ok_or(EXPECTED)?;
        Ok(Self { bytes, period })
    }
}

impl fmt::Display for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        format_amount(f, self.bytes.get(), &UNITS)?;
        write!(f, "/{}", self.period)
    }
}

/// Treatment of a peer once its quota is used up, until the period ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum OverQuota {
    /// Its packets are dropped.
    #[default]
    Drop,
    /// It has this rate in each direction.
    Rate(Rate),
}

impl FromStr for OverQuota {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            _ if text.eq_ignore_ascii_case("drop") => Ok(Self::Drop),
            _ if text.eq_ignore_ascii_case("rate") => Ok(Self::Rate(Rate::MEGABIT)),
            _ => match text.parse() {
                Ok(rate) => Ok(Self::Rate(rate)),
                Err(_) => Err(format!("drop, rate (for 1Mbit), or {}", rate::EXPECTED)),
            },
        }
    }
}

impl fmt::Display for OverQuota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Drop => f.write_str("drop"),
            Self::Rate(rate) => rate.fmt(f),
        }
    }
}
