//! Reloads the configuration file (SIGHUP), and applies the differences.

use std::collections::HashSet;

use tracing::{info, warn};

use super::audit::Audit;
use super::file::{ConfigSource, by_key, changes, is_new_endpoint, mtu, renewed};
use super::state::WireGuard;
use crate::config::PeerAddress;
use crate::config::wg_quick::{Loaded, ServerComments, WgQuick, reload};
use crate::messages::ToTunnel;
use crate::sandbox;
use crate::supervisor::context::Context;
use wontun_proto::wireguard::PublicKey;

impl WireGuard {
    /// Records endpoint names that are new in the file, and removes those that are gone from it.
    /// Returns them as messages to the tunnel process, to be sent after the peers.
    pub(super) fn update_endpoint_names(
        &mut self,
        new: &WgQuick,
        old: Option<&WgQuick>,
        present: &HashSet<PublicKey>,
    ) -> Vec<ToTunnel> {
        let known = by_key(old, present);
        let mut messages = Vec::new();
        for peer in &new.peers {
            let key = peer.public_key;
            if self.peers.get_mut(&key).is_none() {
                continue;
            }
            let name = match &peer.endpoint {
                Some(PeerAddress::Name { host, port }) => Some((host.clone(), *port)),
                Some(PeerAddress::Socket(_)) | None => None,
            };
            if name.is_some() && !is_new_endpoint(peer, known.get(&key).copied()) {
                continue;
            }
            if name.is_some() || self.peers.host(&key).is_some() {
                messages.push(ToTunnel::Name { peer: key, name: name.clone() });
            }
            self.peers.set_host(&key, name);
        }
        messages
    }

    /// Reads the file again and applies the differences. Returns the number with which the tunnel
    /// process acknowledges its part.
    ///
    /// # Errors
    /// The file has an error or cannot be applied, which was logged, and nothing was changed.
    pub(super) fn reload_file(&mut self, context: &mut Context) -> Result<u32, String> {
        let ConfigSource::File(file) = &self.source else {
            info!("SIGHUP: this tunnel has no configuration file, it is configured by wg(8)");
            return Err("it has no configuration file, wg(8) configures it".to_owned());
        };
        // also if the file has an error: somebody may have lost access to the page
        self.admin.reload_accounts();
        let Loaded { configuration: new, warnings, server, .. } = match reload(&file.path, file.options.hooks)
        {
            Ok(loaded) => loaded,
            Err(error) => {
                warn!(%error, "cannot reload the configuration, nothing was changed");
                if error.is_denied() && sandbox::is_engaged() {
                    warn!(
                        "the sandbox allows a running tunnel to read its configuration's folder, and key files \
                         elsewhere that existed at the start: keep keys in that folder, or restart wontun"
                    );
                }
                return Err(error.to_string());
            }
        };
        warnings.iter().for_each(|warning| warn!("{warning}"));
        let old = file.configuration.clone();
        let audit = Audit::new(self, None);
        let present: HashSet<_> = self.peers.keys().copied().collect();
        let excluded = self.excluded_of(&new);
        let mut changes = changes(&new, Some(&old), &present, &excluded);
        let replaced = renewed(&new, &old);
        // before the old keys are forgotten
        for (key, old) in &replaced {
            self.saved_state.record_renewed(*key, old);
        }
        let old_server = self.set_configuration(new, server);
        let before = std::mem::replace(&mut self.access.excluded, excluded);
        // the device comes before the routes, which need its IPv6
        if let Err(error) = self.apply(context, &changes) {
            warn!(%error, "the new configuration cannot be applied, nothing was changed");
            self.set_configuration(old, old_server);
            self.access.excluded = before;
            return Err(error.to_string());
        }
        self.enforce_rules(&mut changes);
        let mut names = Vec::new();
        if let Some(new) = self.source.configuration().cloned() {
            names = self.update_endpoint_names(&new, Some(&old), &present);
            // no address is set before it is guarded
            self.update_guard();
            self.change_device(context, &new, &old);
            self.apply_dns(context);
            self.reload_names(context);
            self.admin.reload_certificate();
        }
        self.update_firewall();
        self.warn_of_other_family();
        self.send_excluded(context, &before);
        let number = self.send_changes(context, changes);
        names.iter().for_each(|name| context.tunnel.send(name));
        // the tunnel process itself knows the traffic of a renewed peer that had and has access
        self.send_saved_state(context, |key| {
            let is_back = before.contains(replaced.get(key).unwrap_or(key)) && self.peers.contains(key);
            is_back || replaced.contains_key(key) && self.access.excluded.contains(key)
        });
        self.watch_paths(context);
        let differences = audit.finish(self);
        info!(peers = self.peers.len(), "reloaded the configuration: {differences}");
        self.remove_expired_invitations();
        Ok(number)
    }

    /// Sets the contents of the file. Returns what the comments of the previous ones said.
    fn set_configuration(&mut self, configuration: WgQuick, server: ServerComments) -> ServerComments {
        self.admin.handle_reload();
        match &mut self.source {
            ConfigSource::File(file) => {
                file.configuration = configuration;
                std::mem::replace(&mut file.server, server)
            }
            ConfigSource::Socket => server,
        }
    }

    fn change_device(&mut self, context: &mut Context, new: &WgQuick, old: &WgQuick) {
        context.link.wanted_mtu = new.interface.mtu;
        let changed = new.interface.mtu != old.interface.mtu;
        let mtu = changed.then(|| mtu(&mut context.link.link, new, self.mark));
        // with an MTU below 1280 bytes, IPv6 addresses can neither be added to nor removed from the
        // device
        let grows = mtu.is_some_and(|mtu| mtu > context.link.mtu);
        if let Some(mtu) = mtu.filter(|_| grows) {
            change_mtu(context, mtu);
        }
        if new.interface.addresses != old.interface.addresses {
            change_addresses(context, new);
        }
        if let Some(mtu) = mtu.filter(|_| !grows) {
            change_mtu(context, mtu);
        }
        if self.routes.is_some() {
            self.update_routes(context);
        } else if let Err(error) = self.open_routes(context) {
            warn!(%error, "cannot set the routes of the new configuration");
        }
    }
}

fn change_mtu(context: &mut Context, mtu: u32) {
    if context.link.is_in_other_netns {
        // set when it comes back
        context.link.mtu = mtu;
        return;
    }
    if let Err(error) = context.link.link.set_mtu(mtu) {
        warn!(%error, "cannot set the MTU of the new configuration");
    }
}

fn change_addresses(context: &mut Context, new: &WgQuick) {
    if context.link.is_in_other_netns {
        context.link.link.set_desired_addresses(&new.interface.addresses);
        return;
    }
    match context.link.link.replace_addresses(&new.interface.addresses) {
        Ok(configured) => context.link.warn_ipv6_disabled(&configured),
        Err(error) => warn!(%error, "cannot set the addresses of the new configuration"),
    }
}
