//! The supervisor's handle of the tunnel process: its channel, its exit and the limit of its
//! messages.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use tracing::warn;

use super::error::{SupervisorError, system};
use crate::logging::RateLimit;
use crate::messages::{self, DeviceState, FromTunnel, ToTunnel};
use crate::process::{Channel, ChannelError, Nursery};
use crate::uapi::Changes;
use wontun_proto::time::Instant;

/// Number of messages that the process may send without delay.
const BURST: u32 = 4096;
/// Number of messages per second that it may send afterwards.
const PER_SECOND: u32 = 1024;
/// Maximum size of the send queue in bytes at which requests of the process are still answered.
const MAX_QUEUED: usize = 1 << 20;
/// Time that it has to end after its channel is closed.
const EXIT_TIMEOUT: Duration = Duration::from_secs(1);

/// Exit of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exit {
    /// Exited with this code.
    Exited(i32),
    /// Killed by this signal.
    Killed(Signal),
    /// Unknown: it closed its channel, and may still run.
    Unknown,
}

/// The tunnel process.
#[derive(Debug)]
pub(super) struct Tunnel {
    pid: Pid,
    channel: Channel<FromTunnel, ToTunnel>,
    budget: TokenBucket,
    /// Descriptors of the last message, if it may have some.
    descriptors: Vec<OwnedFd>,
    /// Error after which the channel cannot be used any more.
    failure: Option<ChannelError>,
    exit: Option<Exit>,
    link: DeviceState,
    changes: u32,
    probes: u64,
}

/// A token bucket of messages.
#[derive(Debug)]
struct TokenBucket {
    tokens: u32,
    since: Option<Instant>,
    log: RateLimit,
}

impl TokenBucket {
    fn refill(&mut self, now: Instant) {
        let since = *self.since.get_or_insert(now);
        let millis = u32::try_from(now.since(since).as_millis()).unwrap_or(u32::MAX);
        let more = millis.saturating_mul(PER_SECOND) / 1000;
        if more > 0 {
            self.tokens = self.tokens.saturating_add(more).min(BURST);
            self.since = Some(now);
        }
    }
}

impl Tunnel {
    /// Starts the process, which waits for its first message.
    ///
    /// # Errors
    /// An error of the nursery.
    pub(super) fn start(nursery: &mut Nursery, stderr: BorrowedFd<'_>) -> Result<Self, SupervisorError> {
        let child = nursery.spawn("tunnel", stderr)?;
        let channel = Channel::new(child.socket).map_err(system("opening the tunnel process's channel"))?;
        Ok(Self {
            pid: child.pid,
            channel,
            budget: TokenBucket { tokens: BURST, since: None, log: RateLimit::new(Duration::from_secs(10)) },
            descriptors: Vec::new(),
            failure: None,
            exit: None,
            link: DeviceState::default(),
            changes: 0,
            probes: 0,
        })
    }

    /// Sends a message.
    pub(super) fn send(&mut self, message: &ToTunnel) {
        self.send_with(message, Vec::new());
    }

    /// Sends a message with descriptors. Errors are reported by [`Self::is_gone`].
    pub(super) fn send_with(&mut self, message: &ToTunnel, descriptors: Vec<OwnedFd>) {
        if self.failure.is_none()
            && let Err(error) = self.channel.send(message, descriptors)
        {
            self.failure = Some(error);
        }
    }

    /// Sends the answer to a request of the process, unless it does not read its messages. Returns
    /// true if it was sent.
    pub(super) fn answer(&mut self, message: &ToTunnel, descriptors: Vec<OwnedFd>) -> bool {
        let is_read = self.channel.queued() <= MAX_QUEUED;
        if is_read {
            self.send_with(message, descriptors);
        }
        is_read
    }

    /// Sends messages, each with its descriptors.
    pub(super) fn send_all(&mut self, messages: Vec<(ToTunnel, Vec<OwnedFd>)>) {
        for (message, descriptors) in messages {
            self.send_with(&message, descriptors);
        }
    }

    /// Sends `changes` in parts. Returns the number that the process acknowledges.
    pub(super) fn change(&mut self, changes: Changes) -> u32 {
        self.changes = self.changes.wrapping_add(1);
        let mut parts = messages::split_changes(changes).into_iter().peekable();
        while let Some(changes) = parts.next() {
            let number = parts.peek().is_none().then_some(self.changes);
            self.send(&ToTunnel::Change { number, changes });
        }
        self.changes
    }

