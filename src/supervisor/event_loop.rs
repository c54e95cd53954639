//! The supervisor's event loop: waits with poll(2) for a handful of descriptors, and dispatches to
//! the mode what it does not handle itself.

use std::os::fd::AsFd as _;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use tracing::{info, warn};

use super::context::{Context, StopReason};
use super::error::{SupervisorError, system};
use super::hand_over::TakeOverSource;
use super::mode::{EventSource, Mode};
use crate::messages::{FromTunnel, ToTunnel};
use crate::net::timer::now;
use crate::netlink;
use crate::sandbox::{Sandbox, SandboxError};

/// Number of messages of the tunnel process read per turn.
const BUDGET: usize = 256;
/// Time that the tunnel process has for an orderly end.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);
/// Time that it has to end after it was killed, or has closed its channel.
const EXIT_TIMEOUT: Duration = Duration::from_secs(1);

/// A tunnel, ready to run.
#[derive(Debug)]
pub(crate) struct Supervisor<M> {
    pub(super) mode: M,
    pub(super) context: Context,
    /// The process or store that the tunnel is taken over from, until it is.
    pub(super) take_over_from: Option<TakeOverSource>,
}

impl<M: Mode> Supervisor<M> {
    pub(super) const fn new(mode: M, context: Context) -> Self {
        Self { mode, context, take_over_from: None }
    }

    /// Returns the sandbox for this process, to be engaged before [`Self::run`]. After this call
    /// the process opens no netlink sockets.
    ///
    /// # Errors
    /// [`SandboxError`].
    pub(crate) fn sandbox(&self) -> Result<Sandbox, SandboxError> {
        let paths = self.mode.allowed_paths();
        // a tunnel with a file may have other routes after its next reload
        netlink::seal_sockets(!paths.folders.is_empty());
        Sandbox::for_supervisor(&paths)
    }

    /// Supervises the tunnel until it ends, then removes its state from the host. `flush_log` is
    /// called before the tunnel process, which writes to the same log, is told to end.
    ///
    /// # Errors
    /// The tunnel process ended without being told to, or the system fails. The kill switch stays
    /// engaged.
    pub(crate) fn run(mut self, flush_log: impl FnOnce()) -> Result<(), SupervisorError> {
        self.context.notify_ready();
        let stop = loop {
            self.turn()?;
            if let Some(stop) = self.context.stop {
                break stop;
            }
            if self.context.tunnel.is_gone() {
                // a signal to the whole process group may have reached the tunnel process first
                self.drain_signals()?;
                match (self.context.tunnel.error(), self.context.stop) {
                    (_, Some(stop)) => break stop,
                    (Some(error), None) => return Err(error),
                    (None, None) => break StopReason::TunnelProcess,
                }
            }
        };
        match stop {
            StopReason::Signal(signal) => info!(%signal, "stopping"),
            StopReason::SocketRemoved => info!("stopping, since the socket for wg(8) was removed"),
            StopReason::TunnelProcess => info!("stopping, since the tunnel process was asked to end"),
            StopReason::HandedOver => info!("stopping, since another process has taken the tunnel over"),
        }
        flush_log();
        self.stop()?;
        if stop == StopReason::HandedOver {
            self.leave_in_place();
            return Ok(());
        }
        // a request by way of the tunnel process does not open the kill switch, but a signal to
        // this one does
        self.drain_signals()?;
        let is_own = !matches!(self.context.stop, Some(StopReason::TunnelProcess) | None);
        let Self { mode, mut context, .. } = self;
        drop(context.hand_over);
        drop(context.link);
        // A tunnel process that is stuck or stopped runs as another user, so this process cannot
        // kill it; the nursery does so when it ends.
        drop(context.nursery);
        context.tunnel.wait(EXIT_TIMEOUT);
        mode.finish(is_own);
        Ok(())
    }

