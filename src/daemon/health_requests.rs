//! Pending health requests. Each waits until every worker and the supervisor have responded, or
//! until its deadline.

use std::collections::VecDeque;

use super::liveness::ProbeId;
use crate::control::health::HealthClient;
use wontun_proto::time::Instant;

/// Maximum number of pending requests; more stay in the socket's queue.
pub(super) const MAX_PENDING: usize = 16;

/// Pending requests, oldest first.
#[derive(Debug, Default)]
pub(super) struct HealthRequests(pub(super) VecDeque<HealthRequest>);

/// A pending request.
#[derive(Debug)]
pub(super) struct HealthRequest {
    /// Time by which it must be answered.
    pub(super) deadline: Instant,
    pub(super) probes: Probes,
    pub(super) client: HealthClient,
}

/// Liveness probes that were sent for a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Probes {
    /// Number of the probe to the workers and the thread for handshakes.
    pub(super) threads: ProbeId,
    /// Number of the probe to the supervisor.
    pub(super) supervisor: u64,
}

impl HealthRequests {
    /// Returns the earliest deadline.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.0.front().map(|request| request.deadline)
    }
}
