//! Adapts the peers' addresses to the network.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use tracing::{debug, info};

use super::prefix::IPV4ONLY;
use super::state::ipv4;
use crate::supervisor::context::Context;
use crate::supervisor::lookups::LookupTarget;
use crate::supervisor::path_watch::PathChange;
use crate::supervisor::wireguard::state::WireGuard;
use wontun_proto::wireguard::PublicKey;

/// An address that has a route if the host has IPv6: the well-known prefix of RFC 6052.
const SOMEWHERE: IpAddr = IpAddr::V6(Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 1));

impl WireGuard {
    /// Adapts the peers' addresses to the network, after paths were compared, and looks up the
    /// names of those that are not reachable any more.
    pub(in crate::supervisor::wireguard) fn adapt_to_network(
        &mut self,
        context: &mut Context,
        changes: &[PathChange],
    ) {
        if !changes.is_empty() {
            self.nat64.reset();
            self.repeat_lookups(context);
        }
        let lost = changes.iter().filter(|change| !change.is_reachable).filter_map(|change| change.target);
        for key in lost {
            if self.peers.host(&key).is_some() && self.has_ipv6(context) {
                self.look_up(context, &key);
            }
        }
        self.update_translation(context);
    }

    /// Translates the addresses of peers that are not reachable otherwise, and uses the native ones
    /// again of those that are.
    pub(in crate::supervisor::wireguard) fn update_translation(&mut self, context: &mut Context) {
        let keys: Vec<_> = self.peers.with_native_addresses().copied().collect();
        let mut wants_prefix = false;
        for key in keys {
            let Some(peer) = self.peers.get_mut(&key) else { continue };
            let was_translated = peer.is_translated();
            if !was_translated && !context.paths.is_unreachable(&Some(key)) {
                continue;
            }
            let native = peer.native_addresses().to_vec();
            if self.is_reachable(context, &native) {
                if was_translated {
                    info!("a peer is reachable without NAT64 again");
                    self.use_addresses(context, &key, native, false);
                }
            } else if native.iter().any(|address| ipv4(*address).is_some()) {
                let translated = self.nat64.translate(&native);
                let current = self.peers.get_mut(&key).map(|peer| peer.addresses().to_vec());
                let is_current = current
                    .is_some_and(|current| current.into_iter().eq(translated.iter().map(SocketAddr::ip)));
                if translated.is_empty() {
                    wants_prefix = true;
                } else if !is_current {
                    info!(addresses = ?translated, "a peer with IPv4 addresses only is reached by NAT64");
                    self.use_addresses(context, &key, translated, true);
                }
            }
        }
        if wants_prefix {
            self.look_up_prefix(context);
        } else {
            self.nat64.set_idle();
        }
    }

    /// Makes the tunnel process use these addresses of a peer from now on.
    fn use_addresses(
        &mut self,
        context: &mut Context,
        key: &PublicKey,
        addresses: Vec<SocketAddr>,
        is_translated: bool,
    ) {
        if let Some(peer) = self.peers.get_mut(key) {
            peer.set_translated(is_translated);
        }
        self.send_addresses(context, key, addresses);
        context.complete_paths(self.mark);
        context.report_path(PathChange { target: Some(*key), is_reachable: true });
    }

    /// Returns the addresses of a peer's name that are to be used: the translated ones, if there is
    /// no other way.
    pub(in crate::supervisor::wireguard) fn translated(
        &mut self,
        context: &mut Context,
        key: &PublicKey,
        native: Vec<SocketAddr>,
    ) -> Vec<SocketAddr> {
        let translated = self.nat64.translate(&native);
        let is_translated = !translated.is_empty() && !self.is_reachable(context, &native);
        if let Some(peer) = self.peers.get_mut(key) {
            peer.set_translated(is_translated);
        }
        if is_translated { translated } else { native }
    }

    fn look_up_prefix(&mut self, context: &mut Context) {
        if !self.nat64.may_look_up(context.now) || !self.has_ipv6(context) {
            return;
        }
        debug!("looking up the prefix of NAT64");
        self.nat64.begin();
        let requested = context.lookups.request(LookupTarget::Nat64, IPV4ONLY, 0, self.mark);
        if let Err(error) = requested {
            self.handle_ipv4only(context, Err(error));
        }
    }

    /// Handles the addresses of [`IPV4ONLY`].
    pub(in crate::supervisor::wireguard) fn handle_ipv4only(
        &mut self,
        context: &mut Context,
        result: Result<Vec<SocketAddr>, String>,
    ) {
        let addresses = result.unwrap_or_else(|error| {
            debug!(error, "the prefix of NAT64 is not known");
            Vec::new()
        });
        let prefixes = self.nat64.finish(addresses.iter().map(SocketAddr::ip), context.now);
        if !prefixes.is_empty() {
            debug!(?prefixes, "found the prefixes of NAT64");
            self.update_translation(context);
        }
    }

    /// Looks up the prefix again, if that is due.
    pub(in crate::supervisor::wireguard) fn handle_nat64_timeout(&mut self, context: &mut Context) {
        if self.nat64.deadline().is_some_and(|at| context.now >= at) {
            self.nat64.set_idle();
            self.update_translation(context);
        }
    }

    fn has_ipv6(&self, context: &mut Context) -> bool {
        let path = context.link.link.path(SOMEWHERE, None, self.mark);
        path.is_ok_and(|path| path.is_some())
    }

    fn is_reachable(&self, context: &mut Context, addresses: &[SocketAddr]) -> bool {
        addresses.iter().any(|address| {
            let path = context.link.link.path(address.ip(), None, self.mark);
            path.is_ok_and(|path| path.is_some())
        })
    }

    /// Sends the pending look-ups again: the name server of a network that the host has left does
    /// not answer.
    fn repeat_lookups(&mut self, context: &mut Context) {
        for target in context.restart_lookups() {
            match target {
                LookupTarget::Peer(key) => self.look_up(context, &key),
                LookupTarget::Nat64 => self.nat64.cancel(),
                LookupTarget::Server => {}
            }
        }
    }
}
