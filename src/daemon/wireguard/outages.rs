//! Peers that do not answer, and the pauses between the log lines about them. Each kind of line
//! about a peer comes at once the first time, then after pauses that grow from half a minute to an
//! hour, and all peers together have a limit.

use std::collections::HashMap;
use std::time::Duration;

use crate::logging::{RateLimit, Suppressed};
use wontun_proto::time::Instant;
use wontun_proto::wireguard::PeerId;

/// Pause after the first line of one kind about a peer; doubled each time, up to [`MAX_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(30);
const MAX_PAUSE: Duration = Duration::from_secs(3600);
/// Maximum number of lines about all peers within [`LINES_INTERVAL`].
const MAX_LINES: u32 = 16;
const LINES_INTERVAL: Duration = Duration::from_secs(10);

/// Duration of send errors after which they are reported although the peer may be starting, or
/// restarting.
const MIN_ERROR_TIME: Duration = Duration::from_secs(1);
/// Maximum pause between two send errors of the same outage: an unanswered initiation is repeated
/// sooner.
const MAX_ERROR_PAUSE: Duration = Duration::from_secs(6);
/// Age of a send error up to which it explains why nothing is answered.
const ERROR_EXPLAINS: Duration = Duration::from_secs(10);
/// Time without a send error after which a peer that is heard is reachable again.
const RECOVERY_TIME: Duration = Duration::from_secs(2);

/// A reason why a peer does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OutageKind {
    /// Nothing is received in response to handshakes.
    NoResponse,
    /// The peer's host, or a firewall before it, refuses the datagrams by ICMP.
    Refused,
    /// A firewall of this host refuses them.
    Blocked,
    /// This host has no route to the peer.
    Unreachable,
    /// The name of the endpoint does not resolve.
    Unresolved,
    /// No name server has answered yet. A line with the error follows, if there is one.
    Unanswered,
}

const KINDS: usize = 6;

/// The pauses between lines of one kind about one peer.
#[derive(Clone, Copy, Debug, Default)]
struct Pause {
    next: Option<Instant>,
    length: Duration,
}

/// Send errors that follow each other.
#[derive(Clone, Copy, Debug)]
struct Errors {
    since: Instant,
    last: Instant,
    /// Packets received from the peer by then.
    received: u64,
}

#[derive(Debug, Default)]
struct Outage {
    pauses: [Pause; KINDS],
    /// Start of the outage, if a line about it was logged.
    since: Option<Instant>,
    /// A line was logged that the name does not resolve.
    is_unresolved: bool,
    errors: Option<Errors>,
}

/// The outages of all peers.
#[derive(Debug)]
pub(super) struct Outages {
    peers: HashMap<PeerId, Outage>,
    lines: RateLimit,
    /// Time of the next [`Self::take_recovered`].
    check_at: Option<Instant>,
}

impl Default for Outages {
    fn default() -> Self {
        Self {
            peers: HashMap::new(),
            lines: RateLimit::with_burst(LINES_INTERVAL, MAX_LINES),
            check_at: None,
        }
    }
}

impl Pause {
    /// Returns the next pause, or `None` if the present one is not over at `now`.
    fn following(self, now: Instant) -> Option<Self> {
        let length = match self.next {
            Some(next) if now < next => return None,
            Some(next) if now.since(next) < MAX_PAUSE => (self.length * 2).min(MAX_PAUSE),
            _ => FIRST_PAUSE,
        };
        Some(Self { next: Some(now + length), length })
    }
}

impl Outages {
    /// Returns the number of suppressed lines if a line of this kind about `peer` may be logged at
    /// `now`. The outage began at `since`.
    pub(super) fn allow(
        &mut self,
        peer: PeerId,
        kind: OutageKind,
        since: Instant,
        now: Instant,
    ) -> Option<Suppressed> {
        let outage = self.peers.entry(peer).or_default();
        let pause = outage.pauses.get_mut(kind as usize)?;
        let following = pause.following(now)?;
        let suppressed = self.lines.allow(now)?;
        *pause = following;
        if matches!(kind, OutageKind::Unresolved | OutageKind::Unanswered) {
            outage.is_unresolved = true;
        } else {
            outage.since.get_or_insert(since);
        }
        Some(suppressed)
    }

