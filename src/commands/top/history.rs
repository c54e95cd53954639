//! Computes rates from successive statuses, and keeps their history.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Instant;

use crate::uapi::{TunnelPeer, TunnelStatus};
use wontun_proto::wireguard::PublicKey;

/// Number of rates kept for the sparklines.
const HISTORY_LENGTH: usize = 200;

/// Rates in bytes per second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Rate {
    pub(super) received: u64,
    pub(super) sent: u64,
}

impl Rate {
    pub(super) const fn both(self) -> u64 {
        self.received.saturating_add(self.sent)
    }
}

/// History of the rates of a peer or of all peers, the newest last. Empty until there are two
/// statuses.
#[derive(Clone, Debug, Default)]
pub(super) struct RateHistory(VecDeque<Rate>);

impl RateHistory {
    pub(super) fn rate(&self) -> Rate {
        self.0.back().copied().unwrap_or_default()
    }

    /// Returns the last `count` rates, or fewer if there are not as many.
    pub(super) fn last(&self, count: usize) -> impl Iterator<Item = Rate> {
        self.0.iter().skip(self.0.len().saturating_sub(count)).copied()
    }

    fn push(&mut self, rate: Rate) {
        if self.0.len() == HISTORY_LENGTH {
            self.0.pop_front();
        }
        self.0.push_back(rate);
    }
}

/// The latest status of a tunnel and its history.
#[derive(Clone, Debug)]
pub(super) struct TunnelHistory {
    pub(super) status: TunnelStatus,
    /// History of the rates of all peers together.
    pub(super) total: RateHistory,
    /// Drops per second by reason.
    pub(super) drop_rates: BTreeMap<String, u64>,
    at: Instant,
    trends: HashMap<PublicKey, RateHistory>,
}

impl TunnelHistory {
    /// Starts with the first status, received at `at`.
    pub(super) fn new(status: TunnelStatus, at: Instant) -> Self {
        Self {
            status,
            at,
            total: RateHistory::default(),
            drop_rates: BTreeMap::new(),
            trends: HashMap::new(),
        }
    }

    /// Handles the next status. A counter that decreased, since the peer was created anew or the
    /// tunnel restarted, counts as no traffic.
    pub(super) fn handle_status(&mut self, status: TunnelStatus, at: Instant) {
        let millis = at.saturating_duration_since(self.at).as_millis().max(1);
        let per_second = |before: u64, now: u64| {
            u64::try_from(u128::from(now.saturating_sub(before)) * 1000 / millis).unwrap_or(u64::MAX)
        };
        let before: HashMap<_, _> = self.status.peers.iter().map(|peer| (peer.public_key, peer)).collect();
        let mut total = Rate::default();
        let mut trends = HashMap::with_capacity(status.peers.len());
        for peer in &status.peers {
            let mut trend = self.trends.remove(&peer.public_key).unwrap_or_default();
            if let Some(old) = before.get(&peer.public_key) {
                let received = per_second(old.received, peer.received);
                let rate = Rate { received, sent: per_second(old.sent, peer.sent) };
                total.received = total.received.saturating_add(rate.received);
                total.sent = total.sent.saturating_add(rate.sent);
                trend.push(rate);
            }
            trends.insert(peer.public_key, trend);
        }
        let rates = status.dropped.iter().map(|(reason, &count)| {
            let before = self.status.dropped.get(reason).copied().unwrap_or_default();
            (reason.clone(), per_second(before, count))
        });
        self.drop_rates = rates.collect();
        self.total.push(total);
        (self.trends, self.status, self.at) = (trends, status, at);
    }

    /// Returns the history of a peer's rates; `None` before the second status of it.
    pub(super) fn trend(&self, peer: &TunnelPeer) -> Option<&RateHistory> {
        self.trends.get(&peer.public_key)
    }

    /// Returns the latest rate of the peer.
    pub(super) fn rate(&self, peer: &TunnelPeer) -> Rate {
        self.trend(peer).map(RateHistory::rate).unwrap_or_default()
    }
}
