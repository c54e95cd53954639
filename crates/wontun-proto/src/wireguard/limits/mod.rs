//! Limits of a peer: the rate of its packets in each direction, and a quota.
//!
//! Packets below the rate pass at once. Packets above it wait in a short queue, from which they
//! leave at the rate ([`Shaper`]); a queue that stays too long is answered with congestion marks,
//! or with drops where the sender does not support ECN. A queue instead of drops alone, since TCP
//! over a path of less than a millisecond cannot send as slowly as a low rate without one.

mod admission;
mod queue;
mod released;
mod shaper;

use std::num::NonZeroU64;

use super::DropReason;
use crate::time::Instant;
pub use admission::Admission;
pub(super) use admission::Direction;
pub(super) use released::Released;
use shaper::Shaper;
use wontun_packet::split::PacketLengths;

/// Limits of a peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Rate from the peer, in bits per second of IP packets.
    pub up: Option<NonZeroU64>,
    /// Rate to the peer.
    pub down: Option<NonZeroU64>,
    /// Quota of both directions together.
    pub quota: Option<QuotaLimit>,
}

/// The part of a quota that is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuotaLimit {
    /// Number of bytes received and sent, as in [`super::Transfer`], at which the quota is used up.
    pub end: u64,
    /// Treatment of packets from then on.
    pub over: OverQuota,
}

/// Treatment of a peer's packets once its quota is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OverQuota {
    /// They are dropped.
    Drop,
    /// This rate in each direction, in bits per second, unless the peer's own is lower.
    Rate(NonZeroU64),
}

/// State of a peer's limits.
#[derive(Debug, Default)]
pub(super) struct Limiter {
    limits: Limits,
    is_over_quota: bool,
    up: Option<Shaper>,
    down: Option<Shaper>,
}

impl Limiter {
    /// Sets the limits of a peer that has carried `total` bytes. Returns true if it exceeds its
    /// quota and did not before.
    pub(super) fn set(&mut self, limits: Limits, total: u64) -> bool {
        self.limits = limits;
        let was_over = std::mem::replace(&mut self.is_over_quota, is_over(limits, total));
        self.set_rates();
        self.is_over_quota && !was_over
    }

    /// Returns true if nothing is limited and nothing waits.
    pub(super) fn is_unused(&self) -> bool {
        self.limits == Limits::default() && self.up.is_none() && self.down.is_none()
    }

    /// Returns true if the quota is used up.
    pub(super) const fn is_over_quota(&self) -> bool {
        self.is_over_quota
    }

    /// Compares the quota with the number of bytes carried. Returns true if it is used up now and
    /// was not before.
    pub(super) fn update(&mut self, total: u64) -> bool {
        let begins = !self.is_over_quota && is_over(self.limits, total);
        if begins {
            self.is_over_quota = true;
            self.set_rates();
        }
        begins
    }

    /// Decides about packets that arrive at the same time.
    ///
    /// # Errors
    /// The reason to drop them: the quota is used up.
    pub(super) fn admit(
        &mut self,
        direction: Direction,
        packet: &[u8],
        lengths: PacketLengths,
        now: Instant,
    ) -> Result<Admission, DropReason> {
        if self.is_over_quota
            && let Some(QuotaLimit { over: OverQuota::Drop, .. }) = self.limits.quota
        {
            return Err(DropReason::OverQuota);
        }
        let shaper = self.shaper(direction);
        Ok(shaper.map_or(Admission::Pass, |shaper| shaper.admit(packet, lengths, now)))
    }

    /// Queues a copy of a packet that must wait.
    ///
    /// # Errors
    /// The reason to drop it: the queue is too long.
    pub(super) fn push(
        &mut self,
        direction: Direction,
        packet: &[u8],
        now: Instant,
    ) -> Result<(), DropReason> {
        self.shaper(direction).ok_or(DropReason::OverRate)?.push(packet, now)
    }

    /// Moves the next packet that may leave now to the front of `out`, and returns its length.
    pub(super) fn pop(&mut self, direction: Direction, out: &mut [u8], now: Instant) -> Option<usize> {
        self.shaper(direction)?.pop(out, now)
    }

    /// Returns the number of packets that wait.
    pub(super) fn waiting(&self, direction: Direction) -> usize {
        let shaper = match direction {
            Direction::Up => &self.up,
            Direction::Down => &self.down,
        };
        shaper.as_ref().map_or(0, Shaper::waiting)
    }

    /// Drops the packets that wait, and returns their number.
    pub(super) fn clear(&mut self, direction: Direction) -> usize {
        self.shaper(direction).map_or(0, Shaper::clear)
    }

    /// Returns the time of the next [`Self::release`].
    pub(super) fn deadline(&self) -> Option<Instant> {
        [&self.up, &self.down].into_iter().flatten().filter_map(Shaper::deadline).min()
    }

    /// Returns true if packets may leave now that could not before. The caller calls [`Self::pop`]
    /// until it returns `None`, and then [`Self::hold`].
    pub(super) fn release(&mut self, direction: Direction, now: Instant) -> bool {
        self.shaper(direction).is_some_and(|shaper| shaper.release(now))
    }

    /// Ends what [`Self::release`] has begun.
    pub(super) fn hold(&mut self, direction: Direction) {
        if let Some(shaper) = self.shaper(direction) {
            shaper.hold();
        }
    }

    fn shaper(&mut self, direction: Direction) -> Option<&mut Shaper> {
        match direction {
            Direction::Up => self.up.as_mut(),
            Direction::Down => self.down.as_mut(),
        }
    }

    fn set_rates(&mut self) {
        let over = match self.limits.quota {
            Some(QuotaLimit { over: OverQuota::Rate(rate), .. }) if self.is_over_quota => Some(rate),
            _ => None,
        };
        set_rate(&mut self.up, self.limits.up, over);
        set_rate(&mut self.down, self.limits.down, over);
    }
}

fn is_over(limits: Limits, total: u64) -> bool {
    limits.quota.is_some_and(|quota| total >= quota.end)
}

/// Sets the lower of two rates. What waits leaves at once if there is no limit any more.
fn set_rate(shaper: &mut Option<Shaper>, rate: Option<NonZeroU64>, over: Option<NonZeroU64>) {
    let rate = rate.into_iter().chain(over).min();
    match (shaper.as_mut(), rate) {
        (Some(shaper), Some(rate)) => shaper.set_rate(rate),
        (Some(waiting), None) if waiting.waiting() > 0 => waiting.set_rate(NonZeroU64::MAX),
        (Some(_), None) => *shaper = None,
        (None, Some(rate)) => *shaper = Some(Shaper::new(rate)),
        (None, None) => {}
    }
}

#[cfg(test)]
mod tests;
