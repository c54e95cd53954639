//! Limits of a peer's traffic.

use serde::{Deserialize, Serialize};

use super::{OverQuota, Quota, Rate};

/// Limits of a peer's traffic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerLimits {
    /// Rate from the peer.
    pub rate_up: Option<Rate>,
    /// Rate to the peer.
    pub rate_down: Option<Rate>,
    /// Traffic of both directions in a period.
    pub quota: Option<Quota>,
    /// Treatment of the peer once its quota is used up; `None` for the default.
    pub over_quota: Option<OverQuota>,
}

impl PeerLimits {
    /// No limits.
    pub const NONE: Self = Self { rate_up: None, rate_down: None, quota: None, over_quota: None };
}
