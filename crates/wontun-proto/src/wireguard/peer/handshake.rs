//! A peer's handshakes, as initiator and as responder.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::super::INITIATION_INTERVAL;
use super::super::endpoint::Endpoint;
use super::super::index::IndexTable;
use super::super::keypair::Keypair;
use super::super::message::{
    CookieReply, INITIATION_LEN, Initiation, MAC_LEN, RESPONSE_LEN, RESPONSE_NOISE_LEN, Response,
};
use super::super::noise::{Initiator, SessionKeys};
use super::super::random;
use super::super::timestamp::Timestamp;
use super::{Context, Peer};
use crate::stack;
use crate::time::Instant;
use wontun_packet::DropReason;

impl Peer {
    /// Requests a handshake for a reason other than the retransmission of an initiation.
    pub(super) fn request_initiation(&mut self, now: Instant) {
        self.timers.begin_attempt(now);
        if self.may_initiate(now) {
            self.pending.initiation = true;
        } else {
            self.postpone_initiation(now);
        }
    }

    /// Writes an initiation, if one is requested and the last handshake message is old enough.
    /// Leaves no secrets on the stack. Returns its destination and length.
    pub(super) fn poll_initiation(
        &mut self,
        context: &mut Context<'_>,
        now: Instant,
        unix: Duration,
        out: &mut [u8],
    ) -> Option<(Endpoint, usize)> {
        if !std::mem::take(&mut self.pending.initiation) {
            return None;
        }
        if !self.may_initiate(now) {
            self.postpone_initiation(now);
            return None;
        }
        stack::isolate(|| self.write_initiation(context, now, unix, out))
    }

    fn write_initiation(
        &mut self,
        context: &mut Context<'_>,
        now: Instant,
        unix: Duration,
        out: &mut [u8],
    ) -> Option<(Endpoint, usize)> {
        let before = self.newest_initiation();
        let destination = self.take_destination(now)?;
        let timestamp = context.timestamps.generate(unix);
        let ephemeral = random::bytes(context.random).into();
        let started = Initiator::new(context.identity, context.secrets, &self.public, ephemeral, &timestamp);
        let (initiator, noise) = started.ok()?;
        let sender = context.indices.allocate(self.id, context.random);
        self.replace_initiation(before, (Arc::new(Mutex::new(initiator)), sender), context.indices, now);
        let mut message = Initiation { sender, noise, mac1: [0; MAC_LEN], mac2: [0; MAC_LEN] };
        self.sign_initiation(&mut message, destination.remote, now);

        self.draw_jitter(context.random);
        self.timers.handle_any_sent(self.persistent, now);
        self.timers.handle_initiation_sent(now);
        self.schedule_next_candidate(now);
        self.transfer.sent += INITIATION_LEN as u64;
        *out.first_chunk_mut()? = message.to_bytes();
        Some((destination, INITIATION_LEN))
    }

    /// Handles an authenticated initiation of this peer with `timestamp`, which is answered if it
    /// is accepted.
    pub(in super::super) fn accept_initiation(
        &mut self,
        from: Endpoint,
        timestamp: Timestamp,
        now: Instant,
    ) -> Result<(), DropReason> {
        if let Some(newest) = self.latest_timestamp.filter(|newest| timestamp <= *newest) {
            self.reject_timestamp(newest, timestamp);
            return Err(DropReason::OldInitiation);
        }
        if self.last_initiation.is_some_and(|last| now.since(last) < INITIATION_INTERVAL) {
            return Err(DropReason::InitiationFlood);
        }
        self.latest_timestamp = Some(timestamp);
        self.rejected_timestamp = None;
        self.last_initiation = Some(now);
        self.events.changed = true;
        self.update_endpoint(from);
        self.transfer.received += INITIATION_LEN as u64;
        self.timers.handle_any_received(self.persistent, now);
        Ok(())
    }

