//! State shared by the workers of a tunnel in either mode: the timer, the device's state, and the
//! handle of each worker. It is locked together with the mode, only for a lookup, for an update or
//! for one handshake message, never while data packets are encrypted or decrypted, read or written.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::signal::Signal;
use tracing::{debug, enabled, warn};

use super::checkup::Checkup;
use super::connection::Supervisor;
use super::error::{DeviceError, system};
use super::poll::Poll;
use super::pulse::{Pulse, Round};
use super::sockets::Leftover;
use super::suspension::Suspension;
use super::token::Token;
use crate::config::TunName;
use crate::control::health::HealthListener;
use crate::counters::{Counters, Totals};
use crate::logging::RateLimit;
use crate::messages::{self, FromTunnel, ToTunnel};
use crate::net::recv_buffer::Local;
use crate::net::signal::Signals;
use crate::net::timer::{Timer, now};
use crate::process::Channel;
use wontun_packet::DropReason;
use wontun_proto::time::Instant;

/// Minimum interval between two log lines of one kind.
pub(super) const QUIET: Duration = Duration::from_secs(10);

/// The mode-independent state of a running tunnel.
#[derive(Debug)]
pub struct Core {
    pub(super) name: TunName,
    pub(super) link: LinkView,
    pub(super) supervisor: Supervisor,
    pub(super) timer: Timer,
    pub(super) signals: Signals,
    pub(super) health: Option<HealthListener>,
    pub(super) checkup: Checkup,
    pub(super) pulse: Pulse,
    /// Counters of each worker.
    pub(super) counters: Arc<[Counters]>,
    seats: Vec<Seat>,
    /// Number of the worker that holds the lock.
    current: usize,
    /// Start of the current turn; never goes backwards.
    pub(super) now: Instant,
    pub(super) stop: Option<Stop>,
    /// Time at which the tunnel ends after this signal even if the supervisor has not answered.
    pub(super) stop_at: Option<(Instant, Signal)>,
    /// Error that ended a worker.
    pub(super) failure: Option<DeviceError>,
    /// Number of ended sessions for which all workers were woken.
    ended_sessions: u64,
    pub(super) suspension: Suspension,
    /// Rate limit of the log lines about drops.
    drops: RateLimit,
    own_tun: RateLimit,
}

/// Handle of a worker.
#[derive(Clone, Debug)]
pub(super) struct Seat {
    pub(super) poll: Arc<Poll>,
    /// Wake eventfd of the worker.
    pub(super) bell: Arc<EventFd>,
    /// Tokens posted to the worker.
    pub(super) tokens: Vec<Token>,
}

/// Reason of an orderly end of the tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// The supervisor requested it.
    Supervisor,
    /// A signal, to which the supervisor has not responded.
    Signal(Signal),
}

/// State of the device, as reported by the supervisor.
#[derive(Clone, Copy, Debug)]
pub(super) struct LinkView {
    pub(super) index: u32,
    /// In bytes.
    pub(super) mtu: u32,
    pub(super) up: bool,
    /// True if it was moved to another network namespace.
    pub(super) away: bool,
}

impl LinkView {
    pub(super) const fn new(index: u32, link: messages::Link) -> Self {
        let messages::Link { mtu, is_up, is_away } = link;
        Self { index, mtu, up: is_up, away: is_away }
    }
}

