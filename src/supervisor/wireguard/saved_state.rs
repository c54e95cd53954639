//! State that is kept over a restart: reported by the tunnel process, written to the state file,
//! and passed to the tunnel process of the next run.
//!
//! A change is in the page cache after a second at most, so that the end of the process loses next
//! to nothing, and on the disk after half a minute, so that a crash of the host loses no more.

mod locate;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tracing::warn;

use super::file::ConfigFile;
use crate::config::wg_quick::Peer;
use crate::config::{PeerAddress, TunName};
use crate::logging::RateLimit;
use crate::messages::{Address, MAX_PEERS_PER_MESSAGE, PeerReport, RestoredPeer, ToTunnel};
use crate::net::timer::unix_now;
use crate::state_file::{Access, OpenError, SavedEndpoint, SavedPeer, StateFile, StateTable};
use crate::supervisor::error::SupervisorError;
use crate::supervisor::start::retry_while_in_use;
use wontun_proto::time::Instant;
use wontun_proto::wireguard::{PublicKey, TIMESTAMP_LEN, Timestamp};

/// Minimum interval between two writes of the file.
const WRITE_INTERVAL: Duration = Duration::from_secs(1);
/// Minimum interval between two times at which it is written through to the disk.
const SYNC_INTERVAL: Duration = Duration::from_secs(30);
/// Interval between two log lines about a file that cannot be written.
const LOG_INTERVAL: Duration = Duration::from_secs(3600);
/// A peer whose last handshake is not older is greeted: its session may be in use for three
/// minutes, and a restart takes its time.
const GREETING_AGE: Duration = Duration::from_secs(300);
/// Reserve of timestamps: the kept one exceeds the latest sent one by this, and is renewed when
/// half of it is used up.
const SENT_RESERVE: Duration = Duration::from_secs(60);
/// Maximum lead of a sent timestamp over the host's clock, or over the kept one.
const MAX_SENT_LEAD: Duration = Duration::from_secs(3600);

/// The state, and its file.
#[derive(Debug)]
pub(super) struct SavedState {
    file: Option<StateFile>,
    table: StateTable,
    written_at: Option<Instant>,
    synced_at: Option<Instant>,
    /// True if the next write must not wait.
    is_urgent: bool,
    /// True if something was written that may not be on the disk.
    is_unsynced: bool,
    log: RateLimit,
}

/// The origin of a peer's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EndpointSource {
    /// The peer, which has no host name.
    Peer,
    /// Its host name has this address.
    Name,
    /// Its host name does not have it. Such an address is not kept: neither the tunnel process nor
    /// the resolver alone can have one of a name kept.
    Unknown,
}

impl SavedState {
    /// Opens the state file of the tunnel called `name`. Without a file that can be written,
    /// nothing is kept.
    ///
    /// # Errors
    /// The file that the user names cannot be used.
    ///
    /// With `is_taken_over`, another process uses the file until [`Self::settle`].
    pub(super) fn open(
        name: &TunName,
        configuration: Option<&ConfigFile>,
        is_taken_over: bool,
    ) -> Result<Self, SupervisorError> {
        let access = if is_taken_over { Access::HandedOver } else { Access::ReadWrite };
        let opened = configuration.map(|file| locate::open(name, file, access)).transpose()?.flatten();
        let (file, table) = opened.map(|(file, table)| (Some(file), table)).unwrap_or_default();
        Ok(Self {
            file,
            table,
            written_at: None,
            synced_at: None,
            is_urgent: false,
            is_unsynced: false,
            log: RateLimit::new(LOG_INTERVAL),
        })
    }

    /// Uses the file of the process that has handed the tunnel over and ended.
    pub(super) fn settle(&mut self) {
        let Some(file) = &mut self.file else { return };
        match retry_while_in_use(|error| matches!(error, OpenError::InUse), || file.take_over()) {
            Ok(table) => self.table = table,
            Err(error) => {
                let path = file.path().display();
                warn!(%error, "the state file {path} cannot be taken over, and is not updated any more");
            }
        }
    }

