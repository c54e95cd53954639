//! Monitors the host's nf_tables ruleset, and schedules checks of other programs' rules.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use tracing::{debug, warn};

use crate::netlink::{NftMonitor, RulesetChange};
use wontun_proto::time::Instant;

/// Time without a change of the ruleset after which it is checked: a firewall that reloads takes
/// several transactions, and drops what it accepted before until the last.
const SETTLE_TIME: Duration = Duration::from_secs(1);
/// Maximum delay after the first change: some hosts change the ruleset all the time.
const MAX_DELAY: Duration = Duration::from_secs(5);

/// Monitor of the ruleset.
#[derive(Debug, Default)]
pub(super) struct RulesetMonitor {
    /// `None` if the kernel has no nf_tables, or without a file.
    watch: Option<NftMonitor>,
    /// Time of the next check of other programs' rules, after a change.
    check_at: Option<Instant>,
    /// Time of the first change since the last check.
    changed_at: Option<Instant>,
    /// True if changes of other programs may have been missed.
    has_missed: bool,
}

impl RulesetMonitor {
    /// Starts monitoring, if the kernel has nf_tables.
    pub(super) fn open() -> Self {
        let watch = NftMonitor::open()
            .inspect_err(|error| debug!(%error, "cannot subscribe to changes of the nf_tables ruleset"))
            .ok();
        Self { watch, ..Self::default() }
    }

    /// Returns the descriptor that becomes readable with changes of the ruleset.
    pub(super) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.watch.as_ref().map(AsFd::as_fd)
    }

    /// Returns the next change of the ruleset, and schedules a check.
    ///
    /// # Errors
    /// An error of the kernel.
    pub(super) fn poll_change(&mut self, now: Instant) -> io::Result<Option<RulesetChange>> {
        let change = self.watch.as_mut().map_or(Ok(None), NftMonitor::poll_change)?;
        if change.is_some() {
            self.schedule_check(now);
        }
        Ok(change)
    }

    /// Calls `change`, which may change hundreds of thousands of elements, without monitoring: for a
    /// monitor the kernel would prepare a message of several KiB for each of them. Changes of other
    /// programs meanwhile are reported by [`Self::take_missed`].
    pub(super) fn unmonitored<T>(&mut self, change: impl FnOnce() -> T) -> T {
        let is_ended = self.watch.as_mut().is_some_and(|watch| watch.unsubscribe().is_ok());
        let outcome = change();
        if let (Some(watch), true) = (&mut self.watch, is_ended) {
            self.has_missed = true;
            if let Err(error) = watch.subscribe() {
                warn!(%error, "changes of the nf_tables ruleset are not noticed any more: restart wontun");
            }
        }
        outcome
    }

    /// Returns true once if changes may have been missed, and schedules a check.
    pub(super) fn take_missed(&mut self, now: Instant) -> bool {
        let has_missed = std::mem::take(&mut self.has_missed);
        if has_missed {
            self.schedule_check(now);
        }
        has_missed
    }

    /// Returns true once if a check is due.
    pub(super) fn take_due_check(&mut self, now: Instant) -> bool {
        let is_due = self.check_at.is_some_and(|due| now >= due);
        if is_due {
            (self.check_at, self.changed_at) = (None, None);
        }
        is_due
    }

    /// Schedules a check for when the ruleset does not change any more.
    fn schedule_check(&mut self, now: Instant) {
        let first = *self.changed_at.get_or_insert(now);
        self.check_at = Some((now + SETTLE_TIME).min(first + MAX_DELAY));
    }

    /// Returns true if no check is pending.
    pub(super) const fn is_settled(&self) -> bool {
        self.check_at.is_none()
    }

    /// Returns the time at which [`Self::take_due_check`] is due.
    pub(super) const fn deadline(&self) -> Option<Instant> {
        self.check_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ruleset_is_checked_once_it_is_settled() {
        let at = |millis| Instant::from_boot(Duration::from_millis(millis));
        let mut ruleset = RulesetMonitor::default();
        for (change, look) in [(0, 1000), (400, 1400), (4500, 5000), (4900, 5000)] {
            ruleset.schedule_check(at(change));
            assert_eq!(ruleset.deadline(), Some(at(look)), "after a change at {change} ms");
        }
    }
}
