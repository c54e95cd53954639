//! The queues of the TUN device. Each worker reads two: one for bulk traffic, and one for all other
//! flows, which it reads first. So a ping does not wait behind the window of a TCP stream, all of
//! which is in the queue, since the device tells TCP that it was sent.
//!
//! The kernel delivers a flow to the queue to which its last packet, in either direction, was
//! written (`tun_flow_update`); one that has none, to a queue chosen by a hash. So a flow changes
//! its queue with the next packet written, such as an acknowledgement.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::net::tun::Tun;
use wontun_packet::flow;
use wontun_proto::time::Instant;

/// Number of packets from which a super-packet is bulk traffic. TCP sends a millisecond's worth at
/// once, so slow flows and interactive ones are below it.
pub(super) const BULK_PACKETS: usize = 8;

/// A queue of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum QueueKind {
    /// The queue for bulk traffic, or the only one.
    Bulk,
    /// The queue for all other flows.
    Sparse,
}

/// The queues of all workers.
#[derive(Debug)]
pub(crate) struct DeviceQueues {
    bulk: Vec<Tun>,
    /// As many, or none.
    sparse: Vec<Tun>,
    /// Flows that send bulk traffic to the device.
    flows: BulkFlows,
}

impl DeviceQueues {
    /// Arranges the queues; `None` unless there is one for each worker, or two.
    pub(super) fn new(tuns: Vec<Tun>) -> Option<Self> {
        let (sparse, bulk): (Vec<_>, Vec<_>) = tuns.into_iter().partition(Tun::is_sparse);
        let is_valid = !bulk.is_empty() && (sparse.is_empty() || sparse.len() == bulk.len());
        is_valid.then(|| Self { bulk, sparse, flows: BulkFlows::default() })
    }

    /// Returns the number of workers.
    pub(super) fn workers(&self) -> usize {
        self.bulk.len()
    }

    /// Returns a queue of a worker.
    pub(super) fn get(&self, worker: usize, kind: QueueKind) -> Option<&Tun> {
        match kind {
            QueueKind::Bulk => self.bulk.get(worker),
            QueueKind::Sparse => self.sparse.get(worker),
        }
    }

    /// Returns true if workers have two queues.
    pub(super) fn has_sparse(&self) -> bool {
        !self.sparse.is_empty()
    }

    /// Records that a super-packet of bulk traffic was read.
    pub(super) fn record_bulk(&self, packet: &[u8], now: Instant) {
        if self.has_sparse() {
            self.flows.record(flow::hash(packet), now);
        }
    }

    /// Returns true if the packet's flow is bulk traffic in either direction.
    pub(super) fn is_bulk(&self, packet: &[u8], now: Instant) -> bool {
        self.flows.contains(flow::hash(packet), now)
    }

    /// Returns the queue of a worker to which a packet with these headers is written.
    pub(super) fn for_write(&self, worker: usize, headers: &[u8], now: Instant) -> Option<&Tun> {
        let is_sparse = self.has_sparse() && !self.is_bulk(headers, now);
        self.get(worker, if is_sparse { QueueKind::Sparse } else { QueueKind::Bulk })
    }
}

/// A set of flows, which are forgotten after some seconds: each change of the queue may put packets
/// out of order. Flows may be taken for one another.
#[derive(Debug)]
pub(super) struct BulkFlows(Box<[AtomicU32]>);

impl Default for BulkFlows {
    fn default() -> Self {
        Self((0..Self::SLOTS).map(|_| AtomicU32::new(0)).collect())
    }
}

impl BulkFlows {
    /// Number of flows that are told apart.
    const SLOTS: usize = 4096;
    /// Time for which a flow is kept, in milliseconds.
    const KEPT: u32 = 5000;

    fn slot(&self, hash: u32) -> Option<&AtomicU32> {
        self.0.get(usize::try_from(hash).unwrap_or_default() % Self::SLOTS)
    }

    /// Adds a flow.
    pub(super) fn record(&self, hash: u32, now: Instant) {
        if let Some(slot) = self.slot(hash) {
            slot.store(millis(now), Ordering::Relaxed);
        }
    }

    /// Returns true if the flow was added within that time.
    pub(super) fn contains(&self, hash: u32, now: Instant) -> bool {
        let Some(slot) = self.slot(hash) else { return false };
        let at = slot.load(Ordering::Relaxed);
        // another worker's turn may have begun later
        at != 0 && millis(now).wrapping_sub(at).wrapping_add(Self::KEPT) <= 2 * Self::KEPT
    }
}

/// Returns the time in milliseconds, never 0; the number wraps around after seven weeks.
fn millis(at: Instant) -> u32 {
    let [.., a, b, c, d] = at.since_boot().as_millis().to_be_bytes();
    u32::from_be_bytes([a, b, c, d]).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_flow_is_forgotten_after_a_time() {
        let at = |millis| Instant::from_boot(Duration::from_millis(millis));
        for start in [5, u64::from(u32::MAX) - 3, u64::from(u32::MAX) + 5_000_000_000] {
            let flows = BulkFlows::default();
            assert!(!flows.contains(7, at(start)), "{start}");
            flows.record(7, at(start));
            assert!(flows.contains(7, at(start)) && flows.contains(7, at(start + 5000)));
            assert!(flows.contains(7, at(start - 2)), "by a worker whose turn began before");
            assert!(!flows.contains(8, at(start)) && !flows.contains(7, at(start + 5002)));
        }
    }
}
