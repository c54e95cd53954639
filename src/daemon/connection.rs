//! The connection to the supervisor.

use super::pulse::Round;
use crate::messages::{FromTunnel, Host, ToTunnel};
use crate::process::Channel;
use wontun_proto::time::Instant;

/// The connection to the supervisor and its outstanding requests.
#[derive(Debug)]
pub(super) struct Supervisor {
    pub(super) channel: Channel<ToTunnel, FromTunnel>,
    /// The supervisor's probe, to be answered once all workers have responded in the round.
    pub(super) probe: Option<(u64, Round)>,
    /// Number of the last probe sent.
    pub(super) sent_probe: u64,
    /// Number of the last probe answered.
    pub(super) answered_probe: u64,
    /// State of the host, as last reported by the supervisor.
    pub(super) host: Host,
    /// Time of the pending request for spare sockets, if there is one.
    pub(super) asked_sockets: Option<Instant>,
}

impl Supervisor {
    pub(super) fn new(channel: Channel<ToTunnel, FromTunnel>) -> Self {
        Self {
            channel,
            probe: None,
            sent_probe: 0,
            answered_probe: 0,
            host: Host::default(),
            asked_sockets: None,
        }
    }

    /// Returns true if the supervisor has answered the probe of that number, or a later one.
    pub(super) const fn has_answered(&self, probe: u64) -> bool {
        self.answered_probe >= probe
    }
}
