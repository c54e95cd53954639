//! State of the look-ups of the server's name.

use std::time::Duration;

use crate::time::Instant;

/// Pause after the first failed look-up of a name; doubled each time, up to [`LOOKUP_RETRY_MAX`].
pub(super) const LOOKUP_RETRY: Duration = Duration::from_secs(1);
pub(super) const LOOKUP_RETRY_MAX: Duration = Duration::from_secs(30);

/// A server that is known by name.
#[derive(Debug)]
pub(super) struct Lookup {
    pub(super) name: String,
    /// When to ask again, after a failure.
    pub(super) again_at: Option<Instant>,
    pub(super) pause: Duration,
    /// A question is out.
    pub(super) asked: bool,
    /// The endpoint refused our datagrams or could not be reached since it last answered.
    pub(super) doubtful: bool,
}

impl Lookup {
    pub(super) const fn new(name: String) -> Self {
        Self { name, again_at: None, pause: LOOKUP_RETRY, asked: false, doubtful: false }
    }
}
