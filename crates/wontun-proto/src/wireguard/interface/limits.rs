//! Limits of peers: their packets are admitted at once, or wait and are polled later.

use super::{Interface, Transmit, list_events, schedule};
use crate::time::Instant;
use crate::wireguard::limits::{Admission, Direction, Limits};
use crate::wireguard::{DropReason, PeerId};
use wontun_packet::split::PacketLengths;

impl Interface {
    /// Sets the limits of a peer. Its session and what waits are kept.
    pub fn set_limits(&mut self, id: PeerId, limits: Limits, now: Instant) {
        if let Some(mut peer) = self.peers.lock(id) {
            peer.set_limits(limits);
        }
        self.queue_work(id, now);
    }

    /// Decides about packets to a peer that arrive together, the first of which begins with
    /// `packet`. The caller passes each of those that wait to [`Self::limit_outgoing`].
    ///
    /// # Errors
    /// The reason to drop them: the quota is used up.
    pub fn admit_outgoing(
        &mut self,
        id: PeerId,
        packet: &[u8],
        lengths: PacketLengths,
        now: Instant,
    ) -> Result<Admission, DropReason> {
        let mut peer = self.peers.lock(id).ok_or(DropReason::NoPeer)?;
        let admission = peer.admit(Direction::Down, packet, lengths, now);
        list_events(&mut peer, &mut self.events);
        admission
    }

    /// Keeps a copy of a packet to a peer until its rate permits it;
    /// [`Self::poll_limited_transmit`] returns it then.
    ///
    /// # Errors
    /// The reason to drop it: too many wait.
    pub fn limit_outgoing(&mut self, id: PeerId, packet: &[u8], now: Instant) -> Result<(), DropReason> {
        let mut peer = self.peers.lock(id).ok_or(DropReason::NoPeer)?;
        let result = peer.push_limited(Direction::Down, packet, now);
        schedule(&mut peer, &mut self.due);
        result
    }

    /// Returns true if limited packets of peers with this receiver may leave now: the caller polls
    /// them there, and nowhere else, which keeps them in order.
    pub fn has_released(&self, receiver: usize) -> bool {
        self.released.get(receiver).is_some_and(|released| !released.is_empty())
    }

    /// Writes the next limited packet to a peer of this receiver into `out`, encrypted. The caller
    /// repeats the call until it returns `None`.
    pub fn poll_limited_transmit(
        &mut self,
        receiver: usize,
        now: Instant,
        out: &mut [u8],
    ) -> Option<Transmit> {
        let mtu = self.peers.peers().mtu();
        loop {
            let id = *self.released.get_mut(receiver)?.peers(Direction::Down).front()?;
            let peer = self.peers.lock(id);
            if let Some((endpoint, len, class)) =
                peer.and_then(|mut peer| peer.poll_limited_transmit(mtu, now, out))
            {
                return Some(Transmit { peer: Some(id), endpoint, len, class });
            }
            self.hold_first(receiver, Direction::Down, now);
        }
    }

    /// Moves the next limited packet from a peer of this receiver to the front of `out`, and
    /// returns its length. The caller repeats the call until it returns `None`.
    pub fn poll_limited_packet(&mut self, receiver: usize, now: Instant, out: &mut [u8]) -> Option<usize> {
        loop {
            let id = *self.released.get_mut(receiver)?.peers(Direction::Up).front()?;
            let peer = self.peers.lock(id);
            if let Some(len) = peer.and_then(|mut peer| peer.poll_limited_packet(now, out)) {
                return Some(len);
            }
            self.hold_first(receiver, Direction::Up, now);
        }
    }

    /// Adds a peer to the lists of those whose limited packets may leave.
    pub(super) fn release_limited(&mut self, id: PeerId, now: Instant) {
        let receiver = usize::try_from(self.indices.receiver(id)).unwrap_or(usize::MAX);
        let (Some(mut peer), Some(released)) = (self.peers.lock(id), self.released.get_mut(receiver)) else {
            return;
        };
        for direction in [Direction::Up, Direction::Down] {
            if peer.release_limited(direction, now) {
                released.peers(direction).push_back(id);
            }
        }
    }

    /// Removes the first peer of a list, of whose packets the rest has to wait.
    fn hold_first(&mut self, receiver: usize, direction: Direction, now: Instant) {
        let first = self.released.get_mut(receiver).and_then(|it| it.peers(direction).pop_front());
        let Some(id) = first else { return };
        if let Some(mut peer) = self.peers.lock(id) {
            peer.hold_limited(direction);
        }
        self.queue_work(id, now);
    }
}
