//! Who says `hello?` and may become the peer, once the supervisor has looked whether the host's
//! routes lead there by another device than the tunnel's own.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tracing::{debug, info};

use super::PlainTunnel;
use crate::counters::DropReason;
use crate::device::core::Core;
use crate::device::error::DeviceError;
use crate::io::mailbox::{Arrival, Local};
use crate::messages::FromTunnel;
use crate::time::Instant;

/// Candidates taken in one second; each may cost a socket, and `hello?` can be forged.
const RATE: u32 = 16;
/// Time that the supervisor has for its answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Senders of a `hello?` that are being looked at, one entry for each.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    pending: Vec<Candidate>,
    second: Option<Instant>,
    /// Candidates in the present second.
    count: u32,
}

/// Its address, the one of ours that it talked to and the worker that heard it.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    from: SocketAddr,
    local: Option<Local>,
    worker: usize,
    at: Instant,
}

impl Candidates {
    /// Returns true if `candidate` was added.
    fn insert(&mut self, candidate: Candidate) -> bool {
        let now = candidate.at;
        self.pending.retain(|other| now.since(other.at) < PATIENCE);
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

    /// Takes the oldest one at that address.
    fn take(&mut self, address: IpAddr) -> Option<Candidate> {
        let place = self.pending.iter().position(|candidate| candidate.from.ip() == address)?;
        Some(self.pending.remove(place))
    }
}

impl PlainTunnel {
    /// Has the supervisor look at the sender of a `hello?`, which may become the peer.
    pub(super) fn consider(&mut self, core: &mut Core, arrival: &Arrival) {
        let worker = core.current();
        let candidate = Candidate { from: arrival.from, local: arrival.local, worker, at: core.now };
        if self.candidates.insert(candidate) {
            core.send(&FromTunnel::Candidate(arrival.from.ip()));
        } else {
            // it repeats its hello? every second
            core.count_drop(DropReason::Stranger, Some(arrival.from));
        }
    }

    /// Makes the candidates at `address` the peer one after the other, unless that is ourselves.
    pub(super) fn handle_candidate(
        &mut self,
        core: &mut Core,
        address: IpAddr,
        is_usable: bool,
    ) -> Result<(), DeviceError> {
        while let Some(candidate) = self.candidates.take(address) {
            if is_usable {
                self.adopt(core, candidate)?;
            } else {
                core.count_drop(DropReason::OwnTun, Some(candidate.from));
            }
        }
        Ok(())
    }

    fn adopt(&mut self, core: &mut Core, candidate: Candidate) -> Result<(), DeviceError> {
        let Candidate { from, local, worker, .. } = candidate;
        let replaces = self.engine.peer().is_some();
        if !self.connect(core, worker, from, local)? {
            core.count_drop(DropReason::Unreachable, Some(from));
            return Ok(());
        }
        self.engine.set_peer(from, core.now);
        if !replaces {
            info!("peer connected");
        } else if let Some(suppressed) = self.quiet.replaced.allow(core.now) {
            info!(suppressed, "peer replaced");
        }
        debug!(endpoint = %from, ?local, "the peer's endpoint");
        Ok(())
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
