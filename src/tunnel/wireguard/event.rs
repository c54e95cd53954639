//! Events that an interface reports about its peers.

use std::time::Duration;

use super::endpoint::Endpoint;
use super::index::PeerId;

/// A change in the state of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Datagrams to it go elsewhere, or leave from elsewhere, from now on.
    EndpointMoved {
        /// Which peer.
        peer: PeerId,
        /// The new path.
        endpoint: Endpoint,
    },
    /// There is a new session.
    HandshakeCompleted {
        /// With which peer.
        peer: PeerId,
    },
    /// Initiations have gone unanswered for [`super::REKEY_ATTEMPT_TIME`], again and again: if the
    /// endpoint was given as a name, it may have another address now.
    HandshakeFailing {
        /// With which peer.
        peer: PeerId,
    },
    /// Initiations are refused because an earlier one has a later stamp, and their stamps grow: the
    /// peer's clock was set back. Who replays several of its messages in their order is not told
    /// from it.
    ClockBehind {
        /// The peer, which the initiation has authenticated.
        peer: PeerId,
        /// Time of its clock since 1970.
        unix: Duration,
        /// Time by which an earlier initiation of the peer is later.
        behind: Duration,
    },
}
