//! One WireGuard interface: our key, the peers, and the way of each datagram to the right one.
//!
//! Whoever runs it moves bytes: datagrams go into [`Interface::handle_datagram`], packets into
//! [`Interface::handle_packet`]; what is to be sent comes out of these and of [`Interface::poll_transmit`].
//! Handshakes wait in a queue until [`Interface::handle_queued`] is called, so that data goes first.

mod candidates;
mod suspend;

use std::collections::{BTreeSet, VecDeque};
use std::num::NonZeroU32;
use std::time::Duration;

use super::admission::Admission;
use super::ecn;
use super::endpoint::Endpoint;
use super::event::Event;
use super::index::{IndexTable, PeerId};
use super::key::{PresharedKey, PrivateKey, PublicKey};
use super::keypair::{EndedSessions, Opened, Opening, Sealing};
use super::mac::MacKeys;
use super::message::{COOKIE_REPLY_LEN, DATA_HEADER_LEN, DataHeader, Message};
use super::noise::{Identity, Responder, StaticSecrets};
use super::peer::{Accepted, Context, Peer};
use super::peer_table::{AddPeerError, PeerTable};
use super::queued::Handshake;
use super::random::{self, Random};
use super::timestamp::Stamper;
use crate::counters::DropReason;
use crate::packet::split::Lengths;
use crate::stack;
use crate::time::Instant;

/// A datagram to send: it lies at the front of the caller's buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// To whom; `None` for a cookie reply, which goes to whoever asked.
    pub peer: Option<PeerId>,
    /// Whereto, and from which address of ours.
    pub endpoint: Endpoint,
    /// Its bytes.
    pub len: usize,
    /// The traffic class of the outer header: DSCP and ECN.
    pub class: u8,
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outgoing {
    /// It is a datagram now, in the same buffer.
    Transmit(Transmit),
    /// A copy waits for a handshake; [`Interface::poll_transmit`] gives it then.
    Staged,
}

/// What a datagram was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// A packet, which lies [`DATA_HEADER_LEN`] into the buffer. It is the peer's, but whether the peer may use its
    /// source address is for the caller to say.
    Packet {
        /// Who sent it.
        peer: PeerId,
        /// Its bytes, without the padding.
        len: usize,
    },
    /// A sign of life.
    Keepalive(PeerId),
    /// A cookie for the next handshake message.
    Cookie(PeerId),
    /// A handshake message: it waits for [`Interface::handle_queued`].
    Queued,
}

struct Own {
    identity: Identity,
    mac_keys: MacKeys,
}

/// An interface's state.
pub struct Interface {
    own: Option<Own>,
    secrets: StaticSecrets,
    random: Box<dyn Random + Send>,
    indices: IndexTable,
    stamper: Stamper,
    ended: EndedSessions,
    mtu: usize,
    peers: PeerTable,
    admission: Admission,
    /// Peers that may have something to send.
    outgoing: VecDeque<PeerId>,
    /// Peers that have news.
    news: VecDeque<PeerId>,
    /// When to look at which peer: its `scheduled`. Set anew only when it must be earlier, so packets seldom touch it.
    due: BTreeSet<(Instant, PeerId)>,
}

impl Interface {
    /// An interface without a key and peers, for a device with this MTU.
    pub fn new(mtu: usize, random: Box<dyn Random + Send>) -> Self {
        Self {
            own: None,
            secrets: StaticSecrets::default(),
            random,
            indices: IndexTable::default(),
            stamper: Stamper::default(),
            ended: EndedSessions::default(),
            mtu,
            peers: PeerTable::default(),
            admission: Admission::new(),
            outgoing: VecDeque::new(),
            news: VecDeque::new(),
            due: BTreeSet::new(),
        }
    }

    /// Sets how many receivers data messages have; a new interface has one. To be called before
    /// there are sessions.
    pub const fn set_receivers(&mut self, receivers: NonZeroU32) {
        self.indices.set_receivers(receivers);
    }

    /// Returns the receiver, counted from 0, that a peer's data messages lead to by their receiver
    /// index.
    pub const fn receiver(&self, id: PeerId) -> u32 {
        self.indices.receiver(id)
    }

    /// Our public key, if there is a private one.
    pub fn public_key(&self) -> Option<&PublicKey> {
        self.own.as_ref().map(|own| &own.identity.public)
    }

    /// Our private key.
    pub fn private_key(&self) -> Option<&PrivateKey> {
        self.own.as_ref().map(|own| &own.identity.private)
    }

