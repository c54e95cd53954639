//! A WireGuard interface: the private key, the peers, and the dispatch of each datagram to its
//! peer.
//!
//! The caller moves the bytes: datagrams go into [`Interface::handle_datagram`], packets into
//! [`Interface::handle_packet`]; datagrams to send come from these and from
//! [`Interface::poll_transmit`]. Handshakes wait in a queue until [`Interface::handle_queued`] is
//! called, so that data has priority, or are handled in steps, most of which need no lock
//! ([`Interface::begin_handshake`]).

mod candidates;
mod events;
mod handover;
mod handshakes;
mod host_events;
mod limits;
mod peer_settings;
mod receiving;
mod restart;

pub use handshakes::{HandshakeProgress, HandshakeStep, HandshakeStepResult};
pub use receiving::Receiving;

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use super::admission::Admission;
use super::ecn;
use super::endpoint::Endpoint;
use super::index::{IndexTable, PeerId};
use super::key::{PresharedKey, PrivateKey, PublicKey};
use super::keypair::{Opened, Opening, Sealing};
use super::limits::Released;
use super::mac::MacKeys;
use super::message::{COOKIE_REPLY_LEN, DATA_HEADER_LEN, DataHeader, Message};
use super::noise::{Identity, StaticSecrets};
use super::peer::{Context, Peer};
use super::peer_table::{AddPeerError, PeerTable};
use super::queued::Handshake;
use super::random::Random;
use super::slots::{PeerGuard, Peers};
use super::timestamp::TimestampGenerator;
use crate::time::Instant;
use wontun_packet::DropReason;
use wontun_packet::split::PacketLengths;

/// A datagram to send, at the front of the caller's buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// The peer that it goes to; `None` for a cookie reply, which goes to the sender of a handshake
    /// message.
    pub peer: Option<PeerId>,
    /// Destination, and local source address.
    pub endpoint: Endpoint,
    /// Length in bytes.
    pub len: usize,
    /// Traffic class of the outer header: DSCP and ECN.
    pub class: u8,
}

/// Outcome of `Interface::handle_packet`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outgoing {
    /// The packet was encrypted in the same buffer.
    Transmit(Transmit),
    /// A copy waits for a handshake; [`Interface::poll_transmit`] returns it afterwards.
    Staged,
}

/// Contents of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// A packet, [`DATA_HEADER_LEN`] bytes into the buffer. It is authentic, but the caller must
    /// check its source address against the peer's allowed IPs.
    Packet {
        /// The peer that sent it.
        peer: PeerId,
        /// Length in bytes, without the padding.
        len: usize,
    },
    /// A keepalive.
    Keepalive(PeerId),
    /// A cookie for the next handshake message.
    Cookie(PeerId),
    /// A handshake message; it waits for [`Interface::handle_queued`].
    Queued,
}

struct LocalIdentity {
    identity: Identity,
    mac_keys: MacKeys,
}

/// State of an interface.
pub struct Interface {
    local: Option<LocalIdentity>,
    /// Number of times that the private key was changed.
    identity_changes: u64,
    secrets: StaticSecrets,
    random: Box<dyn Random + Send>,
    indices: IndexTable,
    timestamps: TimestampGenerator,
    peers: PeerTable,
    admission: Admission,
    /// Peers that may have something to send.
    outgoing: VecDeque<PeerId>,
    /// Peers with pending events.
    events: VecDeque<PeerId>,
    /// Source and public key of the last initiation with a key that is no peer's, until reported.
    unknown: Option<(SocketAddr, PublicKey)>,
    /// Time of each peer's next timeout, equal to its `scheduled`. It is only changed to an earlier
    /// time, so packets seldom touch it.
    due: BTreeSet<(Instant, PeerId)>,
    /// Peers of each receiver with limited packets that may leave now.
    released: Vec<Released>,
}

