//! State of the lookups of the server's name.

use std::time::Duration;

use wontun_proto::time::Instant;

/// Delay after the first failed lookup of a name; doubled each time, up to [`LOOKUP_RETRY_MAX`].
pub(super) const LOOKUP_RETRY: Duration = Duration::from_secs(1);
pub(super) const LOOKUP_RETRY_MAX: Duration = Duration::from_secs(30);

/// A server that is known by name.
#[derive(Debug)]
pub(super) struct Lookup {
    pub(super) name: String,
    /// Time of the next attempt, after a failure.
    pub(super) retry_at: Option<Instant>,
    pub(super) retry_delay: Duration,
    /// True while a lookup is pending.
    pub(super) is_pending: bool,
    /// True if datagrams were refused or the endpoint was unreachable since it last answered.
    pub(super) is_suspect: bool,
}

impl Lookup {
    pub(super) const fn new(name: String) -> Self {
        Self { name, retry_at: None, retry_delay: LOOKUP_RETRY, is_pending: false, is_suspect: false }
    }
}
