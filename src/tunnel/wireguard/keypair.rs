//! Sessions: the two keys of each, its counters, and which of a peer's three is used for what.
//!
//! The keys are shared with whoever seals or opens at this moment ([`Sealing`], [`Opening`]), so that the interface is
//! not held up by it; all else is the interface's own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::aead::Aead;
use super::ecn;
use super::index::{IndexTable, PeerId};
use super::message::{DATA_HEADER_LEN, DataHeader, TAG_LEN};
use super::noise::SessionKeys;
use super::padding::{packet_len, padded_len};
use super::replay::ReplayWindow;
use super::{
    KEEPALIVE_TIMEOUT, REJECT_AFTER_MESSAGES, REJECT_AFTER_TIME, REKEY_AFTER_MESSAGES, REKEY_AFTER_TIME,
    REKEY_TIMEOUT,
};
use crate::counters::DropReason;
use crate::time::Instant;

/// Counts the sessions whose keys were overwritten.
#[derive(Clone, Debug, Default)]
pub(super) struct EndedSessions(Arc<AtomicU64>);

impl EndedSessions {
    pub(super) fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The two keys of a session. They are dropped by whoever uses them last.
struct Keys {
    send: Aead,
    receive: Aead,
    ended: EndedSessions,
}

impl Drop for Keys {
    fn drop(&mut self) {
        self.ended.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// For the log: no key is in it.
impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys")
    }
}

/// The right to seal some packets, one behind the other, with counters that nobody else uses.
#[derive(Debug)]
pub struct Sealing {
    keys: Arc<Keys>,
    receiver: u32,
    /// The next packet's.
    counter: u64,
    /// The first that is not ours.
    end: u64,
    mtu: usize,
}

impl Sealing {
    /// Pads and seals the packet of `len` bytes that lies [`DATA_HEADER_LEN`] into `buffer`, and gives the datagram's
    /// length. `None`: there is no room for padding and tag, or all counters are used.
    pub fn seal(&mut self, buffer: &mut [u8], len: usize) -> Option<usize> {
        let counter = self.counter;
        if counter >= self.end {
            return None;
        }
        let padded = padded_len(len, self.mtu);
        let (header, rest) = buffer.split_first_chunk_mut::<DATA_HEADER_LEN>()?;
        let (payload, rest) = rest.split_at_mut_checked(padded)?;
        let tag_room = rest.first_chunk_mut::<TAG_LEN>()?;
        payload.get_mut(len..)?.fill(0);
        // counted before it is used: whatever happens, a nonce serves once
        self.counter = counter + 1;
        *header = DataHeader { receiver: self.receiver, counter }.to_bytes();
        *tag_room = self.keys.send.seal(counter, &[], payload)?;
        Some(DATA_HEADER_LEN + padded + TAG_LEN)
    }
}

/// What an authentic data message was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    /// An IP packet of this many bytes, [`DATA_HEADER_LEN`] into the datagram.
    Packet(usize),
    /// Nothing but a sign of life.
    Keepalive,
}

/// The key to datagrams of one session.
#[derive(Debug)]
pub struct Opening {
    keys: Arc<Keys>,
    pub(super) peer: PeerId,
}

impl Opening {
    /// Decrypts a data message in place and merges the congestion mark of its traffic class `class` into the packet.
    /// Whether its counter is a new one is still to be asked ([`super::Interface::accept`]).
    ///
    /// # Errors
    /// Outside: it is not authentic. Inside: it is, and is to be accepted, but what it carries is to be dropped.
    pub fn open(
        &self,
        header: DataHeader,
        class: u8,
        datagram: &mut [u8],
    ) -> Result<Result<Opened, DropReason>, DropReason> {
        let payload = self.decrypt(header.counter, datagram)?;
        if payload.is_empty() {
            return Ok(Ok(Opened::Keepalive));
        }
        let Some(len) = packet_len(payload) else { return Ok(Err(DropReason::Malformed)) };
        Ok(ecn::merge(class, payload).map(|()| Opened::Packet(len)))
    }

    fn decrypt<'d>(&self, counter: u64, datagram: &'d mut [u8]) -> Result<&'d mut [u8], DropReason> {
        let sealed = datagram.get_mut(DATA_HEADER_LEN..).ok_or(DropReason::NoMessage)?;
        self.keys.receive.open(counter, &[], sealed).ok_or(DropReason::NotAuthentic)
    }
}

/// One session.
pub(super) struct Keypair {
    pub(super) local_index: u32,
    remote_index: u32,
    pub(super) created: Instant,
    /// Whether we began the handshake, and so are the one to begin the next.
    pub(super) is_initiator: bool,
    keys: Arc<Keys>,
    next_counter: u64,
    window: ReplayWindow,
    /// Cleared when our private key changed: what is under way may still arrive, but nothing new leaves.
    may_send: bool,
}