    /// Sets our key. Sessions made with the old one send nothing more. A peer with our new public key is removed;
    /// its id is returned.
    pub fn set_private_key(&mut self, private: Option<PrivateKey>, now: Instant) -> Option<PeerId> {
        if self.private_key() == private.as_ref() {
            return None;
        }
        self.admission.clear();
        self.own = private.map(|private| {
            let public = private.public_key();
            Own { identity: Identity { private, public }, mac_keys: MacKeys::new(&public) }
        });
        let twin = self.public_key().and_then(|public| self.peers.by_key(public));
        if let Some(twin) = twin {
            self.remove_peer(twin);
        }
        self.secrets = StaticSecrets::default();
        for peer in self.peers.iter_mut() {
            peer.handle_identity_changed(&mut self.indices);
            if let Some(own) = &self.own {
                self.secrets.add(&own.identity, *peer.public_key());
            }
        }
        let ids: Vec<_> = self.peers.ids().collect();
        for id in ids {
            self.note(id, now);
        }
        twin
    }

    /// Sets the device's MTU, past which nothing is padded; 0 if it is not known.
    pub const fn set_mtu(&mut self, mtu: usize) {
        self.mtu = mtu;
    }

    /// Adds a peer, or finds the one with this key. One with a key of low order is accepted, as the kernel does, and
    /// never sent anything.
    ///
    /// # Errors
    /// The key is our own.
    pub fn add_peer(&mut self, public: PublicKey) -> Result<PeerId, AddPeerError> {
        if let Some(id) = self.peers.by_key(&public) {
            return Ok(id);
        }
        if self.public_key() == Some(&public) {
            return Err(AddPeerError::OwnKey);
        }
        if let Some(own) = &self.own {
            self.secrets.add(&own.identity, public);
        }
        let new = |id| Peer::new(id, public, PresharedKey::default());
        self.peers.insert(public, new).ok_or(AddPeerError::Full)
    }

    /// Removes a peer with all its secrets; `false` if there is none.
    pub fn remove_peer(&mut self, id: PeerId) -> bool {
        let Some(mut peer) = self.peers.remove(id) else { return false };
        peer.clear(&mut self.indices);
        if let Some(scheduled) = peer.scheduled {
            self.due.remove(&(scheduled, id));
        }
        self.secrets.remove(peer.public_key());
        true
    }

    /// A peer's state.
    pub fn peer(&self, id: PeerId) -> Option<&Peer> {
        self.peers.get(id)
    }

    /// The peer with this key.
    pub fn peer_id(&self, public: &PublicKey) -> Option<PeerId> {
        self.peers.by_key(public)
    }

    /// All peers, in the order of their public keys.
    pub fn peer_ids(&self) -> impl Iterator<Item = PeerId> {
        self.peers.ids()
    }

    /// The peers whose public keys come after `key`, in their order; all without.
    pub fn peers_after(&self, key: Option<&PublicKey>) -> impl Iterator<Item = &Peer> {
        self.peers.ids_after(key).filter_map(|id| self.peers.get(id))
    }

    /// How many peers there are.
    pub fn peer_count(&self) -> usize {
        self.peers.len()
    }

    /// Sets the key that is shared with a peer besides: the next handshake uses it. All zeroes is none.
    pub fn set_preshared_key(&mut self, id: PeerId, preshared: PresharedKey) {
        if let Some(peer) = self.peers.get_mut(id) {
            peer.set_preshared_key(preshared);
        }
    }

    /// Leaves it to the system again from which address of ours datagrams to a peer leave.
    pub fn set_any_source(&mut self, id: PeerId) {
        if let Some(peer) = self.peers.get_mut(id) {
            peer.set_any_source();
        }
    }

    /// Sets after how long a silence a keepalive goes to a peer; `None` or zero for never.
    pub fn set_persistent_keepalive(&mut self, id: PeerId, interval: Option<Duration>, now: Instant) {
        if let Some(peer) = self.peers.get_mut(id) {
            peer.set_persistent_keepalive(interval);
        }
        self.note(id, now);
    }

    /// Sends a peer a keepalive now, which brings a handshake about where there is no session.
    pub fn send_keepalive(&mut self, id: PeerId, now: Instant) {
        if let Some(peer) = self.peers.get_mut(id) {
            peer.request_keepalive();
        }
        self.note(id, now);
    }

