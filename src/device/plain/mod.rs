//! Plain mode: one peer, whose packets are datagrams as they are. Where it is, is in `endpoint`; what goes to and
//! fro, in `data_path`.

mod data_path;
mod endpoint;

use std::net::IpAddr;
use std::time::Duration;

use tracing::info;

use super::core::{Core, LinkWatch, system};
use super::sockets::Sockets;
use super::{Device, DeviceError, Mode, Progress, QUIET, Token};
use crate::config::{Config, PeerAddress};
use crate::io::signal::Signals;
use crate::io::tun::Tun;
use crate::logging::RateLimit;
use crate::resolver::Resolver;
use crate::time::Instant;
use crate::tunnel::plain::{Plain, Role};
use endpoint::{Adoptions, Lookup};

/// Index of the loopback device, by which the kernel routes to each of the host's own addresses.
const LOOPBACK: u32 = 1;

/// A tunnel in plain mode.
#[derive(Debug)]
pub struct PlainTunnel {
    config: Config,
    sockets: Sockets<()>,
    lookup: Option<Lookup>,
    engine: Plain,
    /// Bytes of the packet that the socket had no room for; the tun is not read until they are sent.
    unsent: Option<usize>,
    /// When to connect anew, once the way to the peer or our own address was lost.
    reconnect_at: Option<Instant>,
    /// When the peer's socket was last made, or tried.
    connected_at: Option<Instant>,
    adoptions: Adoptions,
    quiet: Quiet,
}

/// Brakes on lines that a network can provoke.
#[derive(Debug)]
struct Quiet {
    connect: RateLimit,
    lookup: RateLimit,
    replaced: RateLimit,
    answered: RateLimit,
}

impl Device<PlainTunnel> {
    /// Opens everything that needs a privilege, and sets up the device. To be called while the process has one
    /// thread: the resolver process is forked here.
    ///
    /// # Errors
    /// [`DeviceError`], with the remedy.
    pub fn open(config: Config) -> Result<Self, DeviceError> {
        let signals = Signals::open().map_err(system("blocking signals"))?;
        let lookup = match &config.peer {
            Some(PeerAddress::Name { host, port }) => Some(Lookup::new(Resolver::start()?, host, *port)),
            _ => None,
        };
        let sockets = Sockets::open(&config.listen, config.listen_port, config.role() == Role::Client)?;
        let tun = Tun::open(&config.tun)?;
        let mut link = LinkWatch::open(&config.tun)?;
        link.configured = config.configure;
        if config.configure {
            let configured = link.link.configure(&config.addresses, config.mtu_over(config.is_outer_v4()))?;
            link.warn_ipv6_disabled(&configured);
        }
        if let Some(peer @ PeerAddress::Socket(address)) = &config.peer {
            let interface = link.link.route_interface(address.ip())?;
            if interface == Some(link.index) {
                return Err(DeviceError::PeerInTunnel { peer: peer.clone(), tun: config.tun });
            }
            if address.port() == sockets.port() && interface == Some(LOOPBACK) {
                return Err(DeviceError::PeerIsSelf(*address));
            }
        }
        link.settle()?;
        let core = Core::open(config.tun.clone(), tun, link, signals)?;
        for (id, socket) in sockets.disconnected() {
            core.poll.add(socket, Token::Sock(id)).map_err(system("registering a socket"))?;
        }
        if let Some(lookup) = &lookup {
            core.poll.add(&lookup.resolver, Token::Resolver).map_err(system("registering the resolver"))?;
        }
        let mode = PlainTunnel {
            engine: Plain::new(config.role(), config.keepalive),
            config,
            sockets,
            lookup,
            unsent: None,
            reconnect_at: None,
            connected_at: None,
            adoptions: Adoptions::default(),
            quiet: Quiet {
                connect: RateLimit::new(QUIET),
                lookup: RateLimit::new(QUIET * 6),
                replaced: RateLimit::new(Duration::from_secs(1)),
                answered: RateLimit::new(Duration::from_secs(1)),
            },
        };
        Ok(Self { core, mode })
    }
}

impl Mode for PlainTunnel {
    fn start(&mut self, core: &mut Core) -> Result<(), DeviceError> {
        let role = if self.config.role() == Role::Server { "server" } else { "client" };
        info!(role, tun = %core.name, mtu = core.link.mtu, port = self.sockets.port(), "ready");
        self.start_peer(core)
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
            Token::Resolver => self.drain_resolver(core),
            _ => Ok(Progress::Drained),
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let lookup = self.lookup.as_ref().and_then(|lookup| lookup.again_at);
        [self.engine.poll_timeout(), self.reconnect_at, lookup].into_iter().flatten().min()
    }

    fn handle_timeouts(&mut self, core: &mut Core) -> Result<(), DeviceError> {
        if self.lookup.as_ref().and_then(|lookup| lookup.again_at).is_some_and(|at| core.now >= at) {
            self.look_up(core);
        }
        if self.reconnect_at.is_some_and(|at| core.now >= at) {
            self.reconnect(core)?;
        }
        self.engine.handle_timeout(core.now);
        self.serve_engine(core);
        Ok(())
    }

    fn reload(&mut self, _: &mut Core) -> Result<(), DeviceError> {
        info!("SIGHUP: there is no file to read again in plain mode");
        Ok(())
    }

    fn handle_link(&mut self, _: &mut Core, _: bool) -> Result<(), DeviceError> {
        Ok(())
    }

    fn handle_address_lost(&mut self, core: &mut Core, address: IpAddr) -> Result<(), DeviceError> {
        if self.sockets.connected(()).is_some_and(|connected| connected.local == Some(address)) {
            self.schedule_reconnect(core);
        }
        Ok(())
    }

    fn handshake_age(&self, _: Instant) -> Option<Duration> {
        None
    }

    fn lost_packets(&self) -> u64 {
        0
    }
}