    /// Sends the device's state if it has changed.
    pub(super) fn set_link(&mut self, link: DeviceState) {
        if std::mem::replace(&mut self.link, link) != link {
            self.send(&ToTunnel::DeviceState(link));
        }
    }

    /// Sends a liveness probe and returns its number.
    pub(super) fn probe(&mut self) -> u64 {
        self.probes += 1;
        self.send(&ToTunnel::Probe(self.probes));
        self.probes
    }

    /// Sends queued messages.
    pub(super) fn flush(&mut self) {
        if self.failure.is_none()
            && let Err(error) = self.channel.flush()
        {
            self.failure = Some(error);
        }
    }

    /// Returns true if messages are queued.
    pub(super) fn is_behind(&self) -> bool {
        self.channel.is_behind()
    }

    /// Returns true if messages may be read now: the process has not exceeded its limit.
    pub(super) fn may_receive(&mut self, now: Instant) -> bool {
        self.budget.refill(now);
        self.budget.tokens > 0
    }

    /// Returns the time at which messages are read again, if the limit is exceeded.
    pub(super) fn deadline(&self) -> Option<Instant> {
        (self.budget.tokens == 0).then(|| self.budget.since.unwrap_or_default() + Duration::from_millis(100))
    }

    /// Returns the next message; `None` if there is none, or if the process has exceeded its limit.
    pub(super) fn receive(&mut self, now: Instant) -> Option<FromTunnel> {
        if self.failure.is_some() || !self.may_receive(now) {
            return None;
        }
        match self.channel.receive() {
            Ok(None) => None,
            Ok(Some((message, descriptors))) => {
                let may_have_some = matches!(message, FromTunnel::Exported(_));
                self.descriptors = if may_have_some { descriptors } else { Vec::new() };
                self.budget.tokens = self.budget.tokens.saturating_sub(1);
                if self.budget.tokens == 0
                    && let Some(suppressed) = self.budget.log.allow(now)
                {
                    warn!(
                        suppressed,
                        "the tunnel process exceeds its message rate: further messages are delayed"
                    );
                }
                Some(message)
            }
            Err(error) => {
                self.failure = Some(error);
                None
            }
        }
    }

    /// Returns the descriptors of the message received last.
    pub(super) fn take_descriptors(&mut self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.descriptors)
    }

    /// Returns true once the process has ended or its channel cannot be used any more.
    pub(super) const fn is_gone(&self) -> bool {
        self.failure.is_some() || self.exit.is_some()
    }

    /// Records the exit of a child. Returns true if it was this process.
    pub(super) fn record_exit(&mut self, status: WaitStatus) -> bool {
        let exit = match status {
            WaitStatus::Exited(pid, code) if pid == self.pid => Exit::Exited(code),
            WaitStatus::Signaled(pid, signal, _) if pid == self.pid => Exit::Killed(signal),
            _ => return false,
        };
        self.exit = Some(exit);
        true
    }

    /// Waits until the process has ended, at most `limit`. Returns its exit.
    pub(super) fn wait(&mut self, limit: Duration) -> Exit {
        let pause = Duration::from_millis(1);
        let mut waited = Duration::ZERO;
        while self.exit.is_none() {
            match waitpid(self.pid, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) if waited < limit => {}
                Ok(WaitStatus::StillAlive) | Err(_) => return Exit::Unknown,
                Ok(status) => {
                    self.record_exit(status);
                    continue;
                }
            }
            thread::sleep(pause);
            waited += pause;
        }
        self.exit.unwrap_or(Exit::Unknown)
    }

    /// Returns the error of a process that ended without being told to; `None` after an orderly
    /// end.
    pub(super) fn error(&mut self) -> Option<SupervisorError> {
        if let Some(failure) = self.failure.take()
            && !matches!(failure, ChannelError::Closed)
        {
            return Some(SupervisorError::Channel(failure));
        }
        match self.wait(EXIT_TIMEOUT) {
            Exit::Exited(0) => None,
            Exit::Exited(code) => Some(SupervisorError::TunnelExited(code)),
            Exit::Killed(signal) => Some(SupervisorError::TunnelKilled(signal)),
            Exit::Unknown => Some(SupervisorError::Channel(ChannelError::System(io::Error::other(
                "the tunnel process closed its channel and did not end",
            )))),
        }
    }
}

impl AsFd for Tunnel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }
}