    /// Leaves the state of the host to the process that has taken the tunnel over. That process
    /// waits for the end of this one, which closes the sockets that own the tables.
    fn leave_in_place(self) {
        let Self { mut mode, context, .. } = self;
        mode.save();
        let Context { hand_over, nursery, .. } = context;
        drop(nursery);
        // what these drop would be removed from the host
        std::mem::forget((mode, hand_over));
    }

    /// Makes the tunnel process end, and waits for it.
    fn stop(&mut self) -> Result<(), SupervisorError> {
        let context = &mut self.context;
        context.notify_stopping();
        if !context.tunnel.is_gone() {
            context.tunnel.send(&ToTunnel::Stop);
        }
        let start = now().map_err(system("reading the clock"))?;
        while !context.tunnel.is_gone()
            && now().map_err(system("reading the clock"))?.since(start) < STOP_TIMEOUT
        {
            let wanted = if context.tunnel.is_behind() {
                PollFlags::POLLIN | PollFlags::POLLOUT
            } else {
                PollFlags::POLLIN
            };
            let mut descriptors = [PollFd::new(context.tunnel.as_fd(), wanted)];
            let _ = poll(&mut descriptors, PollTimeout::from(100_u16));
            context.tunnel.flush();
            context.now = now().map_err(system("reading the clock"))?;
            while let Some(message) = context.tunnel.receive(context.now) {
                // what is kept; its other messages have no use any more
                if matches!(message, FromTunnel::State { .. }) {
                    self.mode.handle_message(context, message);
                }
            }
        }
        if context.tunnel.is_gone() {
            context.tunnel.wait(EXIT_TIMEOUT);
        }
        Ok(())
    }

    /// Waits for events, and handles them.
    fn turn(&mut self) -> Result<(), SupervisorError> {
        let timeout = self.timeout();
        let ready = self.wait(timeout)?;
        self.context.now = now().map_err(system("reading the clock"))?;
        for (source, events) in ready {
            match source {
                EventSource::Signals => self.drain_signals()?,
                EventSource::Tunnel => {
                    self.context.tunnel.flush();
                    self.drain_tunnel()?;
                }
                EventSource::Link => self.context.drain_link(&mut self.mode),
                EventSource::HandOver => self.context.accept_successor(),
                EventSource::Successor => self.context.drain_successor(&self.mode),
                EventSource::Paths => self.context.handle_path_events(),
                EventSource::Resolver => {
                    for (target, result) in self.context.lookups.poll_answer(self.context.now) {
                        self.mode.handle_addresses(&mut self.context, target, result);
                    }
                }
                other => self.mode.handle_ready(&mut self.context, other, events),
            }
        }
        self.context.handle_notify_timeout();
        self.context.handle_lookup_timeout();
        self.context.handle_rename_timeout(&mut self.mode);
        self.context.handle_hand_over_timeout();
        self.context.compare_paths(&mut self.mode);
        self.mode.handle_timeouts(&mut self.context);
        self.context.reconcile(&mut self.mode);
        self.context.send_host(&self.mode);
        Ok(())
    }

    /// Returns the timeout of the next wait.
    fn timeout(&mut self) -> PollTimeout {
        let context = &mut self.context;
        let repairs = context.reconciler.deadline(context.now);
        let deadlines = [
            self.mode.deadline(),
            context.service_manager.deadline(),
            context.lookups.deadline(),
            context.tunnel.deadline(),
            context.paths.deadline(),
            repairs,
            context.link.identity.deadline(),
            context.hand_over.deadline(),
        ];
        let Some(deadline) = deadlines.into_iter().flatten().min() else { return PollTimeout::NONE };
        let now = now().unwrap_or(context.now);
        let millis = deadline.since(now).as_micros().div_ceil(1000);
        // an hour at most: the timeout does not count the time that the machine is suspended
        i32::try_from(millis).unwrap_or(i32::MAX).min(3_600_000).try_into().unwrap_or(PollTimeout::ZERO)
    }

