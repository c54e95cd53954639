//! The endpoint of the peer: learning, connecting, reconnecting, name lookups.

use std::net::SocketAddr;
use std::time::Duration;

use tracing::{debug, warn};

use super::lookup::{LOOKUP_RETRY, LOOKUP_RETRY_MAX};
use super::tunnel::PlainTunnel;
use crate::daemon::core::Core;
use crate::daemon::error::DaemonError;
use crate::daemon::token::Token;
use crate::messages::{Address, FromTunnel};
use crate::net::recv_buffer::{GroBatch, LocalAddress};

/// Minimum interval between two attempts to connect.
const RECONNECT: Duration = Duration::from_secs(1);

impl PlainTunnel {
    /// Starts contacting the peer: a client contacts its server, a server waits.
    pub(super) fn start_peer(&mut self, core: &mut Core) -> Result<(), DaemonError> {
        if let Some(address) = self.server {
            self.engine.set_peer(address, core.now);
            return self.reconnect(core);
        }
        self.look_up(core);
        Ok(())
    }

    /// Changes the local address of the connected socket to the one that the peer sends to.
    pub(super) fn update_local_address(
        &mut self,
        core: &mut Core,
        batch: &GroBatch,
    ) -> Result<(), DaemonError> {
        let Some(local) = batch.local else { return Ok(()) };
        let from_peer = self.engine.peer() == Some(batch.from);
        let connected = self.sockets.connected(()).and_then(|connected| connected.local);
        if from_peer && connected != Some(local.address) && !self.is_just_connected(core) {
            self.connect(core, core.current(), batch.from, Some(local))?;
        }
        Ok(())
    }

    /// Connects a new socket to `endpoint`; the previous one is drained and closed. Returns true if
    /// there is a route to the endpoint; otherwise nothing has changed.
    pub(super) fn connect(
        &mut self,
        core: &mut Core,
        worker: usize,
        endpoint: SocketAddr,
        local: Option<LocalAddress>,
    ) -> Result<bool, DaemonError> {
        self.connected_at = Some(core.now);
        let mut result = self.sockets.connect(worker, (), endpoint, local);
        if result.is_err() && local.is_some() {
            // that local address was removed meanwhile
            result = self.sockets.connect(worker, (), endpoint, None);
        }
        core.request_sockets(&self.sockets);
        let old = match result {
            Ok(old) => old,
            Err(error) => {
                if let Some(suppressed) = self.log_limits.connect.allow(core.now) {
                    warn!(%error, suppressed, "no route to the peer: check the routes and --listen; retrying");
                }
                debug!(%endpoint, "no route");
                return Ok(false);
            }
        };
        if let Some(connected) = self.sockets.connected(()) {
            let token = Token::Socket(connected.id);
            core.register(worker, connected.socket.as_ref(), token)?;
        }
        core.drain_sockets(old);
        self.reconnect_at = None;
        self.report_family(core, endpoint.is_ipv4());
        let local = self.sockets.connected(()).and_then(|connected| connected.local);
        core.send(&FromTunnel::Path { peer: None, remote: endpoint.ip(), local });
        Ok(true)
    }

    /// Connects to the same endpoint again, from the local address that the routes choose now.
    ///
    /// # Errors
    /// The system fails.
    pub(super) fn reconnect(&mut self, core: &mut Core) -> Result<(), DaemonError> {
        self.reconnect_at = None;
        let Some(endpoint) = self.engine.peer() else { return Ok(()) };
        if !self.connect(core, core.current(), endpoint, None)? {
            self.suspect_endpoint();
            self.reconnect_at = Some(core.now + RECONNECT);
        }
        Ok(())
    }

    /// Handles a change of the path to the peer: connects again at once, from the address that the
    /// routes choose now. A client shows the server where it is, and looks up its name.
    ///
    /// # Errors
    /// The system fails.
    pub(super) fn handle_path_changed(
        &mut self,
        core: &mut Core,
        is_reachable: bool,
    ) -> Result<(), DaemonError> {
        if !is_reachable {
            self.suspect_endpoint();
            return Ok(());
        }
        self.reconnect(core)?;
        self.engine.handle_path_changed(core.now);
        self.look_up(core);
        Ok(())
    }