impl Interface {
    /// Returns an interface without a key and without peers, for a device with the MTU `mtu`.
    pub fn new(mtu: usize, random: Box<dyn Random + Send>) -> Self {
        let peers = PeerTable::default();
        peers.peers().set_mtu(mtu);
        Self {
            local: None,
            identity_changes: 0,
            secrets: StaticSecrets::default(),
            random,
            indices: IndexTable::default(),
            timestamps: TimestampGenerator::default(),
            peers,
            admission: Admission::new(),
            outgoing: VecDeque::new(),
            events: VecDeque::new(),
            unknown: None,
            due: BTreeSet::new(),
            released: vec![Released::default()],
        }
    }

    /// Sets the number of receivers of data messages; 1 in a new interface. The caller sets it
    /// before there are sessions.
    pub fn set_receivers(&mut self, receivers: NonZeroU32) {
        self.indices.set_receivers(receivers);
        let count = usize::try_from(receivers.get()).unwrap_or(usize::MAX);
        self.released.resize_with(count, Released::default);
    }

    /// Returns the receiver, counted from 0, that the receiver indices of a peer's data messages
    /// select.
    pub const fn receiver(&self, id: PeerId) -> u32 {
        self.indices.receiver(id)
    }

    /// Returns the public key, if a private key is set.
    pub fn public_key(&self) -> Option<&PublicKey> {
        self.local.as_ref().map(|local| &local.identity.public)
    }

    /// Returns the private key.
    pub fn private_key(&self) -> Option<&PrivateKey> {
        self.local.as_ref().map(|local| &local.identity.private)
    }

    /// Sets the private key. Sessions made with the old one send nothing more. If a peer has the
    /// new public key, it is removed and its id is returned.
    pub fn set_private_key(&mut self, private: Option<PrivateKey>, now: Instant) -> Option<PeerId> {
        if self.private_key() == private.as_ref() {
            return None;
        }
        self.admission.clear();
        self.identity_changes += 1;
        self.local = private.map(|private| {
            let public = private.public_key();
            LocalIdentity { identity: Identity { private, public }, mac_keys: MacKeys::new(&public) }
        });
        let removed = self.public_key().and_then(|public| self.peers.by_key(public));
        if let Some(removed) = removed {
            self.remove_peer(removed);
        }
        self.secrets = StaticSecrets::default();
        let ids: Vec<_> = self.peers.ids().collect();
        for id in ids {
            if let Some(mut peer) = self.peers.lock(id) {
                peer.handle_identity_changed(&mut self.indices);
                if let Some(local) = &self.local {
                    self.secrets.add(&local.identity, *peer.public_key());
                }
            }
            self.queue_work(id, now);
        }
        removed
    }

    /// Sets the device's MTU, past which nothing is padded; 0 if it is unknown.
    pub fn set_mtu(&mut self, mtu: usize) {
        self.peers.peers().set_mtu(mtu);
    }

    /// Returns the peers, for threads that carry packets without the interface.
    pub fn peers(&self) -> Peers {
        self.peers.peers().clone()
    }

    /// Adds a peer, or returns the one with this key. A peer with a key of low order is accepted,
    /// as in the kernel, but nothing is ever sent to it.
    ///
    /// # Errors
    /// Fails if the key is the interface's own, or if there are too many peers.
    pub fn add_peer(&mut self, public: PublicKey) -> Result<PeerId, AddPeerError> {
        if let Some(id) = self.peers.by_key(&public) {
            return Ok(id);
        }
        if self.public_key() == Some(&public) {
            return Err(AddPeerError::OwnKey);
        }
        if let Some(local) = &self.local {
            self.secrets.add(&local.identity, public);
        }
        let new = |id| Peer::new(id, public, PresharedKey::default());
        self.peers.insert(public, new).ok_or(AddPeerError::Full)
    }

    /// Removes a peer, and returns it without its secrets and with its final counters; `None` if
    /// there is none.
    pub fn remove_peer(&mut self, id: PeerId) -> Option<Box<Peer>> {
        let mut peer = self.peers.remove(id)?;
        peer.clear(&mut self.indices);
        if let Some(scheduled) = peer.scheduled {
            self.due.remove(&(scheduled, id));
        }
        self.secrets.remove(peer.public_key());
        Some(peer)
    }

