//! The tunnel at work: one thread, one edge-triggered epoll, handlers that drain with a budget.
//!
//! A wake-up puts tokens into the ready set. Each turn serves everyone who waits there once, for at most
//! 64 packets; who has more to give stays in the set, and the next poll does not block. Timers come last
//! in a turn, so that what the handlers made due is done in the same one.
//!
//! [`Device`] is the loop. What a packet or datagram means is its [`Mode`]'s: [`PlainTunnel`] has one peer and
//! `hello?`, [`WireGuard`] has many and keys.

mod core;
mod housekeeping;
mod plain;
mod poll;
mod ready;
mod sockets;
mod thread_data;
mod token;
mod wireguard;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tracing::info;

use crate::config::{PeerAddress, TunName};
use crate::control::uapi::UapiError;
use crate::io::fault::{self, Fault};
use crate::io::random::NoRandomness;
use crate::io::timer::now;
use crate::io::tun::TunError;
use crate::link::LinkError;
use crate::resolver::ResolverError;
use crate::time::Instant;
pub use core::Core;
use core::{Stop, system};
pub use plain::PlainTunnel;
pub use sockets::SocketsError;
pub use token::{SockId, Token, UnknownToken};
pub use wireguard::{ConfigFile, WireGuard};

/// Packets or datagrams that one descriptor may hand over in one turn, junk included.
const BUDGET: usize = 64;

/// Least time between two lines about the same kind of trouble.
const QUIET: Duration = Duration::from_secs(10);

