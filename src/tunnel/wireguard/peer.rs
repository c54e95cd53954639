//! One peer: who it is, where it is, its timers, and what is to be sent to it. Its packets are in `data`, its
//! handshakes in `handshake`, the addresses that are tried in turn in `candidates`.

mod candidates;
mod data;
mod handshake;

pub use candidates::{CANDIDATE_PAUSE, MAX_CANDIDATES};
pub use data::Accepted;

use std::net::IpAddr;
use std::time::Duration;

use super::REKEY_TIMEOUT_JITTER;
use super::endpoint::Endpoint;
use super::event::Event;
use super::index::{IndexTable, PeerId};
use super::key::{PresharedKey, PublicKey};
use super::keypair::{EndedSessions, Keypairs};
use super::mac::{CookieJar, MacKeys};
use super::message::Response;
use super::noise::{Identity, Initiator, StaticSecrets};
use super::random::{self, Random};
use super::staged::Staged;
use super::timers::Timers;
use super::timestamp::{Stamper, Timestamp};
use crate::time::Instant;
use candidates::Candidates;

/// What all peers of an interface share.
pub(super) struct Context<'a> {
    pub(super) identity: &'a Identity,
    pub(super) secrets: &'a StaticSecrets,
    pub(super) random: &'a mut dyn Random,
    pub(super) indices: &'a mut IndexTable,
    pub(super) stamper: &'a mut Stamper,
    pub(super) ended: &'a EndedSessions,
    /// The device's MTU, past which nothing is padded.
    pub(super) mtu: usize,
}

/// Bytes that went over the wire, all messages whole, as `wg` counts them; and the packets in them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Transfer {
    /// Received, and authentic.
    pub received: u64,
    /// Sent.
    pub sent: u64,
    /// Packets received.
    pub packets_received: u64,
    /// Packets sent.
    pub packets_sent: u64,
}

/// One peer's state.
pub struct Peer {
    id: PeerId,
    public: PublicKey,
    preshared: PresharedKey,
    endpoint: Option<Endpoint>,
    /// Where it may be instead, if there are several addresses.
    candidates: Option<Box<Candidates>>,
    /// Its address as configured, or as the last completed handshake showed it.
    confirmed: Option<IpAddr>,
    /// Where the last response went to.
    answered: Option<IpAddr>,
    persistent: Option<Duration>,
    keypairs: Keypairs,
    /// The newest initiation that waits for its response, and our index in it. Older ones are
    /// [`Candidates`]'.
    initiator: Option<(Box<Initiator>, u32)>,
    mac_keys: MacKeys,
    cookies: CookieJar,
    /// The newest stamp of the peer's initiations: none that is not newer is accepted.
    newest_stamp: Option<Timestamp>,
    /// The last stamp that was refused for that.
    refused_stamp: Option<Timestamp>,
    /// When its last initiation was accepted.
    last_initiation: Option<Instant>,
    last_handshake: Option<Instant>,
    staged: Staged,
    outbox: Outbox,
    timers: Timers,
    news: News,
    transfer: Transfer,
    lost: u64,
    /// For [`super::Interface`]: when its timer is set for this peer, and which of its lists this peer is in.
    pub(super) scheduled: Option<Instant>,
    pub(super) is_in_outgoing: bool,
    pub(super) is_in_news: bool,
}

/// What is to be sent besides staged packets.
#[derive(Default)]
struct Outbox {
    response: Option<Box<Response>>,
    initiation: bool,
    keepalive: bool,
}

/// What happened and was not told yet.
#[derive(Default)]
struct News {
    moved: bool,
    completed: bool,
    failed: bool,
    /// The time of the peer's clock, and how far it has gone back.
    clock: Option<(Duration, Duration)>,
}

impl Peer {
    pub(super) fn new(id: PeerId, public: PublicKey, preshared: PresharedKey) -> Self {
        Self {
            id,
            public,
            preshared,
            endpoint: None,
            candidates: None,
            confirmed: None,
            answered: None,
            persistent: None,
            keypairs: Keypairs::default(),
            initiator: None,
            mac_keys: MacKeys::new(&public),
            cookies: CookieJar::default(),
            newest_stamp: None,
            refused_stamp: None,
            last_initiation: None,
            last_handshake: None,
            staged: Staged::default(),
            outbox: Outbox::default(),
            timers: Timers::default(),
            news: News::default(),
            transfer: Transfer::default(),
            lost: 0,
            scheduled: None,
            is_in_outgoing: false,
            is_in_news: false,
        }
    }

