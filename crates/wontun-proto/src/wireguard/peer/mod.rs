//! A peer: identity, endpoint, timers, and what to send to it. `data` handles its packets, `limits`
//! those that are limited, `handshake` its handshakes, `candidates` the addresses that are tried in
//! turn, and `path` changes of the network.

mod candidates;
mod data;
mod handover;
mod handshake;
mod limits;
mod path;
mod restart;

pub use candidates::{CANDIDATE_PAUSE, MAX_CANDIDATES};
pub use data::Accepted;
pub(super) use handover::PeerRecord;
pub use path::{EAGER_INTERVAL, EAGER_TIME};

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::REKEY_TIMEOUT_JITTER;
use super::endpoint::Endpoint;
use super::event::Event;
use super::index::{IndexTable, PeerId};
use super::key::{PresharedKey, PublicKey};
use super::keypair::{EndedSessions, Keypairs};
use super::limits::Limiter;
use super::mac::{LatestCookie, MacKeys};
use super::message::Response;
use super::noise::{Identity, Initiator, StaticSecrets};
use super::random::{self, Random};
use super::staged::Staged;
use super::timers::Timers;
use super::timestamp::{Timestamp, TimestampGenerator};
use crate::time::Instant;
use candidates::Candidates;
use path::PathState;

/// State of an interface that all peers use.
pub(super) struct Context<'a> {
    pub(super) identity: &'a Identity,
    pub(super) secrets: &'a StaticSecrets,
    pub(super) random: &'a mut dyn Random,
    pub(super) indices: &'a mut IndexTable,
    pub(super) timestamps: &'a mut TimestampGenerator,
    pub(super) ended: &'a EndedSessions,
    /// MTU of the device, past which nothing is padded.
    pub(super) mtu: usize,
}

/// Bytes on the wire, counting whole messages as `wg` does, and packets in them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transfer {
    /// Bytes received, of authentic messages.
    pub received: u64,
    /// Bytes sent.
    pub sent: u64,
    /// Packets received.
    pub packets_received: u64,
    /// Packets sent.
    pub packets_sent: u64,
}

/// State of a peer.
pub struct Peer {
    id: PeerId,
    public: PublicKey,
    preshared: PresharedKey,
    endpoint: Option<Endpoint>,
    /// Other possible addresses, if there are several.
    candidates: Option<Box<Candidates>>,
    /// Address and port of the last [`Self::set_endpoint`].
    configured: Option<SocketAddr>,
    /// The endpoint as configured, or as shown by the last completed handshake.
    confirmed: Option<Endpoint>,
    /// Endpoint that the last response was sent to.
    answered: Option<Endpoint>,
    persistent: Option<Duration>,
    keypairs: Keypairs,
    /// The newest initiation without a response, and its sender index. Older ones are in
    /// [`Candidates`].
    initiator: Option<(Arc<Mutex<Initiator>>, u32)>,
    mac_keys: MacKeys,
    latest_cookie: LatestCookie,
    /// The latest timestamp of the peer's initiations; only later ones are accepted.
    latest_timestamp: Option<Timestamp>,
    /// The last timestamp that was rejected because it was not later.
    rejected_timestamp: Option<Timestamp>,
    /// Time when the peer's last initiation was accepted.
    last_initiation: Option<Instant>,
    last_handshake: Option<Instant>,
    staged: Staged,
    /// State of the peer's limits, if it has any.
    limiter: Option<Box<Limiter>>,
    pending: PendingMessages,
    timers: Timers,
    /// State of the handshakes after changes of the path, once there was one.
    path: Option<Box<PathState>>,
    events: PendingEvents,
    transfer: Transfer,
    lost: u64,
    /// For [`super::Interface`]: time of this peer's timeout there, and membership in its lists.
    pub(super) scheduled: Option<Instant>,
    pub(super) is_in_outgoing: bool,
    pub(super) is_in_events: bool,
}

/// Pending messages other than staged packets.
#[derive(Default)]
struct PendingMessages {
    response: Option<Box<Response>>,
    initiation: bool,
    keepalive: bool,
}

