//! Makes a candidate the peer once the supervisor has approved it.

use std::net::IpAddr;

use tracing::{debug, info};

use super::candidate::Candidate;
use super::tunnel::PlainTunnel;
use crate::daemon::core::Core;
use crate::daemon::error::DaemonError;
use crate::messages::FromTunnel;
use crate::net::recv_buffer::GroBatch;
use wontun_packet::DropReason;

impl PlainTunnel {
    /// Asks the supervisor to check the sender of a `hello?`, which may become the peer.
    pub(super) fn check_candidate(&mut self, core: &mut Core, batch: &GroBatch) {
        let worker = core.current();
        let candidate = Candidate { from: batch.from, local: batch.local, worker, at: core.now };
        if self.candidates.insert(candidate) {
            core.send(&FromTunnel::CheckCandidate(batch.from.ip()));
        } else {
            // the sender repeats its hello? every second
            core.count_drop(DropReason::UnknownSource, Some(batch.from));
        }
    }

    /// Makes the candidates at `address` the peer, one after the other, unless it is this host.
    pub(super) fn handle_candidate(
        &mut self,
        core: &mut Core,
        address: IpAddr,
        is_usable: bool,
    ) -> Result<(), DaemonError> {
        while let Some(candidate) = self.candidates.take(address) {
            if is_usable {
                self.accept_candidate(core, candidate)?;
            } else {
                core.count_drop(DropReason::OwnTun, Some(candidate.from));
            }
        }
        Ok(())
    }

    fn accept_candidate(&mut self, core: &mut Core, candidate: Candidate) -> Result<(), DaemonError> {
        let Candidate { from, local, worker, .. } = candidate;
        let had_peer = self.engine.peer().is_some();
        if !self.connect(core, worker, from, local)? {
            core.count_drop(DropReason::Unreachable, Some(from));
            return Ok(());
        }
        self.engine.set_peer(from, core.now);
        if !had_peer {
            info!("peer connected");
        } else if let Some(suppressed) = self.log_limits.replaced.allow(core.now) {
            info!(suppressed, "peer replaced");
        }
        debug!(endpoint = %from, ?local, "the peer's endpoint");
        Ok(())
    }
}
