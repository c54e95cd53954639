//! What both modes of the supervisor work with.

use std::net::SocketAddr;

use tracing::warn;

use super::link_watch::LinkWatch;
use super::lookups::{Lookups, Question};
use super::reconcile::Reconciler;
use super::service::Service;
use super::tunnel::Tunnel;
use crate::config::TunName;
use crate::io::signal::Signals;
use crate::messages::{Address, ToTunnel};
use crate::process::Nursery;
use crate::time::Instant;

/// Why the tunnel ends in good order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// A signal.
    Signal(nix::sys::signal::Signal),
    /// Somebody removed the socket that wg(8) talks to, which is how a userspace implementation is
    /// told to end.
    SocketRemoved,
    /// The tunnel process was asked to end, or has ended in good order. It may have been taken
    /// over, so this is no order to open the kill switch.
    TunnelProcess,
}

/// The device, the processes and the service manager.
#[derive(Debug)]
pub struct Context {
    pub(super) name: TunName,
    /// Begin of this turn of the loop.
    pub(super) now: Instant,
    pub(super) link: LinkWatch,
    pub(super) tunnel: Tunnel,
    pub(super) lookups: Lookups,
    pub(super) service: Service,
    pub(super) nursery: Nursery,
    pub(super) signals: Signals,
    pub(super) stop: Option<Stop>,
    pub(super) reconciler: Reconciler,
}

impl Context {
    /// Sends the answer to a question about a name: of the resolver if `is_asked`, of which there
    /// is a bounded number, else that it was not asked.
    pub(super) fn answer_question(
        &mut self,
        question: Question,
        result: Result<Vec<SocketAddr>, String>,
        is_asked: bool,
    ) {
        let result = result.map(|addresses| addresses.into_iter().map(Address::from).collect());
        let message = ToTunnel::Addresses { peer: question, result };
        if is_asked {
            self.tunnel.send(&message);
        } else {
            self.tunnel.answer(&message, Vec::new());
        }
    }

    /// Starts the resolver process again if that is due.
    pub(super) fn serve_lookups(&mut self) {
        let failed = self.lookups.restart(&mut self.nursery, self.now);
        if let Some(error) = failed {
            warn!(%error, "the resolver process cannot be started again; trying again later");
        }
    }
}
