//! Sessions: two keys and counters each, and the roles of a peer's three sessions.
//!
//! The keys are shared with the threads that encrypt or decrypt at the moment ([`Sealing`],
//! [`Opening`]), so that they do not need the interface; the rest belongs to the interface alone.

mod handover;

pub(super) use handover::SessionRecord;

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
use crate::time::Instant;
use wontun_packet::DropReason;

/// Number of sessions whose keys were overwritten.
#[derive(Clone, Debug, Default)]
pub(super) struct EndedSessions(Arc<AtomicU64>);

impl EndedSessions {
    pub(super) fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The two keys of a session. The last user drops them.
struct Keys {
    send: Aead,
    receive: Aead,
    /// The same keys as bytes, which the library does not return, for a process that takes the
    /// session over.
    bytes: SessionKeys,
    ended: EndedSessions,
}

impl Drop for Keys {
    fn drop(&mut self) {
        self.ended.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// For logs: prints no key.
impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys")
    }
}

/// Encryption of a number of packets of one session, with counters reserved for them.
#[derive(Debug)]
pub struct Sealing {
    keys: Arc<Keys>,
    receiver: u32,
    /// Counter of the next packet.
    counter: u64,
    /// End of the reserved counters, exclusive.
    end: u64,
    mtu: usize,
}

impl Sealing {
    /// Pads and encrypts the packet of `len` bytes at [`DATA_HEADER_LEN`] in `buffer`, and returns
    /// the length of the datagram. Returns `None` if there is no room for padding and tag, or no
    /// reserved counter is left.
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
        // counted before it is used, so that no failure can reuse a nonce
        self.counter = counter + 1;
        *header = DataHeader { receiver: self.receiver, counter }.to_bytes();
        *tag_room = self.keys.send.seal(counter, &[], payload)?;
        Some(DATA_HEADER_LEN + padded + TAG_LEN)
    }
}

/// Contents of an authentic data message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    /// An IP packet of this many bytes, [`DATA_HEADER_LEN`] into the datagram.
    Packet(usize),
    /// A keepalive.
    Keepalive,
}

/// Decryption of the data messages of one session.
#[derive(Debug)]
pub struct Opening {
    keys: Arc<Keys>,
    pub(super) peer: PeerId,
}

impl Opening {
    /// Returns the peer that the session belongs to.
    pub const fn peer(&self) -> PeerId {
        self.peer
    }

    /// Decrypts a data message in place and merges the ECN mark of its traffic class `class` into
    /// the packet. The caller must still check its counter with [`super::Receiving::accept`].
    ///
    /// # Errors
    /// The outer error: the message is not authentic. The inner error: it is authentic and must be
    /// accepted, but its contents must be dropped.
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

/// A session.
pub(super) struct Keypair {
    pub(super) local_index: u32,
    remote_index: u32,
    pub(super) created: Instant,
    /// True if this side initiated the handshake, and so must initiate the next one.
    pub(super) is_initiator: bool,
    keys: Arc<Keys>,
    next_counter: u64,
    window: ReplayWindow,
    /// Cleared when the private key changes: messages in flight are still received, but nothing is
    /// sent.
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
            keys: Arc::new(Keys { send, receive, bytes: keys.clone(), ended: ended.clone() }),
            next_counter: 0,
            window: ReplayWindow::new(),
            may_send: true,
        }))
    }

    /// Returns true if a packet can still be sent in this session.
    pub(super) fn can_send(&self, now: Instant) -> bool {
        self.may_send
            && self.next_counter < REJECT_AFTER_MESSAGES
            && now.since(self.created) < REJECT_AFTER_TIME
    }

    /// Returns true if the next handshake is due after receiving: this side initiated the session,
    /// and it ends soon.
    pub(super) fn expires_soon(&self, now: Instant) -> bool {
        let warning = REJECT_AFTER_TIME.saturating_sub(KEEPALIVE_TIMEOUT).saturating_sub(REKEY_TIMEOUT);
        self.may_send && self.is_initiator && now.since(self.created) >= warning
    }

    /// Returns true if the next handshake is due after sending. Only the initiator goes by the age,
    /// so that not both sides start one.
    pub(super) fn needs_rekey(&self, now: Instant) -> bool {
        self.next_counter > REKEY_AFTER_MESSAGES
            || self.is_initiator && now.since(self.created) >= REKEY_AFTER_TIME
    }

    /// Reserves the next `count` counters, or as many as are left. `mtu` is the length past which
    /// nothing is padded.
    pub(super) fn reserve(&mut self, count: u64, mtu: usize) -> Sealing {
        let counter = self.next_counter;
        let end = counter.saturating_add(count).min(REJECT_AFTER_MESSAGES).max(counter);
        self.next_counter = end;
        Sealing { keys: Arc::clone(&self.keys), receiver: self.remote_index, counter, end, mtu }
    }

    /// Returns the means to decrypt messages from `peer`, which this session belongs to.
    ///
    /// # Errors
    /// Fails if the session is past its time.
    pub(super) fn begin_receive(&self, peer: PeerId, now: Instant) -> Result<Opening, DropReason> {
        if now.since(self.created) >= REJECT_AFTER_TIME {
            return Err(DropReason::Expired);
        }
        Ok(Opening { keys: Arc::clone(&self.keys), peer })
    }

    /// Checks the counter of a message before it is decrypted.
    ///
    /// # Errors
    /// Fails if the counter is past its limit, too old, or was received before.
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
    /// Fails if it was received before.
    pub(super) fn accept(&mut self, counter: u64) -> Result<(), DropReason> {
        if self.window.accept(counter) { Ok(()) } else { Err(DropReason::Replay) }
    }

    #[cfg(test)]
    pub(super) const fn set_next_counter(&mut self, counter: u64) {
        self.next_counter = counter;
    }
}

