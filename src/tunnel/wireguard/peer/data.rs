//! A peer's packets: sealed, opened, or staged until there is a session.

use super::super::ecn;
use super::super::endpoint::Endpoint;
use super::super::message::{DATA_HEADER_LEN, DATA_OVERHEAD, DataHeader};
use super::super::padding::{packet_len, padded_len};
use super::super::timers::Timers;
use super::{Context, Peer};
use crate::counters::DropReason;
use crate::time::Instant;

/// What an authentic data message was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Received {
    /// An IP packet of this many bytes, [`DATA_HEADER_LEN`] into the datagram's buffer.
    Packet(usize),
    /// Nothing but a sign of life.
    Keepalive,
}

impl Peer {
    /// Seals the packet of `len` bytes that lies [`DATA_HEADER_LEN`] into `buffer`; gives the datagram's length, or
    /// `None` if the packet was staged, or is to be.
    pub(in super::super) fn handle_packet(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut [u8],
        len: usize,
        now: Instant,
    ) -> Result<Option<usize>, DropReason> {
        if self.endpoint.is_none() {
            return Err(DropReason::NoEndpoint);
        }
        if self.staged.is_empty() && self.keypairs.sending(now).is_some() {
            return self.seal(buffer, len, context.mtu, now).map(Some);
        }
        if !context.secrets.contains(&self.public) {
            return Err(DropReason::LowOrder);
        }
        let packet = buffer.get(DATA_HEADER_LEN..).and_then(|rest| rest.get(..len));
        let drove_out_another = self.staged.push(packet.ok_or(DropReason::Buffer)?);
        self.lost += u64::from(drove_out_another);
        if self.keypairs.sending(now).is_none() {
            self.request_initiation(now);
        }
        Ok(None)
    }

    /// Pads and seals; the current session was looked at already.
    fn seal(&mut self, buffer: &mut [u8], len: usize, mtu: usize, now: Instant) -> Result<usize, DropReason> {
        let padded = padded_len(len, mtu);
        let padding = buffer.get_mut(DATA_HEADER_LEN + len..DATA_HEADER_LEN + padded);
        padding.ok_or(DropReason::Buffer)?.fill(0);
        let keypair = self.keypairs.sending(now).ok_or(DropReason::Expired)?;
        let sealed = keypair.seal(buffer, padded).ok_or(DropReason::Buffer)?;
        let is_worn = keypair.is_worn(now);
        self.transfer.sent += sealed as u64;
        self.timers.handle_any_sent(self.persistent, now);
        if len > 0 {
            self.timers.handle_data_sent(now);
        }
        if is_worn {
            self.request_initiation(now);
        }
        Ok(sealed)
    }

    /// Opens a data message in place.
    pub(in super::super) fn handle_data(
        &mut self,
        context: &mut Context<'_>,
        from: Endpoint,
        header: DataHeader,
        datagram: &mut [u8],
        now: Instant,
    ) -> Result<Received, DropReason> {
        let datagram_len = datagram.len();
        let (keypair, is_next) = self.keypairs.by_index(header.receiver).ok_or(DropReason::UnknownIndex)?;
        let payload = keypair.open(header.counter, datagram, now)?;
        let received = match payload {
            [] => Ok(Received::Keepalive),
            _ => packet_len(payload).map(Received::Packet).ok_or(DropReason::Malformed),
        };
        if is_next {
            // the peer has the session: it is the current one now, and what waited may go
            self.keypairs.confirm(context.indices);
            self.handle_handshake_complete(context.indices, now);
        }
        self.handle_heard(from);
        self.transfer.received += datagram_len as u64;
        self.timers.handle_any_received(self.persistent, now);
        if received != Ok(Received::Keepalive) {
            self.timers.handle_data_received(now);
        }
        self.keep_fresh_receiving(now);
        received
    }

    /// The session ends soon, and nothing of ours may be sent before that would notice.
    fn keep_fresh_receiving(&mut self, now: Instant) {
        let ends_soon = self.keypairs.current.as_ref().is_some_and(|current| current.ends_soon(now));
        if ends_soon && !self.timers.last_minute {
            self.timers.last_minute = true;
            self.request_initiation(now);
        }
    }

    /// Writes the next datagram for the peer into `out`; gives its length and traffic class.
    pub(in super::super) fn poll_transmit(
        &mut self,
        context: &mut Context<'_>,
        now: Instant,
        unix: std::time::Duration,
        out: &mut [u8],
    ) -> Option<(usize, u8)> {
        if self.endpoint.is_none() || !context.secrets.contains(&self.public) {
            // nowhere to send to, or nobody to agree with
            self.outbox = super::Outbox::default();
            return None;
        }
        if let Some(len) = self.poll_response(out) {
            return Some((len, ecn::HANDSHAKE_CLASS));
        }
        if !self.staged.is_empty() || self.outbox.keepalive {
            if self.keypairs.sending(now).is_some() {
                return self.poll_staged(context.mtu, now, out);
            }
            if std::mem::take(&mut self.outbox.keepalive) {
                self.request_initiation(now);
            }
        }
        self.poll_initiation(context, now, unix, out).map(|len| (len, ecn::HANDSHAKE_CLASS))
    }

    /// Seals what was staged, or the keepalive if there is nothing.
    fn poll_staged(&mut self, mtu: usize, now: Instant, out: &mut [u8]) -> Option<(usize, u8)> {
        // any packet that leaves is a sign of life
        self.outbox.keepalive = false;
        while self.keypairs.sending(now).is_some()
            && let Some(packet) = self.staged.pop()
        {
            // one that does not fit into the caller's buffer is lost; the others are not
            let room = out.get_mut(DATA_HEADER_LEN..).and_then(|rest| rest.get_mut(..packet.len()));
            if let Some(room) = room {
                room.copy_from_slice(&packet);
                if let Ok(len) = self.seal(out, packet.len(), mtu, now) {
                    return Some((len, ecn::outer_class(&packet)));
                }
            }
            self.lost += 1;
        }
        if !self.staged.is_empty() {
            // the session came to its end in between
            self.request_initiation(now);
            return None;
        }
        let keepalive = out.get_mut(..DATA_OVERHEAD)?;
        self.seal(keepalive, 0, mtu, now).ok().map(|len| (len, 0))
    }

    /// Whether a timer rings by `now`.
    pub(in super::super) fn is_due(&self, now: Instant) -> bool {
        Timers::next(&self.timers).is_some_and(|due| now >= due)
    }
}
