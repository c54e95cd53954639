//! State of what depends on the device's name and index.

use crate::config::TunName;
use wontun_proto::time::Instant;

/// Names and indices of the device, and updates that are not done yet.
#[derive(Debug, Default)]
pub(in crate::supervisor) struct DeviceIdentity {
    /// Name of the health socket; `None` if there is none.
    pub(in crate::supervisor) health: Option<TunName>,
    /// Index of the device in another network namespace.
    pub(super) index_in_other_netns: Option<u32>,
    /// True once the warning about its move was logged.
    pub(super) reported_move: bool,
    /// Time of the next attempt, and the number of failed ones.
    pub(super) due: Option<Instant>,
    pub(super) failed: u32,
}

impl DeviceIdentity {
    /// Schedules a failed update again.
    pub(in crate::supervisor) const fn retry(&mut self, now: Instant) {
        if self.failed > 0 {
            (self.due, self.failed) = (Some(now), 0);
        }
    }

    /// Returns the time at which [`Context::handle_rename_timeout`] is due.
    ///
    /// [`Context::handle_rename_timeout`]: crate::supervisor::context::Context::serve_name
    pub(in crate::supervisor) const fn deadline(&self) -> Option<Instant> {
        self.due
    }
}