    /// Its public key.
    pub const fn public_key(&self) -> &PublicKey {
        &self.public
    }

    /// The key shared with it besides; all zeroes if none.
    pub const fn preshared_key(&self) -> &PresharedKey {
        &self.preshared
    }

    /// Where it is, once known.
    pub const fn endpoint(&self) -> Option<Endpoint> {
        self.endpoint
    }

    /// The address that was configured for it, or that the last completed handshake showed to be
    /// the peer's: a response to our message came from there, or ours that went there was answered.
    /// [`Self::endpoint`] also follows data, whose source the peer can make up.
    pub const fn confirmed_address(&self) -> Option<IpAddr> {
        self.confirmed
    }

    /// How long the link may be silent before a keepalive is sent.
    pub const fn persistent_keepalive(&self) -> Option<Duration> {
        self.persistent
    }

    /// When a handshake was last completed.
    pub const fn last_handshake(&self) -> Option<Instant> {
        self.last_handshake
    }

    /// What was carried.
    pub const fn transfer(&self) -> Transfer {
        self.transfer
    }

    /// Packets that wait for a handshake.
    pub fn staged(&self) -> usize {
        self.staged.len()
    }

    /// Packets that waited for a handshake in vain.
    pub const fn lost(&self) -> u64 {
        self.lost
    }

    /// Whether a packet could leave at once.
    pub fn has_session(&self, now: Instant) -> bool {
        self.keypairs.current.as_ref().is_some_and(|keypair| keypair.can_send(now))
    }

    /// Sets the preshared key: the next handshake uses it, also one that waits for its response. The session in use
    /// goes on.
    pub(super) fn set_preshared_key(&mut self, preshared: PresharedKey) {
        self.preshared = preshared;
    }

    /// Sets where the peer is. Whoever configures this knows; it is no news. Where a keepalive is wanted, the first
    /// could not leave before.
    pub(super) fn set_endpoint(&mut self, endpoint: Option<Endpoint>) {
        self.outbox.keepalive |= self.endpoint.is_none() && self.persistent.is_some();
        self.endpoint = endpoint;
        self.confirmed = endpoint.map(|endpoint| endpoint.remote.ip());
    }

    /// Leaves it to the system again from which address of ours datagrams leave.
    pub(super) fn set_any_source(&mut self) {
        if let Some(endpoint) = &mut self.endpoint {
            endpoint.local = None;
        }
    }

    /// Sets after how long a silence a keepalive is sent; the first goes out at once.
    pub(super) fn set_persistent_keepalive(&mut self, interval: Option<Duration>) {
        let interval = interval.filter(|interval| !interval.is_zero());
        let begins = interval.is_some() && self.persistent.is_none();
        self.persistent = interval;
        if begins {
            self.outbox.keepalive = true;
        }
        if interval.is_none() {
            self.timers.persistent = None;
        }
    }

    /// Asks for a keepalive now, which also brings a handshake about where there is no session.
    pub(super) fn request_keepalive(&mut self) {
        self.outbox.keepalive = true;
    }

    /// Our own key changed: what was agreed on with the old one is used no more.
    pub(super) fn handle_identity_changed(&mut self, indices: &mut IndexTable) {
        self.forget_initiation(indices);
        self.outbox.response = None;
        self.timers.last_sent = None;
        self.keypairs.stop_sending();
    }

    /// Forgets what was agreed on, and begins anew if that was still in use. What waits for a
    /// session waits on.
    pub(super) fn forget_sessions(&mut self, indices: &mut IndexTable, now: Instant) {
        let begins = self.has_session(now) || self.initiator.is_some();
        self.forget_initiation(indices);
        self.keypairs.clear(indices);
        self.outbox.response = None;
        if begins {
            self.timers.last_sent = None;
            self.request_initiation(now);
        }
    }

    /// Forgets all secrets, and gives the indices back.
    pub(super) fn clear(&mut self, indices: &mut IndexTable) {
        self.forget_initiation(indices);
        self.keypairs.clear(indices);
        self.outbox = Outbox::default();
        self.drop_staged();
    }

