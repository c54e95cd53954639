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
        let mut port = configuration.interface.listen_port.map(|_| self.sockets.port());
        if let (Some(own), Some(client_port)) = (port, self.source.client_port())
            && own != client_port
        {
            // a NAT would give the datagrams a mapping of another port, which ends, and the clients
            // would follow there
            info!(
                "clients connect to port {client_port}, not to {own}, so that they are not greeted after a restart: \
                 publish the same port to have them back at once"
            );
            port = None;
        }
        self.saved_state.restored(self.peers.interface_key().as_ref(), configuration, port)
    }

    /// Uses the state file of the process that has handed the tunnel over and ended.
    pub(super) fn settle_state(&mut self) {
        self.saved_state.settle();
        self.forget_other_peers();
    }

    /// Forgets peers that do not exist.
    fn forget_other_peers(&mut self) {
        let peers: HashSet<_> = self.peers.keys().copied().collect();
        self.saved_state.retain(|key| peers.contains(key));
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

    /// Records what the tunnel process reports.
    pub(super) fn handle_state(&mut self, sent: Option<[u8; TIMESTAMP_LEN]>, peers: &[PeerReport]) {
        if let (Some(identity), Some(sent)) = (self.peers.interface_key(), sent) {
            self.saved_state.record_sent(identity, Timestamp::from_bytes(sent));
        }
        let port = self.sockets.port();
        for report in peers {
            let Some(peer) = self.peers.get_mut(&report.public_key) else { continue };
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
