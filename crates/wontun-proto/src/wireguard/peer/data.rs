//! A peer's packets: encrypted, decrypted, or staged until there is a session.

use super::super::ecn;
use super::super::endpoint::Endpoint;
use super::super::index::IndexTable;
use super::super::keypair::{Opening, Sealing};
use super::super::message::{DATA_HEADER_LEN, DATA_OVERHEAD, DataHeader};
use super::super::padding::padded_len;
use super::{Context, Peer};
use crate::time::Instant;
use wontun_packet::DropReason;
use wontun_packet::split::PacketLengths;

/// Accepted data messages of one session that were received together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Accepted {
    messages: u64,
    /// Messages other than keepalives.
    packets: u64,
    /// Bytes of the messages.
    bytes: u64,
}

impl Accepted {
    /// Adds a message of `len` bytes.
    pub(in super::super) fn add(&mut self, len: usize) {
        self.messages += 1;
        self.packets += u64::from(len > DATA_OVERHEAD);
        self.bytes += len as u64;
    }
}

impl Peer {
    /// Reserves counters for packets that are sent now; `None` if they must be staged.
    pub(in super::super) fn begin_send(
        &mut self,
        packets: PacketLengths,
        mtu: usize,
        now: Instant,
    ) -> Result<Option<(Sealing, Endpoint)>, DropReason> {
        let endpoint = self.endpoint.ok_or(DropReason::NoEndpoint)?;
        if !self.staged.is_empty() {
            return Ok(None);
        }
        Ok(self.reserve(packets, mtu, now).map(|sealing| (sealing, endpoint)))
    }

    /// Reserves counters of the current session and updates timers and transfer for the packets;
    /// `None` without a session.
    fn reserve(&mut self, packets: PacketLengths, mtu: usize, now: Instant) -> Option<Sealing> {
        let keypair = self.keypairs.sending(now)?;
        let sealing = keypair.reserve(packets.count as u64, mtu);
        let needs_rekey = keypair.needs_rekey(now);
        self.transfer.sent += packets.sum(|len| DATA_OVERHEAD + padded_len(len, mtu)) as u64;
        self.timers.handle_any_sent(self.persistent, now);
        if packets.last > 0 {
            self.transfer.packets_sent += packets.count as u64;
            self.timers.handle_data_sent(now);
            if let (Some(candidates), Some(endpoint)) = (&mut self.candidates, self.endpoint) {
                candidates.handle_data_sent(endpoint.remote, now);
            }
        }
        if needs_rekey {
            self.request_initiation(now);
        }
        Some(sealing)
    }

    /// Keeps a copy of a packet until there is a session.
    pub(in super::super) fn stage(
        &mut self,
        context: &mut Context<'_>,
        packet: &[u8],
        now: Instant,
    ) -> Result<(), DropReason> {
        if !context.secrets.contains(&self.public) {
            return Err(DropReason::LowOrder);
        }
        let dropped_oldest = self.staged.push(packet);
        self.lost += u64::from(dropped_oldest);
        if self.keypairs.sending(now).is_none() {
            self.request_initiation(now);
        }
        Ok(())
    }

    /// Returns true if the receiver index `index` is that of a session.
    pub fn has_session_with(&mut self, index: u32) -> bool {
        self.keypairs.by_index(index).is_some()
    }

    /// Returns true if this receiver index is that of the next session, whose first message
    /// confirms it.
    pub fn is_next(&mut self, index: u32) -> bool {
        self.keypairs.by_index(index).is_some_and(|(_, is_next)| is_next)
    }

    /// Returns the means to decrypt data messages with the receiver index `index`.
    ///
    /// # Errors
    /// Returns the reason to drop them: the index is no session's, or the session is past its time.
    pub fn begin_receive(&mut self, index: u32, now: Instant) -> Result<Opening, DropReason> {
        let id = self.id;
        let (keypair, _) = self.keypairs.by_index(index).ok_or(DropReason::UnknownIndex)?;
        keypair.begin_receive(id, now)
    }

    /// Checks the counter of a data message before it is decrypted.
    ///
    /// # Errors
    /// As for [`super::super::Interface::check`].
    pub fn check(&mut self, header: DataHeader) -> Result<(), DropReason> {
        let (keypair, _) = self.keypairs.by_index(header.receiver).ok_or(DropReason::UnknownIndex)?;
        keypair.check(header.counter)
    }

    /// Records the counter of an authentic data message of `len` bytes of a session other than the
    /// next one, and adds the message to `accepted`; [`Self::finish_receive`] does the rest.
    ///
    /// # Errors
    /// As for [`super::super::Receiving::accept`].
    pub fn accept(
        &mut self,
        accepted: &mut Accepted,
        header: DataHeader,
        len: usize,
    ) -> Result<(), DropReason> {
        // the session may have been removed since the message was decrypted
        let (keypair, is_next) = self.keypairs.by_index(header.receiver).ok_or(DropReason::UnknownIndex)?;
        if is_next {
            return Err(DropReason::UnknownIndex);
        }
        keypair.accept(header.counter)?;
        if let Some(candidates) = &mut self.candidates
            && self.keypairs.current.as_ref().is_some_and(|current| current.local_index == header.receiver)
        {
            candidates.handle_confirmed();
        }
        accepted.add(len);
        Ok(())
    }

