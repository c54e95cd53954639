//! When a peer has something to do: the timers of the white paper's section 6, as points in time.
//!
//! Nothing here is done, only remembered: [`super::peer::Peer::handle_timeout`] does it.

use std::time::Duration;

use super::{KEEPALIVE_TIMEOUT, REJECT_AFTER_TIME, REKEY_ATTEMPT_TIME, REKEY_TIMEOUT, REKEY_TIMEOUT_JITTER};
use crate::time::Instant;

/// Keys are overwritten this long after the last new ones.
pub(super) const ZERO_KEYS_AFTER: Duration = Duration::from_secs(REJECT_AFTER_TIME.as_secs() * 3);

/// One peer's timers. `None` means that there is nothing to wait for.
#[derive(Debug, Default)]
pub(super) struct Timers {
    /// The initiation that went out is to be sent again.
    pub(super) retransmit: Option<Instant>,
    /// Data came in and nothing went out since.
    pub(super) keepalive: Option<Instant>,
    /// Data went out and nothing came in since.
    pub(super) silence: Option<Instant>,
    /// The keys are to be overwritten.
    pub(super) zero_keys: Option<Instant>,
    /// Nothing went either way for the configured time.
    pub(super) persistent: Option<Instant>,
    /// Added to the next handshake's pauses; drawn anew with each handshake, not with each packet.
    pub(super) jitter: Duration,
    /// More data came in while `keepalive` was running.
    pub(super) another_keepalive: bool,
    /// The current session's end was noticed on receiving already.
    pub(super) last_minute: bool,
    /// When the last handshake message was sent.
    pub(super) last_sent: Option<Instant>,
    /// Since when this run of initiations lasts; a packet to send begins it anew.
    attempting: Option<Instant>,
    /// Since when initiations are in vain, or were last reported to be.
    failing: Option<Instant>,
}

impl Timers {
    /// The next point in time at which one rings.
    pub(super) fn next(&self) -> Option<Instant> {
        [self.retransmit, self.keepalive, self.silence, self.zero_keys, self.persistent]
            .into_iter()
            .flatten()
            .min()
    }

    /// Takes a timer if it rings.
    pub(super) fn take_due(timer: &mut Option<Instant>, now: Instant) -> bool {
        timer.take_if(|due| now >= *due).is_some()
    }

    /// Sets the jitter for what follows.
    pub(super) fn set_jitter(&mut self, jitter: Duration) {
        self.jitter = jitter.min(REKEY_TIMEOUT_JITTER);
    }

    /// A packet that is data left.
    pub(super) fn handle_data_sent(&mut self, now: Instant) {
        if self.silence.is_none() {
            self.silence = Some(now + KEEPALIVE_TIMEOUT + REKEY_TIMEOUT + self.jitter);
        }
    }

    /// So many packets came that are data. A keepalive is none: an answer to it would be answered too.
    pub(super) fn handle_data_received(&mut self, packets: u64, now: Instant) {
        if packets > 0 {
            self.another_keepalive |= packets > 1 || self.keepalive.is_some();
            self.keepalive.get_or_insert(now + KEEPALIVE_TIMEOUT);
        }
    }

    /// Anything authenticated leaves: keepalive, data or handshake.
    pub(super) fn handle_any_sent(&mut self, persistent: Option<Duration>, now: Instant) {
        self.keepalive = None;
        self.handle_traversal(persistent, now);
    }

    /// Anything authenticated came.
    pub(super) fn handle_any_received(&mut self, persistent: Option<Duration>, now: Instant) {
        self.silence = None;
        self.handle_traversal(persistent, now);
    }

    fn handle_traversal(&mut self, persistent: Option<Duration>, now: Instant) {
        self.persistent = persistent.map(|interval| now + interval);
    }

    /// A new run of initiations begins, or the one that is on has a new reason.
    pub(super) fn begin_attempt(&mut self, now: Instant) {
        self.attempting = Some(now);
    }

    /// An initiation that is wanted has to wait until the last handshake message is old enough.
    pub(super) fn postpone_initiation(&mut self, now: Instant) {
        if self.retransmit.is_none() {
            self.retransmit = Some(self.last_sent.unwrap_or(now) + REKEY_TIMEOUT + self.jitter);
        }
    }

    /// An initiation leaves.
    pub(super) fn handle_initiation_sent(&mut self, now: Instant) {
        self.last_sent = Some(now);
        self.attempting.get_or_insert(now);
        self.failing.get_or_insert(now);
        self.retransmit = Some(now + REKEY_TIMEOUT + self.jitter);
    }

    /// Whether the run of initiations has lasted too long.
    pub(super) fn gives_up(&self, now: Instant) -> bool {
        self.attempting.is_none_or(|since| now.since(since) >= REKEY_ATTEMPT_TIME)
    }

    /// Whether it is time to report that initiations are in vain, as it is every [`REKEY_ATTEMPT_TIME`].
    pub(super) fn take_failure(&mut self, now: Instant) -> bool {
        let failed = self.failing.is_some_and(|since| now.since(since) >= REKEY_ATTEMPT_TIME);
        if failed {
            self.failing = Some(now);
        }
        failed
    }

    /// There are new keys.
    pub(super) fn handle_session_derived(&mut self, now: Instant) {
        self.zero_keys = Some(now + ZERO_KEYS_AFTER);
    }

    /// Both sides have the new session.
    pub(super) fn handle_handshake_complete(&mut self) {
        self.retransmit = None;
        self.attempting = None;
        self.failing = None;
        self.last_minute = false;
    }

    /// Nobody answers.
    pub(super) fn handle_given_up(&mut self, now: Instant) {
        self.keepalive = None;
        self.attempting = None;
        self.zero_keys.get_or_insert(now + ZERO_KEYS_AFTER);
    }
}
