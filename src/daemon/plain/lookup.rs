//! State of the look-ups of the server's name.

use std::time::Duration;

use wontun_proto::time::Instant;

/// Delay after the first failed look-up of a name; doubled each time, up to [`LOOKUP_RETRY_MAX`].
pub(super) const LOOKUP_RETRY: Duration = Duration::from_secs(1);
pub(super) const LOOKUP_RETRY_MAX: Duration = Duration::from_secs(30);

/// A server that is known by name.
#[derive(Debug)]
pub(super) struct Lookup {
    pub(super) name: String,
    /// Time of the next attempt, after a failure.
    pub(super) again_at: Option<Instant>,
    pub(super) pause: Duration,
    /// True while a look-up is pending.
    pub(super) asked: bool,
    /// True if datagrams were refused or the endpoint was unreachable since it last answered.
    pub(super) doubtful: bool,
}

impl Lookup {
    pub(super) const fn new(name: String) -> Self {
        Self { name, again_at: None, pause: LOOKUP_RETRY, asked: false, doubtful: false }
    }
}
