//! State of the reconciliation: the results of the comparisons, and what was reported.

use std::time::Duration;

use super::resource::HostResource;
use crate::logging::RateLimit;
use crate::messages::{HostState, Repairs};
use crate::repair_limit::RepairLimit;
use wontun_proto::time::Instant;

/// Minimum interval between two log lines about a resource that cannot be restored.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Time after which a resource that is restored at once is tried again if that failed; doubled with
/// each failure, up to [`MAX_RETRY`].
const RETRY: Duration = Duration::from_millis(20);
const MAX_RETRY: Duration = Duration::from_secs(30);

/// State of one resource.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) resource: HostResource,
    /// True if it must be compared, and restored if something is missing.
    pub(super) is_pending: bool,
    /// True if a change was reported since the last comparison.
    pub(super) is_changed: bool,
    pub(super) limit: RepairLimit,
    /// Time at which it is tried again after failures, and their number.
    pub(super) retry_at: Option<Instant>,
    failures: u32,
    /// True once the warning about too many repairs was logged.
    pub(super) is_limit_reported: bool,
    /// Error of the last comparison.
    pub(super) error: Option<String>,
    pub(super) log_limit: RateLimit,
}

impl Entry {
    const fn schedule(&mut self) {
        (self.is_pending, self.is_changed) = (true, true);
    }

    /// Records the result of a comparison. What is restored at once is tried again if it failed:
    /// there may be no other event.
    pub(super) fn record_result(&mut self, is_failed: bool, now: Instant) {
        if !is_failed || !self.resource.is_urgent() {
            (self.retry_at, self.failures) = (None, 0);
            return;
        }
        let pause = RETRY.saturating_mul(1 << self.failures.min(16)).min(MAX_RETRY);
        self.retry_at = Some(now + pause);
        self.failures = self.failures.saturating_add(1);
    }

    /// Returns true if it must be compared now.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.is_pending || self.retry_at.is_some_and(|at| at <= now)
    }

    /// Returns the time at which it must be compared next.
    fn deadline(&mut self, now: Instant) -> Option<Instant> {
        let pending = self.is_pending.then(|| self.limit.allowed_at(now));
        [pending, self.retry_at].into_iter().flatten().min()
    }
}

/// State of all resources.
#[derive(Debug)]
pub(in crate::supervisor) struct Reconciler {
    pub(super) entries: [Entry; HostResource::ALL.len()],
    /// Number of repairs so far.
    pub(in crate::supervisor) repairs: Repairs,
    /// Program that last changed the ruleset, and its process id.
    pub(in crate::supervisor) author: Option<(String, u32)>,
    /// Time of the last comparison of everything.
    pub(super) compared_at: Option<Instant>,
    /// Error of the last reload.
    pub(in crate::supervisor) reload_error: Option<String>,
    /// State last sent to the tunnel process.
    pub(super) sent: HostState,
}

impl Reconciler {
    pub(in crate::supervisor) fn new() -> Self {
        let entry = |resource| Entry {
            resource,
            is_pending: false,
            is_changed: false,
            limit: RepairLimit::default(),
            retry_at: None,
            failures: 0,
            is_limit_reported: false,
            error: None,
            log_limit: RateLimit::new(LOG_INTERVAL),
        };
        Self {
            entries: HostResource::ALL.map(entry),
            repairs: Repairs::default(),
            author: None,
            compared_at: None,
            reload_error: None,
            sent: HostState::default(),
        }
    }

    /// Schedules a comparison of `resource` before the event loop waits again.
    pub(in crate::supervisor) fn schedule(&mut self, resource: HostResource) {
        self.entries.iter_mut().filter(|entry| entry.resource == resource).for_each(Entry::schedule);
    }

    /// Schedules a comparison of everything, after events were lost.
    pub(in crate::supervisor) fn schedule_all(&mut self) {
        self.entries.iter_mut().for_each(Entry::schedule);
    }

    /// Returns the time of the next comparison that is delayed by the rate limit or by a failure.
    pub(in crate::supervisor) fn deadline(&mut self, now: Instant) -> Option<Instant> {
        self.entries.iter_mut().filter_map(|entry| entry.deadline(now)).min()
    }

    /// Returns a description of what is missing on the host and cannot be restored, in one line.
    pub(in crate::supervisor) fn failure(&self, tun: &str) -> Option<String> {
        self.entries.iter().find_map(|entry| {
            let resource = entry.resource.name();
            match &entry.error {
                Some(error) => Some(format!("{resource} of {tun}: {error}")),
                None if entry.is_pending => Some(format!(
                    "another program repeatedly removes {resource} of {tun}, which are restored at most once a \
                     second: {}",
                    entry.resource.advice(tun)
                )),
                None => None,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kill_switch_that_could_not_be_restored_is_tried_again() {
        let at = |millis| Instant::from_boot(Duration::from_millis(millis));
        let mut reconciler = Reconciler::new();
        assert_eq!(reconciler.deadline(at(0)), None);
        for (now, next) in [(1000, 1020), (1020, 1060), (1060, 1140)] {
            let entry = &mut reconciler.entries[0];
            assert_eq!(entry.resource, HostResource::KillSwitch);
            entry.record_result(true, at(now));
            assert!(!entry.is_due(at(next - 1)) && entry.is_due(at(next)));
            assert_eq!(reconciler.deadline(at(now)), Some(at(next)));
        }
        let entry = &mut reconciler.entries[0];
        for _ in 0..40 {
            entry.record_result(true, at(2000));
        }
        assert_eq!(entry.retry_at, Some(at(32_000)), "at most every 30 s");
        entry.record_result(false, at(32_000));
        assert!(!entry.is_due(at(90_000)));
        // others are restored when the host changes
        reconciler.entries[5].record_result(true, at(1000));
        assert_eq!(reconciler.deadline(at(1000)), None);
    }
}
