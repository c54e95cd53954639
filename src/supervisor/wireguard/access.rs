//! Peers that have no access by their settings, disabled or expired: they are in the file and not
//! in the tunnel. The wall clock decides, also when it is set, and after a suspension.

use std::collections::HashSet;

use tracing::{info, warn};

use super::audit::Audit;
use super::excluded::Excluded;
use super::file;
use super::state::WireGuard;
use crate::config::display_name;
use crate::config::peer_settings::{ExcludedPeer, Exclusion};
use crate::config::wg_quick::WgQuick;
use crate::net::timer::unix_now;
use crate::supervisor::context::Context;
use crate::uapi::{AllowedIpChange, Changes, PeerChanges};
use wontun_proto::allowed_ips::Prefix;
use wontun_proto::wireguard::PublicKey;

/// Maximum number of names in a log line.
const MAX_NAMES: usize = 20;

impl WireGuard {
    /// Returns the peers of `configuration` that have no access at present.
    pub(super) fn excluded_of(&self, configuration: &WgQuick) -> Excluded {
        Excluded::of(configuration, unix_now(), self.invitations.is_answered())
    }

    /// Returns the name of a peer for the log, also of one without access.
    pub(super) fn name_of(&self, key: &PublicKey) -> String {
        self.access.excluded.name_of(key).unwrap_or_else(|| self.peers.display_name(key))
    }

    /// Tells the tunnel process which peers have no access, before it loses them, and waits for the
    /// next change of that. `before` are those that it knows.
    pub(super) fn send_excluded(&self, context: &mut Context, before: &Excluded) {
        if self.access.excluded != *before {
            self.access.excluded.messages().iter().for_each(|message| context.tunnel.send(message));
        }
        if let Some(configuration) = self.source.configuration() {
            self.access.arm(configuration, unix_now());
        }
    }

    /// Logs which peers have no access at the start.
    pub(super) fn log_excluded(&self) {
        let count = self.access.excluded.len();
        if count == 0 {
            return;
        }
        let name = |(key, peer): (&PublicKey, &ExcludedPeer)| {
            let reason = match peer.exclusion {
                Exclusion::Disabled => "disabled",
                Exclusion::Expired => "expired",
                Exclusion::Unanswered => "invited; its code is not answered: see --invitations",
            };
            format!("{} ({reason})", display_name(peer.name.as_ref(), key))
        };
        let names: Vec<_> = self.access.excluded.iter().take(MAX_NAMES).map(name).collect();
        let others = count.saturating_sub(MAX_NAMES);
        let others = if others > 0 { format!(" and {others} more") } else { String::new() };
        info!("peers without access: {}{others}", names.join(", "));
    }

    /// Handles the end of a peer's access, or a clock that was set.
    pub(super) fn handle_clock(&mut self, context: &mut Context) {
        if let Err(error) = self.access.handle_expiration() {
            warn!(%error, "cannot read the timer for the end of a peer's access: restart wontun");
        }
        let Some(configuration) = self.source.configuration().cloned() else { return };
        let excluded = self.excluded_of(&configuration);
        if excluded == self.access.excluded {
            self.access.arm(&configuration, unix_now());
            return;
        }
        let audit = Audit::new(self, None);
        let before = std::mem::replace(&mut self.access.excluded, excluded);
        let mut changes = transition(&configuration, &before, &self.access.excluded);
        let present: HashSet<_> = self.peers.keys().copied().collect();
        // neither keys nor port nor mark are among these changes, which therefore cannot fail
        if let Err(error) = self.apply(context, &changes) {
            warn!(%error, "the end of a peer's access was applied only in part");
        }
        self.enforce_rules(&mut changes);
        let names = self.update_endpoint_names(&configuration, Some(&configuration), &present);
        self.send_excluded(context, &before);
        self.update_routes(context);
        self.update_firewall();
        self.send_changes(context, changes);
        names.iter().for_each(|name| context.tunnel.send(name));
        // those that are in the tunnel again
        self.send_saved_state(context, |key| before.contains(key) && self.peers.contains(key));
        self.watch_paths(context);
        let differences = audit.finish(self);
        info!(peers = self.peers.len(), "the clock has changed the access of peers: {differences}");
        self.remove_expired_invitations();
    }

    /// Sends what is kept of the peers that `is_wanted` selects, after they were added.
    pub(super) fn send_saved_state(&self, context: &mut Context, is_wanted: impl Fn(&PublicKey) -> bool) {
        let Some(configuration) = self.source.configuration() else { return };
        let peers: Vec<_> = configuration.peers.iter().filter(|peer| is_wanted(&peer.public_key)).collect();
        let messages = self.saved_state.restored(None, &peers, self.client_port(configuration));
        messages.iter().for_each(|message| context.tunnel.send(message));
    }