    /// Returns the addresses of host names at which peers were reached.
    pub(super) fn addresses(&self) -> impl Iterator<Item = (PublicKey, IpAddr)> + '_ {
        self.table.records().filter_map(|record| {
            let endpoint = record.endpoint.filter(|endpoint| endpoint.is_named)?;
            Some((record.public_key, endpoint.remote.ip()))
        })
    }

    /// Forgets peers that do not exist.
    pub(super) fn retain(&mut self, exists: impl Fn(&PublicKey) -> bool) {
        self.table.retain(exists);
    }

    /// Records that a peer has new keys: its traffic goes on.
    pub(super) fn record_renewed(&mut self, new: PublicKey, old: &PublicKey) {
        if let Some(traffic) = self.table.get(old).map(|record| record.traffic) {
            self.table.update(&new, |record| record.traffic = traffic);
        }
    }

    /// Forgets the latest timestamp of a peer's initiations.
    pub(super) fn forget_timestamp(&mut self, key: &PublicKey) {
        if self.table.get(key).is_some() {
            self.table.update(key, |record| record.latest_timestamp = None);
            self.is_urgent = true;
        }
    }

    /// Returns the time at which [`Self::serve`] must be called.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.file.as_ref().filter(|file| file.is_writable())?;
        let after = |at: Option<Instant>, interval| at.map_or_else(Instant::default, |at| at + interval);
        let write = self.table.is_changed().then(|| after(self.written_at, WRITE_INTERVAL));
        let sync = self.is_unsynced.then(|| after(self.synced_at, SYNC_INTERVAL));
        let urgent = (self.is_urgent && self.table.is_changed()).then(Instant::default);
        [write, sync, urgent].into_iter().flatten().min()
    }

    /// Writes the file, and requests that it reaches the disk, as far as that is due.
    pub(super) fn serve(&mut self, now: Instant) {
        let is_due = |at: Option<Instant>, interval| at.is_none_or(|at: Instant| now.since(at) >= interval);
        if self.table.is_changed() && (self.is_urgent || is_due(self.written_at, WRITE_INTERVAL)) {
            self.written_at = Some(now);
            self.write(now);
        }
        if self.is_unsynced && is_due(self.synced_at, SYNC_INTERVAL) {
            (self.synced_at, self.is_unsynced) = (Some(now), false);
            let requested = self.file.as_mut().map_or(Ok(()), StateFile::request_sync);
            self.warn_on_error(requested, now);
        }
    }

    fn write(&mut self, now: Instant) {
        self.is_urgent = false;
        if let Some(file) = &self.file {
            let written = file.write(&mut self.table);
            self.is_unsynced = true;
            self.warn_on_error(written, now);
        }
    }

    /// Writes the file through to the disk before the end.
    pub(super) fn finish(&mut self) {
        self.write(Instant::default());
        if let Some(file) = self.file.as_ref().filter(|file| file.is_writable()) {
            let synced = file.sync();
            self.warn_on_error(synced, Instant::default());
        }
    }

    fn warn_on_error(&mut self, result: std::io::Result<()>, now: Instant) {
        if let Err(error) = result
            && let Some(file) = &self.file
            && self.log.allow(now).is_some()
        {
            let path = file.path().display();
            warn!(
                %error,
                "cannot write the state file {path}: until it can be written, a restart loses what has changed"
            );
        }
    }

    /// Records what the tunnel process reports of a peer. Returns true if the address has changed.
    pub(super) fn record(&mut self, report: &PeerReport, local_port: u16, source: EndpointSource) -> bool {
        let key = report.public_key;
        let address = |record: Option<&SavedPeer>| Some(record?.endpoint?.remote.ip());
        let old_address = address(self.table.get(&key));
        self.table.update(&key, |record| {
            if let Some(remote) = report.remote.map(SocketAddr::from)
                && source != EndpointSource::Unknown
            {
                let is_named = source == EndpointSource::Name;
                record.set_endpoint(SavedEndpoint { remote, local: report.local, local_port, is_named });
            }
            if let Some(age) = report.handshake_age {
                record.last_handshake = Duration::from_secs(unix_now().saturating_sub(age).as_secs());
            }
            record.latest_timestamp = report.latest.map(Timestamp::from_bytes);
            record.traffic = report.traffic;
        });
        address(self.table.get(&key)) != old_address
    }

    /// Records the latest timestamp of sent initiations: a later one is kept, so that it need not
    /// be written for each initiation.
    pub(super) fn record_sent(&mut self, identity: PublicKey, sent: Timestamp) {
        let sent = sent.unix();
        let kept = self.table.sent(&identity).map(Timestamp::unix);
        // the tunnel process, if it were taken over, could make the next run unable to connect
        let is_plausible = sent <= unix_now().max(kept.unwrap_or_default()).saturating_add(MAX_SENT_LEAD);
        if is_plausible && kept.is_none_or(|kept| sent.saturating_add(SENT_RESERVE / 2) > kept) {
            self.table.set_sent(identity, Timestamp::from_unix(sent.saturating_add(SENT_RESERVE)));
            self.is_urgent = true;
        }
    }

    /// Returns what the tunnel process has to know of `peers`, those that are greeted first.
    /// `port` is the one at which clients know this host; `None` if they cannot.
    pub(super) fn restored(
        &self,
        identity: Option<&PublicKey>,
        peers: &[&Peer],
        port: Option<u16>,
    ) -> Vec<ToTunnel> {
        let now = unix_now();
        let mut peers: Vec<_> = peers
            .iter()
            .filter_map(|peer| {
                let record = self.table.get(&peer.public_key)?;
                // the address of a name comes from the look-up
                let endpoint = record.endpoint.filter(|_| peer.endpoint.is_none());
                let is_reachable = match &peer.endpoint {
                    Some(PeerAddress::Socket(_)) => true,
                    Some(PeerAddress::Name { .. }) => false,
                    None => endpoint.is_some_and(|endpoint| port == Some(endpoint.local_port)),
                };
                // a time in the future: the clock was set back
                let is_recent = !record.last_handshake.is_zero()
                    && now.saturating_sub(record.last_handshake) < GREETING_AGE;
                let restored = RestoredPeer {
                    public_key: peer.public_key,
                    remote: endpoint.map(|endpoint| Address::from(endpoint.remote)),
                    local: endpoint.and_then(|endpoint| endpoint.local),
                    latest: record.latest_timestamp.map(|latest| *latest.as_bytes()),
                    last_handshake: record.last_handshake,
                    traffic: record.traffic,
                    is_greeted: is_reachable && is_recent,
                };
                Some((std::cmp::Reverse(record.last_handshake), restored))
            })
            .collect();
        peers.sort_by_key(|(last_handshake, _)| *last_handshake);
        let peers: Vec<_> = peers.into_iter().map(|(_, peer)| peer).collect();
        let sent: Option<[u8; TIMESTAMP_LEN]> =
            identity.and_then(|identity| self.table.sent(identity)).map(|sent| *sent.as_bytes());
        let mut messages: Vec<_> = peers
            .chunks(MAX_PEERS_PER_MESSAGE)
            .map(|peers| ToTunnel::Restore { sent, peers: peers.to_vec() })
            .collect();
        if messages.is_empty() && sent.is_some() {
            messages.push(ToTunnel::Restore { sent, peers });
        }
        messages
    }
}

#[cfg(test)]
mod tests;
