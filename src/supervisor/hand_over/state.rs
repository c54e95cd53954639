//! State of a hand-over on the side of the running process.

use std::net::SocketAddr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use nix::poll::PollFlags;
use tracing::warn;

use super::listener::{Listener, PeerProcess};
use super::messages::{FromSuccessor, ToSuccessor};
use crate::config::TunName;
use crate::messages::Queue;
use crate::process::Channel;
use wontun_proto::time::Instant;

/// Listening sockets of the process that the tunnel is taken over from.
#[derive(Debug, Default)]
pub(in crate::supervisor) struct InheritedListeners {
    pub(in crate::supervisor) hand_over: Option<OwnedFd>,
    pub(in crate::supervisor) health: Option<OwnedFd>,
    pub(in crate::supervisor) metrics: Option<(SocketAddr, OwnedFd)>,
}

/// Descriptors and state for a process that takes the tunnel over, and that process once there is
/// one.
#[derive(Debug, Default)]
pub(in crate::supervisor) struct HandOver {
    /// `None` if the tunnel cannot be taken over.
    pub(super) listener: Option<Listener>,
    /// Name of the tunnel at the start.
    pub(super) name: Option<TunName>,
    /// Queues of the device, which the tunnel process reads.
    pub(in crate::supervisor) queues: Vec<(Queue, OwnedFd)>,
    /// The health socket and the one for metrics, which the tunnel process uses.
    pub(in crate::supervisor) health: Option<OwnedFd>,
    pub(in crate::supervisor) metrics: Option<(SocketAddr, OwnedFd)>,
    pub(super) successor: Option<Successor>,
}

/// The process that takes the tunnel over.
#[derive(Debug)]
pub(super) struct Successor {
    pub(super) channel: Channel<FromSuccessor, ToSuccessor>,
    pub(super) process: PeerProcess,
    pub(super) phase: Phase,
}

/// Progress of the hand-over.
#[derive(Debug)]
pub(super) enum Phase {
    Connected,
    Offered,
    /// The tunnel process was told to stop the workers and to write to this file.
    Freezing {
        sessions: OwnedFd,
        deadline: Instant,
    },
    /// The other process has the sessions.
    Frozen {
        deadline: Instant,
    },
}

impl HandOver {
    /// Listens for a process that takes over the tunnel `name`, on the socket of the process that
    /// the tunnel was taken over from itself, if it was. If that fails, the tunnel cannot be taken
    /// over.
    pub(in crate::supervisor) fn open(name: &TunName, inherited: Option<OwnedFd>) -> Self {
        let listener = match inherited {
            Some(socket) => Ok(Listener::from_fd(socket)),
            None => Listener::open(name),
        };
        let listener = listener.inspect_err(|error| {
            warn!(%error, "this tunnel cannot be taken over without interruption: cannot listen for that");
        });
        Self { listener: listener.ok(), name: Some(name.clone()), ..Self::default() }
    }

    /// Returns the descriptor that becomes readable with a connection; `None` while there is one:
    /// others wait in the queue.
    pub(in crate::supervisor) fn listener(&self) -> Option<BorrowedFd<'_>> {
        self.listener.as_ref().filter(|_| self.successor.is_none()).map(|listener| listener.as_fd())
    }

    /// Returns the connection of the process that takes the tunnel over, and the events to wait
    /// for.
    pub(in crate::supervisor) fn successor(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        let channel = &self.successor.as_ref()?.channel;
        let behind = if channel.is_behind() { PollFlags::POLLOUT } else { PollFlags::empty() };
        Some((channel.as_fd(), PollFlags::POLLIN | behind))
    }

    /// Returns the time at which `Context::handle_hand_over_timeout` is due.
    pub(in crate::supervisor) fn deadline(&self) -> Option<Instant> {
        match self.successor.as_ref()?.phase {
            Phase::Freezing { deadline, .. } | Phase::Frozen { deadline } => Some(deadline),
            Phase::Connected | Phase::Offered => None,
        }
    }
}
