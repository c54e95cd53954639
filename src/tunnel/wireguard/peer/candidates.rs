//! The addresses that a peer may be at, if its name has several: each unanswered initiation is
//! followed by one to the next address (Happy Eyeballs, RFC 8305, for handshakes).
//!
//! Initiations overtake each other on paths of different length, so each is kept until it is
//! answered or [`MAX_AGE`] old. Keys come from the newest one that is answered: a responder that
//! sees a newer initiation forgets the session of an older one that it has not heard used yet. The
//! address comes from the first answer, after which nothing more is sent to other addresses. If a
//! newer initiation was under way then and the session shows no sign of life, a new handshake
//! follows.
//!
//! A session is tried elsewhere after 15 s of silence, as any. Where traffic goes both ways, a
//! shorter silence is suspect ([`SUSPECT_SILENCE`]) if we go on sending, as TCP does without an
//! acknowledgement: the address in use is asked then, and the next one if it does not answer. If it
//! does, or data comes again, the suspicion was false, and the next takes twice as long.

mod choice;

use std::net::SocketAddr;
use std::time::Duration;

use super::super::REKEY_TIMEOUT;
use super::super::index::IndexTable;
use super::super::mac::CookieJar;
use super::super::noise::Initiator;
use super::super::timers::Timers;
use crate::time::Instant;

/// Pause between an initiation and the one to the next address, until each was tried. RFC 8305
/// allows 2 s at most.
pub const CANDIDATE_PAUSE: Duration = Duration::from_secs(1);
/// The same when each was tried: another pause, so that a fast way on which answers are lost does
/// not overtake a slow one for ever.
const LATER_PAUSE: Duration = Duration::from_secs(2);
/// Addresses of a peer that are tried.
pub const MAX_CANDIDATES: usize = 8;
/// Initiations of a peer that are kept besides the newest.
const MAX_OLDER: usize = 3;
/// Age at which an initiation besides the newest is forgotten.
const MAX_AGE: Duration = REKEY_TIMEOUT;
/// Pause before an address that is preferred to the one in use is tried again.
const PREFER_AGAIN: Duration = Duration::from_secs(600);
/// Least time for a session that the peer may have forgotten to show a sign of life.
const CONFIRM_TIME: Duration = Duration::from_secs(1);

/// Silence after data of ours that is suspect where data came before, or three round trips if that
/// is longer.
const SUSPECT_SILENCE: Duration = Duration::from_secs(1);
/// Pause after which more data without an answer tells that one is expected. The last
/// acknowledgement of a conversation, which never has an answer, comes sooner.
const INSISTING: Duration = Duration::from_millis(300);
/// False suspicions after which only the silence of any peer counts.
const MOST_SUSPICIONS: u8 = 4;

/// The addresses of one peer, the preferred one first, and which of them is tried.
pub(super) struct Candidates {
    list: Vec<Candidate>,
    /// So many of them are the name's. One more may be where the peer has moved to.
    named: usize,
    /// Place of the next one.
    turn: usize,
    /// The next one is tried since it is preferred; the one in use follows.
    is_preferring: bool,
    /// Initiations are sent in turn.
    is_running: bool,
    /// Initiations of this run.
    tries: usize,
    /// Since the newest initiation left, one was answered.
    is_answered: bool,
    /// Destination of the newest initiation, and when it left.
    newest: Option<(SocketAddr, Instant)>,
    /// Initiations before the newest, the oldest first.
    older: Vec<Outstanding>,
    /// An answer was accepted while a newer initiation was under way: until then the session is to
    /// show a sign of life.
    confirm_by: Option<Instant>,
    /// After an answer was accepted: when the newer initiations are forgotten.
    expires: Option<Instant>,
    /// Until then data from another address of the list does not move the peer: it is what the
    /// peer sent before it heard from us by the address that answered.
    settled: Option<Instant>,
    silence: Silence,
}

/// A silence that begins sooner than that of any peer.
#[derive(Debug, Default)]
struct Silence {
    /// When the first data left since which nothing came.
    since: Option<Instant>,
    /// More data left since: when the silence is suspect.
    suspect: Option<Instant>,
    /// Data came since the last suspicion, so an answer is to be expected.
    is_answering: bool,
    /// The next initiation, or the run that is on, is to find out.
    is_asking: bool,
    /// False suspicions of late.
    false_ones: u8,
}

