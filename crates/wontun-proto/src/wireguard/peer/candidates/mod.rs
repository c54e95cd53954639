//! Peers with several possible addresses, and peers with one after a change of the network
//! ([`super::path`]): each unanswered initiation is followed by one to the next
//! address (Happy Eyeballs, RFC 8305, for handshakes).
//!
//! Initiations overtake each other on paths of different latency, so each is kept until it is
//! answered or [`MAX_AGE`] old. The keys come from the newest one that is answered: a responder
//! that receives a newer initiation drops the session of an older one that was not used yet. The
//! endpoint comes from the first answer, after which nothing more is sent to other addresses. If a
//! newer initiation was in flight then and nothing is received in the session, a new handshake
//! follows.
//!
//! As for any peer, another address is tried after 15 s of silence. Where traffic flows in both
//! directions, a shorter silence is suspect ([`SUSPECT_SILENCE`]) if data continues to be sent, as
//! for TCP without an acknowledgement: an initiation is sent to the address in use and, if it is
//! not answered, to the next one. If it is answered, or data is received again, the suspicion was
//! false, and the next takes twice as long.

mod choice;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::super::REKEY_TIMEOUT;
use super::super::index::IndexTable;
use super::super::mac::LatestCookie;
use super::super::noise::Initiator;
use super::super::timers::Timers;
use super::path::{EAGER_INTERVAL, MIN_EAGER_PAUSE};
use crate::time::Instant;

/// Pause between an initiation and the one to the next address, until each was tried. RFC 8305
/// allows 2 s at most.
pub const CANDIDATE_PAUSE: Duration = Duration::from_secs(1);
/// The same pause once each was tried. It differs so that a fast path on which answers are lost
/// does not overtake a slow one forever.
const LATER_PAUSE: Duration = Duration::from_secs(2);
/// Maximum number of addresses per peer.
pub const MAX_CANDIDATES: usize = 8;
/// Maximum number of initiations kept per peer besides the newest.
const MAX_OLDER: usize = 3;
/// Age at which an initiation besides the newest is dropped.
const MAX_AGE: Duration = REKEY_TIMEOUT;
/// Pause before an address that is preferred to the one in use is tried again.
const PREFERRED_RETRY: Duration = Duration::from_secs(600);
/// Minimum deadline for receiving something in a session that the peer may have dropped.
const CONFIRM_TIME: Duration = Duration::from_secs(1);

/// Silence after sent data that is suspect if data was received before; three round trips if that
/// is longer.
const SUSPECT_SILENCE: Duration = Duration::from_secs(1);
/// Pause after which more unanswered data shows that an answer is expected. The last
/// acknowledgement of a conversation, which is never answered, is sent sooner.
const ANSWER_EXPECTED_AFTER: Duration = Duration::from_millis(300);
/// Number of false suspicions after which only the 15 s of silence that apply to any peer count.
const MAX_FALSE_SUSPICIONS: u8 = 4;

/// The addresses of a peer, the preferred one first, and the state of trying them.
pub(super) struct Candidates {
    list: Vec<Candidate>,
    /// Number of them that belong to the peer's name; zero if the peer has one address only. One
    /// more may be an address that the peer has moved to.
    named: usize,
    /// Position of the next address in `list`.
    next_index: usize,
    /// The next address is tried because it is preferred; the one in use follows.
    is_trying_preferred: bool,
    /// A run of initiations to the addresses in turn is in progress.
    is_running: bool,
    /// The newest initiation was not sent: this host has no route to its destination.
    is_unsent: bool,
    /// Number of initiations in this run.
    tries: usize,
    /// An initiation was answered since the newest one was sent.
    is_answered: bool,
    /// Destination of the newest initiation, and the time when it was sent.
    newest: Option<(SocketAddr, Instant)>,
    /// Initiations before the newest, the oldest first.
    older: Vec<PendingInitiation>,
    /// Time by which something must be received in the session, if an answer was accepted while a
    /// newer initiation was in flight.
    confirm_by: Option<Instant>,
    /// Time when the newer initiations are dropped, after an answer was accepted.
    expires: Option<Instant>,
    /// Time until which data from another address of the list does not move the endpoint: the peer
    /// sent it before it received anything from the address that answered.
    hold_until: Option<Instant>,
    silence: SilenceDetector,
}

/// Detection of a suspect silence.
#[derive(Debug, Default)]
struct SilenceDetector {
    /// Time when the first data was sent since which nothing was received.
    since: Option<Instant>,
    /// Time when the silence becomes suspect, set once more data was sent.
    suspect: Option<Instant>,
    /// Data was received since the last suspicion, so an answer is expected.
    expects_answer: bool,
    /// The next initiation, or the run in progress, verifies a suspicion.
    is_probing: bool,
    /// Recent false suspicions.
    false_suspicions: u8,
}

