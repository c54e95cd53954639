//! The tunnel at work: one thread, one edge-triggered epoll, handlers that drain with a budget.
//!
//! A wake-up puts tokens into the ready set. Each turn serves everyone who waits there once, for at most
//! 64 packets; who has more to give stays in the set, and the next poll does not block. Timers come last
//! in a turn, so that what the handlers made due is done in the same one.

mod data_path;
mod endpoint;
mod housekeeping;
mod poll;
mod ready;
mod sockets;
mod thread_data;
mod token;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use nix::sys::signal::Signal;
use tracing::{info, warn};

use crate::config::{Config, PeerAddress, TunName};
use crate::control::health::HealthListener;
use crate::io::signal::Signals;
use crate::io::timer::{Timer, now};
use crate::io::tun::{Tun, TunError};
use crate::link::{Configured, Link, LinkError, Monitor};
use crate::logging::RateLimit;
use crate::peer::Peer;
use crate::resolver::{Resolver, ResolverError};
use crate::time::Instant;
use crate::tunnel::plain::Role;
use endpoint::{Adoptions, Lookup};
use poll::Poll;
use ready::ReadySet;
use sockets::Sockets;
pub use sockets::SocketsError;
use thread_data::ThreadData;
pub use token::{SockId, Token, UnknownToken};

/// Packets or datagrams that one descriptor may hand over in one turn, junk included.
const BUDGET: usize = 64;

/// Index of the loopback device, by which the kernel routes to each of the host's own addresses.
const LOOPBACK: u32 = 1;

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
enum Progress {
    /// Nothing: the next edge will tell.
    Drained,
    /// Perhaps more: the budget ended first.
    More,
}

/// A running tunnel.
#[derive(Debug)]
pub struct Device {
    config: Config,
    poll: Poll,
    ready: ReadySet,
    thread: ThreadData,
    tun: Tun,
    link: LinkWatch,
    sockets: Sockets,
    timer: Timer,
    signals: Signals,
    health: Option<HealthListener>,
    lookup: Option<Lookup>,
    peer: Peer,
    adoptions: Adoptions,
    /// When this turn began.
    now: Instant,
    stop: Option<Signal>,
    quiet: Quiet,
}

/// The device as the rest of the host sees it.
#[derive(Debug)]
struct LinkWatch {
    link: Link,
    monitor: Monitor,
    index: u32,
    /// What we set, or found.
    mtu: u32,
    up: bool,
    /// It was moved to another network namespace, out of our reach.
    away: bool,
    news: LinkNews,
    /// That it is down was logged, and that it is up again was not yet.
    told_down: bool,
    /// That IPv6 is disabled was logged.
    told_ipv6: bool,
}

/// What the events said that were read so far.
#[derive(Debug, Default)]
struct LinkNews {
    /// There were some.
    any: bool,
    /// The device was down at one of them.
    fell: bool,
}

impl LinkNews {
    const fn push_state(&mut self, up: bool) {
        self.any = true;
        self.fell |= !up;
    }
}

/// Brakes on lines that a network can provoke.
#[derive(Debug)]
struct Quiet {
    drops: RateLimit,
    own_tun: RateLimit,
    connect: RateLimit,
    lookup: RateLimit,
    replaced: RateLimit,
    answered: RateLimit,
    link: RateLimit,
}

impl Device {
    /// Opens everything that needs a privilege, and sets up the device. To be called while the process has one
    /// thread: the resolver process is forked here.
    ///
    /// # Errors
    /// [`DeviceError`], with the remedy.
    pub fn open(config: Config) -> Result<Self, DeviceError> {
        let system = |what| move |source| DeviceError::System { what, source };
        let signals = Signals::open().map_err(system("blocking signals"))?;
        let lookup = match &config.peer {
            Some(PeerAddress::Name { host, port }) => Some(Lookup::new(Resolver::start()?, host, *port)),
            _ => None,
        };
        let sockets = Sockets::open(&config.listen, config.listen_port, config.role() == Role::Client)?;
        let tun = Tun::open(&config.tun)?;
        let mut link = Link::open(config.tun.as_str())?;
        let index = link.index();
        let mut monitor = Monitor::open(index)?;
        let mtu = config.mtu_over(config.is_outer_v4());
        let mut told_ipv6 = false;
        if config.configure {
            let configured = link.configure(&config.addresses, mtu)?;
            warn_ipv6_disabled(&config.tun, &configured, &mut told_ipv6);
        }
        if let Some(peer @ PeerAddress::Socket(address)) = &config.peer
            && link.route_interface(address.ip())? == Some(index)
        {
            return Err(DeviceError::PeerInTunnel { peer: peer.clone(), tun: config.tun });
        }
        if let Some(PeerAddress::Socket(address)) = config.peer
            && address.port() == sockets.port()
            && link.route_interface(address.ip())? == Some(LOOPBACK)
        {
            return Err(DeviceError::PeerIsSelf(address));
        }
        // what was heard of our own doing is no news
        while monitor.poll_event().map_err(system("reading link changes"))?.is_some() {}
        let state = link.state()?;
        let health = match HealthListener::open(&config.tun) {
            Ok(health) => Some(health),
            Err(error) => {
                warn!(%error, "another process sits on the health socket's name: `wontun health` will not work");
                None
            }
        };
        let device = Self {
            poll: Poll::new().map_err(system("making an epoll"))?,
            ready: ReadySet::default(),
            thread: ThreadData::default(),
            tun,
            link: LinkWatch {
                link,
                monitor,
                index,
                mtu: if config.configure { mtu } else { state.mtu },
                up: state.up,
                away: false,
                news: LinkNews::default(),
                told_down: false,
                told_ipv6,
            },
            sockets,
            timer: Timer::new().map_err(system("making a timer"))?,
            signals,
            health,
            lookup,
            peer: Peer::new(&config),
            adoptions: Adoptions::default(),
            now: now().map_err(system("reading the clock"))?,
            stop: None,
            quiet: Quiet {
                drops: RateLimit::new(Duration::from_secs(1)),
                own_tun: RateLimit::new(QUIET * 6),
                connect: RateLimit::new(QUIET),
                lookup: RateLimit::new(QUIET * 6),
                replaced: RateLimit::new(Duration::from_secs(1)),
                answered: RateLimit::new(Duration::from_secs(1)),
                link: RateLimit::new(Duration::from_secs(1)),
            },
            config,
        };
        device.register().map_err(system("registering with epoll"))?;
        Ok(device)
    }

