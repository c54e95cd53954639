//! State of a peer that is kept over a restart.

use super::super::endpoint::Endpoint;
use super::super::timestamp::Timestamp;
use super::Peer;
use crate::time::Instant;

impl Peer {
    /// Sets what an earlier run has known: the endpoint, unless there is one already, and the
    /// latest timestamp of the peer's initiations. The endpoint is not confirmed by that.
    pub(in super::super) fn restore(&mut self, endpoint: Option<Endpoint>, latest: Option<Timestamp>) {
        if self.endpoint.is_none() {
            self.endpoint = endpoint;
        }
        self.latest_timestamp = self.latest_timestamp.max(latest);
    }

    /// Sends an initiation now, and one more if it is not answered, unless there is a session or a
    /// handshake.
    pub(in super::super) fn greet(&mut self, now: Instant) {
        let is_busy = self.has_session(now) || self.pending.initiation || self.timers.retransmit.is_some();
        if !is_busy && self.may_initiate(now) {
            self.timers.begin_greeting(now);
            self.pending.initiation = true;
        }
    }

    /// Forgets the latest timestamp, so that initiations with any timestamp are accepted: recorded
    /// ones, too, until the peer has sent one.
    pub(in super::super) fn forget_timestamp(&mut self) {
        (self.latest_timestamp, self.rejected_timestamp) = (None, None);
        self.events.changed = true;
    }
}
