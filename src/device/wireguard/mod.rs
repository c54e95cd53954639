//! WireGuard mode: many peers, each known by its key, wherever it is.
//!
//! The protocol engine ([`crate::tunnel::wireguard`]) decides what is sent and what is believed; the allowed IPs
//! ([`crate::routing`]) decide which peer a packet is for, and whether it may come from the peer that sent it. Here
//! are the ways between them and the descriptors: packets and datagrams in `data_path`, the peers' sockets in
//! `path`, their names in `names`, changes to all of it in `change`, the file in `file`, wg(8)'s socket in `uapi`.

mod change;
mod data_path;
mod file;
mod firewall;
mod names;
mod open;
mod path;
mod route;
mod status;
mod uapi;

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use tracing::info;

use super::core::Core;
use super::sockets::Sockets;
use super::{DeviceError, Mode, Progress, SockId, Token};
use crate::link::Routes;
use crate::logging::RateLimit;
use crate::routing::AllowedIps;
use crate::time::Instant;
use crate::tunnel::wireguard::message::{INITIATION_LEN, RESPONSE_LEN};
use crate::tunnel::wireguard::{Interface, Peer, PeerId, Transmit};
pub use file::ConfigFile;
use file::Source;
use firewall::Firewall;
use names::Names;
use uapi::Uapi;

/// Handshake messages that are worked on in one turn; each takes longer than a budget of packets.
const HANDSHAKES: usize = 4;

/// A tunnel in WireGuard mode.
pub struct WireGuard {
    engine: Interface,
    allowed_ips: AllowedIps<PeerId>,
    sockets: Sockets<PeerId>,
    /// What the sockets carry: what was asked for, or because the routes need it.
    mark: Option<NonZeroU32>,
    /// What the file or wg(8) asked for.
    fwmark: Option<NonZeroU32>,
    /// When peers were given their connected sockets.
    connected_at: HashMap<PeerId, Instant>,
    names: Names,
    uapi: Uapi,
    source: Source,
    /// The host's routes, where they are ours to set.
    routes: Option<Routes>,
    firewall: Firewall,
    /// A datagram that a socket had no room for lies in the packet buffer; the tun is not read until it is sent.
    unsent: Option<Transmit>,
    /// The socket that tells when it has room.
    watched: Option<SockId>,
    share: Share,
    /// Packets that waited for a handshake in vain, of peers that were removed.
    lost: u64,
    quiet: Quiet,
}

/// What of the engine may leave in one turn, so that thousands of peers that all have something to say do not keep the
/// loop from packets.
#[derive(Debug, Default)]
struct Share {
    turn: Instant,
    left: usize,
}

impl Share {
    const ALL: usize = 1024;
    /// An initiation takes as long as a hundred packets.
    const HANDSHAKE: usize = Self::ALL / 8;

    /// Whether anything may leave in the turn that began at `now`.
    fn has_some(&mut self, now: Instant) -> bool {
        if self.turn != now {
            *self = Self { turn: now, left: Self::ALL };
        }
        self.left > 0
    }

    const fn take(&mut self, transmit: Transmit) {
        let cost = if matches!(transmit.len, INITIATION_LEN | RESPONSE_LEN) { Self::HANDSHAKE } else { 1 };
        self.left = self.left.saturating_sub(cost);
    }
}

/// Brakes on lines that a network can provoke.
#[derive(Debug)]
struct Quiet {
    handshake: RateLimit,
    silent: RateLimit,
    lookup: RateLimit,
    routes: RateLimit,
}

impl std::fmt::Debug for WireGuard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WireGuard").finish_non_exhaustive()
    }
}

impl Mode for WireGuard {
    fn start(&mut self, core: &mut Core) -> Result<(), DeviceError> {
        let peers = self.engine.peer_ids().count();
        info!(mode = "wireguard", tun = %core.name, mtu = core.link.mtu, port = self.sockets.port(), peers, "ready");
        self.ask_names(core);
        self.serve_engine(core)
    }

    fn is_blocked(&self) -> bool {
        self.unsent.is_some()
    }

    fn handle_packet(&mut self, core: &mut Core, length: usize) -> Result<(), DeviceError> {
        self.take_packet(core, length)
    }

    fn drain(&mut self, core: &mut Core, token: Token) -> Result<Progress, DeviceError> {
        match token {
            Token::Sock(id) => self.drain_socket(core, id),
            Token::Handshakes => self.drain_handshakes(core),
            Token::Resolver => self.drain_resolver(core),
            Token::Uapi => self.drain_uapi_listener(core),
            Token::UapiWatch => Ok(self.drain_uapi_watch(core)),
            Token::UapiClient(number) => self.drain_uapi_client(core, number),
            Token::Tun | Token::Timer | Token::Signals | Token::Link | Token::Health => Ok(Progress::Drained),
        }
    }

    fn deadline(&self) -> Option<Instant> {
        [self.engine.poll_timeout(), self.names.deadline()].into_iter().flatten().min()
    }

    fn handle_timeouts(&mut self, core: &mut Core) -> Result<(), DeviceError> {
        self.engine.handle_timeout(core.now);
        if self.engine.queued() > 0 {
            // out of the engine's backlog, which no datagram announces
            core.ready.insert(Token::Handshakes);
        }
        self.ask_names(core);
        self.serve_engine(core)
    }

    fn reload(&mut self, core: &mut Core) -> Result<(), DeviceError> {
        self.reload_file(core)
    }

    fn handle_link(&mut self, core: &mut Core, came_up: bool) -> Result<(), DeviceError> {
        self.engine.set_mtu(usize::try_from(core.link.mtu).unwrap_or(usize::MAX));
        if came_up {
            self.restore_routes(core);
        }
        Ok(())
    }

    fn handle_address_lost(&mut self, core: &mut Core, address: IpAddr) -> Result<(), DeviceError> {
        self.leave_source(core, address)
    }

    fn handshake_age(&self, now: Instant) -> Option<Duration> {
        self.engine
            .peer_ids()
            .filter_map(|id| self.engine.peer(id)?.last_handshake())
            .map(|last| now.since(last))
            .min()
    }

    fn lost_packets(&self) -> u64 {
        let present = self.engine.peer_ids().filter_map(|id| self.engine.peer(id));
        self.lost + present.map(Peer::lost).sum::<u64>()
    }
}
