//! Counters of packets carried, and dropped by reason.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// Reason for dropping a packet or datagram. Its discriminant is its index in [`Counters`], so
/// counting the drop of a hostile packet costs one addition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum DropReason {
    /// No such peer, or in plain mode no peer known yet.
    NoPeer,
    /// A datagram from an unknown source: not the peer's address, or the `hello?` of a second
    /// client.
    Stranger,
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
    /// A kernel queue is full (ENOBUFS, EAGAIN).
    QueueFull,
    /// The TUN device is down (EIO).
    TunDown,
    /// The TUN device refused the packet.
    TunError,
    /// Any other socket error, such as EPERM of a firewall.
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
    /// A packet marked as congested by a router although its sender does not support ECN (RFC
    /// 6040).
    Congested,
}

impl DropReason {
    /// All reasons, in the order of their discriminants.
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

    /// Returns the name used in logs and in the summary.
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

/// Packets and bytes carried in one direction; bytes are those of the inner packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    /// Number of packets.
    pub packets: u64,
    /// Number of bytes, without the outer headers.
    pub bytes: u64,
}

/// Counters of one worker, which only that worker increments and any thread may read. They are not
/// read atomically together: a reader may see a packet whose bytes are not counted yet.
#[derive(Debug)]
#[repr(align(128))]
pub struct Counters {
    tx: Pair,
    rx: Pair,
    drops: [AtomicU64; DropReason::ALL.len()],
}

#[derive(Debug, Default)]
struct Pair {
    packets: AtomicU64,
    bytes: AtomicU64,
}

impl Pair {
    fn count(&self, packets: usize, bytes: usize) {
        self.packets.fetch_add(packets as u64, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn add_to(&self, flow: &mut Flow) {
        flow.packets += self.packets.load(Ordering::Relaxed);
        flow.bytes += self.bytes.load(Ordering::Relaxed);
    }
}

impl Default for Counters {
    fn default() -> Self {
        let drops = [const { AtomicU64::new(0) }; DropReason::ALL.len()];
        Self { tx: Pair::default(), rx: Pair::default(), drops }
    }
}

impl Counters {
    /// Counts packets from the TUN device to the network, and their bytes. A packet that cannot be
    /// sent after all is counted as a drop as well.
    pub fn count_tx(&self, packets: usize, bytes: usize) {
        self.tx.count(packets, bytes);
    }

    /// Counts packets from the network to the TUN device, and their bytes.
    pub fn count_rx(&self, packets: usize, bytes: usize) {
        self.rx.count(packets, bytes);
    }

    /// Counts `packets` drops for `reason`.
    pub fn dropped(&self, reason: DropReason, packets: usize) {
        if let Some(count) = self.drops.get(reason as usize) {
            count.fetch_add(packets as u64, Ordering::Relaxed);
        }
    }
}

/// Sum of the counters of one tunnel.
#[derive(Clone, Debug)]
pub struct Totals {
    /// From the TUN device to the network.
    pub tx: Flow,
    /// From the network to the TUN device.
    pub rx: Flow,
    drops: [u64; DropReason::ALL.len()],
}

impl Default for Totals {
    fn default() -> Self {
        Self { tx: Flow::default(), rx: Flow::default(), drops: [0; DropReason::ALL.len()] }
    }
}

impl Totals {
    /// Adds the counters of one worker.
    pub fn add(&mut self, counters: &Counters) {
        counters.tx.add_to(&mut self.tx);
        counters.rx.add_to(&mut self.rx);
        for (total, count) in self.drops.iter_mut().zip(&counters.drops) {
            *total += count.load(Ordering::Relaxed);
        }
    }

    /// Replaces the count of `reason` with one that is kept elsewhere.
    pub fn set_drops(&mut self, reason: DropReason, total: u64) {
        if let Some(count) = self.drops.get_mut(reason as usize) {
            *count = total;
        }
    }

    /// Returns the number of packets dropped for `reason`.
    pub fn drops(&self, reason: DropReason) -> u64 {
        self.drops.get(reason as usize).copied().unwrap_or_default()
    }

    /// Returns a value that displays as `stranger=3 malformed=1`, or `none`.
    pub const fn drop_summary(&self) -> impl fmt::Display + '_ {
        DropSummary(self)
    }
}

struct DropSummary<'a>(&'a Totals);

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
            let (counters, mut totals) = (Counters::default(), Totals::default());
            counters.dropped(reason, 1);
            totals.add(&counters);
            assert_eq!(totals.drop_summary().to_string(), format!("{}=1", reason.name()));
        }
    }

    #[test]
    fn the_summary_names_only_what_happened() {
        let workers = [Counters::default(), Counters::default()];
        let total = || {
            let mut totals = Totals::default();
            workers.iter().for_each(|counters| totals.add(counters));
            totals
        };
        assert_eq!(total().drop_summary().to_string(), "none");
        workers[0].dropped(DropReason::Malformed, 1);
        workers[1].dropped(DropReason::Stranger, 1);
        workers[0].dropped(DropReason::Stranger, 1);
        workers[0].count_tx(2, 300);
        workers[1].count_tx(1, 4);
        assert_eq!(total().drop_summary().to_string(), "stranger=2 malformed=1");
        assert_eq!(total().tx, Flow { packets: 3, bytes: 304 });
    }
}
