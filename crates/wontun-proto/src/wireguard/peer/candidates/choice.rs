//! Choosing the destination address of an initiation, and learning from the answers.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use super::super::Peer;
use super::{CONFIRM_TIME, Candidate, Candidates, MAX_AGE, MAX_CANDIDATES};
use crate::time::Instant;
use crate::wireguard::REKEY_TIMEOUT;
use crate::wireguard::endpoint::Endpoint;
use crate::wireguard::index::IndexTable;
use crate::wireguard::message::{CookieReply, Initiation};
use crate::wireguard::noise::Initiator;
use crate::wireguard::timers::Timers;

impl Peer {
    /// Sets the possible addresses of the peer, the preferred one first. With fewer than two, only
    /// its endpoint is tried.
    pub(in super::super::super) fn set_candidates(
        &mut self,
        remotes: &[SocketAddr],
        indices: &mut IndexTable,
    ) {
        let remotes = remotes.get(..MAX_CANDIDATES).unwrap_or(remotes);
        if remotes.len() < 2 {
            if let Some(mut candidates) = self.candidates.take() {
                candidates.reset(indices);
            }
            return;
        }
        let candidates = self.candidates.get_or_insert_with(|| Box::new(Candidates::new()));
        let mut old = std::mem::take(&mut candidates.list);
        candidates.named = remotes.len();
        candidates.list = Vec::with_capacity(remotes.len());
        for remote in remotes {
            let known = old.iter().position(|candidate| candidate.remote == *remote);
            let candidate = known.map_or_else(|| Candidate::new(*remote), |known| old.swap_remove(known));
            candidates.list.push(candidate);
        }
    }

    /// Returns the earliest time of the next initiation; `None` if it can be sent at any time.
    fn ready_at(&self, now: Instant) -> Option<Instant> {
        let sent = self.timers.last_sent_handshake?;
        Some(match &self.candidates {
            Some(candidates) => candidates.ready_at(sent, self.timers.jitter, self.is_eager(now)),
            None => sent + REKEY_TIMEOUT,
        })
    }

    /// Returns true if an initiation can be sent now.
    pub(in super::super) fn may_initiate(&self, now: Instant) -> bool {
        self.ready_at(now).is_none_or(|at| now >= at)
    }

    /// Schedules a requested initiation for when [`Self::may_initiate`] returns true.
    pub(in super::super) fn postpone_initiation(&mut self, now: Instant) {
        match (&self.candidates, self.ready_at(now)) {
            (Some(candidates), Some(at)) if candidates.is_running => {
                self.timers.retransmit.get_or_insert(at);
            }
            _ => self.timers.postpone_initiation(now),
        }
    }

    /// Returns the destination of the initiation that is sent now.
    pub(in super::super) fn take_destination(&mut self, now: Instant) -> Option<Endpoint> {
        let current = self.endpoint?;
        let has_session = self.has_session(now);
        if self.candidates.is_none() && self.is_eager(now) {
            self.candidates = Some(Box::new(Candidates::new()));
        }
        let Some(candidates) = &mut self.candidates else { return Some(current) };
        if !candidates.is_running {
            candidates.begin(current.remote, has_session, now);
        }
        let (remote, all_tried) = candidates.take_next_address(current.remote, now)?;
        if remote != current.remote {
            return Some(Endpoint::new(remote));
        }
        if all_tried {
            self.clear_source();
        }
        self.endpoint
    }

    /// Replaces the newest initiation by another.
    pub(in super::super) fn replace_initiation(
        &mut self,
        newest: Option<(SocketAddr, Instant)>,
        new: (Arc<Mutex<Initiator>>, u32),
        indices: &mut IndexTable,
        now: Instant,
    ) {
        let old = self.initiator.replace(new);
        match (&mut self.candidates, old) {
            (Some(candidates), old) => {
                if let Some(old) = old {
                    candidates.keep(old, newest, indices);
                }
                candidates.prune(indices, now);
            }
            (None, Some((_, index))) => indices.free(index),
            (None, None) => {}
        }
    }

    /// Returns the destination of the newest initiation and the time when it was sent, if there are
    /// several addresses.
    pub(in super::super) fn newest_initiation(&self) -> Option<(SocketAddr, Instant)> {
        self.candidates.as_ref()?.newest
    }

    /// Signs an initiation to `remote`, with the cookie of that path if there is one.
    pub(in super::super) fn sign_initiation(
        &mut self,
        message: &mut Initiation,
        remote: SocketAddr,
        now: Instant,
    ) {
        let candidate = self.candidates.as_mut().and_then(|candidates| candidates.get_mut(remote));
        let latest_cookie =
            candidate.map_or(&mut self.latest_cookie, |candidate| &mut candidate.latest_cookie);
        latest_cookie.sign(&self.mac_keys, message, now);
    }

