//! Target of a request, and its answer.

use std::time::Instant;

use crate::commands::CommandError;
use crate::config::TunName;
use crate::uapi::TunnelStatus;

/// The tunnels to request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// All running tunnels.
    Any,
    /// The tunnel of this name.
    One(TunName),
}

/// Result of a request.
#[derive(Debug)]
pub(super) struct StatusAnswer {
    pub(super) target: Target,
    /// Time of the answer.
    pub(super) at: Instant,
    /// One status, or with [`Target::Any`] one for each tunnel, at least one.
    pub(super) result: Result<Vec<TunnelStatus>, CommandError>,
}
