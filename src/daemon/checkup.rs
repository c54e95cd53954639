//! Pending health requests. Each waits until every worker and the supervisor have responded, or
//! until its deadline.

use std::collections::VecDeque;

use super::pulse::Round;
use crate::control::health::Asker;
use wontun_proto::time::Instant;

/// Maximum number of pending requests; more stay in the socket's queue.
pub(super) const MAX_WAITING: usize = 16;

/// Pending requests, oldest first.
#[derive(Debug, Default)]
pub(super) struct Checkup(pub(super) VecDeque<Request>);

/// A pending request.
#[derive(Debug)]
pub(super) struct Request {
    /// Time by which it must be answered.
    pub(super) deadline: Instant,
    pub(super) probes: Probes,
    pub(super) asker: Asker,
}

/// Liveness probes that were sent for a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Probes {
    /// Round of probes to the workers.
    pub(super) round: Round,
    /// Number of the probe to the supervisor.
    pub(super) supervisor: u64,
}

impl Checkup {
    /// Returns the earliest deadline.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.0.front().map(|request| request.deadline)
    }
}