    /// Records a send error. Returns the time since which there are errors if they are worth a
    /// line: refusals, and all errors within a session, are only after [`MIN_ERROR_TIME`].
    /// `received` is the number of packets received from the peer; an answer shows that an earlier
    /// refusal was a mistake.
    pub(super) fn record_error(
        &mut self,
        peer: PeerId,
        kind: OutageKind,
        received: u64,
        has_session: bool,
        now: Instant,
    ) -> Option<Instant> {
        let outage = self.peers.entry(peer).or_default();
        let is_same = |errors: &Errors| {
            now.since(errors.last) <= MAX_ERROR_PAUSE
                && (kind != OutageKind::Refused || errors.received == received)
        };
        let since = outage.errors.filter(is_same).map_or(now, |errors| errors.since);
        outage.errors = Some(Errors { since, last: now, received });
        self.check_at.get_or_insert(now + RECOVERY_TIME);
        let is_local = kind != OutageKind::Refused;
        (is_local && !has_session || now.since(since) >= MIN_ERROR_TIME).then_some(since)
    }

    /// Returns true if a recent send error explains why the peer does not answer.
    pub(super) fn has_recent_error(&self, peer: PeerId, now: Instant) -> bool {
        let errors = self.peers.get(&peer).and_then(|outage| outage.errors);
        errors.is_some_and(|errors| now.since(errors.last) < ERROR_EXPLAINS)
    }

    /// Handles an answer of the peer. Returns the duration of the outage if there was a line about
    /// it.
    pub(super) fn handle_answer(&mut self, peer: PeerId, now: Instant) -> Option<Duration> {
        let outage = self.peers.get_mut(&peer)?;
        outage.errors = None;
        outage.since.take().map(|since| now.since(since))
    }

    /// Handles a name that resolves. Returns true if there was a line that it does not.
    pub(super) fn handle_resolved(&mut self, peer: PeerId) -> bool {
        self.peers.get_mut(&peer).is_some_and(|outage| std::mem::take(&mut outage.is_unresolved))
    }

    /// Removes the state of a removed peer.
    pub(super) fn remove(&mut self, peer: PeerId) {
        self.peers.remove(&peer);
    }

    /// Returns the time of the next [`Self::take_recovered`].
    pub(super) const fn deadline(&self) -> Option<Instant> {
        self.check_at
    }

