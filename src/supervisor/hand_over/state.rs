//! State of a hand-over on the side of the running process.

use std::net::SocketAddr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use nix::poll::PollFlags;
use nix::sys::signal::Signal;
use tracing::warn;

use super::listener::{Listener, PeerProcess};
use super::messages::{FromSuccessor, Offer, ToSuccessor};
use crate::config::TunName;
use crate::messages::{BaseSocket, Queue};
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
    /// Set while the tunnel is being passed to the service manager.
    pub(super) storing: Option<Storing>,
}

/// A tunnel that is being passed to the service manager, for the next start of the service.
#[derive(Debug)]
pub(super) struct Storing {
    pub(super) tunnel: SharedTunnel,
    /// File for the sessions.
    pub(super) sessions: OwnedFd,
    pub(super) deadline: Instant,
    /// Signal that ends the tunnel if it cannot be passed.
    pub(super) stop: Option<Signal>,
}

/// Description of a tunnel, with duplicates of its descriptors.
#[derive(Debug)]
pub(super) struct SharedTunnel {
    pub(super) offer: Offer,
    /// Listening sockets, by name.
    pub(super) listeners: Vec<(&'static str, OwnedFd)>,
    pub(super) queues: Vec<(Queue, OwnedFd)>,
    /// Disconnected UDP sockets.
    pub(super) sockets: Vec<(BaseSocket, OwnedFd)>,
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
        let is_free = self.successor.is_none() && self.storing.is_none();
        self.listener.as_ref().filter(|_| is_free).map(|listener| listener.as_fd())
    }

    /// Returns the connection of the process that takes the tunnel over, and the events to wait
    /// for.
    pub(in crate::supervisor) fn successor(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        let channel = &self.successor.as_ref()?.channel;
        let behind = if channel.is_behind() { PollFlags::POLLOUT } else { PollFlags::empty() };
        Some((channel.as_fd(), PollFlags::POLLIN | behind))
    }

    /// Records a signal that ends the tunnel. Returns true if it waits for the tunnel being passed
    /// to the service manager.
    pub(in crate::supervisor) fn defers(&mut self, signal: Signal) -> bool {
        self.storing.as_mut().map(|storing| storing.stop = Some(signal)).is_some()
    }

    /// Returns the time at which `Context::handle_hand_over_timeout` is due.
    pub(in crate::supervisor) fn deadline(&self) -> Option<Instant> {
        if let Some(storing) = &self.storing {
            return Some(storing.deadline);
        }
        match self.successor.as_ref()?.phase {
            Phase::Freezing { deadline, .. } | Phase::Frozen { deadline } => Some(deadline),
            Phase::Connected | Phase::Offered => None,
        }
    }
}