    /// Returns a peer, locked: the caller has no other.
    pub fn peer(&self, id: PeerId) -> Option<PeerGuard<'_>> {
        self.peers.lock(id)
    }

    /// Returns the peer with the public key `public`.
    pub fn peer_id(&self, public: &PublicKey) -> Option<PeerId> {
        self.peers.by_key(public)
    }

    /// Returns all peers, in the order of their public keys.
    pub fn peer_ids(&self) -> impl Iterator<Item = PeerId> {
        self.peers.ids()
    }

    /// Returns the peers whose public keys follow `key`, in the order of the keys; all peers if it
    /// is `None`.
    pub fn peers_after(&self, key: Option<&PublicKey>) -> impl Iterator<Item = PeerGuard<'_>> {
        self.peers.ids_after(key).filter_map(|id| self.peers.lock(id))
    }

    /// Returns the number of peers.
    pub fn peer_count(&self) -> usize {
        self.peers.len()
    }

    /// Handles a packet of `len` bytes for a peer. It is at [`DATA_HEADER_LEN`] in `buffer`,
    /// followed by room for [`super::message::TAG_LEN`] and [`super::padding::PADDING_MULTIPLE`]
    /// bytes.
    ///
    /// # Errors
    /// Returns the reason to drop it: no key, peer or endpoint, no shared secret with the peer, or
    /// no room in `buffer`.
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
        match self.begin_send(id, PacketLengths::single(len), now)? {
            Some((mut sealing, endpoint)) => {
                let len = sealing.seal(buffer, len).ok_or(DropReason::Buffer)?;
                Ok(Outgoing::Transmit(Transmit { peer: Some(id), endpoint, len, class }))
            }
            None => self.stage(id, packet, now).map(|()| Outgoing::Staged),
        }
    }

    /// Prepares to send packets to a peer: reserves counters, and returns the means to encrypt with
    /// them and the peer's endpoint. Returns `None` if there is no session at present; the caller
    /// then stages each packet.
    ///
    /// # Errors
    /// Returns the reason to drop them: no key, peer or endpoint.
    pub fn begin_send(
        &mut self,
        id: PeerId,
        packets: PacketLengths,
        now: Instant,
    ) -> Result<Option<(Sealing, Endpoint)>, DropReason> {
        let (_, peers) = self.split()?;
        let sending = peers.lock(id).ok_or(DropReason::NoPeer)?.begin_send(packets, now)?;
        self.queue_work(id, now);
        Ok(sending)
    }

    /// Keeps a copy of a packet until there is a session with its peer; [`Self::poll_transmit`]
    /// returns it then.
    ///
    /// # Errors
    /// Returns the reason to drop it: no key or peer, or no shared secret with the peer.
    pub fn stage(&mut self, id: PeerId, packet: &[u8], now: Instant) -> Result<(), DropReason> {
        let (mut context, peers) = self.split()?;
        peers.lock(id).ok_or(DropReason::NoPeer)?.stage(&mut context, packet, now)?;
        self.queue_work(id, now);
        Ok(())
    }

    /// Returns the means to decrypt data messages with the receiver index `index`.
    ///
    /// # Errors
    /// Returns the reason to drop them: the index is not in use, or the session is past its time.
    pub fn begin_receive(&mut self, index: u32, now: Instant) -> Result<Opening, DropReason> {
        let id = self.peer_of_index(index).ok_or(DropReason::UnknownIndex)?;
        self.peers.lock(id).ok_or(DropReason::UnknownIndex)?.begin_receive(index, now)
    }

    /// Returns the peer that a receiver index belongs to.
    pub fn peer_of_index(&self, index: u32) -> Option<PeerId> {
        self.indices.peer(index)
    }

    /// Checks the counter of a data message before it is decrypted.
    ///
    /// # Errors
    /// Returns the reason to drop it: the session is gone, or the counter is past its limit, too
    /// old, or was received before.
    pub fn check(&mut self, opening: &Opening, header: DataHeader) -> Result<(), DropReason> {
        self.peers.lock(opening.peer).ok_or(DropReason::UnknownIndex)?.check(header)
    }

    /// Handles a datagram received from `from` with the traffic class `class`. Data is decrypted in
    /// place.
    ///
    /// # Errors
    /// Returns the reason to drop it.
    pub fn handle_datagram(
        &mut self,
        from: Endpoint,
        class: u8,
        datagram: &mut [u8],
        now: Instant,
    ) -> Result<Incoming, DropReason> {
        match Message::parse(datagram).ok_or(DropReason::NoMessage)? {
            Message::Data(header) => {
                let opening = self.begin_receive(header.receiver, now)?;
                self.check(&opening, header)?;
                let opened = opening.open(header, class, datagram)?;
                let peer = opening.peer;
                let mut receiving = self.receive(peer, now).ok_or(DropReason::UnknownIndex)?;
                let accepted = receiving.accept(header, datagram.len());
                receiving.finish(Some(from));
                accepted?;
                Ok(match opened? {
                    Opened::Keepalive => Incoming::Keepalive(peer),
                    Opened::Packet(len) => Incoming::Packet { peer, len },
                })
            }
            Message::CookieReply(reply) => {
                let id = self.indices.peer(reply.receiver).ok_or(DropReason::UnknownIndex)?;
                let mut peer = self.peers.lock(id).ok_or(DropReason::UnknownIndex)?;
                peer.handle_cookie_reply(&reply, now)?;
                Ok(Incoming::Cookie(id))
            }
            Message::Initiation(message) => {
                let local = self.local.as_ref().ok_or(DropReason::NoKey)?;
                let handshake = Handshake::Initiation(message);
                let random = self.random.as_mut();
                self.admission.handle(from, &message, handshake, &local.mac_keys, random, now)?;
                Ok(Incoming::Queued)
            }
            Message::Response(message) => {
                let local = self.local.as_ref().ok_or(DropReason::NoKey)?;
                let handshake = Handshake::Response(message);
                let random = self.random.as_mut();
                self.admission.handle(from, &message, handshake, &local.mac_keys, random, now)?;
                Ok(Incoming::Queued)
            }
        }
    }

    /// Returns the number of indices in use: at most four per peer, for three sessions and a
    /// handshake, and three more for a peer with several addresses.
    pub fn indices(&self) -> usize {
        self.indices.len()
    }

    /// Returns the number of sessions that ended and whose keys were overwritten. Each thread that
    /// encrypted or decrypted packets may have copies of them on its stack, made by the cipher.
    pub fn ended_sessions(&self) -> u64 {
        self.peers.peers().ended_sessions()
    }

    /// Returns true if [`Self::poll_transmit`] may return a datagram.
    pub fn has_outgoing(&self) -> bool {
        self.admission.has_reply() || !self.outgoing.is_empty()
    }

    /// Writes the next datagram to send into `out`, which should hold the largest packet and
    /// [`super::message::DATA_OVERHEAD`] more bytes. `unix` is the wall-clock time since 1970. The
    /// caller repeats the call until it returns `None`.
    pub fn poll_transmit(&mut self, now: Instant, unix: Duration, out: &mut [u8]) -> Option<Transmit> {
        if let Some((endpoint, reply)) = self.admission.poll_reply() {
            *out.first_chunk_mut()? = reply.to_bytes();
            return Some(Transmit { peer: None, endpoint, len: COOKIE_REPLY_LEN, class: 0 });
        }
        while let Some(id) = self.outgoing.pop_front() {
            let transmit = self.poll_peer(id, now, unix, out);
            if transmit.is_some() {
                self.queue_work(id, now);
                return transmit;
            }
            // what cannot be sent now waits for a key or an endpoint, not in this list: it would be
            // tried forever
            self.queue_events(id);
            self.schedule(id);
        }
        None
    }

    fn poll_peer(&mut self, id: PeerId, now: Instant, unix: Duration, out: &mut [u8]) -> Option<Transmit> {
        self.peers.lock(id)?.is_in_outgoing = false;
        let (mut context, peers) = self.split().ok()?;
        let mut peer = peers.lock(id)?;
        let (endpoint, len, class) = peer.poll_transmit(&mut context, now, unix, out)?;
        Some(Transmit { peer: Some(id), endpoint, len, class })
    }

    /// Returns the time of the next [`Self::handle_timeout`], if any.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let peers = self.due.first().map(|(due, _)| *due);
        [peers, self.admission.poll_timeout()].into_iter().flatten().min()
    }

    /// Handles the timers that are due. The caller calls this at or after [`Self::poll_timeout`].
    pub fn handle_timeout(&mut self, now: Instant) {
        self.admission.handle_timeout(now);
        while self.due.first().is_some_and(|(due, _)| *due <= now)
            && let Some((_, id)) = self.due.pop_first()
        {
            let Some(mut peer) = self.peers.lock(id) else { continue };
            peer.scheduled = None;
            let is_due = peer.is_due(now);
            if is_due {
                peer.handle_timeout(&mut self.indices, now);
            }
            drop(peer);
            if is_due {
                self.release_limited(id, now);
            }
            self.queue_work(id, now);
        }
    }

    /// Adds a peer to the lists of pending work that apply to it. The caller calls this after it
    /// has carried packets with [`Self::peers`], if [`Peer::has_work`] returned true.
    pub fn queue_work(&mut self, id: PeerId, now: Instant) {
        let Some(mut peer) = self.peers.lock(id) else { return };
        list_work(&mut peer, &mut self.outgoing, &mut self.events, &mut self.due, now);
    }

    fn schedule(&mut self, id: PeerId) {
        if let Some(mut peer) = self.peers.lock(id) {
            schedule(&mut peer, &mut self.due);
        }
    }

    /// Splits the interface into the context that peers need and the peers.
    fn split(&mut self) -> Result<(Context<'_>, &PeerTable), DropReason> {
        let local = self.local.as_ref().ok_or(DropReason::NoKey)?;
        let context = Context {
            identity: &local.identity,
            secrets: &self.secrets,
            random: self.random.as_mut(),
            indices: &mut self.indices,
            timestamps: &mut self.timestamps,
            ended: self.peers.peers().ended(),
            mtu: self.peers.peers().mtu(),
        };
        Ok((context, &self.peers))
    }
}

