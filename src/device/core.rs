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
use super::poll::Poll;
use super::pulse::Pulse;
use super::service::Service;
use super::sockets::Leftover;
use super::suspension::Suspension;
use super::{DeviceError, QUIET, Token};
use crate::config::TunName;
use crate::control::health::HealthListener;
use crate::counters::{Counters, DropReason, Totals};
use crate::io::batch::{MAX_MESSAGE, MAX_SEGMENTS_OF_MESSAGE};
use crate::io::mailbox::Local;
use crate::io::signal::Signals;
use crate::io::timer::{Timer, now};
use crate::link::{Configured, Link, LinkError, LinkState, Monitor};
use crate::logging::RateLimit;
use crate::time::Instant;

/// With an MTU of less bytes the kernel takes IPv6 off a device, with all that belongs to it.
pub(super) const IPV6_MIN_MTU: u32 = 1280;

/// The parts of a running tunnel that its mode works with.
#[derive(Debug)]
pub struct Core {
    pub(super) name: TunName,
    pub(super) link: LinkWatch,
    pub(super) timer: Timer,
    pub(super) signals: Signals,
    pub(super) health: Option<HealthListener>,
    pub(super) checkup: Checkup,
    pub(super) pulse: Pulse,
    pub(super) service: Service,
    /// One for each worker.
    pub(super) counters: Arc<[Counters]>,
    seats: Vec<Seat>,
    /// The worker that holds the lock.
    current: usize,
    /// When its turn began, or a later one's.
    pub(super) now: Instant,
    pub(super) stop: Option<Stop>,
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
    /// Somebody said so.
    Signal(Signal),
    /// Somebody took away the socket that wg(8) talks to, which is how that is said without a signal.
    SocketRemoved,
}

/// The device as the rest of the host sees it.
#[derive(Debug)]
pub(super) struct LinkWatch {
    pub(super) link: Link,
    pub(super) monitor: Monitor,
    pub(super) index: u32,
    /// Whether its addresses, MTU and state are ours to set.
    pub(super) configured: bool,
    /// What we set, or found, in bytes.
    pub(super) mtu: u32,
    /// Bytes that a datagram has besides its packet, where super-packets are to fit messages.
    pub(super) fits: Option<u32>,
    pub(super) up: bool,
    /// It was moved to another network namespace, out of our reach.
    pub(super) away: bool,
    pub(super) news: LinkNews,
    /// That it is down was logged, and that it is up again was not yet.
    pub(super) told_down: bool,
    /// That IPv6 is disabled was logged.
    pub(super) told_ipv6: bool,
    /// Brake on the lines about it.
    pub(super) quiet: RateLimit,
}

/// What the events said that were read so far.
#[derive(Debug, Default)]
pub(super) struct LinkNews {
    /// There were some.
    pub(super) any: bool,
    /// The device was down at one of them.
    pub(super) fell: bool,
    /// Its MTU was less than [`IPV6_MIN_MTU`] at one of them.
    pub(super) shrank: bool,
    /// Routes of wontun's or policy rules were deleted, by whomever.
    pub(super) routing_lost: bool,
    /// Addresses of other devices, or settings such as forwarding, were changed.
    pub(super) host_changed: bool,
}

impl LinkNews {
    pub(super) const fn push_state(&mut self, state: LinkState) {
        self.any = true;
        self.fell |= !state.up;
        self.shrank |= state.mtu < IPV6_MIN_MTU;
    }
}

/// Turns a call's error into one that says what was tried.
pub(super) fn system(what: &'static str) -> impl Fn(io::Error) -> DeviceError {
    move |source| DeviceError::System { what, source }
}

/// Packets that wait in a queue of the device: its driver's usual number. While a socket has no room they are held here,
/// and a burst of some hundred has to be.
const QUEUE: u32 = 500;
/// The same where packets come one by one. A single worker reads them then, while all write: what they write is answered
/// faster than it is read, and with 500 a burst of a thousand answers lost some. It is what other devices have; twice of
/// it doubles the ping under load.
const PLAIN_QUEUE: u32 = 1_000;
/// What TCP leaves free of the size that it is told (`MAX_TCP_HEADER` and one).
const TCP_RESERVE: u32 = 321;
/// Bytes of the usual headers of a segment inside: IPv4, TCP with time stamps.
const SEGMENT_HEADERS: u32 = 52;
/// The kernel's own bound (`GSO_LEGACY_MAX_SIZE`).
const MAX_SUPER_PACKET: u32 = 65_536;

/// The size of a super-packet whose segments, each with `overhead`, are the most that one message holds.
fn super_packet(mtu: u32, overhead: u32) -> u32 {
    let segments = u32::try_from(MAX_MESSAGE).unwrap_or(u32::MAX) / (mtu + overhead).max(1);
    let segments = segments.clamp(1, u32::try_from(MAX_SEGMENTS_OF_MESSAGE).unwrap_or(1));
    (segments * mtu.saturating_sub(SEGMENT_HEADERS) + TCP_RESERVE).min(MAX_SUPER_PACKET)
}

/// Returns true if this host forwards packets of either family that come in by the device called
/// `name`.
fn forwards(name: &str) -> bool {
    let own_v4 = format!("/proc/sys/net/ipv4/conf/{name}/forwarding");
    let own_v6 = format!("/proc/sys/net/ipv6/conf/{name}/force_forwarding");
    let all_v4 = "/proc/sys/net/ipv4/ip_forward";
    [all_v4, "/proc/sys/net/ipv6/conf/all/forwarding", &own_v4, &own_v6]
        .into_iter()
        // a host that does not tell may
        .any(|path| std::fs::read_to_string(path).map_or(path == all_v4, |text| text.trim() != "0"))
}

