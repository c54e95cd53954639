//! Interface between the event loop and a protocol.

use std::net::IpAddr;
use std::os::fd::OwnedFd;

use super::budget::Progress;
use super::core::Core;
use super::error::DeviceError;
use super::sockets::{Sockets, Via};
use super::token::Token;
use crate::control::health::Handshake;
use crate::counters::DropReason;
use crate::io::batch::{Batch, Route};
use crate::io::fault::Fault;
use crate::messages::{Status, ToTunnel};
use crate::metrics::{PeerSample, Sample};
use crate::packet::split::Lengths;
use crate::time::Instant;
use crate::tunnel::wireguard::PublicKey;

/// Where packets from the tun go.
#[derive(Debug)]
pub enum Way<M: Mode> {
    /// By this route, sealed with this.
    Send(Route<Via<M::Owner>>, M::Sealing),
    /// Nowhere yet: each is to be handed to [`Mode::stage`].
    Stage(M::Owner),
}

/// What a protocol makes of the loop's events. Each call may work with everything in [`Core`], and with nothing that takes
/// long, since others wait.
pub trait Mode: Sized + Send + std::fmt::Debug {
    /// Who has a socket of its own.
    type Owner: Copy + PartialEq + Send + std::fmt::Debug;
    /// What packets to one peer are sealed with, without anybody's leave.
    type Sealing: Send + std::fmt::Debug;
    /// What a worker keeps between two arrivals, so that nothing is allocated.
    type Scratch: Default + Send + std::fmt::Debug;
    /// What metrics call it.
    const NAME: &'static str;
    /// Bytes that sealing needs in front of a packet.
    const HEADROOM: usize;
    /// Bytes that sealing adds behind it.
    const TAG: usize;
    /// Bytes that sealing needs behind it: tag and padding.
    const TAILROOM: usize;

    /// [`Self::Scratch`] with room for the largest arrival.
    fn scratch() -> Self::Scratch;

    /// The first thing that the loop does: says that it is ready, and turns to the peers.
    ///
    /// # Errors
    /// Only what leaves no tunnel to run; so for all of these.
    fn start(&mut self, core: &mut Core) -> Result<(), DeviceError>;

    /// The sockets.
    fn sockets(&self) -> &Sockets<Self::Owner>;

    /// The sockets.
    fn sockets_mut(&mut self) -> &mut Sockets<Self::Owner>;

    /// Where a packet from the tun goes, which is one or many of these lengths.
    ///
    /// # Errors
    /// The reason why it is to be dropped.
    fn route(&mut self, core: &mut Core, packet: &[u8], lengths: Lengths) -> Result<Way<Self>, DropReason>;

    /// Keeps a copy of a packet until there is a way.
    ///
    /// # Errors
    /// The reason why it is to be dropped.
    fn stage(&mut self, core: &mut Core, owner: Self::Owner, packet: &[u8]) -> Result<(), DropReason>;

    /// Makes a datagram of the packet of `len` bytes that lies [`Self::HEADROOM`] into `place`, and gives its length.
    /// `None` if it cannot.
    fn seal(sealing: &mut Self::Sealing, place: &mut [u8], len: usize) -> Option<usize>;

    /// Datagrams could not be sent by a route: counts them, unless there is another way for them.
    ///
    /// # Errors
    /// As for [`Self::start`].
    fn handle_send_fault(
        &mut self,
        core: &mut Core,
        fault: Fault,
        route: &Route<Via<Self::Owner>>,
        datagrams: usize,
    ) -> Result<Option<Route<Via<Self::Owner>>>, DeviceError>;

    /// An error that a datagram sent earlier came back with.
    fn handle_bounce(&mut self, core: &mut Core, reason: DropReason) {
        core.count_drop(reason, None);
    }

    /// An error of sending that may be about an earlier datagram, or about the one that is tried again now.
    fn handle_doubtful_bounce(&mut self, _core: &mut Core, _reason: DropReason) {}

    /// Drains what only this mode has registered, but for sockets: answers to wg(8), waiting
    /// handshakes.
    ///
    /// # Errors
    /// As for [`Self::start`].
    fn drain(&mut self, core: &mut Core, token: Token) -> Result<Progress, DeviceError>;

    /// Acts on news, and adds one datagram that is due to `batch`, which is not there while a socket has no room. Called
    /// after everything else, and again while there is [`Progress::More`].
    ///
    /// # Errors
    /// As for [`Self::start`].
    fn serve(
        &mut self,
        core: &mut Core,
        batch: Option<&mut Batch<Via<Self::Owner>>>,
    ) -> Result<Progress, DeviceError>;

    /// When [`Self::handle_timeouts`] wants to be called next.
    fn deadline(&self) -> Option<Instant>;

    /// Does what is due.
    ///
    /// # Errors
    /// As for [`Self::start`].
    fn handle_timeouts(&mut self, core: &mut Core) -> Result<(), DeviceError>;

    /// Applies a message of the supervisor that is about this mode only.
    ///
    /// # Errors
    /// [`DeviceError::Message`] if it is not; as for [`Self::start`].
    fn handle_message(
        &mut self,
        core: &mut Core,
        message: ToTunnel,
        descriptors: Vec<OwnedFd>,
    ) -> Result<(), DeviceError>;

    /// The mark of datagrams was changed, and peers' sockets are out of use.
    fn handle_mark(&mut self, _core: &mut Core) {}

    /// Spare sockets have come, which peers without one of their own may have.
    ///
    /// # Errors
    /// As for [`Self::start`].
    fn handle_spares(&mut self, _core: &mut Core) -> Result<(), DeviceError> {
        Ok(())
    }

    /// The device's state or MTU may be another.
    ///
    /// # Errors
    /// As for [`Self::start`].
    fn handle_link(&mut self, core: &mut Core) -> Result<(), DeviceError>;

    /// The machine was suspended: what was agreed on before is not to be used any more.
    fn handle_resume(&mut self, _core: &mut Core) {}

    /// This host does not have that address any more: a connected socket that is bound to it would go on sending from it,
    /// over IPv6 without an error.
    ///
    /// # Errors
    /// As for [`Self::start`].
    fn handle_address_lost(&mut self, core: &mut Core, address: IpAddr) -> Result<(), DeviceError>;

    /// Time since a peer last completed a handshake.
    fn handshake(&self, now: Instant) -> Handshake;

    /// Says what metrics tell of this mode, but for each peer.
    fn tell(&self, now: Instant, sample: &mut Sample);

    /// Adds what metrics tell of peers: at most so many, in the order of their public keys, of those that come after
    /// `after`. There is room for them.
    fn tell_peers(&self, after: Option<&PublicKey>, most: usize, now: Instant, peers: &mut Vec<PeerSample>);

    /// Returns the state of the peers, for the service manager.
    fn status(&self, now: Instant) -> Status;

    /// Sessions that are over. Whenever there are more of them, each worker overwrites its stack,
    /// where the cipher may have left copies of their keys.
    fn ended_sessions(&self) -> u64 {
        0
    }

    /// Packets that the engine took and could not send in the end.
    fn lost_packets(&self) -> u64;
}
