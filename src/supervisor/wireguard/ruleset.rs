//! The host's nf_tables ruleset as others change it: what is missing of this tunnel's tables is put
//! back, and their rules are looked at.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use tracing::{debug, warn};

use super::WireGuard;
use crate::link::Watch;
use crate::supervisor::context::Context;
use crate::supervisor::reconcile::Piece;
use crate::time::Instant;

/// Time without a change of the ruleset after which it is looked at: a firewall that reloads takes
/// several transactions, and drops what it let through before until the last.
const QUIET: Duration = Duration::from_secs(1);
/// Time after the first change that is not looked at yet: some hosts change it all the time.
const AT_LATEST: Duration = Duration::from_secs(5);

/// Changes that are read in one turn.
const BUDGET: usize = 128;

/// The watch over the ruleset.
#[derive(Debug, Default)]
pub(super) struct RulesetWatch {
    /// `None` where the kernel has no nf_tables, or without a file.
    watch: Option<Watch>,
    /// Time of the next look at others' rules, after a change.
    look_at: Option<Instant>,
    /// Time of the first change since the last look.
    changed_at: Option<Instant>,
}

impl RulesetWatch {
    /// Hears of changes from now on, where the kernel has nf_tables.
    pub(super) fn open() -> Self {
        let watch = Watch::open()
            .inspect_err(|error| debug!(%error, "changes of the nf_tables ruleset are not watched"))
            .ok();
        Self { watch, ..Self::default() }
    }

    /// Returns the descriptor that becomes readable with changes of the ruleset.
    pub(super) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.watch.as_ref().map(AsFd::as_fd)
    }

    /// Has the ruleset looked at once it does not change any more.
    fn note_change(&mut self, now: Instant) {
        let first = *self.changed_at.get_or_insert(now);
        self.look_at = Some((now + QUIET).min(first + AT_LATEST));
    }

    /// Returns true if the ruleset is not being changed.
    pub(super) const fn is_quiet(&self) -> bool {
        self.look_at.is_none()
    }

    /// Returns the time at which [`WireGuard::look_at_ruleset`] is due.
    pub(super) const fn deadline(&self) -> Option<Instant> {
        self.look_at
    }
}

impl WireGuard {
    /// Reads that the ruleset was changed: this tunnel's tables are compared at once, others' rules
    /// a while after.
    pub(super) fn drain_ruleset(&mut self, context: &mut Context) {
        let now = context.now;
        for _ in 0..BUDGET {
            let ruleset = &mut self.firewall.ruleset;
            match ruleset.watch.as_mut().map_or(Ok(None), Watch::poll_change) {
                Ok(None) => return,
                Ok(Some(change)) => {
                    ruleset.note_change(now);
                    context.reconciler.author = change.author;
                    context.reconciler.note_change(Piece::KillSwitch);
                    context.reconciler.note_change(Piece::Tables);
                }
                Err(error) => {
                    if let Some(suppressed) = self.quiet.ruleset.allow(now) {
                        warn!(%error, suppressed, "changes of the nf_tables ruleset are not heard");
                    }
                    return;
                }
            }
        }
    }

    /// Has the ruleset of others looked at, a while after it was changed: whether something drops
    /// what this tunnel forwards.
    pub(super) fn look_at_ruleset(&mut self, context: &mut Context) {
        let ruleset = &mut self.firewall.ruleset;
        if ruleset.look_at.is_some_and(|due| context.now >= due) {
            (ruleset.look_at, ruleset.changed_at) = (None, None);
            context.reconciler.note_change(Piece::Settings);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ruleset_is_looked_at_once_it_is_quiet() {
        let at = |millis| Instant::from_boot(Duration::from_millis(millis));
        let mut ruleset = RulesetWatch::default();
        for (change, look) in [(0, 1000), (400, 1400), (4500, 5000), (4900, 5000)] {
            ruleset.note_change(at(change));
            assert_eq!(ruleset.deadline(), Some(at(look)), "after a change at {change} ms");
        }
    }
}