impl Keypair {
    pub(super) fn new(
        keys: &SessionKeys,
        local_index: u32,
        remote_index: u32,
        is_initiator: bool,
        ended: &EndedSessions,
        now: Instant,
    ) -> Option<Box<Self>> {
        let (send, receive) = (Aead::new(&keys.send)?, Aead::new(&keys.receive)?);
        Some(Box::new(Self {
            local_index,
            remote_index,
            created: now,
            is_initiator,
            keys: Arc::new(Keys { send, receive, ended: ended.clone() }),
            next_counter: 0,
            window: ReplayWindow::new(),
            may_send: true,
        }))
    }

    /// Whether a packet may still leave with it.
    pub(super) fn can_send(&self, now: Instant) -> bool {
        self.may_send
            && self.next_counter < REJECT_AFTER_MESSAGES
            && now.since(self.created) < REJECT_AFTER_TIME
    }

    /// Whether, having received anything, the next handshake is due: we began this session, and it ends soon.
    pub(super) fn ends_soon(&self, now: Instant) -> bool {
        let warning = REJECT_AFTER_TIME.saturating_sub(KEEPALIVE_TIMEOUT).saturating_sub(REKEY_TIMEOUT);
        self.may_send && self.is_initiator && now.since(self.created) >= warning
    }

    /// Whether, having sent with it, the next handshake is due. Only the initiator goes by time, so that not both
    /// sides begin one.
    pub(super) fn is_worn(&self, now: Instant) -> bool {
        self.next_counter > REKEY_AFTER_MESSAGES
            || self.is_initiator && now.since(self.created) >= REKEY_AFTER_TIME
    }

    /// Sets the next `count` counters aside, or as many as there are. `mtu` is the one past which nothing is padded.
    pub(super) fn reserve(&mut self, count: u64, mtu: usize) -> Sealing {
        let counter = self.next_counter;
        let end = counter.saturating_add(count).min(REJECT_AFTER_MESSAGES).max(counter);
        self.next_counter = end;
        Sealing { keys: Arc::clone(&self.keys), receiver: self.remote_index, counter, end, mtu }
    }

    /// The way to open what came in for `peer`, to whom this session belongs.
    ///
    /// # Errors
    /// The session is past its time.
    pub(super) fn opening(&self, peer: PeerId, now: Instant) -> Result<Opening, DropReason> {
        if now.since(self.created) >= REJECT_AFTER_TIME {
            return Err(DropReason::Expired);
        }
        Ok(Opening { keys: Arc::clone(&self.keys), peer })
    }

    /// Whether a message with this counter is worth opening.
    ///
    /// # Errors
    /// The counter is past its limit, or was received before.
    pub(super) fn check(&self, counter: u64) -> Result<(), DropReason> {
        if counter >= REJECT_AFTER_MESSAGES {
            Err(DropReason::Expired)
        } else if self.window.is_fresh(counter) {
            Ok(())
        } else {
            Err(DropReason::Replay)
        }
    }

    /// Records the counter of an authentic message.
    ///
    /// # Errors
    /// It was received before.
    pub(super) fn accept(&mut self, counter: u64) -> Result<(), DropReason> {
        if self.window.accept(counter) { Ok(()) } else { Err(DropReason::Replay) }
    }

    #[cfg(test)]
    pub(super) const fn set_next_counter(&mut self, counter: u64) {
        self.next_counter = counter;
    }
}

/// What a peer has: the session in use; the one before it, for what is still under way; and the one that we
/// answered for but have not heard the peer use yet.
#[derive(Default)]
pub(super) struct Keypairs {
    pub(super) current: Option<Box<Keypair>>,
    previous: Option<Box<Keypair>>,
    next: Option<Box<Keypair>>,
}

fn free(keypair: Option<Box<Keypair>>, indices: &mut IndexTable) {
    if let Some(keypair) = keypair {
        indices.free(keypair.local_index);
    }
}

impl Keypairs {
    /// The session with this index of ours, and whether it is the next one, not used by the peer so far.
    pub(super) fn by_index(&mut self, index: u32) -> Option<(&mut Keypair, bool)> {
        let of_index = |keypair: &&mut Box<Keypair>| keypair.local_index == index;
        if let Some(keypair) = self.current.as_mut().filter(of_index) {
            return Some((keypair, false));
        }
        if let Some(keypair) = self.previous.as_mut().filter(of_index) {
            return Some((keypair, false));
        }
        self.next.as_mut().filter(of_index).map(|keypair| (keypair.as_mut(), true))
    }

