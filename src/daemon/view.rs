//! Copy of the state of sockets and device that each packet depends on. Workers read it without the
//! lock; it is replaced as a whole when that state changes.

use std::sync::{Arc, Weak};

use arc_swap::{ArcSwap, Cache};

use super::core::{Core, LinkState};
use super::data_path::DataPath;
use super::sockets_in_use::SocketsInUse;
use crate::net::recv_buffer::LocalAddress;
use crate::net::udp::UdpSocket;

/// A copy of the state of sockets and device. It does not keep the sockets open: one that is closed
/// must not receive any more.
#[derive(Debug)]
pub(super) struct View<O> {
    link: LinkState,
    pub(super) sockets: SocketsInUse<O, Weak<UdpSocket>>,
}

/// The latest view, and access to it for one worker.
pub(super) type LatestView<O> = Arc<ArcSwap<View<O>>>;
pub(super) type ViewReader<O> = Cache<LatestView<O>, Arc<View<O>>>;

impl<O: Copy + PartialEq> View<O> {
    /// Returns a copy of the present state.
    pub(super) fn new<M: DataPath<Owner = O>>(mode: &M, core: &Core) -> Self {
        Self { link: core.link, sockets: mode.sockets().table().downgrade() }
    }

    /// Returns the latest view, for [`super::shared::Shared`] and the workers.
    pub(super) fn latest<M: DataPath<Owner = O>>(mode: &M, core: &Core) -> LatestView<O> {
        Arc::new(ArcSwap::from_pointee(Self::new(mode, core)))
    }

    /// Returns the device's MTU.
    pub(super) fn mtu(&self) -> usize {
        usize::try_from(self.link.mtu).unwrap_or(usize::MAX)
    }

    /// As [`Core::is_from_own_tun`].
    pub(super) fn is_from_own_tun(&self, local: Option<LocalAddress>) -> bool {
        self.link.is_own_tun(local)
    }
}
