//! The connection to the supervisor.

use std::os::fd::OwnedFd;
use std::time::Duration;

use super::liveness::ProbeId;
use crate::messages::{FromTunnel, HostState, ToTunnel};
use crate::process::Channel;
use wontun_proto::time::Instant;

/// The connection to the supervisor and its outstanding requests.
#[derive(Debug)]
pub(super) struct SupervisorConnection {
    pub(super) channel: Channel<ToTunnel, FromTunnel>,
    /// The supervisor's probe, and the probe of the workers that must be answered first.
    pub(super) probe: Option<(u64, ProbeId)>,
    /// Number of the last probe sent.
    pub(super) sent_probe: u64,
    /// Number of the last probe answered.
    pub(super) answered_probe: u64,
    /// Number of the last request to count the packets that rules have denied.
    pub(super) sent_count: u64,
    /// Number of the last such request answered.
    pub(super) answered_count: u64,
    /// State of the host, as last reported by the supervisor.
    pub(super) host: HostState,
    /// Time of the pending request for spare sockets, if there is one.
    pub(super) sockets_requested_at: Option<Instant>,
    /// File for the sessions, once another process is to continue them.
    pub(super) export_to: Option<OwnedFd>,
}

impl SupervisorConnection {
    pub(super) fn new(channel: Channel<ToTunnel, FromTunnel>) -> Self {
        Self {
            channel,
            probe: None,
            sent_probe: 0,
            answered_probe: 0,
            sent_count: 0,
            answered_count: 0,
            host: HostState::default(),
            sockets_requested_at: None,
            export_to: None,
        }
    }

    /// Waits until the supervisor has received all messages, at most `limit`.
    pub(super) fn flush_within(&mut self, limit: Duration) {
        let _ = self.channel.flush_until(std::time::Instant::now() + limit);
    }

    /// Returns true if the supervisor has answered the request to count of that number, or a later
    /// one.
    pub(super) const fn has_counted(&self, request: u64) -> bool {
        self.answered_count >= request
    }

    /// Returns true if the supervisor has answered the probe of that number, or a later one.
    pub(super) const fn has_answered(&self, probe: u64) -> bool {
        self.answered_probe >= probe
    }
}
