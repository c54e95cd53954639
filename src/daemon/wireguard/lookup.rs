//! Requests lookups of peers' endpoint names from the supervisor, and handles the answers.

use std::net::SocketAddr;

use tracing::{debug, info, warn};

use super::endpoint_resolver::{MAX_PENDING, OVERDUE, RETRY_MAX};
use super::outages::OutageKind;
use super::tunnel::WireGuard;
use crate::daemon::core::Core;
use crate::daemon::error::DaemonError;
use crate::messages::{Address, FromTunnel};
use wontun_proto::wireguard::{PeerId, PublicKey};

impl WireGuard {
    /// Requests the lookups that are due; the answers are events.
    pub(super) fn request_lookups(&mut self, core: &mut Core) {
        while self.resolver.pending.len() < MAX_PENDING
            && let Some(id) = self.resolver.take_due(core.now)
        {
            let Some(key) = self.engine.peer(id).map(|peer| *peer.public_key()) else { continue };
            self.resolver.pending.push(key);
            core.send(&FromTunnel::LookUp(Some(key)));
        }
    }

    /// Sets or removes the endpoint name of a peer.
    pub(super) fn set_endpoint_name(&mut self, core: &Core, key: &PublicKey, name: Option<(String, u16)>) {
        // a peer that was ignored does not exist
        let Some(id) = self.engine.peer_id(key) else { return };
        match name {
            Some((host, _)) => self.resolver.insert(id, host, core.now),
            None => {
                self.resolver.remove(id);
                self.engine.set_candidates(id, &[]);
            }
        }
    }

    /// Handles the addresses of a peer's name, or the error of the lookup; or other addresses of a
    /// peer without a name.
    pub(super) fn handle_lookup(
        &mut self,
        core: &mut Core,
        key: &PublicKey,
        result: Result<Vec<Address>, String>,
    ) -> Result<(), DaemonError> {
        self.resolver.pending.retain(|pending| pending != key);
        if let Some(id) = self.engine.peer_id(key) {
            if let Some(name) = self.resolver.names.get_mut(&id) {
                name.is_pending = false;
            }
            match result {
                Ok(addresses) => self.handle_addresses(core, id, addresses)?,
                Err(error) => self.handle_lookup_failure(core, id, &error),
            }
        }
        self.request_lookups(core);
        Ok(())
    }

    /// Keeps the current address while the name still has it, and passes the others to the engine,
    /// to be tried if the peer does not answer there.
    fn handle_addresses(
        &mut self,
        core: &mut Core,
        peer: PeerId,
        addresses: Vec<Address>,
    ) -> Result<(), DaemonError> {
        let addresses = addresses.into_iter().map(SocketAddr::from);
        let usable = addresses.filter(|address| self.sockets.supports_family_of(address.ip())).collect();
        let candidates = interleave(usable);
        if candidates.is_empty() {
            self.handle_lookup_failure(core, peer, "no address of a supported address family");
            return Ok(());
        }
        if self.outages.handle_resolved(peer) {
            let name = self.resolver.names.get(&peer).map(|name| tracing::field::display(&name.host));
            info!(peer = self.peer_name(peer), name, "the name of a peer's endpoint is resolved");
        }
        debug!(peer = self.peer_name(peer), ?candidates, "the addresses of a peer's name");
        if self.engine.set_addresses(peer, &candidates, core.now) {
            self.report_endpoint(core, peer);
            self.update_socket(core, peer)?;
        }
        let is_in_use = self.engine.peer(peer).is_some_and(|peer| peer.is_initiating());
        self.resolver.handle_answered(peer, is_in_use, core.now);
        Ok(())
    }

    /// Handles lookups that name servers leave unanswered.
    pub(super) fn handle_overdue_lookups(&mut self, core: &Core) {
        while let Some(peer) = self.resolver.take_overdue(core.now) {
            let Some(name) = self.resolver.names.get(&peer).map(|name| name.host.clone()) else { continue };
            let since = core.now - OVERDUE;
            if let Some(suppressed) = self.outages.allow(peer, OutageKind::Unanswered, since, core.now) {
                warn!(
                    peer = self.peer_name(peer),
                    %name,
                    suppressed,
                    "the name of a peer's endpoint is not resolved after {} s: no answer from the name servers yet; check this host's name servers, and that they are reached outside the tunnel",
                    OVERDUE.as_secs()
                );
            }
        }
    }

    fn handle_lookup_failure(&mut self, core: &Core, peer: PeerId, error: &str) {
        let Some(name) = self.resolver.names.get_mut(&peer) else { return };
        let at = core.now + name.retry_delay;
        let delay = name.retry_delay.as_secs();
        name.retry_delay = (name.retry_delay * 2).min(RETRY_MAX);
        if let Some(suppressed) = self.outages.allow(peer, OutageKind::Unresolved, core.now, core.now) {
            let name = name.host.clone();
            warn!(
                peer = self.peer_name(peer),
                %name,
                error,
                suppressed,
                "cannot resolve an endpoint's name to a usable address; retrying in {delay} s, with backoff: check the name, and this host's name servers"
            );
        }
        self.resolver.resolve_at(peer, at);
    }
}

/// Returns the addresses in the order of RFC 8305, section 4: that of the system, with the families
/// alternating, each address once.
fn interleave(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let begins_with_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| address.is_ipv6() == begins_with_v6);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut ordered = Vec::new();
    loop {
        let pair = [first.next(), second.next()];
        if pair == [None, None] {
            return ordered;
        }
        for address in pair.into_iter().flatten() {
            if !ordered.contains(&address) {
                ordered.push(address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_take_turns_and_each_address_is_there_once() {
        let ordered = |addresses: &[&str]| {
            let parsed = addresses.iter().map(|text| text.parse().unwrap()).collect();
            let ordered = interleave(parsed);
            ordered.iter().map(|address: &SocketAddr| address.ip().to_string()).collect::<Vec<_>>()
        };
        let [a, b, c] = ["192.0.2.1:1", "192.0.2.2:1", "192.0.2.3:1"];
        let [d, e] = ["[2001:db8::1]:1", "[2001:db8::2]:1"];
        assert_eq!(ordered(&[]), [""; 0]);
        assert_eq!(ordered(&[a, a]), ["192.0.2.1"]);
        assert_eq!(ordered(&[d, e, a]), ["2001:db8::1", "192.0.2.1", "2001:db8::2"]);
        let expected = ["192.0.2.1", "2001:db8::1", "192.0.2.2", "2001:db8::2", "192.0.2.3"];
        assert_eq!(ordered(&[a, b, d, c, e, a]), expected);
    }
}
