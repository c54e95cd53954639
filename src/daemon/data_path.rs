//! The packets of a protocol: routing, encryption, sending.

use super::budget::Progress;
use super::core::Core;
use super::error::DaemonError;
use super::sockets::Sockets;
use super::sockets_in_use::SocketRef;
use super::token::SocketId;
use crate::net::error_class::ErrorClass;
use crate::net::send_batch::{SendBatch, SendRoute};
use wontun_packet::DropReason;
use wontun_packet::split::PacketLengths;

/// A route of datagrams in a mode.
pub type Route<M> = SendRoute<SocketRef<<M as DataPath>::Owner>>;

/// Routing decision for packets from the tun.
#[derive(Debug)]
pub enum RouteDecision<M: DataPath> {
    /// Send by this route, encrypted with this state.
    Send(Route<M>, M::Sealing),
    /// No route yet: pass each packet to [`DataPath::stage`].
    Stage(M::Owner),
    /// The rate of the peer is exceeded: pass each packet to [`DataPath::limit`].
    Limit(M::Owner),
}

/// Interface of a protocol for packets. Each call with [`Core`] has the lock, and must not take
/// long, since other workers wait for it.
pub trait DataPath: Sized + Send + std::fmt::Debug {
    /// Identifies the owner of a connected socket.
    type Owner: Copy + PartialEq + Send + Sync + std::fmt::Debug;

    /// Per-peer encryption state, usable without the lock.
    type Sealing: Send + std::fmt::Debug;

    /// Buffers that a worker reuses between two batches, so that nothing is allocated.
    type Scratch: Default + Send + std::fmt::Debug;

    /// Bytes that encryption needs in front of a packet.
    const HEADROOM: usize;

    /// Bytes that encryption adds behind a packet.
    const TAG: usize;

    /// Bytes that encryption needs behind a packet: tag and padding.
    const TAILROOM: usize;

    /// Lookups of a worker for packets, without the lock.
    type Lookup: Send + std::fmt::Debug;

    /// Returns a [`Self::Scratch`] with capacity for the largest batch.
    fn scratch() -> Self::Scratch;

    /// Returns a [`Self::Lookup`].
    fn lookup(&self) -> Self::Lookup;

    /// Returns the sockets.
    fn sockets(&self) -> &Sockets<Self::Owner>;

    /// Returns the sockets.
    fn sockets_mut(&mut self) -> &mut Sockets<Self::Owner>;

    /// Returns the routing decision for a packet from the tun, which is one or many of these
    /// lengths.
    ///
    /// # Errors
    /// The reason for dropping it.
    fn route(
        &mut self,
        core: &mut Core,
        packet: &[u8],
        lengths: PacketLengths,
    ) -> Result<RouteDecision<Self>, DropReason>;

    /// Queues a copy of a packet until there is a route.
    ///
    /// # Errors
    /// The reason for dropping it.
    fn stage(&mut self, core: &mut Core, owner: Self::Owner, packet: &[u8]) -> Result<(), DropReason>;

    /// Queues a copy of a packet until the rate of its peer permits it.
    ///
    /// # Errors
    /// The reason for dropping it.
    fn limit(&mut self, _core: &mut Core, _owner: Self::Owner, _packet: &[u8]) -> Result<(), DropReason> {
        Err(DropReason::OverRate)
    }

    /// Adds a packet whose rate permits it now to `batch`, which has room for the largest one.
    /// Called again while it returns [`Progress::More`].
    fn poll_limited_transmit(
        &mut self,
        _core: &mut Core,
        _batch: &mut SendBatch<SocketRef<Self::Owner>>,
    ) -> Progress {
        Progress::Drained
    }

    /// Moves a packet for the tun whose rate permits it now to the front of `room`, and returns its
    /// length.
    fn poll_limited_packet(&mut self, _core: &mut Core, _room: &mut [u8]) -> Option<usize> {
        None
    }

    /// Stops using a peer's connected socket in which bulk traffic waits, if the peer's small
    /// messages have a socket of their own then. Returns true if so.
    fn release_socket(&mut self, _core: &mut Core, _id: SocketId) -> bool {
        false
    }

    /// Returns the number of the device's queue to which a packet from a peer is written.
    fn device_queue(&self, core: &Core, _packet: &[u8]) -> usize {
        core.current()
    }

    /// Encrypts the packet of `len` bytes at offset [`Self::HEADROOM`] of `place` to a datagram,
    /// and returns its length; `None` if that is impossible.
    fn seal(sealing: &mut Self::Sealing, place: &mut [u8], len: usize) -> Option<usize>;

    /// Handles datagrams that could not be sent by a route: counts them, or returns another route
    /// for them.
    ///
    /// # Errors
    /// Only if the tunnel cannot run any more.
    fn handle_send_error(
        &mut self,
        core: &mut Core,
        class: ErrorClass,
        route: &Route<Self>,
        datagrams: usize,
    ) -> Result<Option<Route<Self>>, DaemonError>;

    /// Handles an error of the socket `id` caused by a datagram sent earlier.
    fn handle_socket_error(&mut self, core: &mut Core, id: SocketId, reason: DropReason);

    /// Handles a send error that may be about an earlier datagram by this route, or about the one
    /// being sent again.
    fn handle_suspect_error(&mut self, core: &mut Core, route: &Route<Self>, reason: DropReason);

    /// Handles pending events, and adds one outgoing datagram to `batch`, which is `None` while a
    /// socket is full. Called after everything else, and again while it returns [`Progress::More`].
    ///
    /// # Errors
    /// Only if the tunnel cannot run any more.
    fn serve(
        &mut self,
        core: &mut Core,
        batch: Option<&mut SendBatch<SocketRef<Self::Owner>>>,
    ) -> Result<Progress, DaemonError>;
}
