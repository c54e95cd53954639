//! What every tunnel has, whichever protocol it speaks: the epoll, the tun, the timer, the device's state.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use nix::sys::signal::Signal;
use tracing::{debug, enabled, trace, warn};

use super::poll::Poll;
use super::ready::ReadySet;
use super::thread_data::ThreadData;
use super::{DeviceError, QUIET, Token};
use crate::config::TunName;
use crate::control::health::HealthListener;
use crate::counters::{Counters, DropReason};
use crate::io::fault::{self, Fault};
use crate::io::signal::Signals;
use crate::io::timer::{Timer, now};
use crate::io::tun::Tun;
use crate::link::{Configured, Link, LinkError, LinkState, Monitor};
use crate::logging::RateLimit;
use crate::time::Instant;

/// With an MTU of less bytes the kernel takes IPv6 off a device, with all that belongs to it.
pub(super) const IPV6_MIN_MTU: u32 = 1280;

/// The parts of a running tunnel that its mode works with.
#[derive(Debug)]
pub struct Core {
    pub(super) name: TunName,
    pub(super) poll: Poll,
    pub(super) ready: ReadySet,
    pub(super) thread: ThreadData,
    pub(super) tun: Tun,
    pub(super) link: LinkWatch,
    pub(super) timer: Timer,
    pub(super) signals: Signals,
    pub(super) health: Option<HealthListener>,
    pub(super) counters: Counters,
    /// When this turn began.
    pub(super) now: Instant,
    pub(super) stop: Option<Stop>,
    /// Brake on the lines about drops.
    drops: RateLimit,
    own_tun: RateLimit,
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
    /// Puts the parts together and registers them.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn open(
        name: TunName,
        tun: Tun,
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
        let core = Self {
            name,
            poll: Poll::new().map_err(system("making an epoll"))?,
            ready: ReadySet::default(),
            thread: ThreadData::default(),
            tun,
            link,
            timer: Timer::new().map_err(system("making a timer"))?,
            signals,
            health,
            counters: Counters::default(),
            now: now().map_err(system("reading the clock"))?,
            stop: None,
            drops: RateLimit::new(Duration::from_secs(1)),
            own_tun: RateLimit::new(QUIET * 6),
        };
        core.register().map_err(system("registering with epoll"))?;
        Ok(core)
    }

    fn register(&self) -> io::Result<()> {
        self.poll.add(&self.tun, Token::Tun)?;
        self.poll.add(&self.timer, Token::Timer)?;
        self.poll.add(&self.signals, Token::Signals)?;
        self.poll.add(&self.link.monitor, Token::Link)?;
        if let Some(health) = &self.health {
            self.poll.add(health, Token::Health)?;
        }
        Ok(())
    }

    /// Writes the packet that lies in the datagram buffer from `start` for `length` bytes to the tun, and counts it.
    ///
    /// # Errors
    /// The device is gone.
    pub(super) fn deliver(
        &mut self,
        start: usize,
        length: usize,
        from: SocketAddr,
    ) -> Result<(), DeviceError> {
        let packet =
            self.thread.datagram.get(start..).and_then(|rest| rest.get(..length)).unwrap_or_default();
        match self.tun.send(packet) {
            Ok(()) => {
                self.counters.rx.count(length);
                trace!(length, "packet from the peer");
            }
            Err(error) => match fault::of_tun(&error) {
                Fault::Dead => return Err(DeviceError::TunGone(self.name.clone())),
                Fault::Drop(reason) => self.count_drop(reason, Some(from)),
                Fault::WouldBlock | Fault::SourceGone => self.count_drop(DropReason::QueueFull, Some(from)),
            },
        }
        Ok(())
    }

    /// Counts a drop; at debug level also says so, at most once a second.
    pub(super) fn count_drop(&mut self, reason: DropReason, from: Option<SocketAddr>) {
        self.counters.dropped(reason);
        if enabled!(tracing::Level::DEBUG)
            && let Some(suppressed) = self.drops.allow(self.now)
        {
            let from = from.map(tracing::field::display);
            debug!(reason = reason.name(), from, suppressed, "dropped");
        }
    }

    /// Counts a packet from the tun that is a datagram of the tunnel itself, and says what to do about it.
    pub(super) fn count_own_datagram(&mut self) {
        self.count_drop(DropReason::OwnTun, None);
        if let Some(suppressed) = self.own_tun.allow(self.now) {
            let tun = &self.name;
            warn!(
                suppressed,
                "the route to the peer leads into {tun} itself: add a route to the peer's address past the tunnel (ip route add ADDRESS via GATEWAY)"
            );
        }
    }
}
