//! State of a tunnel in plain mode.

use std::net::SocketAddr;
use std::time::Duration;

use super::candidate::Candidates;
use super::lookup::Lookup;
use crate::daemon::core::{Core, LOG_INTERVAL};
use crate::daemon::device_queues::DeviceQueues;
use crate::daemon::error::DaemonError;
use crate::daemon::run::Daemon;
use crate::daemon::sockets::Sockets;
use crate::logging::RateLimit;
use wontun_proto::plain::{Plain, Role};
use wontun_proto::time::Instant;

/// A tunnel in plain mode.
#[derive(Debug)]
pub struct PlainTunnel {
    pub(super) role: Role,
    /// The server's address, if it is configured as an address.
    pub(super) server: Option<SocketAddr>,
    /// Address family last reported to the supervisor: true for IPv4.
    pub(super) reported_family: Option<bool>,
    pub(super) candidates: Candidates,
    pub(super) sockets: Sockets<()>,
    pub(super) lookup: Option<Lookup>,
    pub(super) engine: Plain,
    /// Time of the next reconnect, after the route to the peer or the local address was lost.
    pub(super) reconnect_at: Option<Instant>,
    /// Time of the last attempt to create the peer's socket.
    pub(super) connected_at: Option<Instant>,
    pub(super) log_limits: LogLimits,
}

/// Rate limits of log lines that the network can provoke.
#[derive(Debug)]
pub(super) struct LogLimits {
    pub(super) connect: RateLimit,
    pub(super) lookup: RateLimit,
    pub(super) replaced: RateLimit,
    pub(super) answered: RateLimit,
}

impl Daemon<PlainTunnel> {
    /// Creates a tunnel from the descriptors that the supervisor has opened.
    ///
    /// # Errors
    /// An error of the system.
    pub(crate) fn plain(
        core: Core,
        queues: DeviceQueues,
        sockets: Sockets<()>,
        settings: PlainSettings,
        clamps_mss: bool,
    ) -> Result<Self, DaemonError> {
        let PlainSettings { is_client, server, name, keepalive } = settings;
        let role = if is_client { Role::Client } else { Role::Server };
        let mode = PlainTunnel {
            role,
            server,
            reported_family: None,
            candidates: Candidates::default(),
            sockets,
            lookup: name.map(Lookup::new),
            engine: Plain::new(role, keepalive),
            reconnect_at: None,
            connected_at: None,
            log_limits: LogLimits {
                connect: RateLimit::new(LOG_INTERVAL),
                lookup: RateLimit::new(LOG_INTERVAL * 6),
                replaced: RateLimit::new(Duration::from_secs(1)),
                answered: RateLimit::new(Duration::from_secs(1)),
            },
        };
        Self::assemble(mode, core, queues, clamps_mss)
    }
}

/// Settings of plain mode.
#[derive(Debug)]
pub(crate) struct PlainSettings {
    /// True for a client, false for a server.
    pub(crate) is_client: bool,
    /// The server's address.
    pub(crate) server: Option<SocketAddr>,
    /// The server's name.
    pub(crate) name: Option<String>,
    /// Time between two `hello?` of a client whose server has answered; zero for none.
    pub(crate) keepalive: Duration,
}