    /// Our initiation was answered: the peer has the session, so it is used at once.
    pub(super) fn install_initiated(&mut self, new: Box<Keypair>, indices: &mut IndexTable) {
        let (current, next) = (self.current.replace(new), self.next.take());
        let previous = if next.is_some() {
            // the peer may be using that one already
            free(current, indices);
            next
        } else {
            current
        };
        free(std::mem::replace(&mut self.previous, previous), indices);
    }

    /// We answered: the session waits until the peer uses it.
    pub(super) fn install_answered(&mut self, new: Box<Keypair>, indices: &mut IndexTable) {
        free(self.previous.take(), indices);
        free(self.next.replace(new), indices);
    }

    /// The peer used the next session: from now on it is the current one.
    pub(super) fn confirm(&mut self, indices: &mut IndexTable) {
        if let Some(next) = self.next.take() {
            let current = self.current.replace(next);
            free(std::mem::replace(&mut self.previous, current), indices);
        }
    }

    /// Forgets all.
    pub(super) fn clear(&mut self, indices: &mut IndexTable) {
        let Self { current, previous, next } = std::mem::take(self);
        for keypair in [current, previous, next] {
            free(keypair, indices);
        }
    }

    /// Lets nothing more leave with what there is.
    pub(super) fn stop_sending(&mut self) {
        for keypair in [&mut self.current, &mut self.next].into_iter().flatten() {
            keypair.may_send = false;
        }
    }

