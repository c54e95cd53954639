//! The rules of the peers: what they may reach, and who may open connections to them.

use std::collections::HashSet;

use tracing::warn;

use super::file::ConfigSource;
use super::state::WireGuard;
use crate::config::PeerPolicy;
use crate::config::access::AccessRules;
use crate::config::wg_quick::Peer;
use crate::supervisor::context::Context;
use crate::uapi::{Changes, PeerChanges};
use wontun_proto::wireguard::PublicKey;

impl WireGuard {
    /// Enforces the rules of the peers of the file, with the networks that the peers have after
    /// `changes`, which the tunnel process gets then. If that fails, peers with rules are removed
    /// from the tunnel.
    pub(super) fn enforce_rules(&mut self, changes: &mut Changes) {
        let Some(rules) = self.current_rules() else { return };
        let addresses = self.source.configuration().map(|file| file.interface.addresses.clone());
        if let Err(error) = self.firewall.update_rules(rules, &addresses.unwrap_or_default()) {
            let withheld = self.withhold(changes);
            warn!(%error, "cannot enforce the rules of the peers: {withheld} peers with rules are not served until \
                they can be");
        }
    }

    /// As [`Self::enforce_rules`], for a tunnel whose peers are as in the file.
    pub(super) fn enforce_rules_after_take_over(&mut self, context: &mut Context) {
        let mut changes = Changes::default();
        self.enforce_rules(&mut changes);
        if !changes.peers.is_empty() {
            self.send_changes(context, changes);
        }
    }

    /// Removes the peers with rules from the tunnel, since these cannot be enforced.
    pub(super) fn stop_restricted_peers(&mut self, context: &mut Context) {
        let mut changes = Changes::default();
        let withheld = self.withhold(&mut changes);
        if withheld > 0 {
            warn!(
                "the rules of the peers are not enforced: {withheld} peers with rules are not served until the \
                configuration is reloaded"
            );
            self.send_changes(context, changes);
        }
    }

    /// Returns the rules; `None` if there are none, and never were.
    fn current_rules(&self) -> Option<AccessRules> {
        let (ConfigSource::File(file), Some(access)) = (&self.source, &self.firewall.rules) else {
            return None;
        };
        let has_rules = |peer: &Peer| peer.settings().is_restricted() || !peer.settings().forwards.is_empty();
        let policy = file.policy();
        if policy == PeerPolicy::Open
            && !access.is_installed()
            && !file.configuration.peers.iter().any(has_rules)
        {
            return None;
        }
        let owned = self.peers.owned_prefixes();
        Some(AccessRules::new(&file.configuration, policy, &file.server.dns, owned, access.rules()))
    }

    /// Changes `changes` so that no peer with rules remains. Returns the number of these peers.
    fn withhold(&mut self, changes: &mut Changes) -> usize {
        let ConfigSource::File(file) = &self.source else { return 0 };
        let is_installed =
            self.firewall.rules.as_mut().is_some_and(|access| access.is_installed() && access.is_intact());
        let all = file.policy() != PeerPolicy::Open && !is_installed;
        let peers = file.configuration.peers.iter().filter(|peer| all || peer.settings().is_restricted());
        let restricted: HashSet<PublicKey> = peers.map(|peer| peer.public_key).collect();
        let removed = restricted.iter().filter(|key| self.peers.contains(key));
        let removals: Vec<_> =
            removed.map(|key| PeerChanges { remove: true, ..PeerChanges::new(*key) }).collect();
        changes.peers.retain(|peer| !restricted.contains(&peer.public_key));
        let count = removals.len();
        self.peers.apply(&Changes { peers: removals.clone(), ..Changes::default() });
        changes.peers.extend(removals);
        count
    }
}
