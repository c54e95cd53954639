//! Data messages of one peer that were received together, when accepting them takes the interface:
//! the peer stays locked from the first to the last.

use std::collections::{BTreeSet, VecDeque};

use super::{Interface, list_work};
use crate::time::Instant;
use crate::wireguard::endpoint::Endpoint;
use crate::wireguard::index::{IndexTable, PeerId};
use crate::wireguard::limits::{Admission, Direction};
use crate::wireguard::message::DataHeader;
use crate::wireguard::peer::Accepted;
use crate::wireguard::slots::PeerGuard;
use wontun_packet::DropReason;
use wontun_packet::split::PacketLengths;

/// The locked peer of the messages, and what they change besides it.
pub struct Receiving<'a> {
    peer: PeerGuard<'a>,
    accepted: Accepted,
    is_limited: bool,
    indices: &'a mut IndexTable,
    outgoing: &'a mut VecDeque<PeerId>,
    events: &'a mut VecDeque<PeerId>,
    due: &'a mut BTreeSet<(Instant, PeerId)>,
    now: Instant,
}

impl Interface {
    /// Locks the peer of authentic data messages; `None` if it was removed. The caller calls
    /// [`Receiving::finish`] after the last one.
    pub fn receive(&mut self, id: PeerId, now: Instant) -> Option<Receiving<'_>> {
        let peer = self.peers.lock(id)?;
        Some(Receiving {
            is_limited: peer.is_limited(),
            peer,
            accepted: Accepted::default(),
            indices: &mut self.indices,
            outgoing: &mut self.outgoing,
            events: &mut self.events,
            due: &mut self.due,
            now,
        })
    }
}

impl Receiving<'_> {
    /// Records the counter of an authentic data message of `len` bytes, of any session.
    ///
    /// # Errors
    /// Returns the reason to drop it after all: it was received before, or the session is gone.
    pub fn accept(&mut self, header: DataHeader, len: usize) -> Result<(), DropReason> {
        if self.peer.is_next(header.receiver) {
            self.peer.confirm(self.indices, header, self.now)?;
            self.accepted.add(len);
            return Ok(());
        }
        self.peer.accept(&mut self.accepted, header, len)
    }

    /// Decides about a packet from the peer. One that waits was copied, and is returned by
    /// [`Interface::poll_limited_packet`].
    ///
    /// # Errors
    /// The reason to drop it: the quota is used up, or too many wait.
    pub fn admit(&mut self, packet: &[u8]) -> Result<Admission, DropReason> {
        if !self.is_limited {
            return Ok(Admission::Pass);
        }
        let lengths = PacketLengths::single(packet.len());
        let admission = self.peer.admit(Direction::Up, packet, lengths, self.now)?;
        if admission == Admission::Wait {
            self.peer.push_limited(Direction::Up, packet, self.now)?;
        }
        Ok(admission)
    }

    /// Updates the peer after messages that came from `from`; `None` if their path does not show
    /// where the peer is now.
    pub fn finish(mut self, from: Option<Endpoint>) {
        self.peer.finish_receive(self.accepted, from, self.now);
        list_work(&mut self.peer, self.outgoing, self.events, self.due, self.now);
    }
}
