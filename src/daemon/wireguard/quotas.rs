//! Quotas of the peers: what is left of them in the present day or month.
//!
//! The engine has the number of bytes at which a quota is used up, and acts on it by itself. That
//! number is set again when a period ends.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use crate::config::peer_settings::PeerLimits;
use wontun_proto::time::Instant;
use wontun_proto::wireguard::PeerId;

/// Maximum interval between two checks: the clock may be set.
pub(super) const MAX_INTERVAL: Duration = Duration::from_secs(3600);

/// Time after midnight at which the quotas of the new day are set: the traffic of the day before is
/// entered within a second.
pub(super) const AFTER_MIDNIGHT: Duration = Duration::from_secs(2);

/// The peers that have a quota.
#[derive(Debug, Default)]
pub(super) struct Quotas {
    pub(super) peers: HashMap<PeerId, PeerLimits>,
    /// Peers that were reported to exceed their quota.
    pub(super) reported_over: HashSet<PeerId>,
    /// Time of the next check.
    pub(super) check_at: Option<Instant>,
}

impl Quotas {
    /// Returns the time of the next check.
    pub(super) const fn deadline(&self) -> Option<Instant> {
        self.check_at
    }

    /// Removes the state of a removed peer.
    pub(super) fn remove(&mut self, peer: PeerId) {
        self.peers.remove(&peer);
        self.reported_over.remove(&peer);
    }
}
