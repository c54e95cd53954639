//! The host's nf_tables ruleset as others change it: what is missing of this tunnel's tables is put
//! back, and their rules are looked at.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use tracing::{debug, warn};

use super::WireGuard;
use crate::link::{RulesetChange, Watch};
use crate::supervisor::context::Context;
use crate::time::Instant;

/// Least time between two looks at what others have in the ruleset: some hosts change it all the
/// time.
const BETWEEN_LOOKS: Duration = Duration::from_secs(1);

/// Changes that are read in one turn.
const BUDGET: usize = 128;

/// The watch over the ruleset.
#[derive(Debug, Default)]
pub(super) struct RulesetWatch {
    /// `None` where the kernel has no nf_tables, or without a file.
    watch: Option<Watch>,
    /// Time of the next look at others' rules, after a change.
    look_at: Option<Instant>,
    looked_at: Option<Instant>,
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

    /// Returns the time at which [`WireGuard::look_at_ruleset`] is due.
    pub(super) const fn deadline(&self) -> Option<Instant> {
        self.look_at
    }
}

impl WireGuard {
    /// Reads that the ruleset was changed, and puts back at once what is missing of this tunnel's
    /// tables.
    pub(super) fn drain_ruleset(&mut self, context: &mut Context) {
        let now = context.now;
        for _ in 0..BUDGET {
            let ruleset = &mut self.firewall.ruleset;
            match ruleset.watch.as_mut().map_or(Ok(None), Watch::poll_change) {
                Ok(None) => return,
                Ok(Some(change)) => {
                    let next = ruleset.looked_at.map_or(now, |looked| looked + BETWEEN_LOOKS);
                    ruleset.look_at = Some(next.max(now));
                    self.handle_change(context, &change);
                }
                Err(error) => {
                    if let Some(suppressed) = self.quiet.repairs.allow(now) {
                        warn!(%error, suppressed, "changes of the nf_tables ruleset are not heard");
                    }
                    return;
                }
            }
        }
    }

    fn handle_change(&mut self, context: &mut Context, change: &RulesetChange) {
        let now = context.now;
        let (repaired, error) = self.repair_tables(context);
        if let Some(error) = error
            && let Some(suppressed) = self.quiet.repairs.allow(now)
        {
            warn!(%error, suppressed, "the kill switch is not engaged any more");
        }
        if !repaired.is_empty()
            && let Some(suppressed) = self.quiet.repairs.allow(now)
        {
            let (by, pid) = change.author.clone().unzip();
            let tables = repaired.join(", ");
            warn!(
                tables,
                by, pid, suppressed, "nf_tables tables of this tunnel were deleted or changed: they are back"
            );
        }
    }

    /// Looks at the ruleset of others, a while after it was changed: whether something drops what
    /// this tunnel forwards.
    pub(super) fn look_at_ruleset(&mut self, now: Instant) {
        let ruleset = &mut self.firewall.ruleset;
        if ruleset.look_at.is_some_and(|due| now >= due) {
            (ruleset.look_at, ruleset.looked_at) = (None, Some(now));
            self.update_tables();
        }
    }
}
