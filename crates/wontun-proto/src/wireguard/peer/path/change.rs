//! The handshakes of a peer after its path has changed.

use std::time::Duration;

use super::super::super::index::IndexTable;
use super::super::super::keypair::Keypair;
use super::super::super::timers::Timers;
use super::super::Peer;
use crate::time::Instant;
use crate::wireguard::INITIATION_INTERVAL;

impl Peer {
    /// Handles a change of the path to the peer: the system chooses the source address again and,
    /// if the peer is in use and `is_reachable`, an initiation follows.
    pub(in super::super::super) fn handle_path_changed(
        &mut self,
        is_reachable: bool,
        indices: &mut IndexTable,
        now: Instant,
    ) {
        self.set_any_source();
        if !self.is_in_use(now) {
            return;
        }
        self.retry_soon(now);
        if !is_reachable {
            return;
        }
        let free = self.timers.last_sent_handshake.map_or(now, |last| last + INITIATION_INTERVAL);
        let path = self.path.get_or_insert_default();
        if path.due.is_none() {
            let at = path.limit.take(now).max(free);
            if at <= now {
                self.initiate_on_new_path(indices, now);
                return;
            }
            path.due = Some(at);
        }
        self.pending.keepalive |= self.has_session(now);
    }

    /// Sends the initiation that the limit has postponed, if it is due.
    pub(in super::super) fn handle_path_timeout(&mut self, indices: &mut IndexTable, now: Instant) {
        let Some(path) = &mut self.path else { return };
        if Timers::take_due(&mut path.due, now) {
            self.initiate_on_new_path(indices, now);
        }
    }

    fn initiate_on_new_path(&mut self, indices: &mut IndexTable, now: Instant) {
        // begins with the address in use
        if let Some(candidates) = &mut self.candidates {
            candidates.reset(indices);
        }
        self.timers.last_sent_handshake = None;
        self.timers.retransmit = None;
        self.request_initiation(now);
    }

    /// Drops sessions and handshakes after a suspension of the host that lasted `suspended`, and
    /// starts a handshake if the peer was in use before. Staged packets continue to wait.
    pub(in super::super::super) fn handle_suspended(
        &mut self,
        suspended: Duration,
        indices: &mut IndexTable,
        now: Instant,
    ) {
        let begins = self.is_in_use(now - suspended);
        self.drop_initiation(indices);
        self.keypairs.clear(indices);
        self.pending.response = None;
        if begins {
            self.retry_soon(now);
            self.timers.last_sent_handshake = None;
            self.request_initiation(now);
        }
    }

    /// Repeats initiations at short intervals, if the peer is at a configured address: a server
    /// does not do so for a thousand clients.
    fn retry_soon(&mut self, now: Instant) {
        let remote = self.endpoint.map(|endpoint| endpoint.remote);
        let is_named = self.candidates.as_ref().is_some_and(|candidates| candidates.is_named());
        if is_named || remote.is_some() && remote == self.configured {
            self.path.get_or_insert_default().begin(now);
        }
    }

    /// Returns the time of [`Self::handle_path_timeout`].
    pub(in super::super) fn path_timeout(&self) -> Option<Instant> {
        self.path.as_ref().and_then(|path| path.due)
    }

    /// Returns true if initiations are repeated at short intervals.
    pub(in super::super) fn is_eager(&self, now: Instant) -> bool {
        self.path.as_ref().is_some_and(|path| path.is_eager(now))
    }

    /// Ends the short intervals.
    pub(in super::super) fn end_short_intervals(&mut self) {
        if let Some(path) = &mut self.path {
            path.end();
        }
    }

    /// Returns true if the peer was in use at `then`: there was a session or a handshake, or one is
    /// to be there always.
    fn is_in_use(&self, then: Instant) -> bool {
        self.keypairs.current.as_deref().is_some_and(|keypair: &Keypair| keypair.can_send(then))
            || self.initiator.is_some()
            || self.timers.retransmit.is_some()
            || self.persistent.is_some()
            || !self.staged.is_empty()
    }
}
