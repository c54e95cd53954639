//! Senders of a `hello?` that may become the peer, once the supervisor has checked that the host's
//! routes to them use another device than the tunnel's own.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::net::recv_buffer::LocalAddress;
use wontun_proto::time::Instant;

/// Number of candidates accepted per second; each may cost a socket, and `hello?` can be forged.
const RATE: u32 = 16;
/// Timeout for the supervisor's answer.
const CHECK_TIMEOUT: Duration = Duration::from_secs(5);

/// Senders of a `hello?` that are being checked, one entry each.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    pending: Vec<Candidate>,
    second: Option<Instant>,
    /// Number of candidates in the current second.
    count: u32,
}

/// A sender's address, the local address it sent to and the worker that received the datagram.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    pub(super) from: SocketAddr,
    pub(super) local: Option<LocalAddress>,
    pub(super) worker: usize,
    pub(super) at: Instant,
}

impl Candidates {
    /// Adds a candidate. Returns true if it was added.
    pub(super) fn insert(&mut self, candidate: Candidate) -> bool {
        let now = candidate.at;
        self.pending.retain(|other| now.since(other.at) < CHECK_TIMEOUT);
        if self.pending.iter().any(|other| other.from == candidate.from) {
            return false;
        }
        if self.second.is_none_or(|second| now.since(second) >= Duration::from_secs(1)) {
            (self.second, self.count) = (Some(now), 0);
        }
        self.count += 1;
        let is_allowed = self.count <= RATE;
        if is_allowed {
            self.pending.push(candidate);
        }
        is_allowed
    }

    /// Removes and returns the oldest candidate at that address.
    pub(super) fn take(&mut self, address: IpAddr) -> Option<Candidate> {
        let index = self.pending.iter().position(|candidate| candidate.from.ip() == address)?;
        Some(self.pending.remove(index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_sender_is_one_candidate_and_few_come_in_a_second() {
        let mut candidates = Candidates::default();
        let candidate = |port, millis| Candidate {
            from: SocketAddr::from(([192, 0, 2, 1], port)),
            local: None,
            worker: 0,
            at: Instant::from_boot(Duration::from_millis(millis)),
        };
        assert!(candidates.insert(candidate(1, 0)) && !candidates.insert(candidate(1, 10)));
        for port in 2..=16 {
            assert!(candidates.insert(candidate(port, 20)), "{port}");
        }
        assert!(!candidates.insert(candidate(17, 999)), "the seventeenth of a second");
        assert!(candidates.insert(candidate(17, 1000)));
        assert!(!candidates.insert(candidate(1, 4_000)), "still being looked at");
        assert!(candidates.insert(candidate(1, 5_000)), "the supervisor has not answered");
        let address = IpAddr::from([192, 0, 2, 1]);
        assert_eq!(candidates.take(address).map(|candidate| candidate.from.port()), Some(2));
        while candidates.take(address).is_some() {}
        assert!(candidates.pending.is_empty() && candidates.take(address).is_none());
    }
}