/// Adds a peer to the lists of pending work that apply to it.
fn list_work(
    peer: &mut Peer,
    outgoing: &mut VecDeque<PeerId>,
    events: &mut VecDeque<PeerId>,
    timeouts: &mut BTreeSet<(Instant, PeerId)>,
    now: Instant,
) {
    if peer.has_unlisted_outgoing(now) {
        peer.is_in_outgoing = true;
        outgoing.push_back(peer.id());
    }
    list_events(peer, events);
    schedule(peer, timeouts);
}

/// Adds a peer with pending events to the list.
fn list_events(peer: &mut Peer, events: &mut VecDeque<PeerId>) {
    if peer.has_unlisted_events() {
        peer.is_in_events = true;
        events.push_back(peer.id());
    }
}

/// Adds a peer's next timeout to those of all peers, or makes it earlier.
fn schedule(peer: &mut Peer, timeouts: &mut BTreeSet<(Instant, PeerId)>) {
    if let Some(due) = peer.unscheduled_timeout() {
        if let Some(scheduled) = peer.scheduled.replace(due) {
            timeouts.remove(&(scheduled, peer.id()));
        }
        timeouts.insert((due, peer.id()));
    }
}

#[cfg(test)]
impl Interface {
    pub(super) fn peer_mut(&mut self, id: PeerId) -> PeerGuard<'_> {
        self.peers.lock(id).unwrap()
    }

    pub(super) fn scheduled(&self) -> usize {
        self.due.len()
    }
}
