//! A peer's timers (section 6 of the white paper), as points in time.
//!
//! This module only stores them; [`super::peer::Peer::handle_timeout`] acts on them.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{KEEPALIVE_TIMEOUT, REJECT_AFTER_TIME, REKEY_ATTEMPT_TIME, REKEY_TIMEOUT, REKEY_TIMEOUT_JITTER};
use crate::time::Instant;

/// Time for which initiations that greet a peer are repeated: long enough for two.
const GREETING_TIME: Duration = Duration::from_secs(REKEY_TIMEOUT.as_secs() * 2);
/// Time after the last new session at which keys are overwritten.
pub(super) const ZERO_KEYS_AFTER: Duration = Duration::from_secs(REJECT_AFTER_TIME.as_secs() * 3);

/// Timers of one peer; `None` if a timer is not running.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Timers {
    /// Retransmission of an initiation.
    pub(super) retransmit: Option<Instant>,
    /// Keepalive: data was received, and nothing was sent since.
    pub(super) keepalive: Option<Instant>,
    /// New handshake: data was sent, and nothing was received since.
    pub(super) new_handshake: Option<Instant>,
    /// Overwriting of the keys.
    pub(super) zero_keys: Option<Instant>,
    /// Persistent keepalive: nothing was sent or received for the configured time.
    pub(super) persistent: Option<Instant>,
    /// Addition to the pauses of the next handshake; drawn for each handshake, not for each packet.
    pub(super) jitter: Duration,
    /// More data was received while `keepalive` was running.
    pub(super) need_another_keepalive: bool,
    /// The end of the current session was already noticed when receiving.
    pub(super) sent_lastminute_handshake: bool,
    /// Time when the last handshake message was sent.
    pub(super) last_sent_handshake: Option<Instant>,
    /// End of the present run of initiations; a packet to send postpones it.
    attempt_ends: Option<Instant>,
    /// The present run greets a peer that may be gone: it is no failure if nobody answers.
    is_greeting: bool,
    /// Time of the first unanswered initiation of the present run.
    unanswered_since: Option<Instant>,
    /// Time since which initiations are unanswered, or when that was last reported.
    failing_since: Option<Instant>,
}

impl Timers {
    /// Returns the time of the next timer.
    pub(super) fn next(&self) -> Option<Instant> {
        [self.retransmit, self.keepalive, self.new_handshake, self.zero_keys, self.persistent]
            .into_iter()
            .flatten()
            .min()
    }

    /// Limits timers that another process has set: none is later than the longest one that is set
    /// now, and no past event is in the future.
    pub(super) fn limit(&mut self, persistent: Option<Duration>, now: Instant) {
        let limit = |timer: &mut Option<Instant>, longest: Duration| {
            *timer = timer.map(|due| due.min(now + longest));
        };
        let handshake = REKEY_TIMEOUT + REKEY_TIMEOUT_JITTER;
        limit(&mut self.retransmit, handshake);
        limit(&mut self.keepalive, KEEPALIVE_TIMEOUT);
        limit(&mut self.new_handshake, KEEPALIVE_TIMEOUT + handshake);
        limit(&mut self.zero_keys, ZERO_KEYS_AFTER);
        self.persistent = persistent.map(|interval| self.persistent.unwrap_or(now).min(now + interval));
        limit(&mut self.attempt_ends, REKEY_ATTEMPT_TIME);
        for past in [&mut self.last_sent_handshake, &mut self.unanswered_since, &mut self.failing_since] {
            limit(past, Duration::ZERO);
        }
        self.set_jitter(self.jitter);
    }

    /// Clears a timer and returns true if it is due.
    pub(super) fn take_due(timer: &mut Option<Instant>, now: Instant) -> bool {
        timer.take_if(|due| now >= *due).is_some()
    }

    /// Sets the jitter of later pauses.
    pub(super) fn set_jitter(&mut self, jitter: Duration) {
        self.jitter = jitter.min(REKEY_TIMEOUT_JITTER);
    }

    /// Handles a sent data packet.
    pub(super) fn handle_data_sent(&mut self, now: Instant) {
        if self.new_handshake.is_none() {
            self.new_handshake = Some(now + KEEPALIVE_TIMEOUT + REKEY_TIMEOUT + self.jitter);
        }
    }

