//! Peers that connect and disconnect. A peer is connected from its first completed handshake until
//! its session has ended: three minutes after the last handshake, which a peer that sends or
//! receives renews after two.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use crate::logging::{RateLimit, Suppressed};
use wontun_proto::time::Instant;
use wontun_proto::wireguard::{PeerId, REJECT_AFTER_TIME, Transfer};

/// Maximum number of lines about all peers within [`LINES_INTERVAL`]: some are needed when a server
/// starts with thousands of peers.
const MAX_LINES: u32 = 200;
const LINES_INTERVAL: Duration = Duration::from_secs(1);
/// Number of peers that are checked in one turn.
const MAX_CHECKS: usize = 256;
/// Minimum time to the next check of a peer that still has a session.
const MIN_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// The connected peers.
#[derive(Debug)]
pub(super) struct Connections {
    peers: HashMap<PeerId, Connection>,
    /// Times of the next checks.
    checks: BTreeSet<(Instant, PeerId)>,
    lines: RateLimit,
    /// True if events have the addresses of the peers.
    pub(super) shows_addresses: bool,
}

/// The connection of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Connection {
    /// Time of the first handshake.
    pub(super) since: Instant,
    /// Counters at that time.
    pub(super) before: Transfer,
    check_at: Instant,
}

impl Connections {
    pub(super) fn new(shows_addresses: bool) -> Self {
        let lines = RateLimit::with_burst(LINES_INTERVAL, MAX_LINES);
        Self { peers: HashMap::new(), checks: BTreeSet::new(), lines, shows_addresses }
    }

    /// Handles a completed handshake. Returns true if the peer was not connected.
    pub(super) fn handle_handshake(&mut self, peer: PeerId, counters: Transfer, now: Instant) -> bool {
        if self.peers.contains_key(&peer) {
            return false;
        }
        let check_at = now + REJECT_AFTER_TIME;
        self.peers.insert(peer, Connection { since: now, before: counters, check_at });
        self.checks.insert((check_at, peer));
        true
    }

    /// Returns the time at which [`Self::take_due`] must be called.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.checks.first().map(|(at, _)| *at)
    }

    /// Returns peers whose session may have ended; each has to be checked.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<PeerId> {
        let mut due = Vec::new();
        while due.len() < MAX_CHECKS
            && let Some((_, peer)) = self.checks.first().copied().filter(|(at, _)| *at <= now)
        {
            self.checks.pop_first();
            due.push(peer);
        }
        due
    }

    /// Sets the next check of a peer, which has a session: `ends` is the time at which that ends.
    pub(super) fn set_check(&mut self, peer: PeerId, ends: Instant, now: Instant) {
        if let Some(connection) = self.peers.get_mut(&peer) {
            connection.check_at = ends.max(now + MIN_CHECK_INTERVAL);
            self.checks.insert((connection.check_at, peer));
        }
    }

    /// Ends the connection of a peer.
    pub(super) fn remove(&mut self, peer: PeerId) -> Option<Connection> {
        let connection = self.peers.remove(&peer)?;
        self.checks.remove(&(connection.check_at, peer));
        Some(connection)
    }

    pub(super) fn allow(&mut self, now: Instant) -> Option<Suppressed> {
        self.lines.allow(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::random::SystemRandom;
    use wontun_proto::wireguard::{Interface, PublicKey};

    #[test]
    fn a_peer_is_connected_until_its_session_ends() {
        let at = |seconds| Instant::from_boot(Duration::from_secs(seconds));
        let mut engine = Interface::new(1420, Box::new(SystemRandom::open().unwrap()));
        let [peer, other] = [1, 2].map(|byte| engine.add_peer(PublicKey::from_bytes([byte; 32])).unwrap());
        let mut connections = Connections::new(false);
        assert_eq!(connections.deadline(), None);
        assert!(connections.handle_handshake(peer, Transfer::default(), at(10)));
        assert!(!connections.handle_handshake(peer, Transfer::default(), at(130)), "a new session");
        assert_eq!((connections.deadline(), connections.take_due(at(189))), (Some(at(190)), Vec::new()));
        assert_eq!(connections.take_due(at(190)), [peer]);
        connections.set_check(peer, at(310), at(190));
        assert!(connections.handle_handshake(other, Transfer::default(), at(200)));
        assert_eq!(connections.take_due(at(310)), [peer]);
        assert_eq!(connections.remove(peer).map(|connection| connection.since), Some(at(10)));
        assert_eq!(connections.remove(peer), None, "once");
        assert!(connections.handle_handshake(peer, Transfer::default(), at(400)), "connected again");
        assert!(connections.remove(other).is_some());
        assert_eq!(connections.deadline(), Some(at(580)), "one that was removed is not checked");
        // a session that has no end yet does not keep the loop busy
        assert_eq!(connections.take_due(at(600)), [peer]);
        connections.set_check(peer, at(500), at(600));
        assert_eq!(connections.deadline(), Some(at(601)));
    }
}
