//! The queues of the TUN device. Each worker reads two: one for bulk traffic, and one for all other
//! flows, which it reads first. So a ping does not wait behind the window of a TCP stream, all of
//! which is in the queue, since the device tells TCP that it was sent.
//!
//! The kernel delivers a flow to the queue to which its last packet, in either direction, was
//! written (`tun_flow_update`); one that has none, to a queue chosen by a hash. So a flow changes
//! its queue with the next packet written, such as an acknowledgement.

use std::sync::atomic::{AtomicU64, Ordering};

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
/// out of order. Of more flows than fit, some are forgotten earlier.
#[derive(Debug)]
pub(super) struct BulkFlows(Box<[[AtomicU64; Self::WAYS]]>);

impl Default for BulkFlows {
    fn default() -> Self {
        Self((0..Self::SETS).map(|_| Default::default()).collect())
    }
}

impl BulkFlows {
    /// Number of flows, by their hash, that replace one another.
    const SETS: usize = 1024;
    /// Number of flows of a set.
    const WAYS: usize = 4;
    /// Time for which a flow is kept, in milliseconds.
    const KEPT: u32 = 5000;

    fn set(&self, hash: u32) -> &[AtomicU64] {
        let number = usize::try_from(hash).unwrap_or_default() % Self::SETS;
        self.0.get(number).map_or(&[], |set| set.as_slice())
    }

    /// Adds a flow.
    pub(super) fn record(&self, hash: u32, now: Instant) {
        let now = millis(now);
        let age = |entry: &&AtomicU64| match unpack(entry.load(Ordering::Relaxed)) {
            (other, _) if other == hash => u32::MAX,
            // another worker's turn may have begun later
            (_, at) => now.wrapping_sub(at).wrapping_add(Self::KEPT).min(u32::MAX - 1),
        };
        if let Some(entry) = self.set(hash).iter().max_by_key(age) {
            entry.store(u64::from(hash) << 32 | u64::from(now), Ordering::Relaxed);
        }
    }

    /// Returns true if the flow was added within that time.
    pub(super) fn contains(&self, hash: u32, now: Instant) -> bool {
        self.set(hash).iter().any(|entry| {
            let (other, at) = unpack(entry.load(Ordering::Relaxed));
            other == hash
                && at != 0
                && millis(now).wrapping_sub(at).wrapping_add(Self::KEPT) <= 2 * Self::KEPT
        })
    }
}

/// Returns the hash of an entry, and its time in milliseconds, which is 0 if it is free.
fn unpack(entry: u64) -> (u32, u32) {
    let [a, b, c, d, e, f, g, h] = entry.to_be_bytes();
    (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]))
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

    #[test]
    fn flows_are_not_taken_for_one_another() {
        let at = |millis| Instant::from_boot(Duration::from_millis(millis));
        let flows = BulkFlows::default();
        // of one set
        for number in 0..4 {
            flows.record(7 + 1024 * number, at(10 + u64::from(number)));
        }
        flows.record(7, at(20));
        assert!((0..4).all(|number| flows.contains(7 + 1024 * number, at(21))));
        assert!(!flows.contains(7 + 1024 * 4, at(21)));
        // the one that was seen first is forgotten
        flows.record(7 + 1024 * 4, at(22));
        assert!(!flows.contains(7 + 1024, at(23)));
        assert!([0, 2, 3, 4].into_iter().all(|number| flows.contains(7 + 1024 * number, at(23))));
    }
}
