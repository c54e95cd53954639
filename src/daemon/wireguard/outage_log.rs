//! Log lines about peers that do not answer: what is known about the reason, and what to check.
//!
//! A peer whose endpoint is configured, or that gets persistent keepalives, is expected to answer,
//! and a warning says if it does not. A client whose address was learned goes to sleep or leaves
//! without a word; only if packets wait for it, a line at info says so.

use std::net::SocketAddr;
use std::time::Duration;

use tracing::{info, warn};

use super::outages::OutageKind;
use super::tunnel::WireGuard;
use crate::config::display_name;
use crate::daemon::core::Core;
use crate::daemon::error::DaemonError;
use wontun_packet::DropReason;
use wontun_proto::time::Instant;
use wontun_proto::wireguard::{Endpoint, PeerGuard, PeerId, PublicKey};

impl WireGuard {
    /// Returns true if the peer is expected to answer at any time.
    fn is_expected(&self, peer: PeerId) -> bool {
        let has_keepalive = self.engine.peer(peer).is_some_and(|peer| peer.persistent_keepalive().is_some());
        has_keepalive
            || self.has_configured_endpoint.contains(&peer)
            || self.resolver.names.contains_key(&peer)
    }

    /// Handles initiations that have been unanswered for `elapsed`.
    pub(super) fn handle_no_response(&mut self, core: &Core, peer: PeerId, elapsed: Duration) {
        let now = core.now;
        let is_expected = self.is_expected(peer);
        let has_packets = self.engine.peer(peer).is_some_and(|peer| peer.staged() > 0);
        if self.outages.has_recent_error(peer, now) || !is_expected && !has_packets {
            return;
        }
        let Some(endpoint) = self.remote(peer) else { return };
        let since = now - elapsed;
        let Some(suppressed) = self.outages.allow(peer, OutageKind::NoResponse, since, now) else { return };
        let (peer, seconds) = (self.peer_name(peer), elapsed.as_secs());
        if is_expected {
            warn!(
                peer,
                %endpoint,
                suppressed,
                "no response to handshakes from a peer for {seconds} s: check that it runs and has this address and UDP port, \
                 that no firewall or router on the way drops the datagrams, and that each side has the other's public key"
            );
        } else {
            info!(
                peer,
                suppressed,
                "no response to handshakes from a client for {seconds} s, and packets wait for it: it is offline or asleep, or \
                 its address has changed"
            );
        }
    }

    /// Handles an error of a datagram to a peer.
    pub(super) fn handle_datagram_error(
        &mut self,
        core: &Core,
        peer: PeerId,
        reason: DropReason,
        endpoint: SocketAddr,
    ) {
        let kind = match reason {
            DropReason::Refused => OutageKind::Refused,
            DropReason::Blocked => OutageKind::Blocked,
            DropReason::Unreachable => OutageKind::Unreachable,
            _ => return,
        };
        let state = |state: PeerGuard<'_>| (state.transfer().packets_received, state.has_session(core.now));
        let Some((received, has_session)) = self.engine.peer(peer).map(state) else { return };
        let Some(since) = self.outages.record_error(peer, kind, received, has_session, core.now) else {
            return;
        };
        if !self.is_expected(peer) {
            return;
        }
        let Some(suppressed) = self.outages.allow(peer, kind, since, core.now) else { return };
        let peer = self.peer_name(peer);
        match kind {
            OutageKind::Refused => warn!(
                peer,
                %endpoint,
                suppressed,
                "a peer's host refuses the tunnel's datagrams (ICMP: port unreachable): nothing listens on this UDP port, or a \
                 firewall rejects it: check the endpoint's port, and that the peer runs"
            ),
            OutageKind::Blocked => warn!(
                peer,
                %endpoint,
                suppressed,
                "this host's own firewall, or a route of the type prohibit, blocks the tunnel's datagrams to a peer: allow UDP \
                 to this address and port (nft list ruleset shows the rules)"
            ),
            _ => warn!(
                peer,
                %endpoint,
                suppressed,
                "this host has no route to a peer: the network is not up, or a route is missing (ip route get {})",
                endpoint.ip()
            ),
        }
    }

    /// Handles a completed handshake.
    pub(super) fn handle_answered(&mut self, core: &Core, peer: PeerId) {
        if let Some(outage) = self.outages.handle_answer(peer, core.now) {
            self.log_answer(peer, outage);
        }
    }

    /// Handles peers to which datagrams can be sent again.
    pub(super) fn handle_recovered(&mut self, now: Instant) {
        let engine = &self.engine;
        let received = |id| engine.peer(id).map_or(0, |peer| peer.transfer().packets_received);
        for (peer, outage) in self.outages.take_recovered(now, received) {
            self.log_answer(peer, outage);
        }
    }

    fn log_answer(&self, peer: PeerId, outage: Duration) {
        // a client's address appears at debug only
        let endpoint = self.remote(peer).filter(|_| self.is_expected(peer)).map(tracing::field::display);
        let peer = self.peer_name(peer);
        info!(peer, endpoint, "a peer answers again, after {} s", outage.as_secs());
    }

    fn remote(&self, peer: PeerId) -> Option<SocketAddr> {
        self.engine.peer(peer).and_then(|peer| peer.endpoint()).map(|endpoint| endpoint.remote)
    }

    /// Handles an initiation with a key that no peer has.
    pub(super) fn handle_unknown_peer(&mut self, core: &Core, from: SocketAddr, public: &PublicKey) {
        if self.handle_excluded_peer(core, from, public) {
            return;
        }
        if let Some(suppressed) = self.unknown_keys.allow(public, core.now) {
            info!(
                key = display_name(None, public),
                %from,
                suppressed,
                "rejected a handshake: no peer has this key; to admit the client, add it (wontun peer add NAME --public-key KEY), \
                 or give it a file with the key of one of the peers"
            );
        }
    }

    /// Connects a socket to a peer that an initiation is sent to, unless it has a session: the
    /// kernel reports a refusal only to a socket that is connected. The initiation itself is sent
    /// by a disconnected one if the system chooses its source.
    ///
    /// # Errors
    /// The tunnel cannot continue.
    pub(super) fn watch_errors(
        &mut self,
        core: &mut Core,
        peer: PeerId,
        endpoint: Endpoint,
    ) -> Result<(), DaemonError> {
        let has_session = self.engine.peer(peer).is_some_and(|peer| peer.has_session(core.now));
        if has_session || !self.is_expected(peer) {
            return Ok(());
        }
        self.has_bulk.remove(&peer);
        match self.sockets.connected(peer) {
            Some(connected) if connected.remote == endpoint.remote => Ok(()),
            None if self.has_all_connected() => Ok(()),
            _ => self.connect(core, peer, endpoint),
        }
    }
}
