//! The supervisor: the process that was started. It keeps exactly CAP_NET_ADMIN and owns what the
//! tunnel needs of the host: the TUN device's state, routes, rules, tables of nf_tables, settings,
//! UDP sockets, the configuration file, wg(8)'s socket, signals and the service manager. It reads
//! no packet and no datagram; the tunnel process does ([`crate::device`]), which has no capability,
//! and of whose messages each is treated as hostile: routes, tables, marks and ports come from the
//! configuration alone.
//!
//! Its loop waits with poll(2) for a handful of descriptors. Nothing here is done for a packet.

mod context;
mod identity;
mod link_watch;
mod lookups;
mod plain;
mod reconcile;
mod service;
mod sockets;
mod start;
mod tunnel;
mod wireguard;

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use tracing::{info, warn};

use self::context::{Context, Stop};
use self::reconcile::{Compared, Need, Piece};
use crate::config::{PeerAddress, TunName};
use crate::control::uapi::UapiError;
use crate::io::timer::now;
use crate::io::tun::TunError;
use crate::link::{self, LinkError};
use crate::messages::{FromTunnel, ToTunnel};
use crate::metrics::MetricsError;
use crate::process::{ChannelError, NurseryError};
use crate::resolver::ResolverError;
use crate::sandbox::{Places, Sandbox, SandboxError};
use crate::time::Instant;
use crate::tunnel::wireguard::PublicKey;
pub use plain::Plain;
pub use sockets::SocketsError;
pub use start::{StartOptions, Starting};
pub use wireguard::{ConfigFile, EngagedKillSwitch, PendingKillSwitch, WireGuard};

/// Messages of the tunnel process that are read in one turn.
const BUDGET: usize = 256;
/// Time that the tunnel process may take to end in good order.
const STOP: Duration = Duration::from_secs(2);
/// Time that it may take once it was killed, or has closed its channel.
const END: Duration = Duration::from_secs(1);

/// Why a tunnel does not start, or ends by itself.
#[derive(Debug, thiserror::Error)]
pub enum SupervisorError {
    /// No TUN device.
    #[error(transparent)]
    Tun(#[from] TunError),
    /// No UDP sockets.
    #[error(transparent)]
    Sockets(#[from] SocketsError),
    /// The device could not be set up.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// No socket for metrics.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// The helper processes could not be started.
    #[error(transparent)]
    Nursery(#[from] NurseryError),
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
    /// No socket for wg(8).
    #[error(transparent)]
    Uapi(#[from] UapiError),
    /// A call failed that never does on a healthy system.
    #[error("{what} failed: {source}")]
    System {
        /// The action.
        what: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The tunnel process does not come up.
    #[error(
        "the tunnel process does not get ready: the machine is overloaded, or this is a fault in wontun; start it again"
    )]
    NotReady,
    /// The tunnel process has ended with an error, which it has told itself.
    #[error("the tunnel process ended with exit code {0}: start wontun again")]
    TunnelExited(i32),
    /// Somebody, or the kernel, has ended the tunnel process.
    #[error("the tunnel process was ended by {0}: start wontun again")]
    TunnelKilled(Signal),
    /// The tunnel process does not keep to the protocol.
    #[error(
        "the tunnel process is not to be trusted any more, which is a fault in wontun or an attack: {0}; start wontun again, and please report it"
    )]
    Channel(#[source] ChannelError),
}

/// Turns a call's error into one that says what was tried.
fn system(what: &'static str) -> impl Fn(io::Error) -> SupervisorError {
    move |source| SupervisorError::System { what, source }
}

/// A descriptor that the loop waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Signals.
    Signals,
    /// Messages of the tunnel process.
    Tunnel,
    /// Changes of network devices.
    Link,
    /// Answers of the resolver process.
    Resolver,
    /// Changes of the host's nf_tables ruleset.
    Ruleset,
    /// Connections to wg(8)'s socket.
    Uapi,
    /// The file of that socket.
    UapiWatch,
    /// A connection to it.
    UapiClient(u32),
}

/// Part of the supervisor that is different between the modes.
pub trait Mode: Sized {
    /// Returns what is opened or removed while it runs.
    fn places(&self) -> Places;

