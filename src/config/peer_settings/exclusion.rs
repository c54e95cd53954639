//! Peers that have no access by their settings.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::PeerSettings;

/// Reason why a peer has no access.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exclusion {
    /// It is disabled.
    Disabled,
    /// Its access has ended.
    Expired,
}

impl PeerSettings {
    /// Returns the reason why the peer has no access at `now`, a time since 1970; `None` if it has.
    pub fn exclusion(&self, now: Duration) -> Option<Exclusion> {
        let is_expired = self.expires.is_some_and(|expires| expires.since_epoch() <= now);
        match (self.is_disabled, is_expired) {
            (true, _) => Some(Exclusion::Disabled),
            (false, true) => Some(Exclusion::Expired),
            (false, false) => None,
        }
    }
}