    /// Handles `packets` received data packets. Keepalives do not count: an answer to one would be
    /// answered too.
    pub(super) fn handle_data_received(&mut self, packets: u64, now: Instant) {
        if packets > 0 {
            self.need_another_keepalive |= packets > 1 || self.keepalive.is_some();
            self.keepalive.get_or_insert(now + KEEPALIVE_TIMEOUT);
        }
    }

    /// Handles a sent authenticated message: keepalive, data or handshake.
    pub(super) fn handle_any_sent(&mut self, persistent: Option<Duration>, now: Instant) {
        self.keepalive = None;
        self.handle_traversal(persistent, now);
    }

    /// Handles a received authenticated message.
    pub(super) fn handle_any_received(&mut self, persistent: Option<Duration>, now: Instant) {
        self.new_handshake = None;
        self.handle_traversal(persistent, now);
    }

    fn handle_traversal(&mut self, persistent: Option<Duration>, now: Instant) {
        self.persistent = persistent.map(|interval| now + interval);
    }

    /// Starts a run of initiations, or restarts the present one for a new reason.
    pub(super) fn begin_attempt(&mut self, now: Instant) {
        self.attempt_ends = Some(now + REKEY_ATTEMPT_TIME);
        if std::mem::take(&mut self.is_greeting) {
            (self.unanswered_since, self.failing_since) = (Some(now), Some(now));
        }
    }

    /// Starts a short run of initiations to a peer that may be gone.
    pub(super) fn begin_greeting(&mut self, now: Instant) {
        self.attempt_ends = Some(now + GREETING_TIME);
        self.is_greeting = true;
    }

    /// Schedules a requested initiation for when the last handshake message is old enough.
    pub(super) fn postpone_initiation(&mut self, now: Instant) {
        if self.retransmit.is_none() {
            self.retransmit = Some(self.last_sent_handshake.unwrap_or(now) + REKEY_TIMEOUT + self.jitter);
        }
    }

    /// Handles a sent initiation.
    pub(super) fn handle_initiation_sent(&mut self, now: Instant) {
        self.last_sent_handshake = Some(now);
        self.attempt_ends.get_or_insert(now + REKEY_ATTEMPT_TIME);
        if !self.is_greeting {
            self.unanswered_since.get_or_insert(now);
            self.failing_since.get_or_insert(now);
        }
        self.retransmit = Some(now + REKEY_TIMEOUT + self.jitter);
    }

    /// Returns true if the run of initiations is over.
    pub(super) fn has_given_up(&self, now: Instant) -> bool {
        self.attempt_ends.is_none_or(|end| now >= end)
    }

    /// Returns the time since the first unanswered initiation of the present run, once that is
    /// [`REKEY_TIMEOUT`].
    pub(super) fn unanswered(&self, now: Instant) -> Option<Duration> {
        let elapsed = self.unanswered_since.map(|since| now.since(since));
        elapsed.filter(|elapsed| *elapsed >= REKEY_TIMEOUT)
    }

    /// Returns true if unanswered initiations are to be reported, which is once per
    /// [`REKEY_ATTEMPT_TIME`].
    pub(super) fn take_failure(&mut self, now: Instant) -> bool {
        let failed = self.failing_since.is_some_and(|since| now.since(since) >= REKEY_ATTEMPT_TIME);
        if failed {
            self.failing_since = Some(now);
        }
        failed
    }

    /// Handles new session keys.
    pub(super) fn handle_session_derived(&mut self, now: Instant) {
        self.zero_keys = Some(now + ZERO_KEYS_AFTER);
    }

    /// Handles the completion of a handshake: both sides have the new session.
    pub(super) fn handle_handshake_complete(&mut self) {
        self.retransmit = None;
        (self.attempt_ends, self.is_greeting) = (None, false);
        self.unanswered_since = None;
        self.failing_since = None;
        self.sent_lastminute_handshake = false;
    }

    /// Handles the end of a run of initiations without an answer.
    pub(super) fn handle_given_up(&mut self, now: Instant) {
        self.keepalive = None;
        (self.attempt_ends, self.is_greeting) = (None, false);
        self.unanswered_since = None;
        self.zero_keys.get_or_insert(now + ZERO_KEYS_AFTER);
    }
}