    /// Returns the descriptors that only this mode waits for.
    fn descriptors(&self) -> Vec<(Source, BorrowedFd<'_>, PollFlags)>;

    /// Handles one of them that is ready.
    fn handle_ready(&mut self, context: &mut Context, source: Source, events: PollFlags);

    /// Handles a message of the tunnel process, which may say anything.
    fn handle_message(&mut self, context: &mut Context, message: FromTunnel);

    /// Handles the answer to a question about a name, and passes it on.
    fn handle_addresses(
        &mut self,
        context: &mut Context,
        question: Option<PublicKey>,
        result: Result<Vec<SocketAddr>, String>,
    );

    /// Returns the time at which [`Self::handle_timeouts`] is to be called.
    fn deadline(&self) -> Option<Instant>;

    /// Does what is due.
    fn handle_timeouts(&mut self, context: &mut Context);

    /// Reads the configuration again (SIGHUP).
    fn reload(&mut self, context: &mut Context);

    /// The device has another name or index: what goes by them is to follow. Called again while
    /// there is an error, which says what does not yet.
    fn handle_renamed(&mut self, context: &mut Context) -> Result<(), String>;

    /// The device is in another network namespace.
    fn handle_away(&mut self, context: &mut Context);

    /// Returns true if what was routed into the device is unreachable until it is back.
    fn blocks(&self) -> bool;

    /// The device is up again.
    fn handle_link_up(&mut self, context: &mut Context);

    /// Compares a piece of the host's state with what is wanted, and puts back what is missing if
    /// it `is_allowed`; policy rules and the routes of their table in any case.
    fn compare(&mut self, context: &mut Context, piece: Piece, is_allowed: bool) -> Compared;

    /// Returns a line for each condition that others do not meet, as it was found last.
    fn unmet(&self, need: Need) -> Vec<String>;

    /// Takes down what was put up, after the tunnel process has ended. The kill switch stays
    /// engaged unless `opens_kill_switch`.
    fn finish(self, opens_kill_switch: bool);
}

/// Spare sockets that a tunnel process may still ask for.
#[derive(Debug)]
struct SocketBudget {
    left: u8,
    since: Option<Instant>,
}

impl Default for SocketBudget {
    fn default() -> Self {
        Self { left: Self::BURST, since: None }
    }
}

impl SocketBudget {
    /// Sockets of both families that may be asked for at once.
    const BURST: u8 = 64;
    /// Sockets that may be asked for in a second afterwards.
    const PER_SECOND: u8 = 16;

    /// Returns how many may be made of those that are asked for.
    fn take(&mut self, now: Instant, ipv4: u8, ipv6: u8) -> (u8, u8) {
        let since = *self.since.get_or_insert(now);
        let seconds = now.since(since).as_secs();
        if seconds > 0 {
            let more = u8::try_from(seconds).unwrap_or(u8::MAX).saturating_mul(Self::PER_SECOND);
            self.left = self.left.saturating_add(more).min(Self::BURST);
            self.since = Some(now);
        }
        let ipv4 = ipv4.min(wireguard::MAX_SPARE).min(self.left);
        self.left -= ipv4;
        let ipv6 = ipv6.min(wireguard::MAX_SPARE).min(self.left);
        self.left -= ipv6;
        (ipv4, ipv6)
    }
}

/// A tunnel, ready to run.
#[derive(Debug)]
pub struct Supervisor<M> {
    mode: M,
    context: Context,
}

impl<M: Mode> Supervisor<M> {
    const fn new(mode: M, context: Context) -> Self {
        Self { mode, context }
    }

    /// Returns the sandbox for this process, to be engaged before [`Self::run`]. From now on it
    /// opens no netlink socket.
    ///
    /// # Errors
    /// [`SandboxError`].
    pub fn sandbox(&self) -> Result<Sandbox, SandboxError> {
        let places = self.mode.places();
        // what has a file may have other routes after the next look at it
        link::seal_sockets(!places.folders.is_empty());
        Sandbox::of_supervisor(&places)
    }

