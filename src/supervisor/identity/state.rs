//! State of what goes by the device's name and index.

use crate::config::TunName;
use crate::time::Instant;

/// Names and indices of the device, and what of them is not in force yet.
#[derive(Debug, Default)]
pub(in crate::supervisor) struct Identity {
    /// Name of the health socket; `None` where there is none.
    pub(in crate::supervisor) health: Option<TunName>,
    /// Index that the device has in another network namespace.
    pub(super) elsewhere: Option<u32>,
    /// The line about its being there was written.
    pub(super) told_away: bool,
    /// Time of the next attempt, and the number of those that failed.
    pub(super) due: Option<Instant>,
    pub(super) failed: u32,
}

impl Identity {
    /// Tries again what has failed.
    pub(in crate::supervisor) const fn retry(&mut self, now: Instant) {
        if self.failed > 0 {
            (self.due, self.failed) = (Some(now), 0);
        }
    }

    /// Returns the time at which [`Context::serve_name`] is due.
    ///
    /// [`Context::serve_name`]: crate::supervisor::context::Context::serve_name
    pub(in crate::supervisor) const fn deadline(&self) -> Option<Instant> {
        self.due
    }
}
