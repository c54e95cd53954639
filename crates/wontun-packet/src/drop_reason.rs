//! The reasons for dropping a packet or datagram, of every layer: one list, so that one array of
//! counters covers them all.

/// Reason for dropping a packet or datagram. Its discriminant is its index in arrays of
/// counters, so counting the drop of a hostile packet costs one addition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum DropReason {
    /// No such peer, or in plain mode no peer known yet.
    NoPeer,
    /// A datagram from an unknown source: not the peer's address, or the `hello?` of a second
    /// client.
    UnknownSource,
    /// Not a well-formed IPv4 or IPv6 packet of its own length.
    Malformed,
    /// A datagram without a payload.
    Empty,
    /// IPv6 neighbour discovery, which a tunnel without link-layer addresses does not use and a
    /// peer could abuse.
    NeighbourDiscovery,
    /// A datagram of the tunnel that came out of the tunnel, or was about to enter it.
    OwnTun,
    /// Larger than the outer network accepts (EMSGSIZE).
    TooBig,
    /// No route to the peer, or this host's source address is gone.
    Unreachable,
    /// The peer's host reports that the port is closed (ECONNREFUSED).
    Refused,
    /// A firewall of this host, or a route, prohibits sending it (EPERM, EACCES).
    Blocked,
    /// A kernel queue is full (ENOBUFS, EAGAIN).
    QueueFull,
    /// The TUN device is down (EIO).
    TunDown,
    /// The TUN device refused the packet.
    TunError,
    /// Any other socket error.
    SocketError,
    /// From the TUN device, with a destination that is no peer's allowed IP.
    NotRouted,
    /// From a peer, with a source address that is not among its allowed IPs.
    NotAllowed,
    /// From the TUN device, to a peer whose endpoint is not known.
    NoEndpoint,
    /// No private key is set.
    NoKey,
    /// Does not fit into the engine's buffer.
    Buffer,
    /// Waited for a handshake that was not completed, or for too long.
    Unsent,
    /// A datagram that is not one of WireGuard's four messages.
    NoMessage,
    /// A handshake message for another public key, or not of WireGuard at all.
    BadMac1,
    /// A handshake message beyond the rate limit of a source that has proved its address.
    RateLimited,
    /// A handshake message without a valid mac2 while one is required; a cookie reply was sent.
    NoCookie,
    /// The queue of handshake messages, or of cookie replies, is full.
    HandshakeQueueFull,
    /// A handshake message that does not decrypt, or that answers nothing that was sent.
    Handshake,
    /// An initiation with a public key that is no peer's.
    UnknownPeer,
    /// A public key of low order, with which there is no shared secret.
    LowOrder,
    /// An initiation that is not newer than the last accepted one.
    OldInitiation,
    /// An initiation too soon after the peer's last one.
    InitiationFlood,
    /// A cookie reply that answers nothing that was sent, or does not decrypt.
    BadCookie,
    /// A message with a receiver index that is not in use.
    UnknownIndex,
    /// A data message of a session past its time or number of messages.
    Expired,
    /// A data message whose authentication fails.
    NotAuthentic,
    /// A data message that was received before, or is too old to tell.
    Replay,
    /// A packet that was marked as congested, by a router (RFC 6040) or since a link of this host
    /// is congested, although its sender does not support ECN.
    Congested,
    /// A packet of a peer that exceeds its rate.
    OverRate,
    /// A packet of a peer whose quota is used up.
    OverQuota,
}

impl DropReason {
    /// All reasons, in the order of their discriminants.
    pub const ALL: [Self; 38] = [
        Self::NoPeer,
        Self::UnknownSource,
        Self::Malformed,
        Self::Empty,
        Self::NeighbourDiscovery,
        Self::OwnTun,
        Self::TooBig,
        Self::Unreachable,
        Self::Refused,
        Self::Blocked,
        Self::QueueFull,
        Self::TunDown,
        Self::TunError,
        Self::SocketError,
        Self::NotRouted,
        Self::NotAllowed,
        Self::NoEndpoint,
        Self::NoKey,
        Self::Buffer,
        Self::Unsent,
        Self::NoMessage,
        Self::BadMac1,
        Self::RateLimited,
        Self::NoCookie,
        Self::HandshakeQueueFull,
        Self::Handshake,
        Self::UnknownPeer,
        Self::LowOrder,
        Self::OldInitiation,
        Self::InitiationFlood,
        Self::BadCookie,
        Self::UnknownIndex,
        Self::Expired,
        Self::NotAuthentic,
        Self::Replay,
        Self::Congested,
        Self::OverRate,
        Self::OverQuota,
    ];

    /// Returns the name used in logs and in the summary.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoPeer => "no_peer",
            Self::UnknownSource => "stranger",
            Self::Malformed => "malformed",
            Self::Empty => "empty",
            Self::NeighbourDiscovery => "neighbour_discovery",
            Self::OwnTun => "own_tun",
            Self::TooBig => "too_big",
            Self::Unreachable => "unreachable",
            Self::Refused => "refused",
            Self::Blocked => "blocked",
            Self::QueueFull => "queue_full",
            Self::TunDown => "tun_down",
            Self::TunError => "tun_error",
            Self::SocketError => "socket_error",
            Self::NotRouted => "not_routed",
            Self::NotAllowed => "not_allowed",
            Self::NoEndpoint => "no_endpoint",
            Self::NoKey => "no_key",
            Self::Buffer => "buffer",
            Self::Unsent => "unsent",
            Self::NoMessage => "no_message",
            Self::BadMac1 => "bad_mac1",
            Self::RateLimited => "rate_limited",
            Self::NoCookie => "no_cookie",
            Self::HandshakeQueueFull => "handshake_queue_full",
            Self::Handshake => "bad_handshake",
            Self::UnknownPeer => "unknown_peer",
            Self::LowOrder => "low_order_key",
            Self::OldInitiation => "old_initiation",
            Self::InitiationFlood => "initiation_flood",
            Self::BadCookie => "bad_cookie",
            Self::UnknownIndex => "unknown_index",
            Self::Expired => "expired",
            Self::NotAuthentic => "not_authentic",
            Self::Replay => "replay",
            Self::Congested => "congested",
            Self::OverRate => "over_rate",
            Self::OverQuota => "over_quota",
        }
    }
}