    /// Starts the session of an accepted initiation, and prepares the response with the part
    /// `noise`.
    pub(in super::super) fn install_response(
        &mut self,
        context: &mut Context<'_>,
        initiation: &Initiation,
        noise: [u8; RESPONSE_NOISE_LEN],
        keys: &SessionKeys,
        now: Instant,
    ) -> Result<(), DropReason> {
        let sender = context.indices.allocate(self.id, context.random);
        let keypair = Keypair::new(keys, sender, initiation.sender, false, context.ended, now);
        let Some(keypair) = keypair else {
            context.indices.free(sender);
            return Err(DropReason::Handshake);
        };
        self.keypairs.install_as_responder(keypair, context.indices);
        let receiver = initiation.sender;
        let mut message = Response { sender, receiver, noise, mac1: [0; MAC_LEN], mac2: [0; MAC_LEN] };
        self.latest_cookie.sign(&self.mac_keys, &mut message, now);
        self.pending.response = Some(Box::new(message));

        self.draw_jitter(context.random);
        self.timers.handle_session_derived(now);
        self.timers.handle_any_sent(self.persistent, now);
        self.timers.last_sent_handshake = Some(now);
        Ok(())
    }

    /// Records a rejected timestamp, and reports a clock that was set back if the timestamps grow.
    /// A single message that is repeated or late says nothing about the peer's clock; a later
    /// timestamp that is still older than `newest` does.
    fn reject_timestamp(&mut self, newest: Timestamp, timestamp: Timestamp) {
        if timestamp == newest {
            return;
        }
        if self.rejected_timestamp.is_some_and(|refused| timestamp > refused) {
            let unix = timestamp.unix();
            self.events.clock = Some((unix, newest.unix().saturating_sub(unix)));
        }
        self.rejected_timestamp = Some(timestamp);
    }

    /// Writes the response, if there is one to send.
    pub(super) fn poll_response(&mut self, out: &mut [u8]) -> Option<usize> {
        let message = self.pending.response.take()?;
        self.answered = self.endpoint;
        *out.first_chunk_mut()? = message.to_bytes();
        self.transfer.sent += RESPONSE_LEN as u64;
        Some(RESPONSE_LEN)
    }

    /// Returns the initiation of this side with the sender index `index`, unless it was answered.
    pub(in super::super) fn initiator(&self, index: u32, now: Instant) -> Option<Arc<Mutex<Initiator>>> {
        let initiator = match &self.initiator {
            Some((initiator, newest)) if *newest == index => initiator,
            _ => self.candidates.as_ref()?.older(index, now)?,
        };
        Some(Arc::clone(initiator))
    }

    /// Starts the session of an initiation of this side that `response` has answered.
    pub(in super::super) fn install_initiated(
        &mut self,
        context: &mut Context<'_>,
        from: Endpoint,
        response: &Response,
        keys: &SessionKeys,
        now: Instant,
    ) -> Result<(), DropReason> {
        let index = response.receiver;
        let keypair = Keypair::new(keys, index, response.sender, true, context.ended, now);
        let keypair = keypair.ok_or(DropReason::Handshake)?;
        let is_first = self.take_answered(index, context.indices, now);
        self.keypairs.install_as_initiator(keypair, context.indices);
        if is_first {
            self.update_endpoint(from);
            self.confirmed = Some(from);
        }
        self.transfer.received += RESPONSE_LEN as u64;
        self.timers.handle_session_derived(now);
        self.complete_handshake(now);
        // only the first packet of the initiator lets the peer use the session
        self.pending.keepalive = true;
        self.timers.handle_any_received(self.persistent, now);
        Ok(())
    }

    /// Handles the completion of a handshake: both sides have the new session.
    pub(super) fn handle_handshake_complete(&mut self, indices: &mut IndexTable, now: Instant) {
        self.drop_initiation(indices);
        self.complete_handshake(now);
    }

    fn complete_handshake(&mut self, now: Instant) {
        self.pending.initiation = false;
        self.timers.handle_handshake_complete();
        self.end_short_intervals();
        self.last_handshake = Some(now);
        (self.events.completed, self.events.changed) = (true, true);
        self.events.unanswered = None;
    }

    /// Stores a cookie, so that the next handshake message carries a mac2. As in the kernel, a
    /// cookie reply neither moves the endpoint nor counts as transfer.
    pub(in super::super) fn handle_cookie_reply(
        &mut self,
        reply: &CookieReply,
        now: Instant,
    ) -> Result<(), DropReason> {
        if !self.take_cookie(reply, now) {
            return Err(DropReason::BadCookie);
        }
        // the path works, and the peer is under load
        self.end_short_intervals();
        Ok(())
    }
}
