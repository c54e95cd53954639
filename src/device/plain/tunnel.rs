//! State of a tunnel in plain mode.

use std::net::SocketAddr;
use std::time::Duration;

use super::candidate::Candidates;
use super::lookup::Lookup;
use crate::device::core::{Core, QUIET};
use crate::device::error::DeviceError;
use crate::device::run::Device;
use crate::device::sockets::Sockets;
use crate::io::tun::Tun;
use crate::logging::RateLimit;
use crate::time::Instant;
use crate::tunnel::plain::{Plain, Role};

/// A tunnel in plain mode.
#[derive(Debug)]
pub struct PlainTunnel {
    pub(super) role: Role,
    /// The server's address, if it is known by that.
    pub(super) server: Option<SocketAddr>,
    /// Address family that the supervisor was told of last: true for IPv4.
    pub(super) reported_family: Option<bool>,
    pub(super) candidates: Candidates,
    pub(super) sockets: Sockets<()>,
    pub(super) lookup: Option<Lookup>,
    pub(super) engine: Plain,
    /// When to connect anew, once the way to the peer or our own address was lost.
    pub(super) reconnect_at: Option<Instant>,
    /// When the peer's socket was last made, or tried.
    pub(super) connected_at: Option<Instant>,
    pub(super) quiet: Quiet,
}

/// Brakes on lines that a network can provoke.
#[derive(Debug)]
pub(super) struct Quiet {
    pub(super) connect: RateLimit,
    pub(super) lookup: RateLimit,
    pub(super) replaced: RateLimit,
    pub(super) answered: RateLimit,
}

impl Device<PlainTunnel> {
    /// Makes a tunnel of what the supervisor has opened.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn plain(
        core: Core,
        tuns: Vec<Tun>,
        sockets: Sockets<()>,
        settings: PlainSettings,
        clamps_mss: bool,
    ) -> Result<Self, DeviceError> {
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
            quiet: Quiet {
                connect: RateLimit::new(QUIET),
                lookup: RateLimit::new(QUIET * 6),
                replaced: RateLimit::new(Duration::from_secs(1)),
                answered: RateLimit::new(Duration::from_secs(1)),
            },
        };
        Self::assemble(mode, core, tuns, clamps_mss)
    }
}

/// Settings of plain mode.
#[derive(Debug)]
pub(crate) struct PlainSettings {
    /// False for a server.
    pub(crate) is_client: bool,
    /// The server's address.
    pub(crate) server: Option<SocketAddr>,
    /// The server's name.
    pub(crate) name: Option<String>,
    /// Time between two `hello?` of an answered client; zero for none.
    pub(crate) keepalive: Duration,
}