/// Events that were not returned yet.
#[derive(Default)]
struct PendingEvents {
    moved: bool,
    completed: bool,
    /// Milliseconds for which initiations are unanswered.
    unanswered: Option<u32>,
    failed: bool,
    /// The state that is kept over a restart has changed.
    changed: bool,
    /// The quota is used up.
    quota_used_up: bool,
    /// Time of the peer's clock, and the time by which it was set back.
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
            configured: None,
            confirmed: None,
            answered: None,
            persistent: None,
            keypairs: Keypairs::default(),
            initiator: None,
            mac_keys: MacKeys::new(&public),
            latest_cookie: LatestCookie::default(),
            latest_timestamp: None,
            rejected_timestamp: None,
            last_initiation: None,
            last_handshake: None,
            staged: Staged::default(),
            limiter: None,
            pending: PendingMessages::default(),
            timers: Timers::default(),
            path: None,
            events: PendingEvents::default(),
            transfer: Transfer::default(),
            lost: 0,
            scheduled: None,
            is_in_outgoing: false,
            is_in_events: false,
        }
    }

    /// Returns the id.
    pub const fn id(&self) -> PeerId {
        self.id
    }

    /// Returns the public key.
    pub const fn public_key(&self) -> &PublicKey {
        &self.public
    }

    /// Returns the preshared key; all zeroes if there is none.
    pub const fn preshared_key(&self) -> &PresharedKey {
        &self.preshared
    }

    /// Returns the endpoint, once known.
    pub const fn endpoint(&self) -> Option<Endpoint> {
        self.endpoint
    }

    /// Returns the endpoint that was configured, or that the last completed handshake proved to be
    /// the peer's: a response to a message of this side came from there, or a message sent there
    /// was answered. [`Self::endpoint`] also follows data, whose source address the peer can forge.
    pub const fn confirmed_endpoint(&self) -> Option<Endpoint> {
        self.confirmed
    }

    /// Returns the address of [`Self::confirmed_endpoint`].
    pub fn confirmed_address(&self) -> Option<IpAddr> {
        self.confirmed.map(|endpoint| endpoint.remote.ip())
    }

    /// Returns the latest timestamp of the peer's initiations.
    pub const fn latest_timestamp(&self) -> Option<Timestamp> {
        self.latest_timestamp
    }

    /// Returns the silence after which a keepalive is sent.
    pub const fn persistent_keepalive(&self) -> Option<Duration> {
        self.persistent
    }

    /// Returns the time of the last completed handshake.
    pub const fn last_handshake(&self) -> Option<Instant> {
        self.last_handshake
    }

    /// Returns the bytes and packets carried.
    pub const fn transfer(&self) -> Transfer {
        self.transfer
    }

    /// Returns the number of packets that wait for a handshake.
    pub fn staged(&self) -> usize {
        self.staged.len()
    }

    /// Returns the number of packets dropped while waiting for a handshake.
    pub const fn lost(&self) -> u64 {
        self.lost
    }

    /// Returns true if a packet can be sent at once.
    pub fn has_session(&self, now: Instant) -> bool {
        self.keypairs.current.as_ref().is_some_and(|keypair| keypair.can_send(now))
    }

    /// Returns true if a handshake is in progress that this side has started.
    pub const fn is_initiating(&self) -> bool {
        self.timers.retransmit.is_some()
    }

    /// Sets the preshared key. The next handshake uses it, including one that waits for its
    /// response. The session in use continues.
    pub(super) fn set_preshared_key(&mut self, preshared: PresharedKey) {
        self.preshared = preshared;
    }

    /// Sets the endpoint. This is no event, since the caller knows it. If persistent keepalives are
    /// enabled, requests the first one, which could not be sent without an endpoint.
    pub(super) fn set_endpoint(&mut self, endpoint: Option<Endpoint>) {
        self.pending.keepalive |= self.endpoint.is_none() && self.persistent.is_some();
        self.endpoint = endpoint;
        self.configured = endpoint.map(|endpoint| endpoint.remote);
        self.confirmed = endpoint;
    }

    /// Lets the system choose the source address of datagrams again.
    pub(super) fn set_any_source(&mut self) {
        if let Some(endpoint) = &mut self.endpoint {
            endpoint.local = None;
        }
    }

    /// Sets the silence after which a keepalive is sent; the first is sent at once.
    pub(super) fn set_persistent_keepalive(&mut self, interval: Option<Duration>) {
        let interval = interval.filter(|interval| !interval.is_zero());
        let begins = interval.is_some() && self.persistent.is_none();
        self.persistent = interval;
        if begins {
            self.pending.keepalive = true;
        }
        if interval.is_none() {
            self.timers.persistent = None;
        }
    }

    /// Requests a keepalive now, which also starts a handshake if there is no session.
    pub(super) fn request_keepalive(&mut self) {
        self.pending.keepalive = true;
    }

    /// Stops using the sessions and handshakes of the old private key after it changed.
    pub(super) fn handle_identity_changed(&mut self, indices: &mut IndexTable) {
        self.drop_initiation(indices);
        self.pending.response = None;
        self.timers.last_sent_handshake = None;
        self.keypairs.stop_sending();
    }

    /// Drops all secrets, and frees the indices.
    pub(super) fn clear(&mut self, indices: &mut IndexTable) {
        self.drop_initiation(indices);
        self.keypairs.clear(indices);
        self.pending = PendingMessages::default();
        self.drop_staged();
        self.drop_limited();
    }

    fn drop_staged(&mut self) {
        self.lost += self.staged.clear() as u64;
    }

    fn drop_initiation(&mut self, indices: &mut IndexTable) {
        if let Some((_, index)) = self.initiator.take() {
            indices.free(index);
        }
        if let Some(candidates) = &mut self.candidates {
            candidates.reset(indices);
        }
    }

    /// Returns the time of the next [`Self::handle_timeout`].
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let candidates = self.candidates.as_ref().and_then(|candidates| candidates.next_timeout());
        let limiter = self.limiter.as_ref().and_then(|limiter| limiter.deadline());
        [self.timers.next(), candidates, self.path_timeout(), limiter].into_iter().flatten().min()
    }

    /// Handles the timers that are due.
    pub(super) fn handle_timeout(&mut self, indices: &mut IndexTable, now: Instant) {
        if Timers::take_due(&mut self.timers.retransmit, now) {
            self.handle_no_response(indices, now);
        }
        self.handle_candidates_timeout(indices, now);
        self.handle_path_timeout(indices, now);
        if Timers::take_due(&mut self.timers.keepalive, now) {
            self.pending.keepalive = true;
            if std::mem::take(&mut self.timers.need_another_keepalive) {
                self.timers.handle_data_received(1, now);
            }
        }
        if Timers::take_due(&mut self.timers.new_handshake, now) {
            self.clear_source();
            self.request_initiation(now);
        }
        if Timers::take_due(&mut self.timers.zero_keys, now) {
            self.keypairs.clear(indices);
            // a handshake in progress is kept: packets that wait for it must not be lost
            if self.timers.retransmit.is_none() {
                self.drop_initiation(indices);
            }
        }
        if Timers::take_due(&mut self.timers.persistent, now) {
            self.pending.keepalive = true;
        }
    }

    /// Lets the system choose the source address again: the present one may be why nothing is
    /// answered.
    fn clear_source(&mut self) {
        if let Some(endpoint) = self.endpoint.as_mut().filter(|endpoint| endpoint.local.is_some()) {
            endpoint.local = None;
            self.events.moved = true;
        }
    }

    fn handle_no_response(&mut self, indices: &mut IndexTable, now: Instant) {
        let unanswered = self.timers.unanswered(now).map(|elapsed| elapsed.as_millis());
        self.events.unanswered = unanswered.map(|millis| u32::try_from(millis).unwrap_or(u32::MAX));
        self.events.failed |= self.timers.take_failure(now);
        if self.timers.has_given_up(now) {
            self.drop_staged();
            self.timers.handle_given_up(now);
            if let Some(candidates) = &mut self.candidates {
                candidates.handle_given_up(indices);
            }
        } else {
            if self.initiator.is_some() && self.candidates.is_none() {
                self.clear_source();
            }
            self.pending.initiation = true;
        }
    }

    /// Sets the endpoint to `from`, where an authentic message came from.
    fn update_endpoint(&mut self, from: Endpoint) {
        if self.endpoint != Some(from) {
            self.endpoint = Some(from);
            self.events.moved = true;
        }
    }

    /// Returns true if [`Self::poll_transmit`] may have a datagram.
    pub(super) fn has_outgoing(&self, now: Instant) -> bool {
        self.pending.response.is_some()
            || self.pending.initiation
            || self.pending.keepalive
            || !self.staged.is_empty() && self.has_session(now)
    }

    /// Returns true if [`Self::poll_event`] has an event.
    pub(super) const fn has_events(&self) -> bool {
        let PendingEvents { moved, completed, unanswered, failed, changed, quota_used_up, clock } =
            &self.events;
        *moved
            || *completed
            || unanswered.is_some()
            || *failed
            || *changed
            || *quota_used_up
            || clock.is_some()
    }

    /// Returns true if [`Self::poll_transmit`] may have a datagram, and the interface does not
    /// know.
    pub(super) fn has_unlisted_outgoing(&self, now: Instant) -> bool {
        !self.is_in_outgoing && self.has_outgoing(now)
    }

    /// Returns true if [`Self::poll_event`] has an event, and the interface does not know.
    pub(super) const fn has_unlisted_events(&self) -> bool {
        !self.is_in_events && self.has_events()
    }

    /// Returns the time of the next [`Self::handle_timeout`], if the interface knows a later one or
    /// none.
    pub(super) fn unscheduled_timeout(&self) -> Option<Instant> {
        self.poll_timeout().filter(|due| self.scheduled.is_none_or(|scheduled| *due < scheduled))
    }

    /// Returns true if [`super::Interface::queue_work`] must be called after packets were carried.
    pub fn has_work(&self, now: Instant) -> bool {
        self.has_unlisted_outgoing(now) || self.has_unlisted_events() || self.unscheduled_timeout().is_some()
    }

    /// Returns the next event.
    pub(super) fn poll_event(&mut self) -> Option<Event> {
        let peer = self.id;
        if std::mem::take(&mut self.events.moved)
            && let Some(endpoint) = self.endpoint
        {
            Some(Event::EndpointMoved { peer, endpoint })
        } else if std::mem::take(&mut self.events.completed) {
            Some(Event::HandshakeCompleted { peer })
        } else if let Some(millis) = self.events.unanswered.take() {
            Some(Event::Unanswered { peer, elapsed: Duration::from_millis(millis.into()) })
        } else if std::mem::take(&mut self.events.failed) {
            Some(Event::HandshakeFailing { peer })
        } else if std::mem::take(&mut self.events.changed) {
            Some(Event::StateChanged { peer })
        } else if std::mem::take(&mut self.events.quota_used_up) {
            Some(Event::QuotaUsedUp { peer })
        } else {
            let (unix, behind) = self.events.clock.take()?;
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
