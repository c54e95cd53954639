//! State shared by the workers of a tunnel in either mode: the timer, the device's state, and the
//! handle of each worker. It is locked together with the mode, only for a lookup or an update,
//! never while packets or received handshake messages are encrypted or decrypted, read or written.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::signal::Signal;
use tracing::{debug, enabled, warn};

use super::error::{DaemonError, system};
use super::handshake_signal::HandshakeSignal;
use super::health_requests::HealthRequests;
use super::liveness::{Liveness, ProbeId};
use super::poll::Poll;
use super::sockets::WorkerSocket;
use super::supervisor_connection::SupervisorConnection;
use super::suspension::Suspension;
use super::token::Token;
use crate::config::TunName;
use crate::control::health::HealthListener;
use crate::counters::{Counters, Totals};
use crate::logging::RateLimit;
use crate::messages::{self, FromTunnel, ToTunnel};
use crate::net::recv_buffer::LocalAddress;
use crate::net::signal::Signals;
use crate::net::timer::{Timer, now};
use crate::process::Channel;
use wontun_packet::DropReason;
use wontun_proto::time::Instant;

/// Minimum interval between two log lines of one kind.
pub(super) const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// The mode-independent state of a running tunnel.
#[derive(Debug)]
pub struct Core {
    pub(super) name: TunName,
    pub(super) link: LinkState,
    pub(super) supervisor: SupervisorConnection,
    pub(super) timer: Timer,
    pub(super) signals: Signals,
    pub(super) health: Option<HealthListener>,
    pub(super) health_requests: HealthRequests,
    pub(super) liveness: Liveness,
    /// Handshake messages that wait for their thread.
    pub(super) handshakes: HandshakeSignal,
    /// Counters of each worker, and of the thread for handshakes.
    pub(super) counters: Arc<[Counters]>,
    workers: Vec<WorkerHandle>,
    /// Number of the worker that holds the lock.
    current: usize,
    /// Start of the current turn; never goes backwards.
    pub(super) now: Instant,
    /// True once the mode was started.
    pub(super) is_started: bool,
    pub(super) stop: Option<StopReason>,
    /// Time at which the tunnel ends after this signal even if the supervisor has not answered.
    pub(super) stop_at: Option<(Instant, Signal)>,
    /// State of which the workers have a copy: number of changes of the sockets, and the device.
    pub(super) viewed: Option<(u64, LinkState)>,
    /// Error that ended a worker.
    pub(super) failure: Option<DaemonError>,
    /// Number of ended sessions for which all workers were woken.
    ended_sessions: u64,
    pub(super) suspension: Suspension,
    /// Rate limit of the log lines about drops.
    drop_log: RateLimit,
    routing_loop_log: RateLimit,
}

/// Handle of a worker.
#[derive(Clone, Debug)]
pub(super) struct WorkerHandle {
    pub(super) poll: Arc<Poll>,
    /// Wake eventfd of the worker.
    pub(super) wake: Arc<EventFd>,
    /// Tokens posted to the worker.
    pub(super) tokens: Vec<Token>,
    /// False if a socket was full when the worker had the lock last.
    pub(super) has_room: bool,
}

/// Reason of an orderly end of the tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StopReason {
    /// The supervisor requested it.
    Supervisor,
    /// A signal, to which the supervisor has not responded.
    Signal(Signal),
    /// The supervisor requested the sessions for another process.
    HandOver,
}

/// State of the device, as reported by the supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LinkState {
    pub(super) index: u32,
    /// In bytes.
    pub(super) mtu: u32,
    pub(super) is_up: bool,
    /// True if it was moved to another network namespace.
    pub(super) is_in_other_netns: bool,
}

impl LinkState {
    pub(super) const fn new(index: u32, link: messages::DeviceState) -> Self {
        let messages::DeviceState { mtu, is_up, is_in_other_netns } = link;
        Self { index, mtu, is_up, is_in_other_netns }
    }

    /// As [`Core::is_from_own_tun`].
    pub(super) fn is_own_tun(&self, local: Option<LocalAddress>) -> bool {
        local.is_some_and(|local| local.interface == self.index) && !self.is_in_other_netns
    }
}

