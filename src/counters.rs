//! What was carried and what was dropped, and why.

use std::fmt;

/// Why a packet or datagram went no further. Its number is its place in [`Counters`], so that dropping a
/// hostile packet costs one addition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum DropReason {
    /// No such peer, or none is known yet.
    NoPeer,
    /// A datagram from an address that is not the peer's, a second client's `hello?` included.
    Stranger,
    /// Not a well-formed IPv4 or IPv6 packet of its own length.
    Malformed,
    /// A datagram without a payload.
    Empty,
    /// IPv6 neighbour discovery, which a tunnel without link addresses has no use for and a peer could abuse.
    NeighbourDiscovery,
    /// A datagram of the tunnel that came out of, or was about to go into, the tunnel itself.
    OwnTun,
    /// Larger than the outer network takes (EMSGSIZE).
    TooBig,
    /// The outer network has no way to the peer, or our source address is gone.
    Unreachable,
    /// The peer's host answered that its port is closed (ECONNREFUSED).
    Refused,
    /// A queue of the kernel is full (ENOBUFS, EAGAIN).
    QueueFull,
    /// The tun is down (EIO).
    TunDown,
    /// The tun refused the packet.
    TunError,
    /// Any other error of a socket, such as a firewall's EPERM.
    SocketError,
    /// From the tun, to an address that is no peer's allowed IP.
    NotRouted,
    /// From a peer, with a source address that is not among its allowed IPs.
    NotAllowed,
    /// From the tun, to a peer whose endpoint is not known.
    NoEndpoint,
    /// Our own private key is not set.
    NoKey,
    /// A packet that the engine's buffer has no room for.
    Buffer,
    /// Waited for a handshake, in vain or for too long.
    Unsent,
    /// A datagram that is none of WireGuard's four messages.
    NoMessage,
    /// A handshake message for another key, or not of WireGuard at all.
    BadMac1,
    /// A handshake message of a source that sends more than its share, though it proved its address.
    RateLimited,
    /// A handshake message without a valid mac2 while one is due; a cookie reply went out.
    NoCookie,
    /// The queue of handshake messages, or that of cookie replies, is full.
    HandshakeQueueFull,
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
    /// A packet marked as congested on the way though its sender does not take part (RFC 6040).
    Congested,
}

impl DropReason {
    /// Every reason, in the order of its number.
    pub const ALL: [Self; 35] = [
        Self::NoPeer,
        Self::Stranger,
        Self::Malformed,
        Self::Empty,
        Self::NeighbourDiscovery,
        Self::OwnTun,
        Self::TooBig,
        Self::Unreachable,
        Self::Refused,
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
    ];

    /// The name that logs and the summary use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoPeer => "no_peer",
            Self::Stranger => "stranger",
            Self::Malformed => "malformed",
            Self::Empty => "empty",
            Self::NeighbourDiscovery => "neighbour_discovery",
            Self::OwnTun => "own_tun",
            Self::TooBig => "too_big",
            Self::Unreachable => "unreachable",
            Self::Refused => "refused",
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
        }
    }
}

/// Packets and bytes that went one way; bytes are those of the inner packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    /// Packets carried.
    pub packets: u64,
    /// Their bytes, without the outer headers.
    pub bytes: u64,
}

impl Flow {
    /// Counts one packet of `bytes`.
    pub const fn count(&mut self, bytes: usize) {
        self.packets += 1;
        self.bytes += bytes as u64;
    }
}

/// All that is counted about one tunnel.
#[derive(Clone, Debug)]
pub struct Counters {
    /// From the tun to the wire.
    pub tx: Flow,
    /// From the wire to the tun.
    pub rx: Flow,
    drops: [u64; DropReason::ALL.len()],
}

impl Default for Counters {
    fn default() -> Self {
        Self { tx: Flow::default(), rx: Flow::default(), drops: [0; DropReason::ALL.len()] }
    }
}

impl Counters {
    /// Counts one drop.
    pub fn dropped(&mut self, reason: DropReason) {
        if let Some(count) = self.drops.get_mut(reason as usize) {
            *count += 1;
        }
    }

    /// Takes over a count that is kept elsewhere.
    pub fn set_drops(&mut self, reason: DropReason, total: u64) {
        if let Some(count) = self.drops.get_mut(reason as usize) {
            *count = total;
        }
    }

    /// How many were dropped for `reason`.
    pub fn drops(&self, reason: DropReason) -> u64 {
        self.drops.get(reason as usize).copied().unwrap_or_default()
    }

    /// Prints as `stranger=3 malformed=1`, or `none`.
    pub const fn drop_summary(&self) -> impl fmt::Display + '_ {
        DropSummary(self)
    }
}

struct DropSummary<'a>(&'a Counters);

impl fmt::Display for DropSummary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for reason in DropReason::ALL {
            let count = self.0.drops(reason);
            if count > 0 {
                write!(f, "{separator}{}={count}", reason.name())?;
                separator = " ";
            }
        }
        if separator.is_empty() { f.write_str("none") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_a_counter_and_a_name_of_its_own() {
        let mut names: Vec<_> = DropReason::ALL.iter().map(|r| r.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), DropReason::ALL.len());
        for (place, reason) in DropReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, place);
            let mut counters = Counters::default();
            counters.dropped(reason);
            assert_eq!(counters.drop_summary().to_string(), format!("{}=1", reason.name()));
        }
    }

    #[test]
    fn the_summary_names_only_what_happened() {
        let mut counters = Counters::default();
        assert_eq!(counters.drop_summary().to_string(), "none");
        for reason in [DropReason::Malformed, DropReason::Stranger, DropReason::Stranger] {
            counters.dropped(reason);
        }
        assert_eq!(counters.drop_summary().to_string(), "stranger=2 malformed=1");
    }
}
