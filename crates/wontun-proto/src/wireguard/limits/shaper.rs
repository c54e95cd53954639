//! A token bucket with a short queue.
//!
//! Tokens are time: a packet costs the time that it takes at the rate. An idle peer saves up to
//! [`BURST`] of it.

use std::num::NonZeroU64;
use std::time::Duration;

use super::super::ecn;
use super::admission::Admission;
use super::queue::Queue;
use crate::codel::Codel;
use crate::time::Instant;
use wontun_packet::DropReason;
use wontun_packet::split::PacketLengths;

/// Time at the rate that an idle peer saves; also what a late timer may make up for.
const BURST: Duration = Duration::from_millis(10);
/// Interval at which packets leave the queue: one wake-up for all that are due by then.
const INTERVAL: Duration = Duration::from_millis(1);
/// Delay of the queue above which senders are told to slow down. A flow that is not in the queue
/// does not have it.
const TARGET: Duration = Duration::from_millis(10);
/// Maximum delay of the queue.
const LIMIT: Duration = Duration::from_millis(60);
/// Bounds of the same in bytes: the first window of a TCP connection fits in any case.
const MIN_LIMIT: usize = 24 * 1024;
const MAX_LIMIT: usize = 4 << 20;
/// Maximum length of a packet that overtakes the queue if none of its flow is there: an
/// acknowledgement, a ping, a name, a voice.
const SMALL: usize = 300;
/// Length of a usual packet, two of which must fit everywhere.
const PACKET: usize = 1500;
/// Time after which an empty queue's memory is freed.
const KEEP_MEMORY: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Shaper {
    /// In bits per second.
    rate: NonZeroU64,
    /// Time at which all that has passed is paid for.
    free_at: Instant,
    queue: Queue,
    codel: Codel,
    /// True while packets leave, between [`Self::release`] and [`Self::hold`].
    is_released: bool,
    /// Time at which the queue became empty.
    empty_since: Instant,
}

impl Shaper {
    pub(super) fn new(rate: NonZeroU64) -> Self {
        Self {
            rate,
            free_at: Instant::default(),
            queue: Queue::default(),
            codel: Codel::default(),
            is_released: false,
            empty_since: Instant::default(),
        }
    }

    pub(super) const fn set_rate(&mut self, rate: NonZeroU64) {
        self.rate = rate;
    }

    pub(super) fn waiting(&self) -> usize {
        self.queue.len()
    }

    pub(super) fn admit(&mut self, packet: &[u8], lengths: PacketLengths, now: Instant) -> Admission {
        let cost = self.cost(lengths.sum(|len| len));
        let two_packets = self.cost(2 * PACKET);
        let start = self.free_at.max(now - BURST.max(two_packets));
        let is_single = lengths.count == 1;
        let passes = if self.queue.len() == 0 {
            // a super-packet must not put the peer into debt for longer than one packet would
            start <= now && (is_single || start + cost <= now + INTERVAL)
        } else {
            // its order in its own flow is kept
            is_single
                && packet.len() <= SMALL
                && start <= now + BURST.max(two_packets)
                && !self.queue.has_flow_of(packet)
        };
        if !passes {
            return Admission::Wait;
        }
        self.free_at = start + cost;
        Admission::Pass
    }

    pub(super) fn push(&mut self, packet: &[u8], now: Instant) -> Result<(), DropReason> {
        let is_empty = self.queue.len() == 0;
        let queued = self.queue.bytes() + packet.len();
        if queued > self.limit() && !is_empty {
            return Err(DropReason::OverRate);
        }
        let delay = self.cost(self.queue.bytes()) + self.free_at.since(now);
        let target = TARGET.max(self.cost(2 * PACKET));
        let is_signalled = self.codel.handle_packet((!is_empty).then_some(delay), target, now);
        if is_signalled && !ecn::is_capable(packet) {
            return Err(DropReason::OverRate);
        }
        self.queue.push(packet, is_signalled);
        Ok(())
    }

    pub(super) fn pop(&mut self, out: &mut [u8], now: Instant) -> Option<usize> {
        let start = self.free_at.max(now - BURST);
        if start > now {
            return None;
        }
        let (len, is_marked) = self.queue.pop(out)?;
        self.free_at = start + self.cost(len);
        if self.queue.len() == 0 {
            self.empty_since = now;
        }
        if is_marked && let Some(packet) = out.get_mut(..len) {
            ecn::mark(packet);
        }
        Some(len)
    }

    pub(super) fn clear(&mut self) -> usize {
        self.queue.clear()
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        if self.is_released {
            None
        } else if self.queue.len() > 0 {
            Some(self.free_at + INTERVAL)
        } else {
            self.queue.has_memory().then(|| self.empty_since + KEEP_MEMORY)
        }
    }

    pub(super) fn release(&mut self, now: Instant) -> bool {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return false;
        }
        if self.queue.len() == 0 {
            self.queue.clear();
            return false;
        }
        self.is_released = true;
        true
    }

    pub(super) const fn hold(&mut self) {
        self.is_released = false;
    }

    /// Returns the time that this many bytes take at the rate.
    fn cost(&self, bytes: usize) -> Duration {
        let bits = u64::try_from(bytes).unwrap_or(u64::MAX).saturating_mul(8);
        Duration::from_nanos(bits.saturating_mul(1_000_000_000) / self.rate)
    }

    fn limit(&self) -> usize {
        let bits = u128::from(self.rate.get()) * LIMIT.as_millis() / 1000;
        usize::try_from(bits / 8).unwrap_or(usize::MAX).clamp(MIN_LIMIT, MAX_LIMIT)
    }
}