struct Candidate {
    remote: SocketAddr,
    /// A cookie is good for one path only.
    cookies: CookieJar,
    /// When the last initiation was sent there.
    sent: Option<Instant>,
    /// The time that the last answer took.
    round_trip: Duration,
}

struct Outstanding {
    initiator: Box<Initiator>,
    index: u32,
    remote: SocketAddr,
    sent: Instant,
}

impl Candidate {
    fn new(remote: SocketAddr) -> Self {
        Self { remote, cookies: CookieJar::default(), sent: None, round_trip: Duration::ZERO }
    }
}

impl Candidates {
    fn place(&self, remote: SocketAddr) -> Option<usize> {
        self.list.iter().position(|candidate| candidate.remote == remote)
    }

    fn get_mut(&mut self, remote: SocketAddr) -> Option<&mut Candidate> {
        self.list.iter_mut().find(|candidate| candidate.remote == remote)
    }

    /// When the next initiation may leave, the last handshake message having left at `sent`.
    fn ready_at(&self, sent: Instant, jitter: Duration) -> Instant {
        let newest = self.newest.filter(|(_, newest)| self.is_running && *newest == sent);
        let Some((remote, _)) = newest else {
            // the last message ended a run, or was a response
            return sent + if self.silence.is_asking { CANDIDATE_PAUSE } else { REKEY_TIMEOUT };
        };
        let pause = if self.tries > self.list.len() { LATER_PAUSE } else { CANDIDATE_PAUSE };
        // an answer that is known to take longer is waited for
        let last = self.place(remote).and_then(|place| self.list.get(place));
        let patience = last.map(|last| last.round_trip * 2).unwrap_or_default().min(REKEY_TIMEOUT);
        let again = self.list.get(self.turn).and_then(|candidate| candidate.sent);
        let again = again.map(|last| last + REKEY_TIMEOUT + jitter);
        again.into_iter().fold(sent + pause.max(patience), Instant::max)
    }

    /// Begins with the address in use, or, if there is a session that suffers no harm by that, with
    /// the preferred one if it was not tried for long.
    fn begin(&mut self, current: SocketAddr, has_session: bool, now: Instant) {
        (self.is_running, self.tries) = (true, 0);
        let place = self.place(current).unwrap_or_else(|| {
            self.list.truncate(self.named);
            self.list.push(Candidate::new(current));
            self.list.len() - 1
        });
        let preferred = self.list.first().and_then(|candidate| candidate.sent);
        self.is_preferring = has_session
            && !self.silence.is_asking
            && place != 0
            && preferred.is_none_or(|last| now.since(last) >= PREFER_AGAIN);
        self.turn = if self.is_preferring { 0 } else { place };
    }

    /// Takes the next address, and true if it was tried in vain in this run.
    fn take_turn(&mut self, current: SocketAddr, now: Instant) -> Option<(SocketAddr, bool)> {
        let turn = if self.turn < self.list.len() { self.turn } else { 0 };
        let following = if std::mem::take(&mut self.is_preferring) { self.place(current) } else { None };
        self.turn = following.unwrap_or((turn + 1) % self.list.len().max(1));
        let candidate = self.list.get_mut(turn)?;
        candidate.sent = Some(now);
        self.newest = Some((candidate.remote, now));
        (self.is_answered, self.confirm_by, self.expires) = (false, None, None);
        let was_in_vain = self.tries >= self.list.len();
        self.tries += 1;
        self.newest.map(|(remote, _)| (remote, was_in_vain))
    }

    /// Keeps the initiation that is not the newest any more.
    fn keep(
        &mut self,
        (initiator, index): (Box<Initiator>, u32),
        newest: Option<(SocketAddr, Instant)>,
        indices: &mut IndexTable,
    ) {
        match newest {
            Some((remote, sent)) => self.older.push(Outstanding { initiator, index, remote, sent }),
            None => indices.free(index),
        }
    }