    fn register(&self) -> io::Result<()> {
        self.poll.add(&self.tun, Token::Tun)?;
        self.poll.add(&self.timer, Token::Timer)?;
        self.poll.add(&self.signals, Token::Signals)?;
        self.poll.add(&self.link.monitor, Token::Link)?;
        for (id, socket) in self.sockets.disconnected() {
            self.poll.add(socket, Token::Sock(id))?;
        }
        if let Some(health) = &self.health {
            self.poll.add(health, Token::Health)?;
        }
        if let Some(lookup) = &self.lookup {
            self.poll.add(&lookup.resolver, Token::Resolver)?;
        }
        Ok(())
    }

    /// Carries packets until a signal ends it, and gives that signal.
    ///
    /// # Errors
    /// Only what leaves no tunnel to run: a deleted device, or a failing system.
    pub fn run(&mut self) -> Result<Signal, DeviceError> {
        let role = if self.config.role() == Role::Server { "server" } else { "client" };
        info!(role, tun = %self.config.tun, mtu = self.link.mtu, port = self.sockets.port(), "ready");
        let result = self.carry();
        if let Ok(signal) = result {
            info!(%signal, "stopping");
        }
        self.report_summary();
        result
    }

    fn carry(&mut self) -> Result<Signal, DeviceError> {
        self.start_peer()?;
        loop {
            self.turn()?;
            if let Some(signal) = self.stop {
                return Ok(signal);
            }
        }
    }

    /// One wake-up: collects what is ready, serves everyone once, then does what is due.
    fn turn(&mut self) -> Result<(), DeviceError> {
        let system = |what| move |source| DeviceError::System { what, source };
        self.handle_timeouts()?;
        self.timer.arm(self.deadline()).map_err(system("setting the timer"))?;
        let woken = self.poll.wait(&mut self.thread.events, self.ready.is_empty());
        for token in woken.map_err(system("waiting for events"))? {
            self.ready.insert(token?);
        }
        self.now = now().map_err(system("reading the clock"))?;
        for _ in 0..self.ready.len() {
            let Some(token) = self.ready.pop() else { break };
            if self.handle(token)? == Progress::More {
                self.ready.insert(token);
            }
        }
        Ok(())
    }

    fn handle(&mut self, token: Token) -> Result<Progress, DeviceError> {
        match token {
            Token::Tun => self.drain_tun(),
            Token::Sock(id) => self.drain_socket(id),
            Token::Timer => match self.timer.handle_ring() {
                // the turn's end looks at all deadlines anyway
                Ok(()) => Ok(Progress::Drained),
                Err(source) => Err(DeviceError::System { what: "reading the timer", source }),
            },
            Token::Signals => self.drain_signals(),
            Token::Link => Ok(self.drain_link()),
            Token::Resolver => self.drain_resolver(),
            Token::Health => Ok(self.drain_health()),
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let lookup = self.lookup.as_ref().and_then(|lookup| lookup.again_at);
        [self.peer.engine.poll_timeout(), self.peer.reconnect_at, lookup].into_iter().flatten().min()
    }

    fn handle_timeouts(&mut self) -> Result<(), DeviceError> {
        if self.deadline().is_none_or(|deadline| self.now < deadline) {
            return Ok(());
        }
        if self.lookup.as_ref().and_then(|lookup| lookup.again_at).is_some_and(|at| self.now >= at) {
            self.look_up();
        }
        if self.peer.reconnect_at.is_some_and(|at| self.now >= at) {
            self.reconnect()?;
        }
        self.peer.engine.handle_timeout(self.now);
        self.serve_engine();
        Ok(())
    }
}

/// Warns once, which `told` remembers.
fn warn_ipv6_disabled(tun: &TunName, configured: &Configured, told: &mut bool) {
    let Some(first) = configured.ipv6_disabled.first() else { return };
    if std::mem::replace(told, true) {
        return;
    }
    warn!(
        tun = %tun,
        address = %first,
        "IPv6 is disabled on {tun}, so its IPv6 addresses are not set and IPv4 goes on without them; \
         in Docker add --sysctl net.ipv6.conf.all.disable_ipv6=0, \
         elsewhere run sysctl -w net.ipv6.conf.default.disable_ipv6=0 before starting"
    );
}