    /// The current session, if a packet may leave with it.
    pub(super) fn sending(&mut self, now: Instant) -> Option<&mut Keypair> {
        self.current.as_deref_mut().filter(|keypair| keypair.can_send(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use zeroize::Zeroizing;

    fn at(seconds: u64) -> Instant {
        Instant::from_boot(Duration::from_secs(1000 + seconds))
    }

    const PEER: PeerId = PeerId { slot: 0, generation: 0 };

    impl Keypair {
        /// One packet's whole way out; `len` is a multiple of 16.
        fn seal(&mut self, buffer: &mut [u8], len: usize) -> Option<usize> {
            self.reserve(1, 0).seal(buffer, len)
        }

        /// One datagram's whole way in.
        fn open<'d>(
            &mut self,
            counter: u64,
            datagram: &'d mut [u8],
            now: Instant,
        ) -> Result<&'d mut [u8], DropReason> {
            let opening = self.opening(PEER, now)?;
            self.check(counter)?;
            let payload = opening.decrypt(counter, datagram)?;
            self.accept(counter).map(|()| payload)
        }
    }

    fn pair(local_index: u32, is_initiator: bool) -> Box<Keypair> {
        let keys = SessionKeys { send: Zeroizing::new([1; 32]), receive: Zeroizing::new([1; 32]) };
        Keypair::new(&keys, local_index, 9, is_initiator, &EndedSessions::default(), at(0)).unwrap()
    }

    #[test]
    fn fault_07_the_counter_stops_at_reject_after_messages() {
        let mut keypair = pair(9, true);
        keypair.set_next_counter(REJECT_AFTER_MESSAGES - 1);
        let mut buffer = [0; 64];
        assert!(keypair.can_send(at(0)));
        assert_eq!(keypair.seal(&mut buffer, 16), Some(48));
        assert!(!keypair.can_send(at(0)));
        assert_eq!(keypair.seal(&mut buffer, 16), None);
        assert_eq!(keypair.seal(&mut buffer, 16), None);

        assert!(keypair.open(REJECT_AFTER_MESSAGES - 1, &mut { buffer }[..48], at(0)).is_ok());
        // even an authentic message is refused past the limit
        let mut beyond = [0; 64];
        let tag = keypair.keys.send.seal(REJECT_AFTER_MESSAGES, &[], &mut beyond[16..32]).unwrap();
        beyond[32..48].copy_from_slice(&tag);
        let refused = keypair.open(REJECT_AFTER_MESSAGES, &mut beyond[..48], at(0));
        assert_eq!(refused, Err(DropReason::Expired));
    }

    /// A worker that is still sealing keeps the keys of a peer that was removed until it is done.
    #[test]
    fn a_session_has_ended_when_the_last_user_of_its_keys_is_done() {
        let keys = SessionKeys { send: Zeroizing::new([1; 32]), receive: Zeroizing::new([2; 32]) };
        let ended = EndedSessions::default();
        let mut indices = IndexTable::default();
        let mut keypairs = Keypairs::default();
        let mut keypair = Keypair::new(&keys, 1, 2, true, &ended, at(0)).unwrap();
        let sealing = keypair.reserve(1, 0);
        keypairs.install_initiated(keypair, &mut indices);
        keypairs.clear(&mut indices);
        assert_eq!(ended.count(), 0);
        drop(sealing);
        assert_eq!(ended.count(), 1);
    }

    #[test]
    fn counters_set_aside_serve_once_each() {
        let mut keypair = pair(9, true);
        let (mut first, mut second) = (keypair.reserve(2, 0), keypair.reserve(1, 0));
        let mut counters = vec![];
        let mut buffer = [0; 64];
        for is_first in [false, true, true] {
            let sealing = if is_first { &mut first } else { &mut second };
            assert_eq!(sealing.seal(&mut buffer, 16), Some(48));
            counters.push(buffer[8]);
        }
        assert_eq!(counters, [2, 0, 1]);
        assert_eq!((first.seal(&mut buffer, 16), second.seal(&mut buffer, 16)), (None, None));
        keypair.set_next_counter(REJECT_AFTER_MESSAGES - 1);
        let mut last = keypair.reserve(44, 0);
        assert!(last.seal(&mut buffer, 16).is_some());
        assert_eq!(last.seal(&mut buffer, 16), None);
    }

    #[test]
    fn a_session_wears_and_ends_by_time_and_messages() {
        let (mut initiated, answered) = (pair(1, true), pair(2, false));
        assert!(!initiated.is_worn(at(119)) && initiated.is_worn(at(120)));
        assert!(!answered.is_worn(at(179)));
        assert!(!initiated.ends_soon(at(164)) && initiated.ends_soon(at(165)));
        assert!(!answered.ends_soon(at(179)), "its initiator sees to it");
        assert!(initiated.can_send(at(179)) && !initiated.can_send(at(180)));
        assert_eq!(initiated.open(0, &mut [0; 32], at(180)), Err(DropReason::Expired));
        assert_eq!(initiated.open(0, &mut [0; 32], at(179)), Err(DropReason::NotAuthentic));
        initiated.set_next_counter(REKEY_AFTER_MESSAGES);
        assert!(!initiated.is_worn(at(0)));
        initiated.set_next_counter(REKEY_AFTER_MESSAGES + 1);
        assert!(initiated.is_worn(at(0)));
    }

    #[test]
    fn a_forged_message_does_not_move_the_window() {
        let mut keypair = pair(9, true);
        let mut buffer = [0; 48];
        assert_eq!(keypair.seal(&mut buffer, 16), Some(48));
        assert_eq!(keypair.open(1 << 40, &mut buffer.clone(), at(0)), Err(DropReason::NotAuthentic));
        assert!(keypair.open(0, &mut buffer.clone(), at(0)).is_ok());
        assert_eq!(keypair.open(0, &mut buffer, at(0)), Err(DropReason::Replay));
    }

    #[test]
    fn sessions_move_as_the_paper_says_and_free_their_indices() {
        let mut indices = IndexTable::default();
        let mut random = super::super::random::Seeded::new(1);
        let mut new =
            |indices: &mut IndexTable, initiator| pair(indices.allocate(PEER, &mut random), initiator);
        let mut keypairs = Keypairs::default();
        let places = |keypairs: &Keypairs| {
            [&keypairs.current, &keypairs.previous, &keypairs.next]
                .map(|pair| pair.as_ref().map(|pair| pair.local_index))
        };
        let a = new(&mut indices, true);
        let a_index = a.local_index;
        keypairs.install_initiated(a, &mut indices);
        assert_eq!(places(&keypairs), [Some(a_index), None, None]);

        let b = new(&mut indices, false);
        let b_index = b.local_index;
        keypairs.install_answered(b, &mut indices);
        assert_eq!(places(&keypairs), [Some(a_index), None, Some(b_index)]);
        assert!(keypairs.by_index(b_index).unwrap().1);
        keypairs.confirm(&mut indices);
        assert_eq!(places(&keypairs), [Some(b_index), Some(a_index), None]);

        let c = new(&mut indices, false);
        let c_index = c.local_index;
        keypairs.install_answered(c, &mut indices);
        assert_eq!(places(&keypairs), [Some(b_index), None, Some(c_index)]);
        let d = new(&mut indices, true);
        let d_index = d.local_index;
        keypairs.install_initiated(d, &mut indices);
        assert_eq!(places(&keypairs), [Some(d_index), Some(c_index), None]);
        assert_eq!(indices.len(), 2);

        keypairs.stop_sending();
        assert!(keypairs.sending(at(0)).is_none());
        assert!(keypairs.by_index(d_index).is_some());
        keypairs.clear(&mut indices);
        assert_eq!(indices.len(), 0);
    }
}
