//! The interface of back ends.

use std::os::fd::BorrowedFd;

use super::{DnsError, DnsSettings};
use crate::sandbox::{Sandbox, SandboxError};
use wontun_proto::time::Instant;

/// A way to apply settings to the host.
pub(crate) trait Backend {
    /// Returns its name for log lines, such as `systemd-resolved`.
    fn name(&self) -> &'static str;

    /// Returns the sandbox in which it works from now on.
    ///
    /// # Errors
    /// The Landlock rules or the filter cannot be created.
    fn sandbox(&self) -> Result<Sandbox, SandboxError>;

    /// Applies `settings` instead of those applied before, and returns warnings, one line each,
    /// about parts that cannot be applied.
    ///
    /// # Errors
    /// Nothing is applied; the error names the remedy. The call is not repeated.
    fn apply(&mut self, settings: &DnsSettings) -> Result<Vec<String>, DnsError>;

    /// Removes what was applied, and restores what was there before. Returns warnings. Does nothing
    /// if nothing was applied.
    ///
    /// # Errors
    /// The state of the host stays; the error names the remedy.
    fn revert(&mut self) -> Result<Vec<String>, DnsError>;

    /// Returns the descriptors that become readable when the host's state may have changed.
    fn descriptors(&self) -> Vec<BorrowedFd<'_>>;

    /// Returns the time at which [`Self::check`] must be called without such an event.
    fn deadline(&mut self) -> Option<Instant>;

    /// Reads the events of the descriptors, compares the host's state with the settings, and
    /// restores them if that is due.
    fn check(&mut self, now: Instant) -> Vec<DnsEvent>;
}

/// An event for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DnsEvent {
    /// Another program had changed the host's state, and it was restored: a description, with
    /// advice on how to make that program leave it alone.
    Restored(String),
    /// The settings are not in effect any more, and cannot be restored: the reason and the remedy.
    Lost(String),
}