    /// Like [`Self::accept`], for the next session: the peer has it, so it becomes the current one,
    /// and staged packets can be sent.
    pub(in super::super) fn confirm(
        &mut self,
        indices: &mut IndexTable,
        header: DataHeader,
        now: Instant,
    ) -> Result<(), DropReason> {
        let (keypair, _) = self.keypairs.by_index(header.receiver).ok_or(DropReason::UnknownIndex)?;
        keypair.accept(header.counter)?;
        self.confirmed = self.answered.or(self.confirmed);
        self.keypairs.confirm(indices);
        self.handle_handshake_complete(indices, now);
        Ok(())
    }

    /// Handles data messages that were received together and accepted. They came from `from`;
    /// `None` if their path does not show where the peer is now.
    pub fn finish_receive(&mut self, accepted: Accepted, from: Option<Endpoint>, now: Instant) {
        if accepted.messages == 0 {
            return;
        }
        self.handle_messages_from(from, accepted.packets > 0, now);
        self.transfer.received += accepted.bytes;
        self.transfer.packets_received += accepted.packets;
        self.timers.handle_any_received(self.persistent, now);
        self.timers.handle_data_received(accepted.packets, now);
        self.keep_key_fresh(now);
    }

    /// Requests a handshake if the session ends soon, in case nothing is sent that would notice it.
    fn keep_key_fresh(&mut self, now: Instant) {
        let expires_soon = self.keypairs.current.as_ref().is_some_and(|current| current.expires_soon(now));
        if expires_soon && !self.timers.sent_lastminute_handshake {
            self.timers.sent_lastminute_handshake = true;
            self.request_initiation(now);
        }
    }

    /// Writes the next datagram for the peer into `out`; returns its destination, length and
    /// traffic class.
    pub(in super::super) fn poll_transmit(
        &mut self,
        context: &mut Context<'_>,
        now: Instant,
        unix: std::time::Duration,
        out: &mut [u8],
    ) -> Option<(Endpoint, usize, u8)> {
        let Some(endpoint) = self.endpoint.filter(|_| context.secrets.contains(&self.public)) else {
            // no endpoint, or no shared secret with the peer
            self.pending = super::PendingMessages::default();
            return None;
        };
        if let Some(len) = self.poll_response(out) {
            return Some((endpoint, len, ecn::HANDSHAKE_CLASS));
        }
        if !self.staged.is_empty() || self.pending.keepalive {
            if self.keypairs.sending(now).is_some() {
                return self.poll_staged(context.mtu, now, out).map(|(len, class)| (endpoint, len, class));
            }
            if std::mem::take(&mut self.pending.keepalive) {
                self.request_initiation(now);
            }
        }
        let initiation = self.poll_initiation(context, now, unix, out);
        initiation.map(|(endpoint, len)| (endpoint, len, ecn::HANDSHAKE_CLASS))
    }

    /// Encrypts the next staged packet, or a keepalive if there is none.
    fn poll_staged(&mut self, mtu: usize, now: Instant, out: &mut [u8]) -> Option<(usize, u8)> {
        // any packet serves as the keepalive
        self.pending.keepalive = false;
        while self.keypairs.sending(now).is_some()
            && let Some(packet) = self.staged.pop()
        {
            // a packet that does not fit into the caller's buffer is lost; the others are not
            let room = out.get_mut(DATA_HEADER_LEN..).and_then(|rest| rest.get_mut(..packet.len()));
            if let Some(room) = room {
                room.copy_from_slice(&packet);
                if let Some(len) = self.seal(out, packet.len(), mtu, now) {
                    return Some((len, ecn::outer_class(&packet)));
                }
            }
            self.lost += 1;
        }
        if !self.staged.is_empty() {
            // the session ended meanwhile
            self.request_initiation(now);
            return None;
        }
        let keepalive = out.get_mut(..DATA_OVERHEAD)?;
        self.seal(keepalive, 0, mtu, now).map(|len| (len, 0))
    }

    pub(super) fn seal(&mut self, buffer: &mut [u8], len: usize, mtu: usize, now: Instant) -> Option<usize> {
        self.reserve(PacketLengths::single(len), mtu, now)?.seal(buffer, len)
    }

    /// Returns true if a timer is due at `now`.
    pub(in super::super) fn is_due(&self, now: Instant) -> bool {
        self.poll_timeout().is_some_and(|due| now >= due)
    }
}
