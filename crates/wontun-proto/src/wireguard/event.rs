//! Events that an interface reports about its peers.

use std::net::SocketAddr;
use std::time::Duration;

use super::endpoint::Endpoint;
use super::index::PeerId;
use super::key::PublicKey;

/// A change in the state of a peer, or a handshake with none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The destination or the source address of datagrams to the peer has changed.
    EndpointMoved {
        /// The peer.
        peer: PeerId,
        /// The new path.
        endpoint: Endpoint,
    },
    /// A handshake was completed and there is a new session.
    HandshakeCompleted {
        /// The peer.
        peer: PeerId,
    },
    /// Initiations of the present run are unanswered; reported each time that another one is due,
    /// the first time after [`super::REKEY_TIMEOUT`].
    Unanswered {
        /// The peer.
        peer: PeerId,
        /// Time since the first of them.
        elapsed: Duration,
    },
    /// Initiations have gone unanswered for [`super::REKEY_ATTEMPT_TIME`]; reported again after
    /// each such time. If the endpoint was given as a name, the name may have another address now.
    HandshakeFailing {
        /// The peer.
        peer: PeerId,
    },
    /// The state of the peer that is kept over a restart has changed: the latest timestamp of its
    /// initiations, the last handshake, or the confirmed endpoint.
    StateChanged {
        /// The peer.
        peer: PeerId,
    },
    /// The quota of the peer is used up ([`super::QuotaLimit`]).
    QuotaUsedUp {
        /// The peer.
        peer: PeerId,
    },
    /// Initiations are rejected because an earlier one has a later timestamp, and their timestamps
    /// grow: the peer's clock was set back. A replay of several of the peer's messages in their
    /// order cannot be distinguished from that.
    ClockBehind {
        /// The peer, which the initiation has authenticated.
        peer: PeerId,
        /// Time of its clock since 1970.
        unix: Duration,
        /// Difference to the later timestamp of an earlier initiation.
        behind: Duration,
    },
    /// An initiation was rejected because its public key is no peer's. Only the last one since the
    /// last call is reported. The sender knows this interface's public key, but does not prove that
    /// it has the private key.
    UnknownPeer {
        /// Source of the initiation.
        from: SocketAddr,
        /// Public key in the initiation.
        public: PublicKey,
    },
}
