//! Interface between the event loop and a protocol.

use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use super::budget::Progress;
use super::core::Core;
use super::data_path::DataPath;
use super::error::DaemonError;
use super::token::Token;
use crate::control::health::LatestHandshake;
use crate::messages::{ConnectedSocket, Status, ToTunnel};
use crate::metrics::{PeerSample, Sample};
use crate::net::udp::UdpSocket;
use wontun_packet::DropReason;
use wontun_proto::time::Instant;
use wontun_proto::wireguard::{HandshakeProgress, HandshakeStepResult, PublicKey};

/// A protocol: its packets, its events and its state.
pub trait Protocol: DataPath + Control {}

impl<M: DataPath + Control> Protocol for M {}

/// Interface of a protocol for events and its state. Each call with [`Core`] has the lock, and must
/// not take long, since other workers wait for it.
pub trait Control {
    /// Name of the mode in metrics.
    const NAME: &'static str;

    /// True if the mode queues handshake messages.
    const HAS_HANDSHAKES: bool = false;

    /// Logs that the tunnel is ready, and contacts the peers, before the event loop runs.
    ///
    /// # Errors
    /// Only if the tunnel cannot run any more; so for all of these.
    fn start(&mut self, core: &mut Core) -> Result<(), DaemonError>;

    /// Handles a token registered by this mode, except for sockets: answers to wg(8).
    ///
    /// # Errors
    /// As for [`Self::start`].
    fn drain(&mut self, core: &mut Core, token: Token) -> Result<Progress, DaemonError>;

    /// Begins with the handshake message that waited longest; `None` if none waits. A mode that
    /// queues such messages calls `core.handshakes.post()`.
    fn begin_handshake(&mut self, _core: &mut Core) -> Option<HandshakeProgress> {
        None
    }

    /// Continues a handshake with the result of its last step.
    fn continue_handshake(&mut self, _core: &mut Core, _result: HandshakeStepResult) -> HandshakeProgress {
        HandshakeProgress::Done(Err(DropReason::Handshake))
    }

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

    /// Handles the end of a suspension of the machine, which lasted `suspended`: existing sessions
    /// must not be used any more.
    fn handle_resume(&mut self, _core: &mut Core, _suspended: Duration) {}

    /// Handles the supervisor's request to end: sends it what it has to keep.
    fn handle_stop(&mut self, _core: &mut Core) {}

    /// Handles the loss of a local address: a connected socket bound to it would continue to send
    /// from it, over IPv6 without an error.
    ///
    /// # Errors
    /// As for [`Self::start`].
    fn handle_address_lost(&mut self, core: &mut Core, address: IpAddr) -> Result<(), DaemonError>;

    /// Writes the sessions to the file `to` for another process and seals it. Returns the connected
    /// sockets of the peers. Nothing is encrypted with these sessions afterwards, unless no other
    /// process continues them.
    ///
    /// # Errors
    /// The reason why they cannot be continued by another process.
    fn export(&self, _core: &Core, _to: OwnedFd) -> Result<Vec<(ConnectedSocket, Arc<UdpSocket>)>, String> {
        Err("a tunnel in plain mode has no sessions".to_owned())
    }

    /// Continues the sessions in the file `from`, with these connected sockets, and returns the
    /// number of peers that have some.
    ///
    /// # Errors
    /// The reason why none is continued: the peers have to handshake again.
    fn import(
        &mut self,
        _core: &mut Core,
        _from: OwnedFd,
        _sockets: Vec<(ConnectedSocket, OwnedFd)>,
    ) -> Result<u32, String> {
        Err("a tunnel in plain mode has no sessions".to_owned())
    }

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
