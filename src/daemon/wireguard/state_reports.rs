//! Reports to the supervisor what has to be known after a restart: a change of a peer's state after
//! a second at most, its counters after half a minute, and everything at the end.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::messages::MAX_PEERS_PER_MESSAGE;
use crate::net::timer::unix_now;
use crate::traffic::until_midnight;
use wontun_proto::time::Instant;
use wontun_proto::wireguard::{PeerId, PublicKey, Timestamp};

/// Minimum interval between two reports of changes.
const INTERVAL: Duration = Duration::from_secs(1);
/// Interval between two comparisons of the counters of all peers; another one comes at midnight, so
/// that a day's traffic is counted for that day.
const COUNTERS_INTERVAL: Duration = Duration::from_secs(30);
/// Increase of the timestamps of sent initiations that is reported at once. The supervisor keeps a
/// later one than was reported, so that it covers smaller increases.
const SENT_STEP: Duration = Duration::from_secs(10);

/// Pending reports of state that is kept over a restart.
#[derive(Debug, Default)]
pub(super) struct StateReports {
    /// True if the supervisor wants reports.
    pub(super) is_reporting: bool,
    pub(super) changed: BTreeSet<PeerId>,
    /// Time of the next report of changes, and of the last.
    pub(super) due: Option<Instant>,
    reported: Option<Instant>,
    /// Time of the next comparison of counters; `None` while no peer has a session.
    pub(super) compare_at: Option<Instant>,
    /// Comparison in progress.
    pub(super) comparison: Option<Comparison>,
    /// Timestamp of a sent initiation as reported last.
    pub(super) sent: Option<Timestamp>,
}

/// A comparison of the counters of all peers, in the order of their keys.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    /// Last peer that was compared.
    pub(super) after: Option<PublicKey>,
    /// True if a peer has a session or has carried something.
    pub(super) is_active: bool,
}

impl StateReports {
    pub(super) fn new(is_reporting: bool) -> Self {
        Self { is_reporting, ..Self::default() }
    }

    /// Records that the state of a peer has changed.
    pub(super) fn handle_changed(&mut self, peer: PeerId, now: Instant) {
        if self.is_reporting {
            self.changed.insert(peer);
            let due = self.reported.map_or(now, |reported| now.max(reported + INTERVAL));
            self.due.get_or_insert(due);
            if self.compare_at.is_none() {
                self.schedule_comparison(now);
            }
        }
    }

    /// Schedules the next comparison.
    pub(super) fn schedule_comparison(&mut self, now: Instant) {
        self.compare_at = Some(now + COUNTERS_INTERVAL.min(until_midnight(unix_now())));
    }

    /// Records that an initiation with the timestamp `sent` was sent.
    pub(super) fn handle_initiation(&mut self, sent: Timestamp, now: Instant) {
        let is_covered = self.sent.is_some_and(|last| sent.unix() < last.unix().saturating_add(SENT_STEP));
        if self.is_reporting && !is_covered {
            self.due = Some(now);
        }
    }

    /// Removes the state of a removed peer.
    pub(super) fn remove(&mut self, peer: PeerId) {
        self.changed.remove(&peer);
    }

    /// Returns the time at which reports must be sent.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let compare_at = if self.comparison.is_some() { Some(Instant::default()) } else { self.compare_at };
        self.due.into_iter().chain(compare_at).min()
    }

    /// Takes the peers to report now.
    pub(super) fn take_changed(&mut self, now: Instant) -> Vec<PeerId> {
        let taken: Vec<_> = self.changed.iter().copied().take(MAX_PEERS_PER_MESSAGE).collect();
        taken.iter().for_each(|peer| {
            self.changed.remove(peer);
        });
        self.reported = Some(now);
        // the rest in the next turn
        self.due = (!self.changed.is_empty()).then_some(now);
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::random::SystemRandom;
    use wontun_proto::wireguard::Interface;

    fn at(millis: u64) -> Instant {
        Instant::from_boot(Duration::from_millis(millis))
    }

    #[test]
    fn changes_are_reported_together_once_a_second() {
        let mut engine = Interface::new(1420, Box::new(SystemRandom::open().unwrap()));
        let ids: Vec<_> = (0..=u8::MAX)
            .chain(0..=u8::MAX)
            .enumerate()
            .map(|(number, byte)| {
                let mut key = [byte; 32];
                key[0] = u8::from(number > 255);
                engine.add_peer(PublicKey::from_bytes(key)).unwrap()
            })
            .collect();
        let mut reports = StateReports::new(true);
        assert_eq!(reports.deadline(), None);
        reports.handle_changed(ids[0], at(5000));
        assert_eq!(reports.deadline(), Some(at(5000)));
        assert_eq!(reports.take_changed(at(5000)), [ids[0]]);
        // counters only, from here
        assert!(reports.deadline().is_some_and(|due| due > at(5000) && due <= at(35_000)));
        for id in &ids {
            reports.handle_changed(*id, at(5100));
            reports.handle_changed(*id, at(5200));
        }
        assert_eq!(reports.deadline(), Some(at(6000)));
        assert_eq!(reports.take_changed(at(6000)).len(), MAX_PEERS_PER_MESSAGE);
        assert_eq!(reports.deadline(), Some(at(6000)), "the rest in the next turn");
        reports.remove(ids[511]);
        assert_eq!(reports.take_changed(at(6001)).len(), 511 - MAX_PEERS_PER_MESSAGE);
        assert!(reports.deadline().is_some_and(|due| due <= at(35_000)));
        let mut silent = StateReports::new(false);
        silent.handle_changed(ids[0], at(0));
        silent.handle_initiation(Timestamp::from_unix(Duration::from_secs(9)), at(0));
        assert_eq!(silent.deadline(), None);
    }

    #[test]
    fn timestamps_of_initiations_are_reported_before_the_reserve_is_used_up() {
        let mut reports = StateReports::new(true);
        let stamp = |seconds| Timestamp::from_unix(Duration::from_secs(seconds));
        reports.handle_initiation(stamp(1000), at(1));
        assert_eq!(reports.deadline(), Some(at(1)), "the first");
        reports.take_changed(at(1));
        reports.sent = Some(stamp(1000));
        reports.handle_initiation(stamp(1009), at(9001));
        assert_eq!(reports.deadline(), None);
        reports.handle_initiation(stamp(1010), at(10_001));
        assert_eq!(reports.deadline(), Some(at(10_001)));
    }
}
