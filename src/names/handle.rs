//! The supervisor's handle of the `names` process.

use std::collections::HashSet;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};

use nix::unistd::Pid;

use super::ROLE;
use super::listeners::NamesListeners;
use super::messages::{FromNames, MAX_ADDRESSES, MAX_PEERS, Peers, ToNames, ZoneSettings};
use super::zone;
use crate::config::DnsUpstreams;
use crate::process::{Channel, ChannelError, Child, Nursery, NurseryError, stop_helper};

/// Handle of the process. Dropping it ends the process.
#[derive(Debug)]
pub(crate) struct NamesProcess {
    channel: Channel<FromNames, ToNames>,
    child: Pid,
}

impl NamesProcess {
    /// Starts the process without waiting for it.
    ///
    /// # Errors
    /// [`NurseryError`], or an error of the channel.
    pub(crate) fn start(
        nursery: &mut Nursery,
        listeners: &NamesListeners,
        upstream: DnsUpstreams,
        is_sandboxed: bool,
        stderr: BorrowedFd<'_>,
    ) -> Result<Self, NurseryError> {
        let Child { pid: child, socket } = nursery.spawn(ROLE, stderr)?;
        let channel = Channel::new(socket).map_err(NurseryError::Socket)?;
        let mut process = Self { channel, child };
        let (sockets, udp) = listeners.try_clone().map_err(NurseryError::Socket)?;
        let failed = |source| NurseryError::ChannelFailed { role: ROLE.to_owned(), source };
        process.channel.send(&ToNames::Start { is_sandboxed, udp, upstream }, sockets).map_err(failed)?;
        Ok(process)
    }

    /// Sends the names. `peers` are names and addresses. Returns the names of peers that have none
    /// in the zone, since another peer has the same label or none remains of it.
    ///
    /// # Errors
    /// The process has ended, or does not read its messages.
    pub(crate) fn set_zone<'a>(
        &mut self,
        settings: ZoneSettings,
        peers: impl IntoIterator<Item = (&'a str, Vec<IpAddr>)>,
    ) -> Result<Vec<&'a str>, ChannelError> {
        let (mut labels, mut left_out) = (HashSet::new(), Vec::new());
        let mut named = Vec::new();
        for (name, mut addresses) in peers {
            match zone::label(name).filter(|label| labels.insert(label.clone())) {
                Some(label) => {
                    addresses.truncate(MAX_ADDRESSES);
                    named.push((label, addresses));
                }
                None => left_out.push(name),
            }
        }
        self.channel.send(&ToNames::Zone(settings), Vec::new())?;
        for peers in named.chunks(MAX_PEERS) {
            if let Ok(peers) = Peers::try_from(peers.to_vec()) {
                self.channel.send(&ToNames::Peers(peers), Vec::new())?;
            }
        }
        self.channel.send(&ToNames::Commit, Vec::new())?;
        Ok(left_out)
    }

    /// Sends what the socket did not accept before.
    ///
    /// # Errors
    /// The process has ended.
    pub(crate) fn flush(&mut self) -> Result<(), ChannelError> {
        self.channel.flush()
    }

    /// Returns true if messages wait to be sent.
    pub(crate) fn is_behind(&self) -> bool {
        self.channel.is_behind()
    }

    /// Returns the next message; `None` if there is none yet.
    ///
    /// # Errors
    /// The process has ended, or sent an invalid message.
    pub(crate) fn receive(&mut self) -> Result<Option<FromNames>, ChannelError> {
        self.channel.receive().map(|received| received.map(|(message, _)| message))
    }
}

impl AsFd for NamesProcess {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }
}

impl Drop for NamesProcess {
    fn drop(&mut self) {
        stop_helper(self.child, &self.channel);
    }
}
