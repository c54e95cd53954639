//! Quotas of the peers: what is left of them in the present day or month.
//!
//! The engine has the number of bytes at which a quota is used up, and acts on it by itself. That
//! number is set again when a period ends.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use crate::config::peer_settings::{PeerLimits, Quota, QuotaPeriod};
use crate::traffic::{Traffic, until_midnight};
use wontun_proto::time::Instant;
use wontun_proto::wireguard::PeerId;

/// Interval between two checks if no midnight comes before: the clock may be set.
const MAX_INTERVAL: Duration = Duration::from_secs(3600);

/// Time after midnight at which the quotas of the new day are set: the traffic of the day before is
/// entered within a second.
const AFTER_MIDNIGHT: Duration = Duration::from_secs(2);

/// The peers that have a quota.
#[derive(Debug, Default)]
pub(super) struct Quotas {
    pub(super) peers: HashMap<PeerId, PeerLimits>,
    /// Peers that were reported to exceed their quota.
    pub(super) reported_over: HashSet<PeerId>,
    /// Time of the next check.
    pub(super) check_at: Option<Instant>,
}

/// Returns the bytes that are left of a quota, after traffic with the present periods.
pub(super) fn remaining(traffic: &Traffic, quota: Quota) -> u64 {
    let used = match quota.period {
        QuotaPeriod::Day => traffic.day,
        QuotaPeriod::Month => traffic.month,
    };
    quota.bytes.get().saturating_sub(used.current.both())
}

/// Returns the time to the next check at `now`, a time since 1970. No check comes within
/// [`AFTER_MIDNIGHT`], when traffic of the day before may not be entered.
pub(super) fn until_check(now: Duration) -> Duration {
    match until_midnight(now) {
        soon if soon <= MAX_INTERVAL => soon.saturating_add(AFTER_MIDNIGHT),
        _ => MAX_INTERVAL,
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::Today;
    use wontun_proto::wireguard::Transfer;

    /// 2026-12-01 00:00 UTC.
    const MIDNIGHT: Duration = Duration::from_secs(1_796_083_200);

    #[test]
    fn a_quota_begins_anew_at_midnight() {
        let seconds = Duration::from_secs;
        let quota = |text: &str| text.parse::<Quota>().unwrap();
        let [day, month] = ["100kB/day", "100kB/month"].map(quota);
        let mut traffic = Traffic::default();
        let used = Transfer { received: 60_000, sent: 30_000, ..Transfer::default() };
        let (eve, before) = (MIDNIGHT - seconds(86_400), MIDNIGHT - seconds(1));
        traffic.add_increase(Transfer::default(), used, Today::at(before));
        let left = |now, quota| remaining(&traffic.on(Today::at(now)), quota);
        assert_eq!((left(before, day), left(before, month)), (10_000, 10_000));
        assert_eq!((left(MIDNIGHT, day), left(MIDNIGHT, month)), (100_000, 100_000), "a day and a month end");
        assert_eq!(left(MIDNIGHT + seconds(86_400 * 40), month), 100_000);
        // a clock that is set back finds the period that it left
        assert_eq!(left(before, day), 10_000);
        assert_eq!(left(eve, day), 10_000, "and no period begins twice");

        // the check comes right after midnight, and every hour for a clock that is set
        assert_eq!(until_check(before), seconds(1) + AFTER_MIDNIGHT);
        assert_eq!(until_check(MIDNIGHT), MAX_INTERVAL);
        assert_eq!(until_check(MIDNIGHT - seconds(3600)), MAX_INTERVAL + AFTER_MIDNIGHT);
        let mut checks = 0;
        let mut now = eve;
        while now < MIDNIGHT {
            (now, checks) = (now + until_check(now), checks + 1);
        }
        assert_eq!((now, checks), (MIDNIGHT + AFTER_MIDNIGHT, 24));
    }
}