impl LinkWatch {
    /// Finds the device and listens to its changes.
    ///
    /// # Errors
    /// Netlink is unavailable.
    pub(super) fn open(name: &TunName) -> Result<Self, LinkError> {
        let link = Link::open(name.as_str())?;
        let index = link.index();
        Ok(Self {
            link,
            monitor: Monitor::open(index)?,
            index,
            configured: false,
            mtu: 0,
            fits: None,
            up: false,
            away: false,
            news: LinkNews::default(),
            told_down: false,
            told_ipv6: false,
            quiet: RateLimit::new(Duration::from_secs(1)),
        })
    }

    /// Takes note of how the device is now. What was heard of our own doing is no news.
    ///
    /// # Errors
    /// The device is gone, or netlink fails.
    pub(super) fn settle(&mut self) -> Result<(), DeviceError> {
        while self.monitor.poll_event().map_err(system("reading link changes"))?.is_some() {}
        let state = self.link.state()?;
        (self.mtu, self.up) = (state.mtu, state.up);
        Ok(())
    }

    /// From now on, the kernel builds super-packets as large as one message of datagrams, each `overhead` bytes longer than
    /// its packet, and the device's queue holds so many of them.
    pub(super) fn fit_queue(&mut self, overhead: usize) {
        self.fits = u32::try_from(overhead).ok();
        self.set_queue_len(QUEUE);
        self.fit_super_packets();
    }

    /// The device gives packets one by one: its queue holds so many more of them.
    pub(super) fn fit_plain_queue(&mut self) {
        self.set_queue_len(PLAIN_QUEUE);
    }

    fn set_queue_len(&mut self, packets: u32) {
        if let Err(error) = self.link.set_queue_len(packets) {
            debug!(%error, "the queue is as long as it was");
        }
    }

    /// Fits super-packets to the MTU. A host that forwards keeps the kernel's bound: what its other devices have joined is
    /// often larger, and would be cut before it comes here.
    pub(super) fn fit_super_packets(&mut self) {
        let Some(overhead) = self.fits.filter(|_| !self.away && !forwards(self.link.name())) else { return };
        let fitted = self.link.set_gso_max_size(super_packet(self.mtu, overhead));
        debug!(?fitted, "super-packets fit the MTU");
    }

    /// Warns once about addresses that could not be set.
    pub(super) fn warn_ipv6_disabled(&mut self, configured: &Configured) {
        let Some(first) = configured.ipv6_disabled.first() else { return };
        if std::mem::replace(&mut self.told_ipv6, true) {
            return;
        }
        let tun = self.link.name();
        warn!(
            tun,
            address = %first,
            "IPv6 is disabled on {tun}, so its IPv6 addresses are not set and IPv4 goes on without them; \
             in Docker add --sysctl net.ipv6.conf.all.disable_ipv6=0, \
             elsewhere run sysctl -w net.ipv6.conf.default.disable_ipv6=0 before starting"
        );
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
        link: LinkWatch,
        signals: Signals,
    ) -> Result<Self, DeviceError> {
        let health = match HealthListener::open(&name) {
            Ok(health) => Some(health),
            Err(error) => {
                warn!(%error, "another process sits on the health socket's name: `wontun health` will not work");
                None
            }
        };
        let seats = (0..workers).map(|_| Seat::new()).collect::<io::Result<_>>();
        let core = Self {
            name,
            link,
            timer: Timer::new().map_err(system("making a timer"))?,
            signals,
            health,
            checkup: Checkup::default(),
            pulse: Pulse::new(workers),
            service: Service::default(),
            counters: (0..workers).map(|_| Counters::default()).collect(),
            seats: seats.map_err(system("making an epoll"))?,
            current: 0,
            now: now().map_err(system("reading the clock"))?,
            stop: None,
            failure: None,
            ended_sessions: 0,
            suspension: Suspension::new().map_err(system("reading the clock"))?,
            drops: RateLimit::new(Duration::from_secs(1)),
            own_tun: RateLimit::new(QUIET * 6),
        };
        core.register(0, &core.timer, Token::Timer)?;
        core.register(0, &core.signals, Token::Signals)?;
        core.register(0, &core.link.monitor, Token::Link)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_super_packet_fills_one_message() {
        // 45 segments of 1,368 bytes, 44 of 1,420
        assert_eq!(super_packet(1420, 32), 45 * 1368 + 321);
        assert_eq!(super_packet(1472, 0), 44 * 1420 + 321);
        // the kernel's 64 segments; jumbo frames; the largest, and the smallest, that there are
        assert_eq!(super_packet(576, 32), 64 * 524 + 321);
        assert_eq!(super_packet(9000, 32), 7 * 8948 + 321);
        assert_eq!([super_packet(65_475, 32), super_packet(65_507, 0)], [MAX_SUPER_PACKET; 2]);
        assert_eq!(super_packet(68, 0), 64 * 16 + 321);
        for mtu in 576..=65_475 {
            let payload = super_packet(mtu, 32) - TCP_RESERVE;
            // with time stamps and without; over IPv6 one segment more may go in a second message
            for headers in [52, 40] {
                let size = mtu - headers;
                let datagrams = payload / size * (mtu + 32);
                assert!(
                    payload / size <= 64 && datagrams <= 65_507 || payload < size,
                    "MTU {mtu}, {headers}"
                );
            }
        }
    }
}