/// The sessions of a peer: the current one; the previous one, for messages still in flight; and the
/// next one, which this side answered for but has not seen the peer use.
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
    /// Returns the session with this local index, and true if it is the next one, which the peer
    /// has not used so far.
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

    /// Installs a session that this side initiated. The peer has it, so it is used at once.
    pub(super) fn install_as_initiator(&mut self, new: Box<Keypair>, indices: &mut IndexTable) {
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

    /// Installs a session that this side answered. It waits until the peer uses it.
    pub(super) fn install_as_responder(&mut self, new: Box<Keypair>, indices: &mut IndexTable) {
        free(self.previous.take(), indices);
        free(self.next.replace(new), indices);
    }

    /// Makes the next session the current one, since the peer used it.
    pub(super) fn confirm(&mut self, indices: &mut IndexTable) {
        if let Some(next) = self.next.take() {
            let current = self.current.replace(next);
            free(std::mem::replace(&mut self.previous, current), indices);
        }
    }

    /// Drops all sessions.
    pub(super) fn clear(&mut self, indices: &mut IndexTable) {
        let Self { current, previous, next } = std::mem::take(self);
        for keypair in [current, previous, next] {
            free(keypair, indices);
        }
    }

    /// Stops sending in the existing sessions.
    pub(super) fn stop_sending(&mut self) {
        for keypair in [&mut self.current, &mut self.next].into_iter().flatten() {
            keypair.may_send = false;
        }
    }

    /// Returns the current session, if a packet can be sent in it.
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
        /// Encrypts one packet; `len` is a multiple of 16.
        fn seal(&mut self, buffer: &mut [u8], len: usize) -> Option<usize> {
            self.reserve(1, 0).seal(buffer, len)
        }

        /// Checks, decrypts and accepts one datagram.
        fn open<'d>(
            &mut self,
            counter: u64,
            datagram: &'d mut [u8],
            now: Instant,
        ) -> Result<&'d mut [u8], DropReason> {
            let opening = self.begin_receive(PEER, now)?;
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

    /// A worker that is still encrypting keeps the keys of a removed peer until it is done.
    #[test]
    fn a_session_has_ended_when_the_last_user_of_its_keys_is_done() {
        let keys = SessionKeys { send: Zeroizing::new([1; 32]), receive: Zeroizing::new([2; 32]) };
        let ended = EndedSessions::default();
        let mut indices = IndexTable::default();
        let mut keypairs = Keypairs::default();
        let mut keypair = Keypair::new(&keys, 1, 2, true, &ended, at(0)).unwrap();
        let sealing = keypair.reserve(1, 0);
        keypairs.install_as_initiator(keypair, &mut indices);
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
        assert!(!initiated.needs_rekey(at(119)) && initiated.needs_rekey(at(120)));
        assert!(!answered.needs_rekey(at(179)));
        assert!(!initiated.expires_soon(at(164)) && initiated.expires_soon(at(165)));
        assert!(!answered.expires_soon(at(179)), "its initiator sees to it");
        assert!(initiated.can_send(at(179)) && !initiated.can_send(at(180)));
        assert_eq!(initiated.open(0, &mut [0; 32], at(180)), Err(DropReason::Expired));
        assert_eq!(initiated.open(0, &mut [0; 32], at(179)), Err(DropReason::NotAuthentic));
        initiated.set_next_counter(REKEY_AFTER_MESSAGES);
        assert!(!initiated.needs_rekey(at(0)));
        initiated.set_next_counter(REKEY_AFTER_MESSAGES + 1);
        assert!(initiated.needs_rekey(at(0)));
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
        keypairs.install_as_initiator(a, &mut indices);
        assert_eq!(places(&keypairs), [Some(a_index), None, None]);

        let b = new(&mut indices, false);
        let b_index = b.local_index;
        keypairs.install_as_responder(b, &mut indices);
        assert_eq!(places(&keypairs), [Some(a_index), None, Some(b_index)]);
        assert!(keypairs.by_index(b_index).unwrap().1);
        keypairs.confirm(&mut indices);
        assert_eq!(places(&keypairs), [Some(b_index), Some(a_index), None]);

        let c = new(&mut indices, false);
        let c_index = c.local_index;
        keypairs.install_as_responder(c, &mut indices);
        assert_eq!(places(&keypairs), [Some(b_index), None, Some(c_index)]);
        let d = new(&mut indices, true);
        let d_index = d.local_index;
        keypairs.install_as_initiator(d, &mut indices);
        assert_eq!(places(&keypairs), [Some(d_index), Some(c_index), None]);
        assert_eq!(indices.len(), 2);

        keypairs.stop_sending();
        assert!(keypairs.sending(at(0)).is_none());
        assert!(keypairs.by_index(d_index).is_some());
        keypairs.clear(&mut indices);
        assert_eq!(indices.len(), 0);
    }
}
