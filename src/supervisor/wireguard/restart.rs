//! A restart: passes what an earlier run has known to the tunnel process, and records what it
//! reports.

use std::collections::HashSet;
use std::net::SocketAddr;

use tracing::info;

use super::saved_state::EndpointSource;
use super::state::WireGuard;
use crate::config::wg_quick::WgQuick;
use crate::messages::{PeerReport, ToTunnel};
use crate::uapi::Changes;
use wontun_proto::wireguard::{TIMESTAMP_LEN, Timestamp};

impl WireGuard {
    /// Returns what the tunnel process has to know of an earlier run, after its peers.
    pub(super) fn restored_state(&mut self, configuration: &WgQuick) -> Vec<ToTunnel> {
        self.forget_other_peers();
        let port = self.client_port(configuration);
        if let (None, Some(client_port), true) =
            (port, self.source.client_port(), configuration.interface.listen_port.is_some())
        {
            info!(
                "clients connect to port {client_port}, not to {}, so that they are not greeted after a restart: \
                 publish the same port to have them back at once",
                self.sockets.port()
            );
        }
        let peers: Vec<_> = configuration.peers.iter().collect();
        self.saved_state.restored(self.peers.interface_key().as_ref(), &peers, port)
    }

    /// Returns the port at which clients know this host; `None` if they cannot be greeted from it.
    pub(super) fn client_port(&self, configuration: &WgQuick) -> Option<u16> {
        let port = configuration.interface.listen_port.map(|_| self.sockets.port())?;
        // a NAT would give the datagrams a mapping of another port, which ends, and the clients
        // would follow there
        Some(port).filter(|own| self.source.client_port().is_none_or(|client_port| *own == client_port))
    }

    /// Uses the state file of the process that has handed the tunnel over and ended.
    pub(super) fn settle_state(&mut self) {
        self.saved_state.settle();
        self.forget_other_peers();
    }

    /// Forgets peers that do not exist. Those without access at present do.
    fn forget_other_peers(&mut self) {
        let peers: HashSet<_> = self.peers.keys().copied().collect();
        let excluded = &self.access.excluded;
        self.saved_state.retain(|key| peers.contains(key) || excluded.contains(key));
    }

    /// Forgets what `changes` remove or reset.
    pub(super) fn forget_state(&mut self, changes: &Changes) {
        let removes = changes.replace_peers
            || changes.private_key.is_some()
            || changes.peers.iter().any(|peer| peer.remove);
        if removes {
            self.forget_other_peers();
        }
        for peer in changes.peers.iter().filter(|peer| peer.forget_timestamp) {
            self.saved_state.forget_timestamp(&peer.public_key);
        }
    }

    /// Records the last state of a peer that has no access any more.
    fn handle_last_state(&mut self, report: &PeerReport, port: u16) {
        let excluded = &self.access.excluded;
        if excluded.contains(&report.public_key) {
            let has_name = excluded.has_name(&report.public_key);
            let source = if has_name { EndpointSource::Unknown } else { EndpointSource::Peer };
            self.saved_state.record(report, port, source);
        }
    }

    /// Records what the tunnel process reports.
    pub(super) fn handle_state(&mut self, sent: Option<[u8; TIMESTAMP_LEN]>, peers: &[PeerReport]) {
        if let (Some(identity), Some(sent)) = (self.peers.interface_key(), sent) {
            self.saved_state.record_sent(identity, Timestamp::from_bytes(sent));
        }
        let port = self.sockets.port();
        for report in peers {
            let Some(peer) = self.peers.get_mut(&report.public_key) else {
                self.handle_last_state(report, port);
                continue;
            };
            let address = report.remote.map(|remote| SocketAddr::from(remote).ip());
            let source = if !peer.has_host() {
                EndpointSource::Peer
            } else if address.is_some_and(|address| peer.is_name_address(address)) {
                EndpointSource::Name
            } else {
                EndpointSource::Unknown
            };
            if self.saved_state.record(report, port, source) && source == EndpointSource::Name {
                self.reset_bypass();
            }
        }
    }
}
