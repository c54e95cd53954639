//! Interface between the event loop and a protocol.

use std::net::IpAddr;
use std::os::fd::OwnedFd;

use super::budget::Progress;
use super::core::Core;
use super::error::DaemonError;
use super::sockets::{SocketRef, Sockets};
use super::token::Token;
use crate::control::health::LatestHandshake;
use crate::messages::{Status, ToTunnel};
use crate::metrics::{PeerSample, Sample};
use crate::net::error_class::ErrorClass;
use crate::net::send_batch::{SendBatch, SendRoute};
use wontun_packet::DropReason;
use wontun_packet::split::PacketLengths;
use wontun_proto::time::Instant;
use wontun_proto::wireguard::PublicKey;

/// Routing decision for packets from the tun.
#[derive(Debug)]
pub enum RouteDecision<M: Mode> {
    /// Send by this route, encrypted with this state.
    Send(SendRoute<SocketRef<M::Owner>>, M::Sealing),
    /// No route yet: pass each packet to [`Mode::stage`].
    Stage(M::Owner),
}

/// Interface of a protocol to the event loop. Each call has access to all of [`Core`], and must not
/// take long, since other workers wait for the lock.
pub trait Mode: Sized + Send + std::fmt::Debug {
    /// Identifies the owner of a connected socket.
    type Owner: Copy + PartialEq + Send + std::fmt::Debug;
    /// Per-peer encryption state, usable without the lock.
    type Sealing: Send + std::fmt::Debug;
    /// Buffers that a worker reuses between two batches, so that nothing is allocated.
    type Scratch: Default + Send + std::fmt::Debug;
    /// Name of the mode in metrics.
    const NAME: &'static str;
    /// Bytes that encryption needs in front of a packet.
    const HEADROOM: usize;
    /// Bytes that encryption adds behind a packet.
    const TAG: usize;
    /// Bytes that encryption needs behind a packet: tag and padding.
    const TAILROOM: usize;

    /// Returns a [`Self::Scratch`] with capacity for the largest batch.
    fn scratch() -> Self::Scratch;

    /// Logs that the tunnel is ready.
    fn log_ready(&self, core: &Core);

    /// Contacts the peers, before the event loop runs.
    ///
    /// # Errors
    /// Only if the tunnel cannot run any more; so for all of these.
    fn start(&mut self, core: &mut Core) -> Result<(), DaemonError>;

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

    /// Encrypts the packet of `len` bytes at offset [`Self::HEADROOM`] of `place` to a datagram,
    /// and returns its length; `None` if that is impossible.
    fn seal(sealing: &mut Self::Sealing, place: &mut [u8], len: usize) -> Option<usize>;

    /// Handles datagrams that could not be sent by a route: counts them, or returns another route
    /// for them.
    ///
    /// # Errors
    /// As for [`Self::start`].
    fn handle_send_error(
        &mut self,
        core: &mut Core,
        class: ErrorClass,
        route: &SendRoute<SocketRef<Self::Owner>>,
        datagrams: usize,
    ) -> Result<Option<SendRoute<SocketRef<Self::Owner>>>, DaemonError>;

    /// Handles a socket error caused by a datagram sent earlier.
    fn handle_socket_error(&mut self, core: &mut Core, reason: DropReason) {
        core.count_drop(reason, None);
    }

    /// Handles a send error that may be about an earlier datagram, or about the one being sent
    /// again.
    fn handle_suspect_error(&mut self, _core: &mut Core, _reason: DropReason) {}

    /// Handles a token registered by this mode, except for sockets: answers to wg(8), queued
    /// handshakes.
    ///
    /// # Errors
    /// As for [`Self::start`].
    fn drain(&mut self, core: &mut Core, token: Token) -> Result<Progress, DaemonError>;

    /// Handles pending events, and adds one outgoing datagram to `batch`, which is `None` while a
    /// socket is full. Called after everything else, and again while it returns [`Progress::More`].
    ///
    /// # Errors
    /// As for [`Self::start`].
    fn serve(
        &mut self,
        core: &mut Core,
        batch: Option<&mut SendBatch<SocketRef<Self::Owner>>>,
    ) -> Result<Progress, DaemonError>;

    /// Returns the time at which [`Self::handle_timeouts`] must be called next.
    fn deadline(&self) -> Option<Instant>;

    /// Handles deadlines that have passed.
    ///
    /// # Errors
    /// As for [`Self::start`].
    fn handle_timeouts(&mut self, core: &mut Core) -> Result<(), DaemonError>;

    /// Applies a message of the supervisor that is specific to this mode.
    ///
    /// # Errors
    /// [`DaemonError::UnexpectedMessage`] if it is not; as for [`Self::start`].
    fn handle_message(
        &mut self,
        core: &mut Core,
        message: ToTunnel,
        descriptors: Vec<OwnedFd>,
    ) -> Result<(), DaemonError>;

    /// Handles a changed mark of datagrams, after which the peers' sockets are no longer used.
    fn handle_mark(&mut self, _core: &mut Core) {}

    /// Handles new spare sockets, which peers without a connected socket may get.
    ///
    /// # Errors
    /// As for [`Self::start`].
    fn handle_spares(&mut self, _core: &mut Core) -> Result<(), DaemonError> {
        Ok(())
    }

    /// Handles a possible change of the device's state or MTU.
    ///
    /// # Errors
    /// As for [`Self::start`].
    fn handle_link(&mut self, core: &mut Core) -> Result<(), DaemonError>;

    /// Handles the end of a suspension of the machine: existing sessions must not be used any more.
    fn handle_resume(&mut self, _core: &mut Core) {}

    /// Handles the loss of a local address: a connected socket bound to it would continue to send
    /// from it, over IPv6 without an error.
    ///
    /// # Errors
    /// As for [`Self::start`].
    fn handle_address_lost(&mut self, core: &mut Core, address: IpAddr) -> Result<(), DaemonError>;

    /// Returns the time since the latest handshake with any peer.
    fn handshake(&self, now: Instant) -> LatestHandshake;

    /// Fills in the metrics of this mode, except for those of peers.
    fn collect(&self, now: Instant, sample: &mut Sample);

    /// Appends the metrics of peers: at most `limit`, in the order of their public keys, starting
    /// after `after`. The vector has capacity for them.
    fn collect_peers(
        &self,
        after: Option<&PublicKey>,
        limit: usize,
        now: Instant,
        peers: &mut Vec<PeerSample>,
    );

    /// Returns the state of the peers, for the service manager.
    fn status(&self, now: Instant) -> Status;

    /// Returns the number of ended sessions. Whenever it grows, each worker overwrites its stack,
    /// where the cipher may have left copies of their keys.
    fn ended_sessions(&self) -> u64 {
        0
    }

    /// Returns the number of packets that were queued and never sent.
    fn lost_packets(&self) -> u64;
}