    /// Returns peers of which there was a line about send errors, and that are heard since without
    /// another error, with the duration of their outages. `received` returns the number of packets
    /// received from a peer.
    pub(super) fn take_recovered(
        &mut self,
        now: Instant,
        received: impl Fn(PeerId) -> u64,
    ) -> Vec<(PeerId, Duration)> {
        if self.check_at.is_none_or(|at| now < at) {
            return Vec::new();
        }
        let mut recovered = Vec::new();
        let mut is_pending = false;
        for (peer, outage) in &mut self.peers {
            let Some(errors) = outage.errors else { continue };
            let silence = now.since(errors.last);
            if silence >= RECOVERY_TIME && received(*peer) != errors.received {
                outage.errors = None;
                recovered.extend(outage.since.take().map(|since| (*peer, now.since(since))));
            } else if silence >= ERROR_EXPLAINS {
                // a completed handshake will show that it answers
                outage.errors = None;
            } else {
                is_pending = true;
            }
        }
        self.check_at = is_pending.then_some(now + RECOVERY_TIME);
        recovered
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::random::SystemRandom;
    use wontun_proto::wireguard::{Interface, PublicKey};

    fn peers(count: u8) -> Vec<PeerId> {
        let mut engine = Interface::new(1420, Box::new(SystemRandom::open().unwrap()));
        (1..=count).map(|byte| engine.add_peer(PublicKey::from_bytes([byte; 32])).unwrap()).collect()
    }

    fn at(seconds: u64) -> Instant {
        Instant::from_boot(Duration::from_secs(seconds))
    }

    #[test]
    fn lines_become_rare_and_a_short_recovery_does_not_change_that() {
        let peer = peers(1)[0];
        let mut outages = Outages::default();
        let line = |outages: &mut Outages, second| {
            outages.allow(peer, OutageKind::NoResponse, at(0), at(second)).is_some()
        };
        let told: Vec<_> = (1..2000).map(|n| n * 5).filter(|second| line(&mut outages, *second)).collect();
        assert_eq!(told, [5, 35, 95, 215, 455, 935, 1895, 3815, 7415]);
        assert_eq!(outages.handle_answer(peer, at(9_996)), Some(Duration::from_secs(9_996)));
        assert_eq!(outages.handle_answer(peer, at(9_997)), None, "once");
        assert!(!line(&mut outages, 10_001));
        assert_eq!(outages.handle_answer(peer, at(10_002)), None, "there was no line");
        assert!(outages.allow(peer, OutageKind::Refused, at(0), at(10_002)).is_some(), "another kind");
        let told: Vec<_> = (4000..4020).map(|n| n * 5).filter(|second| line(&mut outages, *second)).collect();
        assert_eq!(told, [20_000, 20_030, 20_090], "hours later");
    }

    #[test]
    fn all_peers_together_have_a_limit() {
        let mut outages = Outages::default();
        let peers = peers(100);
        let mut first = HashMap::new();
        for second in (5..120).step_by(5) {
            for peer in &peers {
                if outages.allow(*peer, OutageKind::NoResponse, at(0), at(second)).is_some() {
                    first.entry(*peer).or_insert(second);
                }
            }
        }
        let in_time = first.values().filter(|second| **second == 5).count();
        assert_eq!(in_time, MAX_LINES as usize);
    }

    #[test]
    fn a_refusal_is_worth_a_line_only_if_it_lasts() {
        let peer = peers(1)[0];
        let mut outages = Outages::default();
        let mut error = |kind, received, has_session, second| {
            outages.record_error(peer, kind, received, has_session, at(second))
        };
        assert_eq!(error(OutageKind::Refused, 7, false, 0), None, "the peer may be starting");
        assert_eq!(error(OutageKind::Refused, 7, false, 5), Some(at(0)));
        assert_eq!(error(OutageKind::Refused, 8, true, 6), None, "it was heard since");
        assert_eq!(error(OutageKind::Refused, 8, true, 7), Some(at(6)));
        assert_eq!(error(OutageKind::Refused, 8, true, 60), None, "another one");
        assert_eq!(error(OutageKind::Blocked, 9, true, 61), Some(at(60)), "it may be heard all the time");
        assert!(outages.has_recent_error(peer, at(70)) && !outages.has_recent_error(peer, at(71)));
        assert_eq!(outages.record_error(peer, OutageKind::Unreachable, 9, false, at(80)), Some(at(80)));
    }

    #[test]
    fn a_peer_that_is_heard_without_further_errors_has_recovered() {
        let (peers, mut outages) = (peers(2), Outages::default());
        for peer in &peers {
            outages.record_error(*peer, OutageKind::Blocked, 5, true, at(10));
            outages.record_error(*peer, OutageKind::Blocked, 5, true, at(11));
            assert!(outages.allow(*peer, OutageKind::Blocked, at(10), at(11)).is_some());
        }
        assert_eq!(outages.deadline(), Some(at(12)));
        assert_eq!(outages.take_recovered(at(12), |_| 6), [], "too soon");
        let received = |peer| if peer == peers[0] { 6 } else { 5 };
        assert_eq!(outages.take_recovered(at(14), received), [(peers[0], Duration::from_secs(4))]);
        assert_eq!(outages.take_recovered(at(22), received), []);
        assert_eq!(outages.deadline(), None, "nothing to wait for");
        assert_eq!(outages.handle_answer(peers[1], at(30)), Some(Duration::from_secs(20)));
        outages.remove(peers[0]);
        outages.remove(peers[1]);
        assert!(outages.peers.is_empty());
    }

    #[test]
    fn a_name_is_resolved_once() {
        let peer = peers(1)[0];
        let mut outages = Outages::default();
        assert!(!outages.handle_resolved(peer));
        assert!(outages.allow(peer, OutageKind::Unresolved, at(0), at(5)).is_some());
        assert_eq!(outages.handle_answer(peer, at(6)), None, "no answer was missing");
        assert!(outages.handle_resolved(peer) && !outages.handle_resolved(peer));
    }
}
