//! Rates of traffic.

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub(super) const EXPECTED: &str =
    "a rate from 8kbit to 100Gbit, such as 20Mbit or 1.5Gbit (units bit, kbit, Mbit and Gbit per second)";
const MIN: u64 = 8_000;
const MAX: u64 = 100_000_000_000;
const UNITS: [(&str, u64); 4] = [("Gbit", 1_000_000_000), ("Mbit", 1_000_000), ("kbit", 1_000), ("bit", 1)];

/// A rate in bits per second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Rate(NonZeroU64);

impl Rate {
    /// 1 Mbit/s.
    pub const MEGABIT: Self = Self(NonZeroU64::MIN.saturating_add(999_999));

    /// Returns the bits per second.
    pub const fn bits(self) -> NonZeroU64 {
        self.0
    }
}

impl FromStr for Rate {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let per_second = text.strip_suffix("/s").unwrap_or(text);
        let bits = amount(per_second, &UNITS).filter(|bits| (MIN..=MAX).contains(bits)).ok_or(EXPECTED)?;
        NonZeroU64::new(bits).map(Self).ok_or(EXPECTED)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        format_amount(f, self.0.get(), &UNITS)
    }
}

/// Parses a decimal number and its unit, in any case; `None` also for a fraction of the last unit.
pub(super) fn amount(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let letters = text.find(|character: char| character.is_ascii_alphabetic())?;
    let (number, unit) = text.split_at_checked(letters)?;
    let (_, factor) = units.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit))?;
    let (whole, fraction) = number.trim_end().split_once('.').unwrap_or((number.trim_end(), "0"));
    let digits =
        |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u64>().ok());
    let mut amount = digits(whole)??.checked_mul(*factor)?;
    let scale = 10_u64.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let part = digits(fraction)??.checked_mul(*factor)?;
    if !part.is_multiple_of(scale) {
        return None;
    }
    amount = amount.checked_add(part / scale)?;
    Some(amount)
}

/// Writes an amount in the largest unit of which it is a multiple.
pub(super) fn format_amount(f: &mut fmt::Formatter<'_>, amount: u64, units: &[(&str, u64)]) -> fmt::Result {
    let fitting = units.iter().find(|(_, factor)| amount.is_multiple_of(*factor));
    let (name, factor) = fitting.copied().unwrap_or(("", 1));
    write!(f, "{}{name}", amount / factor)
}
