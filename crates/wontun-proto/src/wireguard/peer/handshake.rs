//! A peer's handshakes, as initiator and as responder.

use std::time::Duration;

use super::super::INITIATION_INTERVAL;
use super::super::endpoint::Endpoint;
use super::super::index::IndexTable;
use super::super::keypair::Keypair;
use super::super::message::{CookieReply, INITIATION_LEN, Initiation, MAC_LEN, RESPONSE_LEN, Response};
use super::super::noise::{Initiator, Responder};
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
            self.outbox.initiation = true;
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
        if !std::mem::take(&mut self.outbox.initiation) {
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
        let stamp = context.stamper.stamp(unix);
        let ephemeral = random::bytes(context.random).into();
        let started = Initiator::new(context.identity, context.secrets, &self.public, ephemeral, &stamp);
        let (initiator, noise) = started.ok()?;
        let sender = context.indices.allocate(self.id, context.random);
        self.replace_initiation(before, (Box::new(initiator), sender), context.indices, now);
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

    /// Handles an authenticated initiation of this peer, and prepares the response.
    pub(in super::super) fn handle_initiation(
        &mut self,
        context: &mut Context<'_>,
        from: Endpoint,
        initiation: &Initiation,
        responder: Responder,
        now: Instant,
    ) -> Result<(), DropReason> {
        if let Some(newest) = self.newest_stamp.filter(|newest| responder.stamp <= *newest) {
            self.refuse_stamp(newest, responder.stamp);
            return Err(DropReason::OldInitiation);
        }
        if self.last_initiation.is_some_and(|last| now.since(last) < INITIATION_INTERVAL) {
            return Err(DropReason::InitiationFlood);
        }
        self.newest_stamp = Some(responder.stamp);
        self.refused_stamp = None;
        self.last_initiation = Some(now);
        self.handle_heard(from);
        self.transfer.received += INITIATION_LEN as u64;
        self.timers.handle_any_received(self.persistent, now);

        let (noise, keys) = responder.finish(&self.preshared)?;
        let sender = context.indices.allocate(self.id, context.random);
        let keypair = Keypair::new(&keys, sender, initiation.sender, false, context.ended, now);
        let Some(keypair) = keypair else {
            context.indices.free(sender);
            return Err(DropReason::Handshake);
        };
        self.keypairs.install_answered(keypair, context.indices);
        let receiver = initiation.sender;
        let mut message = Response { sender, receiver, noise, mac1: [0; MAC_LEN], mac2: [0; MAC_LEN] };
        self.cookies.sign(&self.mac_keys, &mut message, now);
        self.outbox.response = Some(Box::new(message));

        self.draw_jitter(context.random);
        self.timers.handle_session_derived(now);
        self.timers.handle_any_sent(self.persistent, now);
        self.timers.last_sent = Some(now);
        Ok(())
    }

    /// Records a refused stamp, and reports a clock that was set back if the stamps grow. A single
    /// message that is repeated or late says nothing about the peer's clock; a later stamp that is
    /// still older than `newest` does.
    fn refuse_stamp(&mut self, newest: Timestamp, stamp: Timestamp) {
        if stamp == newest {
            return;
        }
        if self.refused_stamp.is_some_and(|refused| stamp > refused) {
            let unix = stamp.unix();
            self.news.clock = Some((unix, newest.unix().saturating_sub(unix)));
        }
        self.refused_stamp = Some(stamp);
    }

    /// Writes the response, if there is one to send.
    pub(super) fn poll_response(&mut self, out: &mut [u8]) -> Option<usize> {
        let message = self.outbox.response.take()?;
        self.answered = self.endpoint.map(|endpoint| endpoint.remote.ip());
        *out.first_chunk_mut()? = message.to_bytes();
        self.transfer.sent += RESPONSE_LEN as u64;
        Some(RESPONSE_LEN)
    }

    /// Handles the response to an initiation of this side.
    pub(in super::super) fn handle_response(
        &mut self,
        context: &mut Context<'_>,
        from: Endpoint,
        response: &Response,
        now: Instant,
    ) -> Result<(), DropReason> {
        let index = response.receiver;
        let initiator = match &mut self.initiator {
            Some((initiator, newest)) if *newest == index => initiator,
            _ => {
                let candidates = self.candidates.as_mut().ok_or(DropReason::Handshake)?;
                candidates.older(index, now).ok_or(DropReason::Handshake)?
            }
        };
        let keys = initiator.finish(&self.preshared, &response.noise)?;
        let keypair = Keypair::new(&keys, index, response.sender, true, context.ended, now);
        let keypair = keypair.ok_or(DropReason::Handshake)?;
        let is_first = self.take_answered(index, context.indices, now);
        self.keypairs.install_initiated(keypair, context.indices);
        if is_first {
            self.handle_heard(from);
            self.confirmed = Some(from.remote.ip());
        }
        self.transfer.received += RESPONSE_LEN as u64;
        self.timers.handle_session_derived(now);
        self.complete_handshake(now);
        // only the first packet of the initiator lets the peer use the session
        self.outbox.keepalive = true;
        self.timers.handle_any_received(self.persistent, now);
        Ok(())
    }

    /// Handles the completion of a handshake: both sides have the new session.
    pub(super) fn handle_handshake_complete(&mut self, indices: &mut IndexTable, now: Instant) {
        self.forget_initiation(indices);
        self.complete_handshake(now);
    }

    fn complete_handshake(&mut self, now: Instant) {
        self.outbox.initiation = false;
        self.timers.handle_handshake_complete();
        self.last_handshake = Some(now);
        self.news.completed = true;
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
        Ok(())
    }
}
