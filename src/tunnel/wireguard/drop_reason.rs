//! Why the engine takes a datagram or packet no further.

/// A reason, small enough to be returned for each hostile datagram; its number is a counter's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum DropReason {
    /// A datagram that is none of the four messages.
    NoMessage,
    /// A handshake message for another key, or not of WireGuard at all.
    BadMac1,
    /// A handshake message of a source that sends more than its share, though it proved its address.
    RateLimited,
    /// A handshake message without a valid mac2 while one is due; a cookie reply went out.
    NoCookie,
    /// The queue of handshake messages, or that of cookie replies, is full.
    QueueFull,
    /// A handshake message that does not decrypt, or that answers nothing we sent.
    Handshake,
    /// An initiation of somebody who is no peer.
    UnknownPeer,
    /// A public key of low order, with which there is no secret.
    LowOrder,
    /// An initiation no newer than one that was already accepted.
    OldInitiation,
    /// An initiation too soon after the peer's last.
    InitiationFlood,
    /// A cookie reply that answers nothing we sent or does not decrypt.
    BadCookie,
    /// A message to an index that is not in use.
    UnknownIndex,
    /// A data message of a session past its time or number of messages.
    Expired,
    /// A data message that is not authentic.
    NotAuthentic,
    /// A data message that was received before, or is too old to tell.
    Replay,
    /// An authenticated payload that is no IP packet.
    NoPacket,
    /// A packet marked as congested on the way though its sender does not take part (RFC 6040).
    Congested,
    /// A packet to a peer whose endpoint is not known.
    NoEndpoint,
    /// Our own private key is not set.
    NoKey,
    /// No such peer (any more).
    NoPeer,
    /// The caller's buffer is too small.
    Buffer,
}

impl DropReason {
    /// Every reason, in the order of its number.
    pub const ALL: [Self; 21] = [
        Self::NoMessage,
        Self::BadMac1,
        Self::RateLimited,
        Self::NoCookie,
        Self::QueueFull,
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
        Self::NoPacket,
        Self::Congested,
        Self::NoEndpoint,
        Self::NoKey,
        Self::NoPeer,
        Self::Buffer,
    ];

    /// The name for logs and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoMessage => "no_message",
            Self::BadMac1 => "bad_mac1",
            Self::RateLimited => "rate_limited",
            Self::NoCookie => "no_cookie",
            Self::QueueFull => "handshake_queue_full",
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
            Self::NoPacket => "no_packet",
            Self::Congested => "congested",
            Self::NoEndpoint => "no_endpoint",
            Self::NoKey => "no_key",
            Self::NoPeer => "no_peer",
            Self::Buffer => "buffer",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_is_in_its_place_and_has_a_name_of_its_own() {
        assert_eq!(size_of::<DropReason>(), 1);
        let mut names: Vec<_> = DropReason::ALL.iter().map(|reason| reason.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), DropReason::ALL.len());
        for (place, reason) in DropReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, place);
        }
    }
}