    /// Stores the cookie for the path of the message that it answers; returns false if the reply is
    /// not valid.
    pub(in super::super) fn take_cookie(&mut self, reply: &CookieReply, now: Instant) -> bool {
        let index = reply.receiver;
        let is_newest = self.initiator.as_ref().is_some_and(|(_, newest)| *newest == index);
        let candidate = self.candidates.as_mut().and_then(|candidates| {
            let mut older = candidates.older.iter();
            let remote = match candidates.newest {
                Some((remote, _)) if is_newest => remote,
                _ => older.find(|initiation| initiation.index == index)?.remote,
            };
            candidates.get_mut(remote)
        });
        let latest_cookie =
            candidate.map_or(&mut self.latest_cookie, |candidate| &mut candidate.latest_cookie);
        latest_cookie.handle_reply(&self.mac_keys, reply, now)
    }

    /// Schedules the initiation that follows the one sent now.
    pub(in super::super) fn schedule_next_candidate(&mut self, now: Instant) {
        if let Some(candidates) = &self.candidates {
            self.timers.retransmit = Some(candidates.ready_at(now, self.timers.jitter, self.is_eager(now)));
        }
    }

    /// Handles the answer to the initiation with the sender index `index`: earlier initiations are
    /// dropped, later ones may still be answered. Returns false if one was answered before, which
    /// has set the endpoint already.
    pub(in super::super) fn take_answered(
        &mut self,
        index: u32,
        indices: &mut IndexTable,
        now: Instant,
    ) -> bool {
        // the index of the answered initiation stays in use by the session
        let Some(candidates) = &mut self.candidates else {
            self.initiator = None;
            return true;
        };
        candidates.is_running = false;
        let is_first = !std::mem::replace(&mut candidates.is_answered, true);
        let position = candidates.older.iter().position(|initiation| initiation.index == index);
        if is_first {
            let older = position.and_then(|position| candidates.older.get(position));
            let remote = older.map(|older| older.remote).or(candidates.newest.map(|(remote, _)| remote));
            candidates.silence.handle_answer(remote == self.endpoint.map(|endpoint| endpoint.remote));
        }
        let Some(position) = position else {
            self.initiator = None;
            if let Some((remote, sent)) = candidates.newest {
                let round_trip = now.since(sent);
                candidates.record_round_trip(remote, round_trip);
                candidates.hold_until = Some(now + CONFIRM_TIME.max(round_trip * 3));
            }
            candidates.reset(indices);
            return is_first;
        };
        let mut answered = None;
        for initiation in candidates.older.drain(..=position) {
            if initiation.index == index {
                answered = Some((initiation.remote, initiation.sent));
            } else {
                indices.free(initiation.index);
            }
        }
        let round_trip = answered.map(|(_, sent)| now.since(sent)).unwrap_or_default();
        if let Some((remote, _)) = answered {
            candidates.record_round_trip(remote, round_trip);
        }
        candidates.confirm_by = Some(now + CONFIRM_TIME.max(round_trip * 3));
        candidates.hold_until = candidates.confirm_by;
        candidates.expires = candidates.newest.map(|(_, sent)| (sent + MAX_AGE).max(now));
        is_first
    }

    /// Handles accepted messages, with data or without, and moves the endpoint to `from`; `None` if
    /// their path does not show where the peer is.
    pub(in super::super) fn handle_messages_from(
        &mut self,
        from: Option<Endpoint>,
        has_data: bool,
        now: Instant,
    ) {
        let Some(candidates) = &mut self.candidates else {
            from.into_iter().for_each(|from| self.update_endpoint(from));
            return;
        };
        let current = self.endpoint.map(|endpoint| endpoint.remote);
        let other = from.map(|from| from.remote).filter(|remote| Some(*remote) != current);
        if candidates.handle_received(has_data, other.is_none()) {
            self.pending.initiation = false;
            self.timers.handle_handshake_complete();
        }
        let is_late = candidates.hold_until.is_some_and(|hold_until| now < hold_until)
            && other.is_some_and(|other| candidates.position(other).is_some());
        if let Some(from) = from.filter(|_| !is_late) {
            self.update_endpoint(from);
        }
    }

    /// Handles an initiation that was not sent, because this host has no route to `remote`: the
    /// next address follows at once, until each was tried.
    pub(in super::super::super) fn handle_unreachable(&mut self, remote: SocketAddr, now: Instant) {
        let Some(candidates) = &mut self.candidates else { return };
        let is_newest = candidates.newest.is_some_and(|(newest, _)| newest == remote);
        if candidates.is_running && is_newest && candidates.tries < candidates.list.len() {
            candidates.is_unsent = true;
            self.timers.retransmit = Some(now);
        }
    }

    /// Handles the timers of several addresses that are due.
    pub(in super::super) fn handle_candidates_timeout(&mut self, indices: &mut IndexTable, now: Instant) {
        let Some(candidates) = &mut self.candidates else { return };
        let is_unconfirmed = Timers::take_due(&mut candidates.confirm_by, now);
        if Timers::take_due(&mut candidates.expires, now) {
            candidates.drop_older(indices);
            if let Some((_, index)) = self.initiator.take() {
                indices.free(index);
            }
        }
        let is_suspect = candidates.silence.take_due(now);
        if is_unconfirmed || is_suspect {
            self.request_initiation(now);
        }
    }
}