    /// Marks the endpoint as suspect: a server known by name may have a better address.
    pub(super) const fn suspect_endpoint(&mut self) {
        if let Some(lookup) = &mut self.lookup {
            lookup.is_suspect = true;
        }
    }

    /// Schedules a reconnect after the local address or the route to the peer is lost, at most once
    /// a second.
    pub(super) fn schedule_reconnect(&mut self, core: &mut Core) {
        let earliest = self.connected_at.map_or(core.now, |at| at + RECONNECT);
        self.reconnect_at.get_or_insert(earliest.max(core.now));
    }

    fn is_just_connected(&self, core: &Core) -> bool {
        self.connected_at.is_some_and(|at| core.now.since(at) < RECONNECT)
    }

    /// Handles a server that has been silent for long: its name may have another address now, or
    /// the local address has changed.
    pub(super) fn refresh_endpoint(&mut self, core: &mut Core) {
        if self.lookup.is_some() { self.look_up(core) } else { self.schedule_reconnect(core) }
    }

    /// Requests a lookup of the server's name; the answer is an event.
    pub(super) fn look_up(&mut self, core: &mut Core) {
        let Some(lookup) = &mut self.lookup else { return };
        lookup.retry_at = None;
        if lookup.is_pending {
            return;
        }
        lookup.is_pending = true;
        core.send(&FromTunnel::LookUp(None));
    }

    /// Handles the addresses of the server's name, or the error of the lookup.
    pub(super) fn handle_lookup(
        &mut self,
        core: &mut Core,
        result: Result<Vec<Address>, String>,
    ) -> Result<(), DaemonError> {
        let Some(lookup) = &mut self.lookup else { return Ok(()) };
        lookup.is_pending = false;
        match result {
            Ok(addresses) => self.handle_addresses(core, addresses),
            Err(error) => {
                self.handle_lookup_failure(core, &error);
                Ok(())
            }
        }
    }

    /// Keeps the current address while the name still has it and it is not suspect: a server that
    /// has this client at one address drops its datagrams from another.
    fn handle_addresses(&mut self, core: &mut Core, addresses: Vec<Address>) -> Result<(), DaemonError> {
        let addresses = addresses.into_iter().map(SocketAddr::from);
        let usable: Vec<_> =
            addresses.filter(|address| self.sockets.supports_family_of(address.ip())).collect();
        let index = usable.iter().position(|address| Some(*address) == self.engine.peer());
        let is_suspect =
            self.engine.is_endpoint_suspect() || self.lookup.as_ref().is_some_and(|lookup| lookup.is_suspect);
        // start with the one after a suspect one, and wrap around
        let first = index.map_or(0, |index| index + usize::from(is_suspect));
        let candidates = usable.iter().skip(first).chain(usable.iter().take(first));
        for &endpoint in candidates {
            if self.connect(core, core.current(), endpoint, None)? {
                debug!(%endpoint, "the server's address");
                self.engine.set_peer(endpoint, core.now);
                if let Some(lookup) = &mut self.lookup {
                    lookup.retry_delay = LOOKUP_RETRY;
                    lookup.is_suspect = false;
                }
                return Ok(());
            }
        }
        self.handle_lookup_failure(core, "no address is reachable outside the tunnel");
        Ok(())
    }

    fn handle_lookup_failure(&mut self, core: &mut Core, error: &str) {
        let Some(lookup) = &mut self.lookup else { return };
        lookup.retry_at = Some(core.now + lookup.retry_delay);
        let delay = lookup.retry_delay.as_secs();
        lookup.retry_delay = (lookup.retry_delay * 2).min(LOOKUP_RETRY_MAX);
        if let Some(suppressed) = self.log_limits.lookup.allow(core.now) {
            warn!(name = %lookup.name, error, suppressed, "cannot resolve the server's name to a usable address; retrying in {delay} s, with backoff");
        }
    }

    /// Reports a changed address family to the supervisor, which may adapt the MTU to it.
    fn report_family(&mut self, core: &mut Core, is_ipv4: bool) {
        if self.reported_family.replace(is_ipv4) != Some(is_ipv4) {
            core.send(&FromTunnel::OuterFamily { is_ipv4 });
        }
    }
}