    fn drop_staged(&mut self) {
        self.lost += self.staged.clear() as u64;
    }

    fn forget_initiation(&mut self, indices: &mut IndexTable) {
        if let Some((_, index)) = self.initiator.take() {
            indices.free(index);
        }
        if let Some(candidates) = &mut self.candidates {
            candidates.reset(indices);
        }
    }

    /// When [`Self::handle_timeout`] is due.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let candidates = self.candidates.as_ref().and_then(|candidates| candidates.next_timeout());
        [self.timers.next(), candidates].into_iter().flatten().min()
    }

    /// Does what is due.
    pub(super) fn handle_timeout(&mut self, indices: &mut IndexTable, now: Instant) {
        if Timers::take_due(&mut self.timers.retransmit, now) {
            self.handle_no_response(indices, now);
        }
        self.handle_candidates_timeout(indices, now);
        if Timers::take_due(&mut self.timers.keepalive, now) {
            self.outbox.keepalive = true;
            if std::mem::take(&mut self.timers.another_keepalive) {
                self.timers.handle_data_received(1, now);
            }
        }
        if Timers::take_due(&mut self.timers.silence, now) {
            self.clear_source();
            self.request_initiation(now);
        }
        if Timers::take_due(&mut self.timers.zero_keys, now) {
            self.keypairs.clear(indices);
            // a handshake that is under way is no residue: what waits for it must not be lost
            if self.timers.retransmit.is_none() {
                self.forget_initiation(indices);
            }
        }
        if Timers::take_due(&mut self.timers.persistent, now) {
            self.outbox.keepalive = true;
        }
    }

    /// The address of ours that we answer from may be why nobody answers: the system chooses again.
    fn clear_source(&mut self) {
        if let Some(endpoint) = self.endpoint.as_mut().filter(|endpoint| endpoint.local.is_some()) {
            endpoint.local = None;
            self.news.moved = true;
        }
    }

    fn handle_no_response(&mut self, indices: &mut IndexTable, now: Instant) {
        self.news.failed |= self.timers.take_failure(now);
        if self.timers.gives_up(now) {
            self.drop_staged();
            self.timers.handle_given_up(now);
            if let Some(candidates) = &mut self.candidates {
                candidates.handle_given_up(indices);
            }
        } else {
            if self.initiator.is_some() && self.candidates.is_none() {
                self.clear_source();
            }
            self.outbox.initiation = true;
        }
    }

    /// Something authentic came from `from`: that is where the peer is.
    fn handle_heard(&mut self, from: Endpoint) {
        if self.endpoint != Some(from) {
            self.endpoint = Some(from);
            self.news.moved = true;
        }
    }

    /// Whether [`Self::poll_transmit`] may have something.
    pub(super) fn has_outgoing(&self, now: Instant) -> bool {
        self.outbox.response.is_some()
            || self.outbox.initiation
            || self.outbox.keepalive
            || !self.staged.is_empty() && self.has_session(now)
    }

    /// Whether [`Self::poll_event`] has something.
    pub(super) const fn has_news(&self) -> bool {
        self.news.moved || self.news.completed || self.news.failed || self.news.clock.is_some()
    }

    /// What happened.
    pub(super) fn poll_event(&mut self) -> Option<Event> {
        let peer = self.id;
        if std::mem::take(&mut self.news.moved)
            && let Some(endpoint) = self.endpoint
        {
            Some(Event::EndpointMoved { peer, endpoint })
        } else if std::mem::take(&mut self.news.completed) {
            Some(Event::HandshakeCompleted { peer })
        } else if std::mem::take(&mut self.news.failed) {
            Some(Event::HandshakeFailing { peer })
        } else {
            let (unix, behind) = self.news.clock.take()?;
            Some(Event::ClockBehind { peer, unix, behind })
        }
    }

    fn draw_jitter(&mut self, random: &mut dyn Random) {
        self.timers.set_jitter(random::jitter(random, REKEY_TIMEOUT_JITTER));
    }
}

#[cfg(test)]
impl Peer {
    pub(super) fn keypairs(&mut self) -> &mut Keypairs {
        &mut self.keypairs
    }

    pub(super) const fn timers(&self) -> &Timers {
        &self.timers
    }
}
