//! The supervisor's handle of the `dns` process.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::unistd::Pid;

use super::ROLE;
use super::messages::{FromDns, ToDns};
use crate::config::{ApplyDns, TunName};
use crate::process::{Channel, ChannelError, Child, NurseryError, spawn_as_own_user, stop_helper};

/// Maximum time for which the start of the tunnel waits until the settings are applied.
pub(crate) const READY_TIMEOUT: Duration = Duration::from_secs(3);

/// Handle of the process. Dropping it ends the process, which reverts nothing by itself.
#[derive(Debug)]
pub(crate) struct DnsProcess {
    channel: Channel<FromDns, ToDns>,
    child: Pid,
}

impl DnsProcess {
    /// Starts the process as this process's user, without waiting for it. Must be called before
    /// this process is confined.
    ///
    /// # Errors
    /// [`NurseryError`].
    pub(crate) fn start(
        tunnel: &TunName,
        method: ApplyDns,
        is_sandboxed: bool,
        stderr: BorrowedFd<'_>,
    ) -> Result<Self, NurseryError> {
        let Child { pid: child, socket } = spawn_as_own_user(ROLE, stderr)?;
        let channel = Channel::new(socket).map_err(NurseryError::Socket)?;
        let process = Self { channel, child };
        let start = ToDns::Start { tunnel: tunnel.as_str().to_owned(), method, is_sandboxed };
        let failed = |source| NurseryError::ChannelFailed { role: ROLE.to_owned(), source };
        process.send(&start).map_err(failed)?;
        Ok(process)
    }

    /// Sends a message.
    ///
    /// # Errors
    /// The process has ended, or does not read its messages.
    pub(crate) fn send(&self, message: &ToDns) -> Result<(), ChannelError> {
        self.channel.try_send(message, &[])
    }

    /// Returns the next message; `None` if there is none yet.
    ///
    /// # Errors
    /// The process has ended, or sent an invalid message.
    pub(crate) fn receive(&mut self) -> Result<Option<FromDns>, ChannelError> {
        self.channel.receive().map(|received| received.map(|(message, _)| message))
    }

    /// Waits for the next message until `deadline`.
    ///
    /// # Errors
    /// As for [`Self::receive`].
    pub(crate) fn receive_until(&mut self, deadline: Instant) -> Result<Option<FromDns>, ChannelError> {
        self.channel.receive_until(Some(deadline)).map(|received| received.map(|(message, _)| message))
    }
}

impl AsFd for DnsProcess {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }
}

impl Drop for DnsProcess {
    fn drop(&mut self) {
        stop_helper(self.child, &self.channel);
    }
}