struct Candidate {
    remote: SocketAddr,
    /// Cookies; each is valid for one path only.
    latest_cookie: LatestCookie,
    /// Time when the last initiation was sent to it.
    sent: Option<Instant>,
    /// Round-trip time of the last answer.
    round_trip: Duration,
}

struct PendingInitiation {
    initiator: Arc<Mutex<Initiator>>,
    index: u32,
    remote: SocketAddr,
    sent: Instant,
}

impl Candidate {
    fn new(remote: SocketAddr) -> Self {
        Self { remote, latest_cookie: LatestCookie::default(), sent: None, round_trip: Duration::ZERO }
    }
}

impl Candidates {
    fn new() -> Self {
        Self {
            list: Vec::new(),
            named: 0,
            next_index: 0,
            is_trying_preferred: false,
            is_running: false,
            is_unsent: false,
            tries: 0,
            is_answered: false,
            newest: None,
            older: Vec::new(),
            confirm_by: None,
            expires: None,
            hold_until: None,
            silence: SilenceDetector::default(),
        }
    }

    /// Returns true if the addresses are those of a name.
    pub(super) const fn is_named(&self) -> bool {
        self.named > 0
    }

    fn position(&self, remote: SocketAddr) -> Option<usize> {
        self.list.iter().position(|candidate| candidate.remote == remote)
    }

    fn get_mut(&mut self, remote: SocketAddr) -> Option<&mut Candidate> {
        self.list.iter_mut().find(|candidate| candidate.remote == remote)
    }

    /// Returns the earliest time of the next initiation; the last handshake message was sent at
    /// `sent`. If `is_eager`, each address is tried every [`EAGER_INTERVAL`].
    fn ready_at(&self, sent: Instant, jitter: Duration, is_eager: bool) -> Instant {
        let newest = self.newest.filter(|(_, newest)| self.is_running && *newest == sent);
        let Some((remote, _)) = newest else {
            // the last message ended a run, or was a response
            return sent + if self.silence.is_probing { CANDIDATE_PAUSE } else { REKEY_TIMEOUT };
        };
        if self.is_unsent && self.tries < self.list.len() {
            return sent;
        }
        let pause = if self.tries > self.list.len() { LATER_PAUSE } else { CANDIDATE_PAUSE };
        // waits for an answer that is known to take longer
        let last = self.position(remote).and_then(|position| self.list.get(position));
        let delay = last.map(|last| last.round_trip * 2).unwrap_or_default().min(REKEY_TIMEOUT);
        if is_eager {
            let addresses = u32::try_from(self.list.len()).unwrap_or(u32::MAX).max(1);
            return sent + (EAGER_INTERVAL / addresses).max(MIN_EAGER_PAUSE).max(delay);
        }
        let again = self.list.get(self.next_index).and_then(|candidate| candidate.sent);
        let again = again.map(|last| last + REKEY_TIMEOUT + jitter);
        again.into_iter().fold(sent + pause.max(delay), Instant::max)
    }

    /// Begins a run with the address in use or, if there is a session that this does not harm, with
    /// the preferred address if that was not tried for `PREFERRED_RETRY`.
    fn begin(&mut self, current: SocketAddr, has_session: bool, now: Instant) {
        (self.is_running, self.tries) = (true, 0);
        let position = self.position(current).unwrap_or_else(|| {
            self.list.truncate(self.named);
            self.list.push(Candidate::new(current));
            self.list.len() - 1
        });
        let preferred = self.list.first().and_then(|candidate| candidate.sent);
        self.is_trying_preferred = has_session
            && !self.silence.is_probing
            && position != 0
            && preferred.is_none_or(|last| now.since(last) >= PREFERRED_RETRY);
        self.next_index = if self.is_trying_preferred { 0 } else { position };
    }

    /// Returns the next address, and true if each address was already tried in this run.
    fn take_next_address(&mut self, current: SocketAddr, now: Instant) -> Option<(SocketAddr, bool)> {
        let next_index = if self.next_index < self.list.len() { self.next_index } else { 0 };
        let following =
            if std::mem::take(&mut self.is_trying_preferred) { self.position(current) } else { None };
        self.next_index = following.unwrap_or((next_index + 1) % self.list.len().max(1));
        let candidate = self.list.get_mut(next_index)?;
        candidate.sent = Some(now);
        self.newest = Some((candidate.remote, now));
        (self.is_answered, self.is_unsent, self.confirm_by, self.expires) = (false, false, None, None);
        let all_tried = self.tries >= self.list.len();
        self.tries += 1;
        self.newest.map(|(remote, _)| (remote, all_tried))
    }