    /// Supervises the tunnel until somebody ends it, then takes down what was put up. `flush_log`
    /// is called before the tunnel process, which writes to the same log, is told to end.
    ///
    /// # Errors
    /// The tunnel process ended without being told to, or the system fails. The kill switch stays
    /// engaged.
    pub fn run(mut self, flush_log: impl FnOnce()) -> Result<(), SupervisorError> {
        self.context.notify_ready();
        let stop = loop {
            self.turn()?;
            if let Some(stop) = self.context.stop {
                break stop;
            }
            if self.context.tunnel.is_gone() {
                // a signal to the whole group may have come to it first
                self.drain_signals()?;
                match (self.context.tunnel.error(), self.context.stop) {
                    (_, Some(stop)) => break stop,
                    (Some(error), None) => return Err(error),
                    (None, None) => break Stop::TunnelProcess,
                }
            }
        };
        match stop {
            Stop::Signal(signal) => info!(%signal, "stopping"),
            Stop::SocketRemoved => info!("stopping, since the socket for wg(8) was removed"),
            Stop::TunnelProcess => info!("stopping, since the tunnel process was asked to end"),
        }
        flush_log();
        self.stop()?;
        // what was asked of the tunnel process opens no kill switch, but a signal to this one does
        self.drain_signals()?;
        let is_own = !matches!(self.context.stop, Some(Stop::TunnelProcess) | None);
        let Self { mode, mut context } = self;
        drop(context.link);
        // A tunnel process that is stuck or stopped is another user's, whom this process cannot
        // kill; the nursery does so at its end.
        drop(context.nursery);
        context.tunnel.wait(END);
        mode.finish(is_own);
        Ok(())
    }

    /// Has the tunnel process end, and waits for it.
    fn stop(&mut self) -> Result<(), SupervisorError> {
        let context = &mut self.context;
        context.notify_stopping();
        if !context.tunnel.is_gone() {
            context.tunnel.send(&ToTunnel::Stop);
        }
        let start = now().map_err(system("reading the clock"))?;
        while !context.tunnel.is_gone() && now().map_err(system("reading the clock"))?.since(start) < STOP {
            let wanted = if context.tunnel.is_behind() {
                PollFlags::POLLIN | PollFlags::POLLOUT
            } else {
                PollFlags::POLLIN
            };
            let mut descriptors = [PollFd::new(context.tunnel.as_fd(), wanted)];
            let _ = poll(&mut descriptors, PollTimeout::from(100_u16));
            context.tunnel.flush();
            // whatever it still says
            while context.tunnel.receive(context.now).is_some() {}
        }
        if context.tunnel.is_gone() {
            context.tunnel.wait(END);
        }
        Ok(())
    }

    /// Waits until something is to be done, and does it.
    fn turn(&mut self) -> Result<(), SupervisorError> {
        let timeout = self.timeout();
        let ready = self.wait(timeout)?;
        self.context.now = now().map_err(system("reading the clock"))?;
        for (source, events) in ready {
            match source {
                Source::Signals => self.drain_signals()?,
                Source::Tunnel => {
                    self.context.tunnel.flush();
                    self.drain_tunnel();
                }
                Source::Link => self.context.drain_link(&mut self.mode),
                Source::Resolver => {
                    for (question, result) in self.context.lookups.poll_answer(self.context.now) {
                        self.mode.handle_addresses(&mut self.context, question, result);
                    }
                }
                other => self.mode.handle_ready(&mut self.context, other, events),
            }
        }
        self.context.serve_service();
        self.context.serve_lookups();
        self.context.serve_name(&mut self.mode);
        self.mode.handle_timeouts(&mut self.context);
        self.context.reconcile(&mut self.mode);
        self.context.send_host(&self.mode);
        Ok(())
    }

    /// Returns the time until something is due.
    fn timeout(&mut self) -> PollTimeout {
        let context = &mut self.context;
        let repairs = context.reconciler.deadline(context.now);
        let deadlines = [
            self.mode.deadline(),
            context.service.deadline(),
            context.lookups.deadline(),
            context.tunnel.deadline(),
            repairs,
            context.link.identity.deadline(),
        ];
        let Some(deadline) = deadlines.into_iter().flatten().min() else { return PollTimeout::NONE };
        let now = now().unwrap_or(context.now);
        let millis = deadline.since(now).as_micros().div_ceil(1000);
        // an hour at most: the timeout does not count the time that the machine is suspended
        i32::try_from(millis).unwrap_or(i32::MAX).min(3_600_000).try_into().unwrap_or(PollTimeout::ZERO)
    }