    /// Forgets the older initiations that are too old or too many at `now`.
    fn prune(&mut self, indices: &mut IndexTable, now: Instant) {
        let excess = self.older.len().saturating_sub(MAX_OLDER);
        let mut place = 0;
        self.older.retain(|outstanding| {
            let keeps = place >= excess && now.since(outstanding.sent) < MAX_AGE;
            place += 1;
            if !keeps {
                indices.free(outstanding.index);
            }
            keeps
        });
    }

    /// Forgets the older initiations.
    pub(super) fn forget_older(&mut self, indices: &mut IndexTable) {
        // with its room: most of the time there are none
        for outstanding in std::mem::take(&mut self.older) {
            indices.free(outstanding.index);
        }
    }

    /// Forgets all initiations; the next one begins anew.
    pub(super) fn reset(&mut self, indices: &mut IndexTable) {
        self.forget_older(indices);
        (self.is_running, self.newest) = (false, None);
        (self.confirm_by, self.expires) = (None, None);
        self.silence.end();
    }

    /// Nobody answers at any address.
    pub(super) fn handle_given_up(&mut self, indices: &mut IndexTable) {
        self.forget_older(indices);
        self.is_running = false;
        self.silence.end();
    }

    /// The initiation of that index, if it is one of the older ones.
    pub(super) fn older(&mut self, index: u32, now: Instant) -> Option<&mut Initiator> {
        let mut older = self.older.iter_mut();
        let outstanding = older.find(|outstanding| outstanding.index == index)?;
        (now.since(outstanding.sent) < MAX_AGE).then_some(&mut *outstanding.initiator)
    }

    fn note_round_trip(&mut self, remote: SocketAddr, round_trip: Duration) {
        if let Some(candidate) = self.get_mut(remote) {
            candidate.round_trip = round_trip;
        }
    }

    /// The peer has shown that it has the session.
    pub(super) const fn handle_confirmed(&mut self) {
        self.confirm_by = None;
    }

    /// Data left for `remote`.
    pub(super) fn handle_data_sent(&mut self, remote: SocketAddr, now: Instant) {
        let silence = &self.silence;
        if silence.suspect.is_some() || !silence.is_answering || silence.false_ones >= MOST_SUSPICIONS {
            return;
        }
        let Some(since) = silence.since else {
            self.silence.since = Some(now);
            return;
        };
        if now.since(since) < INSISTING {
            return;
        }
        let round_trip = self.place(remote).and_then(|place| self.list.get(place));
        let round_trip = round_trip.map(|candidate| candidate.round_trip).unwrap_or_default();
        let patience = SUSPECT_SILENCE.max(round_trip * 3) * (1 << silence.false_ones);
        if now.since(since) < patience * 2 {
            // if this is what is to be answered, that takes its time as well
            let answered = now + INSISTING.max(round_trip * 2);
            self.silence.suspect = Some(answered.max(since + patience));
        } else {
            // what left long ago needed no answer
            self.silence.since = Some(now);
        }
    }

    /// Something authentic came, with data in it or without, from the address in use or another.
    /// Returns true if it answers a suspicion.
    const fn handle_received(&mut self, has_data: bool, is_same: bool) -> bool {
        let is_answer = self.silence.is_asking && is_same;
        if is_answer {
            self.silence.handle_answer(true);
            self.is_running = false;
        }
        (self.silence.since, self.silence.suspect) = (None, None);
        self.silence.is_answering |= has_data;
        is_answer
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        [self.confirm_by, self.expires, self.silence.suspect].into_iter().flatten().min()
    }
}

impl Silence {
    /// Takes the suspicion that is due, if any.
    fn take_due(&mut self, now: Instant) -> bool {
        let is_due = Timers::take_due(&mut self.suspect, now);
        if is_due {
            (self.is_asking, self.is_answering, self.since) = (true, false, None);
        }
        is_due
    }

    /// A handshake is over that was answered from the address in use, or from another one.
    const fn handle_answer(&mut self, is_same: bool) {
        self.false_ones = match (self.is_asking, is_same) {
            (true, true) => self.false_ones.saturating_add(1),
            (true, false) => 0,
            (false, _) => self.false_ones.saturating_sub(1),
        };
        self.end();
    }

    const fn end(&mut self) {
        (self.is_asking, self.since, self.suspect) = (false, None, None);
    }
}
