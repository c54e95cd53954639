//! Peers whose endpoint is a host name: looked up at the start, again after a failure, and again
//! whenever the peer has been silent for long, since the name may have another address by then. If
//! a name has several addresses, the engine tries them in turn.

use std::collections::HashMap;
use std::time::Duration;

use wontun_proto::time::Instant;
use wontun_proto::wireguard::{PeerId, PublicKey};

/// Delay after the first failed lookup of a name; doubled each time, up to [`RETRY_MAX`].
const RETRY: Duration = Duration::from_secs(1);
/// Delay between a change of the network and the lookup of a name whose address does not answer any
/// more; doubled each time, up to [`RETRY_MAX`].
const SUSPECT_DELAY: Duration = Duration::from_secs(1);
pub(super) const RETRY_MAX: Duration = Duration::from_secs(30);
/// Time after which a lookup is overdue.
pub(super) const OVERDUE: Duration = Duration::from_secs(5);
/// Maximum number of pending lookups: the resolver process answers one after the other.
pub(super) const MAX_PENDING: usize = 16;

/// Endpoint names, whose addresses the supervisor looks up.
#[derive(Debug, Default)]
pub(super) struct EndpointResolver {
    pub(super) names: HashMap<PeerId, EndpointName>,
    /// Peers with pending lookups; a peer may be removed by then.
    pub(super) pending: Vec<PublicKey>,
    /// Lower bound of all `resolve_at`, cached because the loop needs it each turn.
    next: Option<Instant>,
    /// Lower bound of the times at which pending lookups are overdue.
    overdue: Option<Instant>,
}

#[derive(Debug)]
pub(super) struct EndpointName {
    pub(super) host: String,
    /// Time of the next lookup.
    resolve_at: Option<Instant>,
    pub(super) retry_delay: Duration,
    /// True while a lookup is pending.
    pub(super) is_pending: bool,
    /// Time when the pending lookup was requested, until it is overdue.
    requested_at: Option<Instant>,
    /// Set after a change of the network, until the peer answers: the delay before the next lookup.
    suspect: Option<Duration>,
}

impl EndpointResolver {
    /// Sets the endpoint name of a peer; it is looked up at `now`.
    pub(super) fn insert(&mut self, peer: PeerId, host: String, now: Instant) {
        let name = EndpointName {
            host,
            resolve_at: None,
            retry_delay: RETRY,
            is_pending: false,
            requested_at: None,
            suspect: None,
        };
        self.names.insert(peer, name);
        self.resolve_at(peer, now);
    }

    pub(super) fn resolve_at(&mut self, peer: PeerId, at: Instant) {
        if let Some(name) = self.names.get_mut(&peer) {
            name.resolve_at = Some(at);
            self.next = Some(self.next.map_or(at, |next| next.min(at)));
        }
    }

    /// Removes the endpoint name of a peer.
    pub(super) fn remove(&mut self, peer: PeerId) {
        self.names.remove(&peer);
    }

    /// Returns the time of the next lookup.
    pub(super) fn deadline(&self) -> Option<Instant> {
        // with as many pending, an answer will come first
        let next = self.next.filter(|_| self.pending.len() < MAX_PENDING);
        [next, self.overdue].into_iter().flatten().min()
    }

    /// Returns a peer whose lookup has been pending for [`OVERDUE`], once for each lookup.
    pub(super) fn take_overdue(&mut self, now: Instant) -> Option<PeerId> {
        if self.overdue.is_none_or(|overdue| now < overdue) {
            return None;
        }
        let overdue_at = |name: &EndpointName| {
            name.requested_at.filter(|_| name.is_pending).map(|requested| requested + OVERDUE)
        };
        let found = self.names.iter_mut().find(|(_, name)| overdue_at(name).is_some_and(|at| at <= now));
        if let Some((peer, name)) = found {
            name.requested_at = None;
            return Some(*peer);
        }
        self.overdue = self.names.values().filter_map(overdue_at).min();
        None
    }

    /// Records that the peer answers at the current address.
    pub(super) fn handle_response_sent(&mut self, peer: PeerId) {
        if let Some(name) = self.names.get_mut(&peer) {
            name.retry_delay = RETRY;
            if name.suspect.take().is_some() {
                name.resolve_at = None;
            }
        }
    }

    /// Handles a change of the network: the name may have another address there, and is looked up
    /// if the peer does not answer soon.
    pub(super) fn suspect(&mut self, peer: PeerId, now: Instant) {
        let Some(name) = self.names.get_mut(&peer) else { return };
        (name.retry_delay, name.suspect) = (RETRY, Some(SUSPECT_DELAY));
        if !name.is_pending {
            self.resolve_at(peer, now + SUSPECT_DELAY);
        }
    }

    /// As [`Self::suspect`], for all names.
    pub(super) fn suspect_all(&mut self, now: Instant) {
        let peers: Vec<_> = self.names.keys().copied().collect();
        peers.into_iter().for_each(|peer| self.suspect(peer, now));
    }

    /// Handles an answer, after which a name that is still suspect is looked up again later.
    pub(super) fn handle_answered(&mut self, peer: PeerId, is_in_use: bool, now: Instant) {
        let Some(name) = self.names.get_mut(&peer) else { return };
        let Some(delay) = name.suspect.filter(|_| is_in_use) else {
            name.suspect = None;
            return;
        };
        name.suspect = Some((delay * 2).min(RETRY_MAX));
        self.resolve_at(peer, now + delay);
    }

    /// Handles a peer that has been silent for long.
    pub(super) fn handle_unanswered(&mut self, peer: PeerId, now: Instant) {
        let Some(name) = self.names.get_mut(&peer) else { return };
        if !name.is_pending {
            self.resolve_at(peer, now);
        }
    }

    pub(super) fn take_due(&mut self, now: Instant) -> Option<PeerId> {
        if self.next.is_none_or(|next| now < next) {
            return None;
        }
        let due = |name: &EndpointName| name.resolve_at.is_some_and(|at| at <= now);
        let peer = self.names.iter_mut().find(|(_, name)| due(name)).map(|(peer, name)| {
            (name.resolve_at, name.is_pending, name.requested_at) = (None, true, Some(now));
            *peer
        });
        if peer.is_some() {
            self.overdue.get_or_insert(now + OVERDUE);
        }
        if peer.is_none() {
            self.next = self.names.values().filter_map(|name| name.resolve_at).min();
        }
        peer
    }
}