    /// Takes a packet of `len` bytes for a peer. It lies [`DATA_HEADER_LEN`] into `buffer`, behind which
    /// [`super::message::TAG_LEN`] and [`super::padding::PADDING`] bytes more are needed.
    ///
    /// # Errors
    /// The reason why it is to be dropped.
    pub fn handle_packet(
        &mut self,
        id: PeerId,
        buffer: &mut [u8],
        len: usize,
        now: Instant,
    ) -> Result<Outgoing, DropReason> {
        let packet =
            buffer.get(DATA_HEADER_LEN..).and_then(|rest| rest.get(..len)).ok_or(DropReason::Buffer)?;
        let class = ecn::outer_class(packet);
        match self.begin_send(id, Lengths::of_one(len), now)? {
            Some((mut sealing, endpoint)) => {
                let len = sealing.seal(buffer, len).ok_or(DropReason::Buffer)?;
                Ok(Outgoing::Transmit(Transmit { peer: Some(id), endpoint, len, class }))
            }
            None => self.stage(id, packet, now).map(|()| Outgoing::Staged),
        }
    }

    /// Packets for a peer are about to leave: gives the means to seal them, and where they go. `None`: there is no
    /// session for now, and each is to be staged.
    ///
    /// # Errors
    /// The reason why they are to be dropped.
    pub fn begin_send(
        &mut self,
        id: PeerId,
        packets: Lengths,
        now: Instant,
    ) -> Result<Option<(Sealing, Endpoint)>, DropReason> {
        let (context, peers) = self.split()?;
        let peer = peers.get_mut(id).ok_or(DropReason::NoPeer)?;
        let sealing = peer.begin_send(&context, packets, now)?;
        let endpoint = peer.endpoint().ok_or(DropReason::NoEndpoint)?;
        self.note(id, now);
        Ok(sealing.map(|sealing| (sealing, endpoint)))
    }

    /// Keeps a copy of a packet until there is a session with its peer; [`Self::poll_transmit`] gives it then.
    ///
    /// # Errors
    /// The reason why it is to be dropped.
    pub fn stage(&mut self, id: PeerId, packet: &[u8], now: Instant) -> Result<(), DropReason> {
        let (mut context, peers) = self.split()?;
        let peer = peers.get_mut(id).ok_or(DropReason::NoPeer)?;
        peer.stage(&mut context, packet, now)?;
        self.note(id, now);
        Ok(())
    }

    /// The key to data messages that are addressed to `index`.
    ///
    /// # Errors
    /// The reason why they are to be dropped.
    pub fn opening(&mut self, index: u32, now: Instant) -> Result<Opening, DropReason> {
        let id = self.indices.peer(index).ok_or(DropReason::UnknownIndex)?;
        self.peers.get_mut(id).ok_or(DropReason::UnknownIndex)?.opening(index, now)
    }

    /// Whether the data message with this header is worth opening.
    ///
    /// # Errors
    /// The reason why it is to be dropped.
    pub fn check(&mut self, opening: &Opening, header: DataHeader) -> Result<(), DropReason> {
        self.peers.get_mut(opening.peer).ok_or(DropReason::UnknownIndex)?.check(header)
    }

    /// Takes note of a data message of `len` bytes that proved to be authentic, adds it to `accepted`, and tells whose it
    /// is. After the last of several [`Self::settle`] is to be called.
    ///
    /// # Errors
    /// The reason why it is to be dropped all the same: it was received before.
    pub fn accept(
        &mut self,
        opening: &Opening,
        accepted: &mut Accepted,
        header: DataHeader,
        len: usize,
        now: Instant,
    ) -> Result<PeerId, DropReason> {
        let id = opening.peer;
        let peer = self.peers.get_mut(id).ok_or(DropReason::UnknownIndex)?;
        peer.accept(&mut self.indices, header, now)?;
        accepted.add(len);
        Ok(id)
    }

    /// Takes note of what [`Self::accept`] accepted, which came together. It came from `from`, or, if that is `None`, by a
    /// way that says nothing about where the peer is now.
    pub fn settle(&mut self, opening: &Opening, accepted: Accepted, from: Option<Endpoint>, now: Instant) {
        if let Some(peer) = self.peers.get_mut(opening.peer) {
            peer.handle_accepted(accepted, from, now);
        }
        self.note(opening.peer, now);
    }

