//! A peer's limited packets.

use super::super::ecn;
use super::super::endpoint::Endpoint;
use super::super::limits::{Admission, Direction, Limits};
use super::super::message::DATA_HEADER_LEN;
use super::Peer;
use crate::time::Instant;
use wontun_packet::DropReason;
use wontun_packet::split::PacketLengths;

impl Peer {
    /// Returns true if the peer has limits.
    pub const fn is_limited(&self) -> bool {
        self.limiter.is_some()
    }

    /// Returns true if the peer's quota is used up.
    pub fn is_over_quota(&self) -> bool {
        self.limiter.as_ref().is_some_and(|limiter| limiter.is_over_quota())
    }

    /// Returns the number of packets from and to the peer that wait for its rates.
    pub fn waiting(&self) -> [usize; 2] {
        let waiting = |direction| self.limiter.as_ref().map_or(0, |limiter| limiter.waiting(direction));
        [Direction::Up, Direction::Down].map(waiting)
    }

    pub(in super::super) fn set_limits(&mut self, limits: Limits) {
        let total = self.transferred();
        let limiter = self.limiter.get_or_insert_default();
        self.events.quota_used_up |= limiter.set(limits, total);
        if limiter.is_unused() {
            self.limiter = None;
        }
    }

    /// Decides about packets that arrive together.
    pub(in super::super) fn admit(
        &mut self,
        direction: Direction,
        packet: &[u8],
        lengths: PacketLengths,
        now: Instant,
    ) -> Result<Admission, DropReason> {
        let total = self.transferred();
        let Some(limiter) = &mut self.limiter else { return Ok(Admission::Pass) };
        self.events.quota_used_up |= limiter.update(total);
        limiter.admit(direction, packet, lengths, now)
    }

    /// Queues a copy of a packet that must wait.
    pub(in super::super) fn push_limited(
        &mut self,
        direction: Direction,
        packet: &[u8],
        now: Instant,
    ) -> Result<(), DropReason> {
        let limiter = self.limiter.as_mut().ok_or(DropReason::OverRate)?;
        limiter.push(direction, packet, now)
    }

    /// Returns true if packets that have waited may leave now.
    pub(in super::super) fn release_limited(&mut self, direction: Direction, now: Instant) -> bool {
        self.limiter.as_mut().is_some_and(|limiter| limiter.release(direction, now))
    }

    /// Ends what [`Self::release_limited`] has begun.
    pub(in super::super) fn hold_limited(&mut self, direction: Direction) {
        if let Some(limiter) = &mut self.limiter {
            limiter.hold(direction);
        }
    }

    /// Encrypts the next packet to the peer that may leave now; returns its destination, length and
    /// traffic class.
    pub(in super::super) fn poll_limited_transmit(
        &mut self,
        mtu: usize,
        now: Instant,
        out: &mut [u8],
    ) -> Option<(Endpoint, usize, u8)> {
        let Some(endpoint) = self.endpoint.filter(|_| self.has_session(now)) else {
            if self.drop_limited() > 0 {
                self.request_initiation(now);
            }
            return None;
        };
        let room = out.get_mut(DATA_HEADER_LEN..)?;
        let len = self.limiter.as_mut()?.pop(Direction::Down, room, now)?;
        let class = ecn::outer_class(room.get(..len).unwrap_or_default());
        let sealed = self.seal(out, len, mtu, now);
        self.lost += u64::from(sealed.is_none());
        sealed.map(|len| (endpoint, len, class))
    }

    /// Moves the next packet from the peer that may leave now to the front of `out`, and returns
    /// its length.
    pub(in super::super) fn poll_limited_packet(&mut self, now: Instant, out: &mut [u8]) -> Option<usize> {
        self.limiter.as_mut()?.pop(Direction::Up, out, now)
    }

    /// Drops the packets to the peer that wait, and returns their number.
    pub(super) fn drop_limited(&mut self) -> usize {
        let count = self.limiter.as_mut().map_or(0, |limiter| limiter.clear(Direction::Down));
        self.lost += count as u64;
        count
    }

    /// Returns the bytes received and sent.
    const fn transferred(&self) -> u64 {
        self.transfer.received.saturating_add(self.transfer.sent)
    }
}
