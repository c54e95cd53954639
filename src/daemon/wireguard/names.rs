//! Peers whose endpoint is a host name: looked up at the start, again after a failure, and again
//! whenever the peer has been silent for long, since the name may have another address by then. If
//! a name has several addresses, the engine tries them in turn.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use wontun_proto::time::Instant;
use wontun_proto::wireguard::{PeerId, PublicKey};

/// Delay after the first failed look-up of a name; doubled each time, up to [`RETRY_MAX`].
const RETRY: Duration = Duration::from_secs(1);
pub(super) const RETRY_MAX: Duration = Duration::from_secs(30);
/// Maximum number of pending look-ups: the resolver process answers one after the other.
pub(super) const MAX_ASKED: usize = 16;

/// Endpoint names, whose addresses the supervisor looks up.
#[derive(Debug, Default)]
pub(super) struct Names {
    pub(super) names: HashMap<PeerId, Name>,
    /// Peers with pending look-ups; a peer may be removed by then.
    pub(super) asked: Vec<PublicKey>,
    /// Lower bound of all `ask_at`, cached because the loop needs it each turn.
    next: Option<Instant>,
}

#[derive(Debug)]
pub(super) struct Name {
    pub(super) host: String,
    /// Time of the next look-up.
    ask_at: Option<Instant>,
    pub(super) pause: Duration,
    /// True while a look-up is pending.
    pub(super) is_asked: bool,
    /// Address at which the last handshake was completed, as reported to the supervisor.
    pub(super) reached: Option<IpAddr>,
}

impl Names {
    /// Sets the endpoint name of a peer; it is looked up at `now`.
    pub(super) fn insert(&mut self, peer: PeerId, host: String, now: Instant) {
        let name = Name { host, ask_at: None, pause: RETRY, is_asked: false, reached: None };
        self.names.insert(peer, name);
        self.ask_at(peer, now);
    }

    pub(super) fn ask_at(&mut self, peer: PeerId, at: Instant) {
        if let Some(name) = self.names.get_mut(&peer) {
            name.ask_at = Some(at);
            self.next = Some(self.next.map_or(at, |next| next.min(at)));
        }
    }

    /// Removes the endpoint name of a peer.
    pub(super) fn remove(&mut self, peer: PeerId) {
        self.names.remove(&peer);
    }

    /// Returns the time of the next look-up.
    pub(super) fn deadline(&self) -> Option<Instant> {
        if self.asked.len() >= MAX_ASKED {
            // an answer will come first
            return None;
        }
        self.next
    }

    /// Records that the peer answers at the current address.
    pub(super) fn handle_answered(&mut self, peer: PeerId) {
        if let Some(name) = self.names.get_mut(&peer) {
            name.pause = RETRY;
        }
    }

    /// Handles a peer that has been silent for long.
    pub(super) fn handle_silent(&mut self, peer: PeerId, now: Instant) {
        let Some(name) = self.names.get_mut(&peer) else { return };
        if !name.is_asked {
            self.ask_at(peer, now);
        }
    }

    pub(super) fn take_due(&mut self, now: Instant) -> Option<PeerId> {
        if self.next.is_none_or(|next| now < next) {
            return None;
        }
        let due = |name: &Name| name.ask_at.is_some_and(|at| at <= now);
        let peer = self.names.iter_mut().find(|(_, name)| due(name)).map(|(peer, name)| {
            (name.ask_at, name.is_asked) = (None, true);
            *peer
        });
        if peer.is_none() {
            self.next = self.names.values().filter_map(|name| name.ask_at).min();
        }
        peer
    }
}
