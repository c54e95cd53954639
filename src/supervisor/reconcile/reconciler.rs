//! State of the reconciliation: the results of the comparisons, and what was reported.

use std::time::Duration;

use super::resource::HostResource;
use crate::logging::RateLimit;
use crate::messages::{HostState, Repairs};
use crate::repair_limit::RepairLimit;
use wontun_proto::time::Instant;

/// Minimum interval between two log lines about a resource that cannot be restored.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// State of one resource.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) resource: HostResource,
    /// True if it must be compared, and restored if something is missing.
    pub(super) is_pending: bool,
    /// True if a change was reported since the last comparison.
    pub(super) is_changed: bool,
    pub(super) limit: RepairLimit,
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

    /// Returns the time of the next comparison that is delayed by the rate limit.
    pub(in crate::supervisor) fn deadline(&mut self, now: Instant) -> Option<Instant> {
        self.entries
            .iter_mut()
            .filter(|entry| entry.is_pending)
            .map(|entry| entry.limit.allowed_at(now))
            .min()
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
