//! Options for the limits of a peer's traffic.

use std::fmt::Display;
use std::str::FromStr;

use clap::Args;

use crate::config::peer_settings::{OverQuota, PeerLimits, Quota, Rate};

/// Limits of a peer's traffic.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
#[group(skip)]
pub struct LimitOptions {
    /// Maximum rate from the client, such as 20Mbit, or 'none'
    #[arg(long, value_name = "RATE")]
    pub rate_up: Option<OrNone<Rate>>,

    /// Maximum rate to the client, such as 50Mbit, or 'none'
    #[arg(long, value_name = "RATE")]
    pub rate_down: Option<OrNone<Rate>>,

    /// Traffic of both directions per calendar day or month in UTC, such as 100GB/month, or 'none'
    #[arg(long, value_name = "AMOUNT/PERIOD")]
    pub quota: Option<OrNone<Quota>>,

    /// At the end of the quota: 'drop' the client's packets, or 'rate' to limit it to 1Mbit, or to
    /// the rate that is given [default: drop]
    #[arg(long, value_name = "drop|rate|RATE")]
    pub over: Option<OverQuota>,
}

impl LimitOptions {
    /// Changes what is given; everything else stays as it is.
    pub(crate) fn apply(&self, limits: &mut PeerLimits) {
        let Self { rate_up, rate_down, quota, over } = *self;
        set(&mut limits.rate_up, rate_up);
        set(&mut limits.rate_down, rate_down);
        set(&mut limits.quota, quota);
        limits.over_quota = over.or(limits.over_quota);
        if limits.quota.is_none() && over.is_none() {
            limits.over_quota = None;
        }
    }
}

fn set<T>(limit: &mut Option<T>, option: Option<OrNone<T>>) {
    if let Some(OrNone(value)) = option {
        *limit = value;
    }
}

/// A value, or `none`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrNone<T>(pub Option<T>);

impl<T: FromStr<Err: Display>> FromStr for OrNone<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.eq_ignore_ascii_case("none") {
            return Ok(Self(None));
        }
        text.parse()
            .map(|value| Self(Some(value)))
            .map_err(|expected| format!("expected {expected}, or 'none'"))
    }
}
