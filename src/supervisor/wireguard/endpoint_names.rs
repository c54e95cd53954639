//! Addresses of peers with a host name: looked up, past the tunnel if the user enabled that
//! ([`Bypass`]), and until then those at which they have answered before ([`EndpointCache`]).
//!
//! [`Bypass`]: super::bypass::Bypass
//! [`EndpointCache`]: super::endpoint_cache::EndpointCache

use std::net::{IpAddr, SocketAddr};

use tracing::{info, warn};

use super::bypass::MAX_DURATION;
use super::state::WireGuard;
use crate::supervisor::context::Context;
use crate::supervisor::lookups::LookupTarget;
use wontun_proto::wireguard::PublicKey;

/// Error of a look-up for a peer that has no name any more.
const NO_NAME: &str = "the peer's endpoint is not a host name";

impl WireGuard {
    /// Sends the tunnel process the possible addresses of a peer.
    pub(super) fn send_addresses(
        &mut self,
        context: &mut Context,
        key: &PublicKey,
        addresses: Vec<SocketAddr>,
    ) {
        // set the routes to each of them before anything is sent there
        if let Some(peer) = self.peers.get_mut(key) {
            peer.set_addresses(addresses.iter().map(SocketAddr::ip));
            context.paths.set_addresses(Some(*key), peer.addresses());
            let is_captured = |address: &SocketAddr| {
                self.routes.as_ref().is_some_and(|routes| routes.captures_endpoint(address.ip()))
            };
            if addresses.iter().any(is_captured) {
                self.update_routes(context);
            }
        }
        context.send_lookup_result(Some(*key), Ok(addresses), true);
    }

    /// Handles the addresses of a peer's name, or the error of the look-up.
    pub(super) fn handle_name(
        &mut self,
        context: &mut Context,
        key: PublicKey,
        result: Result<Vec<SocketAddr>, String>,
    ) {
        self.close_bypass(context, Some(&key));
        let is_tried = self.record_lookup_result(context, &key, result.is_ok());
        let mut addresses = match result {
            Ok(addresses) => addresses,
            Err(error) => {
                if is_tried || !self.look_up_past_tunnel(context, &key) {
                    context.send_lookup_result(Some(key), Err(error), true);
                }
                return;
            }
        };
        let Some(port) = self.peers.host(&key).map(|(_, port)| port) else {
            // each request is answered
            context.send_lookup_result(Some(key), Err(NO_NAME.to_owned()), true);
            return;
        };
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.set_name_addresses(&addresses);
            // a captive portal's name server lies: the address that was true before is tried, too
            let reached = peer.reached().map(|address| SocketAddr::new(address, port));
            addresses.extend(reached.filter(|reached| !addresses.contains(reached)));
        }
        let addresses = self.translated(context, &key, addresses);
        self.send_addresses(context, &key, addresses);
        context.complete_paths(self.mark);
        self.update_translation(context);
    }

    /// Handles a report of the tunnel process that a handshake with a peer was completed at
    /// `remote`, with datagrams from `local`.
    pub(super) fn handle_path(
        &mut self,
        context: &mut Context,
        key: &PublicKey,
        remote: IpAddr,
        local: Option<IpAddr>,
    ) {
        if let Some(peer) = self.peers.get_mut(key) {
            peer.set_reached(remote);
            context.confirm_path(self.mark, Some(*key), remote, local);
        }
    }

    /// Watches the paths to the peers as configured, and to no others.
    pub(super) fn watch_paths(&mut self, context: &mut Context) {
        context.paths.retain(|target| target.is_some_and(|key| self.peers.contains(&key)));
        for (key, addresses) in self.peers.configured_addresses() {
            context.paths.add(Some(*key), addresses);
        }
        context.complete_paths(self.mark);
        self.update_translation(context);
    }

    /// Looks up the name of a peer's endpoint, as configured.
    pub(super) fn look_up(&mut self, context: &mut Context, key: &PublicKey) {
        if let Some(addresses) = self.peers.take_early_addresses(key) {
            self.handle_name(context, *key, Ok(addresses));
            return;
        }
        let result = match self.peers.host(key) {
            Some((host, port)) => context.lookups.request(LookupTarget::Peer(*key), host, port, self.mark),
            None => Err(NO_NAME.to_owned()),
        };
        self.record_lookup(context, key);
        if let Err(error) = result {
            context.send_lookup_result(Some(*key), Err(error), false);
        }
    }

    /// Handles a failed look-up of a peer's name. Returns true if it is looked up again, with
    /// queries that bypass the tunnel.
    pub(super) fn look_up_past_tunnel(&mut self, context: &mut Context, key: &PublicKey) -> bool {
        if self.firewall.kill_switch.is_some() || self.routes.is_none() {
            return false;
        }
        let Some((host, port)) = self.peers.host(key) else { return false };
        if !self.bypass.open(key, context.now) {
            return false;
        }
        warn!(
            peer = self.peers.display_name(key),
            name = host,
            "an endpoint's name cannot be resolved: all DNS queries of this host bypass the tunnel for at most \
             {} s (--dns-bypass)",
            MAX_DURATION.as_secs()
        );
        let (host, port) = (host.to_owned(), port);
        self.update_routes(context);
        let asked = context.lookups.request(LookupTarget::Peer(*key), &host, port, self.mark);
        if asked.is_err() {
            self.close_bypass(context, Some(key));
        }
        asked.is_ok()
    }

    /// Ends the bypass, once the peer's name is answered or the time is over.
    pub(super) fn close_bypass(&mut self, context: &mut Context, answered: Option<&PublicKey>) {
        if self.bypass.close(answered, context.now) {
            self.update_routes(context);
            info!("DNS queries use the tunnel again");
        }
    }

    /// Resets the bypass after a peer has completed a handshake at another address than before.
    pub(super) const fn reset_bypass(&mut self) {
        self.bypass.reset();
    }

    /// Records that a peer's name is looked up: the cached address is tried if the answer does
    /// not come in time.
    pub(super) fn record_lookup(&mut self, context: &Context, key: &PublicKey) {
        self.endpoint_cache.handle_lookup(key, context.now);
    }

    /// Records the result of a look-up of a peer's name. Returns true if the cached address is
    /// tried now.
    pub(super) fn record_lookup_result(
        &mut self,
        context: &mut Context,
        key: &PublicKey,
        is_known: bool,
    ) -> bool {
        if is_known {
            self.endpoint_cache.handle_answered(key);
            return false;
        }
        self.try_cached_endpoint(context, key)
    }

    /// Tries the cached addresses that are due.
    pub(super) fn handle_endpoint_cache_timeout(&mut self, context: &mut Context) {
        for key in self.endpoint_cache.take_due(context.now) {
            self.try_cached_endpoint(context, &key);
        }
    }

    /// Makes the tunnel process try the cached address, until the look-up is answered. Returns
    /// false if there is none.
    fn try_cached_endpoint(&mut self, context: &mut Context, key: &PublicKey) -> bool {
        let Some(address) = self.endpoint_cache.take(key) else { return false };
        let Some((host, port)) = self.peers.host(key) else { return false };
        let peer = self.peers.display_name(key);
        info!(peer, name = host, "an endpoint's name is not resolved yet: trying the last known address");
        self.send_addresses(context, key, vec![SocketAddr::new(address, port)]);
        true
    }
}