    /// Takes a datagram that came in from `from` with the traffic class `class`. Data is decrypted in place.
    ///
    /// # Errors
    /// The reason why it is to be dropped.
    pub fn handle_datagram(
        &mut self,
        from: Endpoint,
        class: u8,
        datagram: &mut [u8],
        now: Instant,
    ) -> Result<Incoming, DropReason> {
        match Message::parse(datagram).ok_or(DropReason::NoMessage)? {
            Message::Data(header) => {
                let opening = self.opening(header.receiver, now)?;
                self.check(&opening, header)?;
                let opened = opening.open(header, class, datagram)?;
                let mut accepted = Accepted::default();
                let peer = self.accept(&opening, &mut accepted, header, datagram.len(), now);
                self.settle(&opening, accepted, Some(from), now);
                let peer = peer?;
                Ok(match opened? {
                    Opened::Keepalive => Incoming::Keepalive(peer),
                    Opened::Packet(len) => Incoming::Packet { peer, len },
                })
            }
            Message::CookieReply(reply) => {
                let id = self.indices.peer(reply.receiver).ok_or(DropReason::UnknownIndex)?;
                let peer = self.peers.get_mut(id).ok_or(DropReason::UnknownIndex)?;
                peer.handle_cookie_reply(&reply, now)?;
                Ok(Incoming::Cookie(id))
            }
            Message::Initiation(message) => {
                let own = self.own.as_ref().ok_or(DropReason::NoKey)?;
                let handshake = Handshake::Initiation(message);
                let random = self.random.as_mut();
                self.admission.handle(from, &message, handshake, &own.mac_keys, random, now)?;
                Ok(Incoming::Queued)
            }
            Message::Response(message) => {
                let own = self.own.as_ref().ok_or(DropReason::NoKey)?;
                let handshake = Handshake::Response(message);
                let random = self.random.as_mut();
                self.admission.handle(from, &message, handshake, &own.mac_keys, random, now)?;
                Ok(Incoming::Queued)
            }
        }
    }

    /// Indices by which peers may address us now: at most four a peer, for three sessions and a
    /// handshake, and three more if it may be at several addresses.
    pub fn indices(&self) -> usize {
        self.indices.len()
    }

    /// Sessions that are over and whose keys were overwritten. Each thread that sealed or opened
    /// packets may have copies of them on its stack, made by the cipher.
    pub fn ended_sessions(&self) -> u64 {
        self.ended.count()
    }

    /// Handshake messages that wait for [`Self::handle_queued`]. Others may wait for [`Self::poll_timeout`] besides.
    pub fn queued(&self) -> usize {
        self.admission.waiting()
    }

    /// Handshake messages beyond their source's share, which wait for a quiet moment.
    pub fn backlog(&self) -> usize {
        self.admission.backlog()
    }

    /// Works on one handshake message: the curve work, some 100 µs. To be called a few times a
    /// turn, after the data. `None` if none waits; else whose it was, or why it is dropped. None of
    /// its secrets is left on the stack.
    pub fn handle_queued(&mut self, now: Instant) -> Option<Result<PeerId, DropReason>> {
        let (from, handshake) = self.admission.poll_handshake()?;
        let handled = stack::isolate(|| self.handle_handshake(from, &handshake, now));
        if let Ok(id) = handled {
            self.note(id, now);
        }
        Some(handled)
    }

    fn handle_handshake(
        &mut self,
        from: Endpoint,
        handshake: &Handshake,
        now: Instant,
    ) -> Result<PeerId, DropReason> {
        let (mut context, peers) = self.split()?;
        match handshake {
            Handshake::Initiation(message) => {
                let ephemeral = random::bytes(context.random).into();
                let responder = Responder::new(context.identity, context.secrets, ephemeral, &message.noise)?;
                let id = peers.by_key(&responder.peer).ok_or(DropReason::UnknownPeer)?;
                let peer = peers.get_mut(id).ok_or(DropReason::UnknownPeer)?;
                let outcome = peer.handle_initiation(&mut context, from, message, responder, now);
                if outcome.is_err() {
                    self.note_news(id);
                }
                outcome.map(|()| id)
            }
            Handshake::Response(message) => {
                let id = context.indices.peer(message.receiver).ok_or(DropReason::UnknownIndex)?;
                let peer = peers.get_mut(id).ok_or(DropReason::UnknownIndex)?;
                peer.handle_response(&mut context, from, message, now)?;
                Ok(id)
            }
        }
    }

