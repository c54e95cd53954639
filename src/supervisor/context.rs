//! Mode-independent state of the supervisor.

use std::net::SocketAddr;

use tracing::warn;

use super::hand_over::HandOver;
use super::link_watch::LinkWatch;
use super::lookups::{LookupTarget, Lookups};
use super::path_watch::PathWatch;
use super::reconcile::Reconciler;
use super::service_manager::ServiceManager;
use super::tunnel::Tunnel;
use crate::config::TunName;
use crate::messages::{Address, ToTunnel};
use crate::net::signal::Signals;
use crate::process::Nursery;
use wontun_proto::time::Instant;
use wontun_proto::wireguard::PublicKey;

/// Reason of an orderly end of the tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StopReason {
    /// A signal.
    Signal(nix::sys::signal::Signal),
    /// The socket for wg(8) was removed, which is how a userspace implementation is told to end.
    SocketRemoved,
    /// The tunnel process was asked to end, or has ended in an orderly way. It may be compromised,
    /// so this does not open the kill switch.
    TunnelProcess,
    /// Another process carries the packets, and what belongs to the tunnel on the host is its.
    HandedOver,
}

/// The device, the processes and the service manager.
#[derive(Debug)]
pub(crate) struct Context {
    pub(super) name: TunName,
    /// Start of this turn of the event loop.
    pub(super) now: Instant,
    pub(super) link: LinkWatch,
    pub(super) tunnel: Tunnel,
    pub(super) lookups: Lookups,
    pub(super) service_manager: ServiceManager,
    pub(super) nursery: Nursery,
    pub(super) signals: Signals,
    pub(super) stop: Option<StopReason>,
    pub(super) reconciler: Reconciler,
    pub(super) hand_over: HandOver,
    pub(super) paths: PathWatch,
}

impl Context {
    /// Sends the answer to a look-up request: the resolver's if `is_from_resolver`, of which there
    /// is a bounded number, otherwise an error of sending the request.
    pub(super) fn send_lookup_result(
        &mut self,
        peer: Option<PublicKey>,
        result: Result<Vec<SocketAddr>, String>,
        is_from_resolver: bool,
    ) {
        let result = result.map(|addresses| addresses.into_iter().map(Address::from).collect());
        let message = ToTunnel::Addresses { peer, result };
        if is_from_resolver {
            self.tunnel.send(&message);
        } else {
            self.tunnel.answer(&message, Vec::new());
        }
    }

    /// Restarts the resolver process if it has requests, and returns these, to be sent again.
    pub(super) fn restart_lookups(&mut self) -> Vec<LookupTarget> {
        let (pending, failed) = self.lookups.take_pending(&mut self.nursery, self.now);
        if let Some(error) = failed {
            warn!(%error, "cannot restart the resolver process; trying again later");
        }
        pending
    }

    /// Restarts the resolver process if that is due.
    pub(super) fn handle_lookup_timeout(&mut self) {
        let failed = self.lookups.restart(&mut self.nursery, self.now);
        if let Some(error) = failed {
            warn!(%error, "cannot restart the resolver process; trying again later");
        }
    }
}
