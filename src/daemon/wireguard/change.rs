//! Applies changes to keys and peers that the supervisor gets from wg(8) or the file. Sessions of
//! other peers continue.

use std::time::Duration;

use tracing::warn;

use super::tunnel::WireGuard;
use crate::config::display_name;
use crate::daemon::core::Core;
use crate::daemon::error::DaemonError;
use crate::uapi::{Changes, PeerChanges};
use wontun_proto::wireguard::{AddPeerError, Endpoint, PeerId, PublicKey};

impl WireGuard {
    /// Applies `changes` to keys and peers; the supervisor has handled the port, the mark and the
    /// kill switch.
    ///
    /// # Errors
    /// The tunnel cannot continue.
    pub(super) fn change(&mut self, core: &mut Core, changes: &Changes) -> Result<(), DaemonError> {
        if let Some(private) = &changes.private_key
            && let Some(removed) = self.engine.set_private_key(private.clone(), core.now)
        {
            let peer = self.peer_names.get(&removed).map(tracing::field::display);
            warn!(peer, "ignoring a peer with this interface's own public key");
            self.remove_peer_state(core, removed);
        }
        if changes.replace_peers {
            let ids: Vec<_> = self.engine.peer_ids().collect();
            for id in ids {
                self.remove_peer(core, id);
            }
        }
        for peer in &changes.peers {
            self.change_peer(core, peer)?;
        }
        self.publish_allowed_ips();
        Ok(())
    }

    fn change_peer(&mut self, core: &mut Core, changes: &PeerChanges) -> Result<(), DaemonError> {
        let existing = self.engine.peer_id(&changes.public_key);
        if changes.remove {
            if let Some(id) = existing {
                self.remove_peer(core, id);
            }
            return Ok(());
        }
        let id = match existing {
            Some(id) => id,
            None if changes.update_only => return Ok(()),
            None => match self.engine.add_peer(changes.public_key) {
                Ok(id) => id,
                Err(error @ (AddPeerError::OwnKey | AddPeerError::Full)) => {
                    let name = changes.name.as_ref().and_then(Option::as_ref);
                    warn!(peer = display_name(name, &changes.public_key), %error, "ignoring a peer");
                    return Ok(());
                }
            },
        };
        if let Some(old) = changes.replaces.filter(|_| existing.is_none()) {
            self.move_account(core, &old, id);
        }
        match &changes.name {
            Some(Some(name)) => drop(self.peer_names.insert(id, name.clone())),
            Some(None) => drop(self.peer_names.remove(&id)),
            None => {}
        }
        if let Some(limits) = &changes.limits {
            self.set_limits(core, id, **limits);
        }
        if changes.forget_timestamp {
            self.engine.forget_timestamp(id);
            self.state_reports.handle_changed(id, core.now);
        }
        if let Some(preshared) = &changes.preshared_key {
            self.engine.set_preshared_key(id, preshared.clone());
        }
        if let Some(remote) = changes.endpoint {
            self.resolver.remove(id);
            self.has_configured_endpoint.insert(id);
            self.engine.set_endpoint(id, Some(Endpoint::new(remote)), core.now);
            self.endpoint_reports.handle_configured(id, remote.ip());
            self.report_endpoint(core, id);
            self.update_socket(core, id)?;
        }
        if changes.replace_allowed_ips {
            self.allowed_ips_mut().remove_peer(id);
        }
        for change in &changes.allowed_ips {
            if change.remove {
                self.allowed_ips_mut().remove_if_owned(change.prefix, id);
            } else {
                self.allowed_ips_mut().insert(change.prefix, id);
            }
        }
        // last, since it may send a packet
        if let Some(seconds) = changes.persistent_keepalive {
            let interval = Some(Duration::from_secs(seconds.into()));
            self.engine.set_persistent_keepalive(id, interval, core.now);
        }
        Ok(())
    }

    /// Moves the traffic of the peer with the key `old` to one that succeeds it, before its quota
    /// is set.
    fn move_account(&mut self, core: &Core, old: &PublicKey, new: PeerId) {
        let Some(old) = self.engine.peer_id(old) else { return };
        let counters = self.engine.peer(old).map(|peer| peer.transfer()).unwrap_or_default();
        self.ledger.enter(old, counters);
        self.ledger.move_traffic(old, new);
        self.state_reports.handle_changed(new, core.now);
    }

    pub(super) fn remove_peer(&mut self, core: &mut Core, id: PeerId) {
        self.handle_disconnected(core, id, "removed");
        if let Some(removed) = self.engine.remove_peer(id) {
            self.report_removed(core, &removed);
            self.lost += removed.lost();
        }
        self.remove_peer_state(core, id);
    }

    /// Removes all state of a peer that the engine does not know any more.
    fn remove_peer_state(&mut self, core: &mut Core, id: PeerId) {
        self.resolver.remove(id);
        self.endpoint_reports.remove(id);
        self.state_reports.remove(id);
        self.ledger.remove(id);
        self.connections.remove(id);
        self.peer_names.remove(&id);
        self.connected_at.remove(&id);
        self.has_bulk.remove(&id);
        self.reported_paths.remove(&id);
        self.peer_log.remove(id);
        self.outages.remove(id);
        self.quotas.remove(id);
        self.has_configured_endpoint.remove(&id);
        self.allowed_ips_mut().remove_peer(id);
        self.disconnect(core, id);
    }
}