    /// Waits, and returns the sources that are ready.
    fn wait(&mut self, timeout: PollTimeout) -> Result<Vec<(EventSource, PollFlags)>, SupervisorError> {
        let may_receive = self.context.tunnel.may_receive(self.context.now);
        let context = &self.context;
        let mut tunnel = if may_receive { PollFlags::POLLIN } else { PollFlags::empty() };
        if context.tunnel.is_behind() {
            tunnel |= PollFlags::POLLOUT;
        }
        let mut sources = vec![
            (EventSource::Signals, context.signals.as_fd(), PollFlags::POLLIN),
            (EventSource::Link, context.link.monitor.as_fd(), PollFlags::POLLIN),
        ];
        // not polled while it exceeds its budget: its hang-up would be reported in every turn
        if !tunnel.is_empty() {
            sources.push((EventSource::Tunnel, context.tunnel.as_fd(), tunnel));
        }
        sources.extend(context.lookups.descriptor().map(|fd| (EventSource::Resolver, fd, PollFlags::POLLIN)));
        let listener = context.hand_over.listener();
        sources.extend(listener.map(|fd| (EventSource::HandOver, fd, PollFlags::POLLIN)));
        let successor = context.hand_over.successor();
        sources.extend(successor.map(|(fd, events)| (EventSource::Successor, fd, events)));
        sources.extend(context.paths.descriptor().map(|fd| (EventSource::Paths, fd, PollFlags::POLLIN)));
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

    fn drain_tunnel(&mut self) -> Result<(), SupervisorError> {
        for _ in 0..BUDGET {
            let context = &mut self.context;
            let Some(message) = context.tunnel.receive(context.now) else { break };
            match message {
                FromTunnel::Alive { probe, status } => context.handle_alive(probe, status),
                FromTunnel::Probe(probe) => {
                    // a reload that was requested before the health, which tells its outcome
                    self.drain_signals()?;
                    self.context.reconcile_all(&mut self.mode);
                    self.context.send_host(&self.mode);
                    self.context.tunnel.answer(&ToTunnel::Alive(probe), Vec::new());
                }
                FromTunnel::CountDenied(number) => {
                    self.mode.count_denied();
                    self.context.send_host(&self.mode);
                    self.context.tunnel.answer(&ToTunnel::DeniedCounted(number), Vec::new());
                }
                FromTunnel::StopRequested => {
                    // a signal to all processes comes after one to this process alone
                    self.drain_signals()?;
                    if !self.context.hand_over.defers(Signal::SIGTERM) {
                        self.context.stop.get_or_insert(StopReason::TunnelProcess);
                    }
                }
                FromTunnel::Exported(result) => context.handle_exported(result),
                message => self.mode.handle_message(context, message),
            }
        }
        Ok(())
    }

    fn drain_signals(&mut self) -> Result<(), SupervisorError> {
        while let Some(signal) = self.context.signals.poll_signal().map_err(system("reading signals"))? {
            match signal {
                // what is on the host is another process's
                Signal::SIGTERM | Signal::SIGINT if self.context.stop == Some(StopReason::HandedOver) => {}
                Signal::SIGTERM | Signal::SIGINT if self.context.hand_over.defers(signal) => {}
                // even if the tunnel process was asked to end before
                Signal::SIGTERM | Signal::SIGINT => self.context.stop = Some(StopReason::Signal(signal)),
                Signal::SIGUSR1 => self.context.tunnel.send(&ToTunnel::LogSummary),
                Signal::SIGUSR2 => self.context.begin_store(&self.mode),
                Signal::SIGHUP => drop(self.context.reload(&mut self.mode)),
                Signal::SIGCHLD => self.reap(),
                _ => {}
            }
        }
        Ok(())
    }

    /// Reaps every child that has ended: the helpers, and as PID 1 also orphans.
    fn reap(&mut self) {
        while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            if status == WaitStatus::StillAlive {
                return;
            }
            if !self.context.tunnel.record_exit(status)
                && status.pid().is_some_and(|pid| pid == self.context.nursery.pid())
            {
                warn!(
                    "the nursery process ended: helper processes cannot be restarted until wontun is restarted"
                );
            }
        }
    }
}