    /// Removes from `changes` by wg(8) those that would add a peer without access, and says so:
    /// wg(8) does not read the comments of the file.
    pub(super) fn refuse_excluded(&self, changes: &mut Changes) {
        let is_refused = |peer: &PeerChanges| !peer.remove && self.access.excluded.contains(&peer.public_key);
        let mut refused: Vec<_> = changes.peers.extract_if(.., |peer| is_refused(peer)).collect();
        refused.retain(|peer| !peer.update_only);
        if !refused.is_empty() {
            let names = refused.iter().take(MAX_NAMES).map(|peer| self.name_of(&peer.public_key));
            let names: Vec<_> = names.collect();
            warn!(
                "a command would have added peers that the file disables or that have expired, which was ignored: {}; \
                 'wontun peer enable NAME' or 'wontun peer set NAME --expires 30d' admits them",
                names.join(", ")
            );
        }
    }
}

/// Returns the changes to the peers that gain or lose access. A network that several peers have
/// belongs to the last of those with access.
fn transition(configuration: &WgQuick, before: &Excluded, after: &Excluded) -> Changes {
    let is_changed = |key: &PublicKey| before.contains(key) != after.contains(key);
    let changed = configuration.peers.iter().filter(|peer| is_changed(&peer.public_key));
    let networks: HashSet<Prefix> = changed.flat_map(|peer| peer.allowed_ips.iter().copied()).collect();
    let (mut gone, mut others) = (Vec::new(), Vec::new());
    for peer in &configuration.peers {
        let key = peer.public_key;
        if after.contains(&key) {
            if is_changed(&key) {
                gone.push(PeerChanges { remove: true, ..PeerChanges::new(key) });
            }
        } else if is_changed(&key) {
            others.push(file::peer_changes(peer, None));
        } else {
            let shared = peer.allowed_ips.iter().filter(|prefix| networks.contains(prefix));
            let allowed_ips: Vec<_> =
                shared.map(|&prefix| AllowedIpChange { prefix, remove: false }).collect();
            if !allowed_ips.is_empty() {
                others.push(PeerChanges { update_only: true, allowed_ips, ..PeerChanges::new(key) });
            }
        }
    }
    Changes { peers: gone.into_iter().chain(others).collect(), ..Changes::default() }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::*;
    use crate::config::wg_quick::{Hooks, parse};

    const PRIVATE: &str = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=";
    const ALICE: &str = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=";
    const BOB: &str = "3p7bfXt9wbTTW2HC7OQ1Nz+DQ8hbeGdNrfx+FG+IK08=";
    /// The end of 2026.
    const END: Duration = Duration::from_secs(1_798_761_600);

    fn file(alice: &str, bob: &str) -> WgQuick {
        let text = format!(
            "[Interface]\nPrivateKey = {PRIVATE}\n[Peer]\n# Name = alice\nPublicKey = {ALICE}\n{alice}\n\n\
             [Peer]\nPublicKey = {BOB}\n{bob}\n"
        );
        parse(Path::new("wg0.conf"), text.as_bytes(), Hooks::Refuse).unwrap().configuration
    }

    fn described(changes: &Changes) -> Vec<String> {
        let describe = |peer: &PeerChanges| {
            let name = if peer.public_key.to_string() == ALICE { "alice" } else { "bob" };
            let networks: Vec<_> = peer.allowed_ips.iter().map(|change| change.prefix.to_string()).collect();
            let action = match (peer.remove, peer.update_only) {
                (true, _) => "remove",
                (false, true) => "update",
                (false, false) => "add",
            };
            format!("{action} {name} {}", networks.join(","))
        };
        changes.peers.iter().map(describe).collect()
    }

    #[test]
    fn the_clock_decides_in_both_directions() {
        let file = file("# Expires = 2026-12-31\nAllowedIPs = 10.0.0.2/32", "AllowedIPs = 10.0.0.3/32");
        let before = Excluded::of(&file, END - Duration::from_nanos(1), true);
        let after = Excluded::of(&file, END, true);
        assert!(before == Excluded::default() && after.len() == 1);
        assert_eq!(described(&transition(&file, &before, &after)), ["remove alice "]);
        assert_eq!(described(&transition(&file, &after, &before)), ["add alice 10.0.0.2/32"]);
        assert_eq!(described(&transition(&file, &after, &after)), [""; 0]);
    }

    #[test]
    fn a_network_of_two_peers_belongs_to_the_last_with_access() {
        let networks = "AllowedIPs = 10.0.0.2/32, 10.0.1.0/24";
        let bob_expires = file(networks, "AllowedIPs = 10.0.1.0/24\n# Expires = 2026-12-31");
        let (with, without) = (Excluded::default(), Excluded::of(&bob_expires, END, true));
        assert_eq!(
            described(&transition(&bob_expires, &with, &without)),
            ["remove bob ", "update alice 10.0.1.0/24"]
        );
        let alice_expires = file(&format!("{networks}\n# Expires = 2026-12-31"), "AllowedIPs = 10.0.1.0/24");
        let without = Excluded::of(&alice_expires, END, true);
        assert_eq!(
            described(&transition(&alice_expires, &without, &with)),
            ["add alice 10.0.0.2/32,10.0.1.0/24", "update bob 10.0.1.0/24"]
        );
    }
}
