//! A peer's sessions, endpoint and timers as a record.

use std::net::{IpAddr, SocketAddr, SocketAddrV6};

use serde::{Deserialize, Serialize};

use super::super::endpoint::Endpoint;
use super::super::handover::ImportError;
use super::super::index::IndexTable;
use super::super::key::PublicKey;
use super::super::keypair::{EndedSessions, Keypairs, SessionRecord};
use super::super::timers::Timers;
use super::super::timestamp::Timestamp;
use super::{Peer, Transfer};
use crate::time::Instant;

/// A socket address with its scope, which serde omits.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Remote(IpAddr, u16, u32);

impl From<SocketAddr> for Remote {
    fn from(address: SocketAddr) -> Self {
        let scope = if let SocketAddr::V6(v6) = address { v6.scope_id() } else { 0 };
        Self(address.ip(), address.port(), scope)
    }
}

impl From<Remote> for SocketAddr {
    fn from(Remote(ip, port, scope): Remote) -> Self {
        match ip {
            IpAddr::V6(v6) => SocketAddrV6::new(v6, port, 0, scope).into(),
            IpAddr::V4(_) => Self::new(ip, port),
        }
    }
}

/// An endpoint: address and port, and local address.
type Path = (Remote, Option<IpAddr>);

fn to_path(endpoint: Endpoint) -> Path {
    (endpoint.remote.into(), endpoint.local)
}

fn to_endpoint((remote, local): Path) -> Endpoint {
    Endpoint { remote: remote.into(), local }
}

/// The state with which another process continues a peer's sessions.
#[derive(Serialize, Deserialize)]
pub(in super::super) struct PeerRecord {
    public: PublicKey,
    endpoint: Option<Path>,
    configured: Option<Remote>,
    confirmed: Option<Path>,
    answered: Option<Path>,
    sessions: [Option<SessionRecord>; 3],
    latest_timestamp: Option<Timestamp>,
    last_handshake: Option<Instant>,
    transfer: Transfer,
    timers: Timers,
    /// True if an initiation waits for its response, or to be sent.
    is_initiating: bool,
}

impl PeerRecord {
    /// Returns the public key of the peer.
    pub(in super::super) const fn public_key(&self) -> &PublicKey {
        &self.public
    }
}

impl Peer {
    pub(in super::super) fn to_record(&self) -> PeerRecord {
        PeerRecord {
            public: self.public,
            endpoint: self.endpoint.map(to_path),
            configured: self.configured.map(Remote::from),
            confirmed: self.confirmed.map(to_path),
            answered: self.answered.map(to_path),
            sessions: self.keypairs.to_records(),
            latest_timestamp: self.latest_timestamp,
            last_handshake: self.last_handshake,
            transfer: self.transfer,
            timers: self.timers.clone(),
            is_initiating: self.initiator.is_some() || self.pending.initiation,
        }
    }

    /// Continues from `record` in place of the present sessions. After an error nothing has
    /// changed.
    pub(in super::super) fn adopt_record(
        &mut self,
        record: PeerRecord,
        indices: &mut IndexTable,
        ended: &EndedSessions,
        now: Instant,
    ) -> Result<(), ImportError> {
        let keypairs = Keypairs::from_records(&record.sessions, ended, now)?;
        let mut entered = Vec::new();
        for index in keypairs.local_indices() {
            if !indices.adopt(index, self.id) {
                entered.into_iter().for_each(|index| indices.free(index));
                return Err(ImportError::Index);
            }
            entered.push(index);
        }
        self.keypairs.clear(indices);
        self.keypairs = keypairs;
        let configured = record.configured.map(SocketAddr::from);
        // an endpoint that was configured since is newer than where the peer was
        if self.configured.is_none_or(|remote| Some(remote) == configured) && record.endpoint.is_some() {
            self.endpoint = record.endpoint.map(to_endpoint);
            self.confirmed = record.confirmed.map(to_endpoint);
            self.answered = record.answered.map(to_endpoint);
        }
        self.latest_timestamp = self.latest_timestamp.max(record.latest_timestamp);
        self.last_handshake = record.last_handshake.map(|at| at.min(now));
        self.transfer = record.transfer;
        self.timers = record.timers;
        self.timers.limit(self.persistent, now);
        if self.has_session(now) && self.timers.persistent.is_some() {
            // the one for a new interval is not due: the peer was never without keepalives
            self.pending.keepalive = false;
        }
        if record.is_initiating {
            self.request_initiation(now);
        }
        Ok(())
    }
}