/// Why a tunnel does not start, or ends by itself.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// No TUN device.
    #[error(transparent)]
    Tun(#[from] TunError),
    /// No UDP sockets.
    #[error(transparent)]
    Sockets(#[from] SocketsError),
    /// The device could not be set up.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The resolver process could not be started.
    #[error(transparent)]
    Resolver(#[from] ResolverError),
    /// The server's address lies behind our own tun.
    #[error(
        "--peer {peer} routes into {tun} itself, so the tunnel would carry its own datagrams: give the server's address outside the tunnel, or another --address"
    )]
    PeerInTunnel {
        /// The server, as given.
        peer: PeerAddress,
        /// Our device.
        tun: TunName,
    },
    /// The server's address is our own.
    #[error("--peer {0} is this host's own address and port: give the server's")]
    PeerIsSelf(SocketAddr),
    /// The TUN device was deleted.
    #[error("{0} was deleted while in use: start wontun again")]
    TunGone(TunName),
    /// No socket for wg(8).
    #[error(transparent)]
    Uapi(#[from] UapiError),
    /// No keys can be made.
    #[error(transparent)]
    Random(#[from] NoRandomness),
    /// A call failed that never does on a healthy system.
    #[error("{what} failed: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// epoll gave a token that we never gave it.
    #[error(transparent)]
    Token(#[from] UnknownToken),
}

/// What a handler left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Nothing: the next edge will tell.
    Drained,
    /// Perhaps more: the budget ended first.
    More,
}

/// What a protocol makes of the loop's events. Each call may work with everything in [`Core`].
pub trait Mode {
    /// The first thing that the loop does: says that it is ready, and turns to the peers.
    ///
    /// # Errors
    /// Only what leaves no tunnel to run; so for all of these.
    fn start(&mut self, core: &mut Core) -> Result<(), DeviceError>;

    /// Whether a datagram waits for room in a socket: then the tun is not read, whose queue holds what comes.
    fn is_blocked(&self) -> bool;

    /// Takes the packet of `length` bytes that was read from the tun.
    ///
    /// # Errors
    /// As for [`Self::start`].
    fn handle_packet(&mut self, core: &mut Core, length: usize) -> Result<(), DeviceError>;

    /// Drains what only this mode has registered: sockets, the resolver, the wg(8) socket.
    ///
    /// # Errors
    /// As for [`Self::start`].
    fn drain(&mut self, core: &mut Core, token: Token) -> Result<Progress, DeviceError>;

    /// When [`Self::handle_timeouts`] wants to be called next.
    fn deadline(&self) -> Option<Instant>;

    /// Does what is due.
    ///
    /// # Errors
    /// As for [`Self::start`].
    fn handle_timeouts(&mut self, core: &mut Core) -> Result<(), DeviceError>;

    /// SIGHUP: read the configuration again.
    ///
    /// # Errors
    /// As for [`Self::start`].
    fn reload(&mut self, core: &mut Core) -> Result<(), DeviceError>;

    /// The device is up again, or its MTU is another.
    ///
    /// # Errors
    /// As for [`Self::start`].
    fn handle_link(&mut self, core: &mut Core, came_up: bool) -> Result<(), DeviceError>;

    /// This host does not have that address any more: a connected socket that is bound to it would go on sending from it,
    /// over IPv6 without an error.
    ///
    /// # Errors
    /// As for [`Self::start`].
    fn handle_address_lost(&mut self, core: &mut Core, address: IpAddr) -> Result<(), DeviceError>;

    /// Time since a peer last completed a handshake; `None` if none ever did, or the mode has no handshakes.
    fn handshake_age(&self, now: Instant) -> Option<Duration>;

    /// Packets that the engine took and could not send in the end.
    fn lost_packets(&self) -> u64;
}

/// A running tunnel.
#[derive(Debug)]
pub struct Device<M> {
    core: Core,
    mode: M,
}

impl<M: Mode> Device<M> {
    /// Carries packets until a signal ends it, or somebody takes away the socket by which it is configured.
    ///
    /// # Errors
    /// Only what leaves no tunnel to run: a deleted device, or a failing system.
    pub fn run(&mut self) -> Result<(), DeviceError> {
        let result = self.carry();
        match result {
            Ok(Stop::Signal(signal)) => info!(%signal, "stopping"),
            Ok(Stop::SocketRemoved) => info!("stopping, since the socket for wg(8) was removed"),
            Err(_) => {}
        }
        self.report_summary();
        result.map(drop)
    }

    fn carry(&mut self) -> Result<Stop, DeviceError> {
        self.mode.start(&mut self.core)?;
        loop {
            self.turn()?;
            if let Some(stop) = self.core.stop {
                return Ok(stop);
            }
        }
    }

    /// One wake-up: collects what is ready, serves everyone once, then does what is due.
    fn turn(&mut self) -> Result<(), DeviceError> {
        if self.mode.deadline().is_some_and(|deadline| self.core.now >= deadline) {
            self.mode.handle_timeouts(&mut self.core)?;
        }
        let core = &mut self.core;
        core.timer.arm(self.mode.deadline()).map_err(system("setting the timer"))?;
        let woken = core.poll.wait(&mut core.thread.events, core.ready.is_empty());
        for token in woken.map_err(system("waiting for events"))? {
            core.ready.insert(token?);
        }
        core.now = now().map_err(system("reading the clock"))?;
        for _ in 0..core.ready.len() {
            let Some(token) = self.core.ready.pop() else { break };
            if self.handle(token)? == Progress::More {
                self.core.ready.insert(token);
            }
        }
        Ok(())
    }

    fn handle(&mut self, token: Token) -> Result<Progress, DeviceError> {
        match token {
            Token::Tun => self.drain_tun(),
            Token::Timer => {
                // the turn's end looks at all deadlines anyway
                self.core.timer.handle_ring().map_err(system("reading the timer"))?;
                Ok(Progress::Drained)
            }
            Token::Signals => self.drain_signals(),
            Token::Link => self.drain_link(),
            Token::Health => Ok(self.drain_health()),
            _ => self.mode.drain(&mut self.core, token),
        }
    }

    fn drain_tun(&mut self) -> Result<Progress, DeviceError> {
        for _ in 0..BUDGET {
            if self.mode.is_blocked() {
                // the tun's queue holds what comes until the socket has room; then its token is put back
                return Ok(Progress::Drained);
            }
            let core = &mut self.core;
            match core.tun.receive(core.thread.packet_room()) {
                Ok(length) => self.mode.handle_packet(core, length)?,
                Err(error) => match fault::of_tun(&error) {
                    Fault::WouldBlock => return Ok(Progress::Drained),
                    Fault::Dead => return Err(DeviceError::TunGone(core.name.clone())),
                    Fault::Drop(reason) => {
                        // a device that is going away: its end is told by another event
                        core.count_drop(reason, None);
                        return Ok(Progress::Drained);
                    }
                    Fault::SourceGone => {}
                },
            }
        }
        Ok(Progress::More)
    }
}