impl Core {
    /// Creates the state for `workers` workers and registers its descriptors with the first of
    /// them.
    ///
    /// # Errors
    /// An error of the system.
    pub(super) fn open(
        name: TunName,
        workers: usize,
        link: LinkView,
        supervisor: Channel<ToTunnel, FromTunnel>,
        health: Option<HealthListener>,
    ) -> Result<Self, DeviceError> {
        let seats = (0..workers).map(|_| Seat::new()).collect::<io::Result<_>>();
        let core = Self {
            name,
            link,
            timer: Timer::new().map_err(system("making a timer"))?,
            signals: Signals::open().map_err(system("blocking signals"))?,
            supervisor: Supervisor::new(supervisor),
            health,
            checkup: Checkup::default(),
            pulse: Pulse::new(workers),
            counters: (0..workers).map(|_| Counters::default()).collect(),
            seats: seats.map_err(system("making an epoll"))?,
            current: 0,
            now: now().map_err(system("reading the clock"))?,
            stop: None,
            stop_at: None,
            failure: None,
            ended_sessions: 0,
            suspension: Suspension::new().map_err(system("reading the clock"))?,
            drops: RateLimit::new(Duration::from_secs(1)),
            own_tun: RateLimit::new(QUIET * 6),
        };
        core.register(0, &core.timer, Token::Timer)?;
        core.register(0, &core.signals, Token::Signals)?;
        core.register_both(core.supervisor.channel.as_fd(), Token::Supervisor)?;
        if let Some(health) = &core.health {
            core.register(0, health, Token::Health)?;
        }
        Ok(core)
    }

    /// Returns the number of workers.
    pub(super) fn workers(&self) -> usize {
        self.seats.len()
    }

    /// Returns the number of the worker that holds the lock.
    pub(super) const fn current(&self) -> usize {
        self.current
    }

    /// Returns the handle of a worker.
    pub(super) fn seat(&self, worker: usize) -> Option<&Seat> {
        self.seats.get(worker)
    }

    /// Records that `worker` took the lock, in a turn that began at `now`.
    pub(super) fn enter(&mut self, worker: usize, now: Instant) {
        self.current = worker;
        self.now = self.now.max(now);
    }