    /// Keeps the initiation that is replaced as the newest.
    fn keep(
        &mut self,
        (initiator, index): (Arc<Mutex<Initiator>>, u32),
        newest: Option<(SocketAddr, Instant)>,
        indices: &mut IndexTable,
    ) {
        match newest {
            Some((remote, sent)) => self.older.push(PendingInitiation { initiator, index, remote, sent }),
            None => indices.free(index),
        }
    }

    /// Drops the older initiations that are too old or too many at `now`.
    fn prune(&mut self, indices: &mut IndexTable, now: Instant) {
        let excess = self.older.len().saturating_sub(MAX_OLDER);
        let mut position = 0;
        self.older.retain(|initiation| {
            let is_kept = position >= excess && now.since(initiation.sent) < MAX_AGE;
            position += 1;
            if !is_kept {
                indices.free(initiation.index);
            }
            is_kept
        });
    }

    /// Drops the older initiations.
    pub(super) fn drop_older(&mut self, indices: &mut IndexTable) {
        // frees the capacity too: most of the time there are none
        for initiation in std::mem::take(&mut self.older) {
            indices.free(initiation.index);
        }
    }

    /// Drops all initiations; the next one begins a new run.
    pub(super) fn reset(&mut self, indices: &mut IndexTable) {
        self.drop_older(indices);
        (self.is_running, self.newest) = (false, None);
        (self.confirm_by, self.expires) = (None, None);
        self.silence.end();
    }

    /// Ends the run: no address answers.
    pub(super) fn handle_given_up(&mut self, indices: &mut IndexTable) {
        self.drop_older(indices);
        self.is_running = false;
        self.silence.end();
    }

    /// Returns the initiation with the sender index `index`, if it is one of the older ones.
    pub(super) fn older(&self, index: u32, now: Instant) -> Option<&Arc<Mutex<Initiator>>> {
        let initiation = self.older.iter().find(|initiation| initiation.index == index)?;
        (now.since(initiation.sent) < MAX_AGE).then_some(&initiation.initiator)
    }

    fn record_round_trip(&mut self, remote: SocketAddr, round_trip: Duration) {
        if let Some(candidate) = self.get_mut(remote) {
            candidate.round_trip = round_trip;
        }
    }

    /// Handles a sign that the peer has the session.
    pub(super) const fn handle_confirmed(&mut self) {
        self.confirm_by = None;
    }

    /// Handles data sent to `remote`.
    pub(super) fn handle_data_sent(&mut self, remote: SocketAddr, now: Instant) {
        let silence = &self.silence;
        if self.list.len() < 2
            || silence.suspect.is_some()
            || !silence.expects_answer
            || silence.false_suspicions >= MAX_FALSE_SUSPICIONS
        {
            return;
        }
        let Some(since) = silence.since else {
            self.silence.since = Some(now);
            return;
        };
        if now.since(since) < ANSWER_EXPECTED_AFTER {
            return;
        }
        let round_trip = self.position(remote).and_then(|position| self.list.get(position));
        let round_trip = round_trip.map(|candidate| candidate.round_trip).unwrap_or_default();
        let delay = SUSPECT_SILENCE.max(round_trip * 3) * (1 << silence.false_suspicions);
        if now.since(since) < delay * 2 {
            // if this packet is the one to be answered, the answer takes its time as well
            let answered = now + ANSWER_EXPECTED_AFTER.max(round_trip * 2);
            self.silence.suspect = Some(answered.max(since + delay));
        } else {
            // data sent long ago needed no answer
            self.silence.since = Some(now);
        }
    }

    /// Handles authentic messages, with data or without, from the address in use (`is_same`) or
    /// another. Returns true if they answer a suspicion.
    const fn handle_received(&mut self, has_data: bool, is_same: bool) -> bool {
        let is_answer = self.silence.is_probing && is_same;
        if is_answer {
            self.silence.handle_answer(true);
            self.is_running = false;
        }
        (self.silence.since, self.silence.suspect) = (None, None);
        self.silence.expects_answer |= has_data;
        is_answer
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        [self.confirm_by, self.expires, self.silence.suspect].into_iter().flatten().min()
    }
}

impl SilenceDetector {
    /// Returns true if a suspicion is due, and marks it as being verified.
    fn take_due(&mut self, now: Instant) -> bool {
        let is_due = Timers::take_due(&mut self.suspect, now);
        if is_due {
            (self.is_probing, self.expects_answer, self.since) = (true, false, None);
        }
        is_due
    }

    /// Handles the end of a handshake that was answered from the address in use (`is_same`), or
    /// from another.
    const fn handle_answer(&mut self, is_same: bool) {
        self.false_suspicions = match (self.is_probing, is_same) {
            (true, true) => self.false_suspicions.saturating_add(1),
            (true, false) => 0,
            (false, _) => self.false_suspicions.saturating_sub(1),
        };
        self.end();
    }

    const fn end(&mut self) {
        (self.is_probing, self.since, self.suspect) = (false, None, None);
    }
}
