//! The limits of peers: packets that had to wait leave on the worker that receives from the peer.

use tracing::{info, warn};

use super::data_path::MAX_MESSAGE;
use super::quotas;
use super::tunnel::WireGuard;
use crate::config::peer_settings::{OverQuota, PeerLimits, Quota, Rate};
use crate::daemon::budget::Progress;
use crate::daemon::core::Core;
use crate::daemon::sockets_in_use::SocketRef;
use crate::daemon::token::Token;
use crate::net::send_batch::SendBatch;
use crate::net::timer::unix_now;
use crate::traffic::Today;
use wontun_packet::DropReason;
use wontun_proto::wireguard::{self, Limits, PeerId, QuotaLimit, Transmit};

impl WireGuard {
    /// Makes the workers serve the packets of limited peers that may leave now.
    pub(super) fn post_limited(&self, core: &mut Core) {
        for worker in 0..core.worker_count() {
            if self.engine.has_released(worker) {
                core.post_to(worker, Token::Limited);
            }
        }
    }

    /// Adds the next limited packet of the worker that holds the lock to `batch`.
    pub(super) fn send_limited(
        &mut self,
        core: &mut Core,
        batch: &mut SendBatch<SocketRef<PeerId>>,
    ) -> Progress {
        let Some(room) = batch.reserve(MAX_MESSAGE) else { return Progress::Drained };
        let Some(transmit) = self.engine.poll_limited_transmit(core.current(), core.now, room) else {
            return Progress::Drained;
        };
        let Transmit { peer, endpoint, len, class } = transmit;
        match self.route_to(core, peer, endpoint, class) {
            Some(route) => batch.commit(len, &route),
            None => core.count_drop(DropReason::Unreachable, Some(endpoint.remote)),
        }
        Progress::More
    }

    /// Sets the limits of a peer.
    pub(super) fn set_limits(&mut self, core: &Core, peer: PeerId, limits: PeerLimits) {
        if limits.quota.is_some() {
            self.quotas.peers.insert(peer, limits);
            // again, since its traffic of an earlier run may be restored after this
            self.quotas.check_at = Some(core.now);
        } else {
            self.quotas.peers.remove(&peer);
        }
        self.apply_limits(core, peer, limits);
    }

    /// Applies the quotas again after the traffic of an earlier run was restored, and when a period
    /// may have ended.
    pub(super) fn apply_quotas(&mut self, core: &Core) {
        let peers: Vec<_> = self.quotas.peers.iter().map(|(peer, limits)| (*peer, *limits)).collect();
        for (peer, limits) in peers {
            self.apply_limits(core, peer, limits);
        }
    }

    /// Applies the quotas again if that is due.
    pub(super) fn check_quotas(&mut self, core: &Core) {
        if self.quotas.check_at.is_none_or(|at| core.now < at) {
            return;
        }
        self.apply_quotas(core);
        let next = quotas::until_check(unix_now());
        self.quotas.check_at = (!self.quotas.peers.is_empty()).then(|| core.now + next);
    }

    /// Logs that the quota of a peer is used up.
    pub(super) fn handle_quota_used_up(&mut self, peer: PeerId) {
        let Some(PeerLimits { quota: Some(quota), over_quota, .. }) = self.quotas.peers.get(&peer).copied()
        else {
            return;
        };
        if !self.quotas.reported_over.insert(peer) {
            return;
        }
        let (peer, until) = (self.peer_name(peer), quota.period);
        match over_quota.unwrap_or_default() {
            OverQuota::Drop => {
                warn!(peer, %quota, "over quota: dropping all packets of the peer until the {until} ends (UTC)");
            }
            OverQuota::Rate(rate) => {
                warn!(peer, %quota, %rate, "over quota: limiting the peer's rate until the {until} ends (UTC)");
            }
        }
    }

    fn apply_limits(&mut self, core: &Core, peer: PeerId, limits: PeerLimits) {
        let PeerLimits { rate_up, rate_down, quota, over_quota } = limits;
        let quota = quota.map(|quota| QuotaLimit {
            end: self.transferred(peer).saturating_add(self.remaining(peer, quota)),
            over: match over_quota.unwrap_or_default() {
                OverQuota::Drop => wireguard::OverQuota::Drop,
                OverQuota::Rate(rate) => wireguard::OverQuota::Rate(rate.bits()),
            },
        });
        let limits = Limits { up: rate_up.map(Rate::bits), down: rate_down.map(Rate::bits), quota };
        self.engine.set_limits(peer, limits, core.now);
        let is_over = self.engine.peer(peer).is_some_and(|peer| peer.is_over_quota());
        if !is_over && self.quotas.reported_over.remove(&peer) {
            info!(peer = self.peer_name(peer), "no longer over quota");
        }
    }

    /// Returns the bytes that are left of a peer's quota.
    fn remaining(&self, peer: PeerId, quota: Quota) -> u64 {
        let counters = self.engine.peer(peer).map(|peer| peer.transfer()).unwrap_or_default();
        let traffic = self.ledger.traffic(peer, counters, Today::at(unix_now()));
        quotas::remaining(&traffic, quota)
    }

    /// Returns the bytes received from and sent to a peer in this run.
    fn transferred(&self, peer: PeerId) -> u64 {
        let transfer = self.engine.peer(peer).map(|peer| peer.transfer()).unwrap_or_default();
        transfer.received.saturating_add(transfer.sent)
    }
}
