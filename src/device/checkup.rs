//! Those who ask for our health. Each waits until every worker was heard, or one of them for too long.

use std::collections::VecDeque;

use super::pulse::Round;
use crate::control::health::Asker;
use crate::time::Instant;

/// Those who may wait; more stay in the socket's queue until there is room.
pub(super) const MAX_WAITING: usize = 16;

/// Who waits, oldest first.
#[derive(Debug, Default)]
pub(super) struct Checkup(pub(super) VecDeque<Request>);

/// A request.
#[derive(Debug)]
pub(super) struct Request {
    /// When it must be answered at the latest.
    pub(super) deadline: Instant,
    pub(super) probes: Probes,
    pub(super) asker: Asker,
}

/// Liveness probes that were sent for a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Probes {
    /// Of the workers.
    pub(super) round: Round,
    /// Of the supervisor.
    pub(super) supervisor: u64,
}

impl Checkup {
    /// When the first must be answered.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.0.front().map(|request| request.deadline)
    }
}
