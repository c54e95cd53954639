//! Peers that have no access by their settings.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::PeerSettings;
use crate::config::PeerName;
use wontun_proto::wireguard::PublicKey;

/// Reason why a peer has no access.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exclusion {
    /// It is disabled.
    Disabled,
    /// Its access has ended.
    Expired,
    /// It is an invitation, and no process answers those.
    Unanswered,
}

/// A peer that has no access.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExcludedPeer {
    /// Public key of the peer.
    pub public_key: PublicKey,
    /// Name of the peer, if it has one.
    pub name: Option<PeerName>,
    /// Reason.
    pub exclusion: Exclusion,
    /// End of its access in seconds since 1970, if it has one.
    pub expires: Option<u64>,
}

impl PeerSettings {
    /// Returns true if the peer is an invitation that has expired at `now`, a time since 1970.
    pub fn is_expired_invitation(&self, now: Duration) -> bool {
        self.invitation.is_some_and(|end| end.since_epoch() <= now)
    }

    /// Returns the reason why the peer has no access at `now`, a time since 1970; `None` if it has.
    pub fn exclusion(&self, now: Duration) -> Option<Exclusion> {
        let is_expired = self.access_end().is_some_and(|end| end.since_epoch() <= now);
        match (self.is_disabled, is_expired) {
            (true, _) => Some(Exclusion::Disabled),
            (false, true) => Some(Exclusion::Expired),
            (false, false) => None,
        }
    }
}
