//! What the workers of a tunnel share, whichever protocol it speaks: the timer, the device's state, and how each of them
//! is reached. It is locked together with the mode, for as long as it takes to look something up or to take note of
//! something, or for one handshake message, never while packets of a session are sealed or opened, nor while any is read or
//! written.

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
use crate::counters::{Counters, DropReason, Totals};
use crate::io::mailbox::Local;
use crate::io::signal::Signals;
use crate::io::timer::{Timer, now};
use crate::logging::RateLimit;
use crate::messages::{self, FromTunnel, ToTunnel};
use crate::process::Channel;
use crate::time::Instant;

/// Least time between two lines about the same kind of trouble.
pub(super) const QUIET: Duration = Duration::from_secs(10);

/// The parts of a running tunnel that its mode works with.
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
    /// One for each worker.
    pub(super) counters: Arc<[Counters]>,
    seats: Vec<Seat>,
    /// The worker that holds the lock.
    current: usize,
    /// When its turn began, or a later one's.
    pub(super) now: Instant,
    pub(super) stop: Option<Stop>,
    /// When the tunnel ends although the supervisor has not answered to a signal.
    pub(super) stop_at: Option<(Instant, Signal)>,
    /// What ended a worker.
    pub(super) failure: Option<DeviceError>,
    /// Ended sessions that all workers were woken for.
    ended_sessions: u64,
    pub(super) suspension: Suspension,
    /// Brake on the lines about drops.
    drops: RateLimit,
    own_tun: RateLimit,
}

/// How a worker is reached.
#[derive(Clone, Debug)]
pub(super) struct Seat {
    pub(super) poll: Arc<Poll>,
    /// Wakes it up.
    pub(super) bell: Arc<EventFd>,
    /// What it is to look at.
    pub(super) tokens: Vec<Token>,
}

/// Why a tunnel ends in good order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// The supervisor said so.
    Supervisor,
    /// A signal, upon which the supervisor has not said anything.
    Signal(Signal),
}

/// The device, as the supervisor describes it.
#[derive(Clone, Copy, Debug)]
pub(super) struct LinkView {
    pub(super) index: u32,
    /// In bytes.
    pub(super) mtu: u32,
    pub(super) up: bool,
    /// It was moved to another network namespace.
    pub(super) away: bool,
}

impl LinkView {
    pub(super) const fn new(index: u32, link: messages::Link) -> Self {
        let messages::Link { mtu, is_up, is_away } = link;
        Self { index, mtu, up: is_up, away: is_away }
    }
}

impl Core {
    /// Puts the parts together and registers them with the first of `workers` workers.
    ///
    /// # Errors
    /// The system's.
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

    /// How many workers there are.
    pub(super) fn workers(&self) -> usize {
        self.seats.len()
    }

    /// The worker that holds the lock.
    pub(super) const fn current(&self) -> usize {
        self.current
    }

    /// A worker's seat.
    pub(super) fn seat(&self, worker: usize) -> Option<&Seat> {
        self.seats.get(worker)
    }

    /// `worker` has the lock from now on; its turn began at `now`.
    pub(super) fn enter(&mut self, worker: usize, now: Instant) {
        self.current = worker;
        self.now = self.now.max(now);
    }

    /// What the worker that holds the lock is to look at.
    pub(super) fn take_tokens(&mut self) -> impl Iterator<Item = Token> + '_ {
        self.seats.get_mut(self.current).into_iter().flat_map(|seat| seat.tokens.drain(..))
    }

    /// Has the worker that holds the lock look at `token`.
    pub(super) fn post(&mut self, token: Token) {
        self.post_to(self.current, token);
    }

    /// Has a worker look at `token`.
    pub(super) fn post_to(&mut self, worker: usize, token: Token) {
        let Some(seat) = self.seats.get_mut(worker) else { return };
        seat.tokens.push(token);
        if worker != self.current {
            // the counter's end, at which it would fail, is out of reach
            let _ = seat.bell.write(1);
        }
    }

    /// Asks all workers for a sign of life. To be called by the first worker, which is heard in its own next turn.
    pub(super) fn ask_workers(&mut self) -> Round {
        let round = self.pulse.begin();
        (0..self.workers()).for_each(|worker| self.post_to(worker, Token::Bell));
        round
    }

    /// The worker that holds the lock begins a turn. The first is to look, once there is nobody left to be heard.
    pub(super) fn hear(&mut self) {
        if self.pulse.hear(self.current) {
            self.post_to(0, Token::Health);
        }
    }

    /// Sends a message to the supervisor, or keeps it until there is room. Without a supervisor the
    /// tunnel ends.
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

    /// Wakes all workers, so that each of them overwrites its stack, if there are more ended
    /// sessions than before.
    pub(super) fn note_ended_sessions(&mut self, count: u64) {
        if std::mem::replace(&mut self.ended_sessions, count) != count {
            (0..self.workers()).for_each(|worker| self.post_to(worker, Token::Bell));
        }
    }

    /// Has the workers read sockets that are out of use to their end.
    pub(super) fn drain_last(&mut self, leftovers: impl IntoIterator<Item = Leftover>) {
        for (worker, id) in leftovers {
            self.post_to(worker, Token::Sock(id));
        }
    }

    /// Has a worker's epoll report `fd`.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn register(&self, worker: usize, fd: impl AsFd, token: Token) -> Result<(), DeviceError> {
        let Some(seat) = self.seats.get(worker) else { return Ok(()) };
        seat.poll.add(fd, token).map_err(system("registering a descriptor with epoll"))
    }

    /// As [`Self::register`] with the first worker, also for when `fd` becomes writable.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn register_both(&self, fd: impl AsFd, token: Token) -> Result<(), DeviceError> {
        let Some(seat) = self.seats.first() else { return Ok(()) };
        seat.poll.add_both(fd, token).map_err(system("registering a descriptor with epoll"))
    }

    /// As [`Self::register`] with the first worker, for when `fd` becomes writable only.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn register_writable(&self, fd: impl AsFd, token: Token) -> Result<(), DeviceError> {
        let Some(seat) = self.seats.first() else { return Ok(()) };
        seat.poll.add_writable(fd, token).map_err(system("registering a descriptor with epoll"))
    }

    /// Has the first worker's epoll report nothing more of `fd`, which another process has, too.
    pub(super) fn unregister(&self, fd: impl AsFd) {
        if let Some(seat) = self.seats.first() {
            seat.poll.remove(fd);
        }
    }

    /// Whether a datagram came to `local` by our own tun: one of ours, led astray by a route.
    pub(super) fn came_by_tun(&self, local: Option<Local>) -> bool {
        local.is_some_and(|local| local.interface == self.link.index) && !self.link.away
    }

    /// All that the workers counted.
    pub(super) fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        self.counters.iter().for_each(|counters| totals.add(counters));
        totals
    }

    /// Counts a drop; at debug level also says so, at most once a second.
    pub(super) fn count_drop(&mut self, reason: DropReason, from: Option<SocketAddr>) {
        self.count_drops(reason, 1, from);
    }

    /// Counts so many drops; at debug level also says so, at most once a second.
    pub(super) fn count_drops(&mut self, reason: DropReason, packets: usize, from: Option<SocketAddr>) {
        if let Some(counters) = self.counters.get(self.current) {
            counters.dropped(reason, packets);
        }
        tell_drop(&mut self.drops, self.now, reason, from);
    }

    /// Says about packets from the tun that are datagrams of the tunnel itself what to do about it.
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

/// The line about a drop, at most once in the time that `limit` sets.
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
