//! What was carried and what was dropped, and why.

use std::fmt;

/// Why a packet or datagram went no further. Its number is its place in [`Counters`], so that dropping a
/// hostile packet costs one addition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum DropReason {
    /// From the tun, while no peer is known.
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
}

impl DropReason {
    /// Every reason, in the order of its number.
    pub const ALL: [Self; 13] = [
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
#[derive(Clone, Debug, Default)]
pub struct Counters {
    /// From the tun to the wire.
    pub tx: Flow,
    /// From the wire to the tun.
    pub rx: Flow,
    drops: [u64; DropReason::ALL.len()],
}

impl Counters {
    /// Counts one drop.
    pub fn dropped(&mut self, reason: DropReason) {
        if let Some(count) = self.drops.get_mut(reason as usize) {
            *count += 1;
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