    /// Writes the next datagram that is due into `out`, which should hold the largest packet and
    /// [`super::message::DATA_OVERHEAD`] bytes more. `unix` is the wall clock's time since 1970. To be called until
    /// it gives `None`.
    pub fn poll_transmit(&mut self, now: Instant, unix: Duration, out: &mut [u8]) -> Option<Transmit> {
        if let Some((endpoint, reply)) = self.admission.poll_reply() {
            *out.first_chunk_mut()? = reply.to_bytes();
            return Some(Transmit { peer: None, endpoint, len: COOKIE_REPLY_LEN, class: 0 });
        }
        while let Some(id) = self.outgoing.pop_front() {
            let transmit = self.poll_peer(id, now, unix, out);
            if transmit.is_some() {
                self.note(id, now);
                return transmit;
            }
            // what could not leave now waits for a key or an endpoint, not in the list: it would be tried for ever
            self.note_news(id);
            self.schedule(id);
        }
        None
    }

    fn poll_peer(&mut self, id: PeerId, now: Instant, unix: Duration, out: &mut [u8]) -> Option<Transmit> {
        self.peers.get_mut(id)?.is_in_outgoing = false;
        let (mut context, peers) = self.split().ok()?;
        let peer = peers.get_mut(id)?;
        let (endpoint, len, class) = peer.poll_transmit(&mut context, now, unix, out)?;
        Some(Transmit { peer: Some(id), endpoint, len, class })
    }

    /// What happened since the last call; to be called until it gives `None`.
    pub fn poll_event(&mut self) -> Option<Event> {
        while let Some(id) = self.news.front().copied() {
            let peer = self.peers.get_mut(id);
            if let Some(event) = peer.and_then(Peer::poll_event) {
                return Some(event);
            }
            self.news.pop_front();
            if let Some(peer) = self.peers.get_mut(id) {
                peer.is_in_news = false;
            }
        }
        None
    }

    /// When [`Self::handle_timeout`] wants to be called next, if ever.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let peers = self.due.first().map(|(due, _)| *due);
        [peers, self.admission.poll_timeout()].into_iter().flatten().min()
    }

    /// To be called at or after [`Self::poll_timeout`].
    pub fn handle_timeout(&mut self, now: Instant) {
        self.admission.handle_timeout(now);
        while self.due.first().is_some_and(|(due, _)| *due <= now)
            && let Some((_, id)) = self.due.pop_first()
        {
            let Some(peer) = self.peers.get_mut(id) else { continue };
            peer.scheduled = None;
            if peer.is_due(now) {
                peer.handle_timeout(&mut self.indices, now);
            }
            self.note(id, now);
        }
    }

    /// Puts a peer into the lists that it belongs into.
    fn note(&mut self, id: PeerId, now: Instant) {
        if let Some(peer) = self.peers.get_mut(id)
            && !peer.is_in_outgoing
            && peer.has_outgoing(now)
        {
            peer.is_in_outgoing = true;
            self.outgoing.push_back(id);
        }
        self.note_news(id);
        self.schedule(id);
    }

    fn note_news(&mut self, id: PeerId) {
        if let Some(peer) = self.peers.get_mut(id)
            && !peer.is_in_news
            && peer.has_news()
        {
            peer.is_in_news = true;
            self.news.push_back(id);
        }
    }

    fn schedule(&mut self, id: PeerId) {
        if let Some(peer) = self.peers.get_mut(id)
            && let Some(due) = peer.poll_timeout()
            && peer.scheduled.is_none_or(|scheduled| due < scheduled)
        {
            if let Some(scheduled) = peer.scheduled.replace(due) {
                self.due.remove(&(scheduled, id));
            }
            self.due.insert((due, id));
        }
    }

    /// Our parts, apart from each other.
    fn split(&mut self) -> Result<(Context<'_>, &mut PeerTable), DropReason> {
        let own = self.own.as_ref().ok_or(DropReason::NoKey)?;
        let context = Context {
            identity: &own.identity,
            secrets: &self.secrets,
            random: self.random.as_mut(),
            indices: &mut self.indices,
            stamper: &mut self.stamper,
            ended: &self.ended,
            mtu: self.mtu,
        };
        Ok((context, &mut self.peers))
    }
}

#[cfg(test)]
impl Interface {
    pub(super) fn peer_mut(&mut self, id: PeerId) -> &mut Peer {
        self.peers.get_mut(id).unwrap()
    }

    pub(super) fn scheduled(&self) -> usize {
        self.due.len()
    }
}