impl Core {
    /// Creates the state for `workers` workers, and for the thread for handshakes if there is one,
    /// and registers its descriptors with the first worker.
    ///
    /// # Errors
    /// An error of the system.
    pub(super) fn open(
        name: TunName,
        workers: usize,
        has_handshakes: bool,
        link: LinkState,
        supervisor: Channel<ToTunnel, FromTunnel>,
        health: Option<HealthListener>,
    ) -> Result<Self, DaemonError> {
        let handles = (0..workers).map(|_| WorkerHandle::new()).collect::<io::Result<_>>();
        let core = Self {
            name,
            link,
            viewed: None,
            timer: Timer::new().map_err(system("creating a timer"))?,
            signals: Signals::open().map_err(system("blocking signals"))?,
            supervisor: SupervisorConnection::new(supervisor),
            health,
            health_requests: HealthRequests::default(),
            liveness: Liveness::new(workers + usize::from(has_handshakes)),
            handshakes: HandshakeSignal::default(),
            counters: (0..=workers).map(|_| Counters::default()).collect(),
            workers: handles.map_err(system("creating an epoll instance"))?,
            current: 0,
            now: now().map_err(system("reading the clock"))?,
            is_started: false,
            stop: None,
            stop_at: None,
            failure: None,
            ended_sessions: 0,
            suspension: Suspension::new().map_err(system("reading the clock"))?,
            drop_log: RateLimit::new(Duration::from_secs(1)),
            routing_loop_log: RateLimit::new(LOG_INTERVAL * 6),
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
    pub(super) fn worker_count(&self) -> usize {
        self.workers.len()
    }

    /// Returns the number of the worker that holds the lock.
    pub(super) const fn current(&self) -> usize {
        self.current
    }

    /// Returns the handle of a worker.
    pub(super) fn worker_handle(&self, worker: usize) -> Option<&WorkerHandle> {
        self.workers.get(worker)
    }

    /// Records that `worker` took the lock, in a turn that began at `now`.
    pub(super) fn set_current(&mut self, worker: usize, now: Instant) {
        self.current = worker;
        self.now = self.now.max(now);
    }

    /// Takes the tokens posted to the worker that holds the lock.
    pub(super) fn take_tokens(&mut self) -> impl Iterator<Item = Token> + '_ {
        self.workers.get_mut(self.current).into_iter().flat_map(|handle| handle.tokens.drain(..))
    }

    /// Posts `token` to the worker that holds the lock.
    pub(super) fn post(&mut self, token: Token) {
        self.post_to(self.current, token);
    }

    /// Posts `token` to a worker and wakes it.
    pub(super) fn post_to(&mut self, worker: usize, token: Token) {
        let Some(handle) = self.workers.get_mut(worker) else { return };
        handle.tokens.push(token);
        if worker != self.current {
            // the counter cannot reach its maximum, at which the write would fail
            let _ = handle.wake.write(1);
        }
    }

    /// Records whether the worker that holds the lock can send.
    pub(super) fn set_has_room(&mut self, has_room: bool) {
        if let Some(handle) = self.workers.get_mut(self.current) {
            handle.has_room = has_room;
        }
    }

    /// Makes another worker that can send, if there is one, send what waits for the mode.
    pub(super) fn pass_on_transmit(&mut self) {
        let Some(other) = self.workers.iter().position(|handle| handle.has_room) else { return };
        if self.workers.get(other).is_some_and(|handle| !handle.tokens.contains(&Token::Transmit)) {
            self.post_to(other, Token::Transmit);
        }
    }

    /// Sends a liveness probe to all workers and the thread for handshakes, and returns its number.
    /// Must be called by the first worker, which responds in its own next turn.
    pub(super) fn probe_threads(&mut self) -> ProbeId {
        let probe = self.liveness.start_probe();
        (0..self.worker_count()).for_each(|worker| self.post_to(worker, Token::Wake));
        self.handshakes.post();
        probe
    }

    /// Records a turn of the thread that holds the lock as its response. When all have responded,
    /// the first worker is woken to answer the health requests.
    pub(super) fn record_response(&mut self) {
        if self.liveness.record_response(self.current) {
            self.post_to(0, Token::Health);
        }
    }

    /// Records an error that ends the tunnel.
    pub(super) fn fail(&mut self, error: DaemonError) {
        self.failure.get_or_insert(error);
        self.post_to(0, Token::Wake);
    }

    /// Sends a message to the supervisor, or queues it while the socket is full. Ends the tunnel if
    /// there is no supervisor any more.
    pub(super) fn send(&mut self, message: &FromTunnel) {
        if let Err(error) = self.supervisor.channel.send(message, Vec::new()) {
            self.fail(error.into());
        }
    }

    /// Sends a liveness probe to the supervisor and returns its number.
    pub(super) fn probe_supervisor(&mut self) -> u64 {
        self.supervisor.sent_probe += 1;
        let number = self.supervisor.sent_probe;
        self.send(&FromTunnel::Probe(number));
        number
    }

    /// Requests the number of packets that rules have denied, which the kernel counts, and returns
    /// the request's number; `None` without rules.
    pub(super) fn count_denied(&mut self) -> Option<u64> {
        self.supervisor.host.denied?;
        self.supervisor.sent_count += 1;
        let number = self.supervisor.sent_count;
        self.send(&FromTunnel::CountDenied(number));
        Some(number)
    }

    /// Wakes all workers, so that each overwrites its stack, if more sessions have ended than
    /// before.
    pub(super) fn wake_for_ended_sessions(&mut self, count: u64) {
        if std::mem::replace(&mut self.ended_sessions, count) != count {
            (0..self.worker_count()).for_each(|worker| self.post_to(worker, Token::Wake));
        }
    }

    /// Makes the workers drain sockets that are no longer used.
    pub(super) fn drain_sockets(&mut self, draining: impl IntoIterator<Item = WorkerSocket>) {
        for (worker, id) in draining {
            self.post_to(worker, Token::Socket(id));
        }
    }

    /// Registers `fd` with the epoll of a worker.
    ///
    /// # Errors
    /// An error of the system.
    pub(super) fn register(&self, worker: usize, fd: impl AsFd, token: Token) -> Result<(), DaemonError> {
        let Some(handle) = self.workers.get(worker) else { return Ok(()) };
        handle.poll.add(fd, token).map_err(system("registering a descriptor with epoll"))
    }

    /// Like [`Self::register`] with the first worker, also for when `fd` becomes writable.
    ///
    /// # Errors
    /// An error of the system.
    pub(super) fn register_both(&self, fd: impl AsFd, token: Token) -> Result<(), DaemonError> {
        let Some(handle) = self.workers.first() else { return Ok(()) };
        handle.poll.add_both(fd, token).map_err(system("registering a descriptor with epoll"))
    }

    /// Like [`Self::register`] with the first worker, only for when `fd` becomes writable.
    ///
    /// # Errors
    /// An error of the system.
    pub(super) fn register_writable(&self, fd: impl AsFd, token: Token) -> Result<(), DaemonError> {
        let Some(handle) = self.workers.first() else { return Ok(()) };
        handle.poll.add_writable(fd, token).map_err(system("registering a descriptor with epoll"))
    }

    /// Removes `fd`, which another process has open too, from the epoll of the first worker.
    pub(super) fn unregister(&self, fd: impl AsFd) {
        if let Some(handle) = self.workers.first() {
            handle.poll.remove(fd);
        }
    }

    /// Returns true if a datagram came to `local` through the tunnel's own tun: it is one of this
    /// host, sent there by a wrong route.
    pub(super) fn is_from_own_tun(&self, local: Option<LocalAddress>) -> bool {
        self.link.is_own_tun(local)
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
            counters.count_drops(reason, packets);
        }
        log_drop(&mut self.drop_log, self.now, reason, from);
    }

    /// Warns of a routing loop: packets from the tun are datagrams of the tunnel itself.
    pub(super) fn warn_routing_loop(&mut self) {
        if let Some(suppressed) = self.routing_loop_log.allow(self.now) {
            let tun = &self.name;
            warn!(
                suppressed,
                "routing loop: the route to the peer points to {tun} itself; add a route to the peer's address outside the tunnel (ip route add ADDRESS via GATEWAY)"
            );
        }
    }
}

/// Logs a drop at debug level, within the rate limit.
pub(super) fn log_drop(limit: &mut RateLimit, now: Instant, reason: DropReason, from: Option<SocketAddr>) {
    if enabled!(tracing::Level::DEBUG)
        && let Some(suppressed) = limit.allow(now)
    {
        let from = from.map(tracing::field::display);
        debug!(reason = reason.name(), from, suppressed, "dropped");
    }
}

impl WorkerHandle {
    fn new() -> io::Result<Self> {
        let wake = EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?;
        let poll = Poll::new()?;
        poll.add(&wake, Token::Wake)?;
        Ok(Self {
            poll: Arc::new(poll),
            wake: Arc::new(wake),
            tokens: Vec::with_capacity(16),
            has_room: true,
        })
    }
}