    /// Returns what is ready.
    fn wait(&mut self, timeout: PollTimeout) -> Result<Vec<(Source, PollFlags)>, SupervisorError> {
        let may_send = self.context.tunnel.may_send(self.context.now);
        let context = &self.context;
        let mut tunnel = if may_send { PollFlags::POLLIN } else { PollFlags::empty() };
        if context.tunnel.is_behind() {
            tunnel |= PollFlags::POLLOUT;
        }
        let mut sources = vec![
            (Source::Signals, context.signals.as_fd(), PollFlags::POLLIN),
            (Source::Link, context.link.monitor.as_fd(), PollFlags::POLLIN),
        ];
        // one that sends too much is not looked at: its hang-up would be reported without an end
        if !tunnel.is_empty() {
            sources.push((Source::Tunnel, context.tunnel.as_fd(), tunnel));
        }
        sources.extend(context.lookups.descriptor().map(|fd| (Source::Resolver, fd, PollFlags::POLLIN)));
        sources.extend(self.mode.descriptors());
        let mut descriptors: Vec<_> = sources.iter().map(|(_, fd, flags)| PollFd::new(*fd, *flags)).collect();
        match poll(&mut descriptors, timeout) {
            Ok(_) => {}
            Err(Errno::EINTR) => return Ok(Vec::new()),
            Err(error) => return Err(system("waiting for events")(error.into())),
        }
        let ready = sources.iter().zip(&descriptors).filter_map(|((source, ..), polled)| {
            let events = polled.revents().unwrap_or_else(PollFlags::empty);
            (!events.is_empty()).then_some((*source, events))
        });
        Ok(ready.collect())
    }

    fn drain_tunnel(&mut self) {
        for _ in 0..BUDGET {
            let context = &mut self.context;
            let Some(message) = context.tunnel.receive(context.now) else { return };
            match message {
                FromTunnel::Alive { probe, status } => context.handle_alive(probe, status),
                FromTunnel::Probe(probe) => {
                    self.context.reconcile_all(&mut self.mode);
                    self.context.send_host(&self.mode);
                    self.context.tunnel.answer(&ToTunnel::Alive(probe), Vec::new());
                }
                FromTunnel::StopRequested => {
                    context.stop.get_or_insert(Stop::TunnelProcess);
                }
                message => self.mode.handle_message(context, message),
            }
        }
    }

    fn drain_signals(&mut self) -> Result<(), SupervisorError> {
        while let Some(signal) = self.context.signals.poll_signal().map_err(system("reading signals"))? {
            match signal {
                // also where the tunnel process was asked to end before
                Signal::SIGTERM | Signal::SIGINT => self.context.stop = Some(Stop::Signal(signal)),
                Signal::SIGUSR1 => self.context.tunnel.send(&ToTunnel::Summary),
                Signal::SIGHUP => {
                    self.context.notify_reloading();
                    self.mode.reload(&mut self.context);
                    // also what others have removed meanwhile
                    self.context.reconcile_by_request(&mut self.mode);
                    self.context.link.identity.retry(self.context.now);
                    self.context.send_host(&self.mode);
                    self.context.notify_ready();
                }
                Signal::SIGCHLD => self.reap(),
                _ => {}
            }
        }
        Ok(())
    }

    /// Collects every child that ended: the helpers, and as PID 1 also those that others left
    /// behind.
    fn reap(&mut self) {
        while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            if status == WaitStatus::StillAlive {
                return;
            }
            if !self.context.tunnel.note_end(status)
                && status.pid().is_some_and(|pid| pid == self.context.nursery.pid())
            {
                warn!(
                    "the nursery process ended: helper processes that end are not started again until a restart"
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spare_sockets_are_bounded() {
        let at = |seconds| Instant::from_boot(Duration::from_secs(seconds));
        let mut budget = SocketBudget::default();
        let mut made = 0_u32;
        for _ in 0..1000 {
            let (ipv4, ipv6) = budget.take(at(1), 255, 255);
            made += u32::from(ipv4) + u32::from(ipv6);
        }
        assert_eq!(made, u32::from(SocketBudget::BURST));
        assert_eq!(budget.take(at(2), 4, 0), (4, 0));
        assert_eq!(budget.take(at(1000), 255, 0), (wireguard::MAX_SPARE, 0));
    }
}
