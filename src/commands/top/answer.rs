//! Whom to ask, and what was found.

use std::time::Instant;

use crate::commands::CommandError;
use crate::commands::show::report::Report;
use crate::config::TunName;

/// Whom to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// All that run.
    Any,
    /// This one.
    One(TunName),
}

/// What was found.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) target: Target,
    /// When.
    pub(super) at: Instant,
    /// One report, or with [`Target::Any`] one for each tunnel, at least one.
    pub(super) found: Result<Vec<Report>, CommandError>,
}