    /// Takes the tokens posted to the worker that holds the lock.
    pub(super) fn take_tokens(&mut self) -> impl Iterator<Item = Token> + '_ {
        self.seats.get_mut(self.current).into_iter().flat_map(|seat| seat.tokens.drain(..))
    }

    /// Posts `token` to the worker that holds the lock.
    pub(super) fn post(&mut self, token: Token) {
        self.post_to(self.current, token);
    }

    /// Posts `token` to a worker and wakes it.
    pub(super) fn post_to(&mut self, worker: usize, token: Token) {
        let Some(seat) = self.seats.get_mut(worker) else { return };
        seat.tokens.push(token);
        if worker != self.current {
            // the counter cannot reach its maximum, at which the write would fail
            let _ = seat.bell.write(1);
        }
    }

    /// Starts a round of liveness probes to all workers. Must be called by the first worker, which
    /// responds in its own next turn.
    pub(super) fn ask_workers(&mut self) -> Round {
        let round = self.pulse.begin();
        (0..self.workers()).for_each(|worker| self.post_to(worker, Token::Bell));
        round
    }

    /// Records a turn of the worker that holds the lock as its response. When all workers have
    /// responded, the first one is woken to answer the health requests.
    pub(super) fn hear(&mut self) {
        if self.pulse.hear(self.current) {
            self.post_to(0, Token::Health);
        }
    }

    /// Sends a message to the supervisor, or queues it while the socket is full. Ends the tunnel if
    /// there is no supervisor any more.
    pub(super) fn send(&mut self, message: &FromTunnel) {
        if let Err(error) = self.supervisor.channel.send(message, Vec::new()) {
            self.failure.get_or_insert(error.into());
            self.post_to(0, Token::Bell);
        }
    }

    /// Sends a liveness probe to the supervisor and returns its number.
    pub(super) fn probe_supervisor(&mut self) -> u64 {
        self.supervisor.sent_probe += 1;
        let number = self.supervisor.sent_probe;
        self.send(&FromTunnel::Probe(number));
        number
    }

    /// Wakes all workers, so that each overwrites its stack, if more sessions have ended than
    /// before.
    pub(super) fn note_ended_sessions(&mut self, count: u64) {
        if std::mem::replace(&mut self.ended_sessions, count) != count {
            (0..self.workers()).for_each(|worker| self.post_to(worker, Token::Bell));
        }
    }

    /// Makes the workers drain sockets that are no longer used.
    pub(super) fn drain_last(&mut self, leftovers: impl IntoIterator<Item = Leftover>) {
        for (worker, id) in leftovers {
            self.post_to(worker, Token::Sock(id));
        }
    }

    /// Registers `fd` with the epoll of a worker.
    ///
    /// # Errors
    /// An error of the system.
    pub(super) fn register(&self, worker: usize, fd: impl AsFd, token: Token) -> Result<(), DeviceError> {
        let Some(seat) = self.seats.get(worker) else { return Ok(()) };
        seat.poll.add(fd, token).map_err(system("registering a descriptor with epoll"))
    }

    /// Like [`Self::register`] with the first worker, also for when `fd` becomes writable.
    ///
    /// # Errors
    /// An error of the system.
    pub(super) fn register_both(&self, fd: impl AsFd, token: Token) -> Result<(), DeviceError> {
        let Some(seat) = self.seats.first() else { return Ok(()) };
        seat.poll.add_both(fd, token).map_err(system("registering a descriptor with epoll"))
    }

    /// Like [`Self::register`] with the first worker, only for when `fd` becomes writable.
    ///
    /// # Errors
    /// An error of the system.
    pub(super) fn register_writable(&self, fd: impl AsFd, token: Token) -> Result<(), DeviceError> {
        let Some(seat) = self.seats.first() else { return Ok(()) };
        seat.poll.add_writable(fd, token).map_err(system("registering a descriptor with epoll"))
    }

    /// Removes `fd`, which another process has open too, from the epoll of the first worker.
    pub(super) fn unregister(&self, fd: impl AsFd) {
        if let Some(seat) = self.seats.first() {
            seat.poll.remove(fd);
        }
    }

    /// Returns true if a datagram came to `local` through the tunnel's own tun: it is one of this
    /// host, sent there by a wrong route.
    pub(super) fn came_by_tun(&self, local: Option<Local>) -> bool {
        local.is_some_and(|local| local.interface == self.link.index) && !self.link.away
    }

    /// Returns the sum of the workers' counters.
    pub(super) fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        self.counters.iter().for_each(|counters| totals.add(counters));
        totals
    }

    /// Counts a drop; at debug level also logs it, at most once per second.
    pub(super) fn count_drop(&mut self, reason: DropReason, from: Option<SocketAddr>) {
        self.count_drops(reason, 1, from);
    }

    /// Counts several drops; at debug level also logs them, at most once per second.
    pub(super) fn count_drops(&mut self, reason: DropReason, packets: usize, from: Option<SocketAddr>) {
        if let Some(counters) = self.counters.get(self.current) {
            counters.dropped(reason, packets);
        }
        tell_drop(&mut self.drops, self.now, reason, from);
    }

    /// Warns that packets from the tun are datagrams of the tunnel itself, and tells how to fix it.
    pub(super) fn warn_own_datagram(&mut self) {
        if let Some(suppressed) = self.own_tun.allow(self.now) {
            let tun = &self.name;
            warn!(
                suppressed,
                "the route to the peer leads into {tun} itself: add a route to the peer's address past the tunnel (ip route add ADDRESS via GATEWAY)"
            );
        }
    }
}

/// Logs a drop at debug level, within the rate limit.
pub(super) fn tell_drop(limit: &mut RateLimit, now: Instant, reason: DropReason, from: Option<SocketAddr>) {
    if enabled!(tracing::Level::DEBUG)
        && let Some(suppressed) = limit.allow(now)
    {
        let from = from.map(tracing::field::display);
        debug!(reason = reason.name(), from, suppressed, "dropped");
    }
}

impl Seat {
    fn new() -> io::Result<Self> {
        let bell = EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?;
        let poll = Poll::new()?;
        poll.add(&bell, Token::Bell)?;
        Ok(Self { poll: Arc::new(poll), bell: Arc::new(bell), tokens: Vec::with_capacity(16) })
    }
}
