//! Looks up endpoint names before the routes lead everything into a tunnel that is not there yet.
//!
//! A name server on this host (dnsmasq, unbound, …) queries others with sockets that wontun cannot
//! mark, and once the routes are set its queries wait for the tunnel, which waits for the name. Its
//! upstream servers are queried past the tunnel afterwards, but are not always known.
//!
//! With a kill switch only marked queries leave this host. If none is in place yet and all name
//! servers are on this host, the names are looked up before it is engaged: that opens nothing that
//! was closed before the start.

use std::num::NonZeroU32;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tracing::{debug, info, warn};

use super::file::{ConfigFile, ResolvedEndpoints};
use super::state::WireGuard;
use crate::config::PeerAddress;
use crate::config::wg_quick::{Table, WgQuick};
use crate::net::timer::now;
use crate::process::Nursery;
use crate::supervisor::context::Context;
use crate::supervisor::error::{SupervisorError, system};
use crate::supervisor::lookups::{LookupTarget, Lookups};
use crate::supervisor::start::Starting;
use wontun_proto::wireguard::PublicKey;

/// Timeout for all names together: a silent name server, or a network that is not up yet, delays
/// the start no longer.
const TIMEOUT: Duration = Duration::from_secs(2);

impl ConfigFile {
    /// Looks up the names of the peers' endpoints before the kill switch is engaged.
    ///
    /// # Errors
    /// The clock cannot be read.
    pub(crate) fn look_up_before_kill_switch(
        &mut self,
        starting: &mut Starting,
    ) -> Result<(), SupervisorError> {
        let peers = self.configuration.peers.iter();
        let names: Vec<_> = peers
            .filter_map(|peer| match &peer.endpoint {
                Some(PeerAddress::Name { host, port }) => Some((peer.public_key, host.as_str(), *port)),
                Some(PeerAddress::Socket(_)) | None => None,
            })
            .collect();
        if !names.is_empty() {
            info!(
                "this host uses a local name server, whose queries the kill switch would drop: endpoint names \
                 are looked up before it is engaged, within {} s",
                TIMEOUT.as_secs()
            );
            let (lookups, nursery) = starting.lookups();
            self.early_addresses = Some(look_up(lookups, nursery, names.into_iter(), None)?);
        }
        Ok(())
    }
}

impl WireGuard {
    /// Looks up the names of a full tunnel's peers, and keeps the answers until the tunnel process
    /// requests them. It requests unanswered names again. With a kill switch this was done before
    /// it was engaged, or is not done.
    ///
    /// # Errors
    /// The clock cannot be read.
    pub(super) fn look_up_before_routes(
        &mut self,
        context: &mut Context,
        configuration: &WgQuick,
    ) -> Result<(), SupervisorError> {
        let early = self.source.take_early_addresses();
        let found = if early.is_some() || self.firewall.kill_switch.is_some() || !needs_names(configuration) {
            early
        } else {
            let names = self.peers.hosts().map(|(key, host, port)| (*key, host, port));
            Some(look_up(&mut context.lookups, &mut context.nursery, names, self.mark)?)
        };
        context.now = now().map_err(system("reading the clock"))?;
        if let Some(found) = found {
            self.endpoint_cache.set_looked_up();
            for (key, addresses) in found {
                self.peers.store_early_addresses(&key, addresses);
            }
        }
        Ok(())
    }
}

/// Returns true if the routes lead everything into the tunnel, including DNS queries.
fn needs_names(configuration: &WgQuick) -> bool {
    configuration.interface.table != Table::Off && configuration.is_full_tunnel()
}

/// Looks up `names` with queries that carry `mark`, within [`TIMEOUT`].
///
/// # Errors
/// The clock cannot be read.
fn look_up<'a>(
    lookups: &mut Lookups,
    nursery: &mut Nursery,
    names: impl Iterator<Item = (PublicKey, &'a str, u16)>,
    mark: Option<NonZeroU32>,
) -> Result<ResolvedEndpoints, SupervisorError> {
    let mut found = ResolvedEndpoints::new();
    for (key, host, port) in names {
        if let Err(error) = lookups.request(LookupTarget::Peer(key), host, port, mark) {
            debug!(%error, host, "a name is not looked up before the routes are set");
        }
    }
    let start = now().map_err(system("reading the clock"))?;
    let mut at = start;
    while lookups.has_pending() {
        let left = TIMEOUT.saturating_sub(at.since(start));
        let Some(descriptor) = lookups.descriptor() else { break };
        if left.is_zero() {
            break;
        }
        wait(descriptor, left);
        at = now().map_err(system("reading the clock"))?;
        for (target, result) in lookups.poll_answer(at) {
            match (target, result) {
                (LookupTarget::Peer(key), Ok(addresses)) => found.push((key, addresses)),
                (_, Err(error)) => debug!(%error, "a name is not known before the routes are set"),
                (LookupTarget::Server | LookupTarget::Nat64, Ok(_)) => {}
            }
        }
    }
    if lookups.has_pending() {
        debug!("not all names were looked up before the routes are set");
        // it would wait for an answer that cannot come any more
        if let Err(error) = lookups.cancel(nursery, at) {
            warn!(%error, "cannot restart the resolver process; trying again later");
        }
    }
    Ok(found)
}

/// Waits until `descriptor` is readable, for `limit` at most.
fn wait(descriptor: BorrowedFd<'_>, limit: Duration) {
    let mut descriptors = [PollFd::new(descriptor, PollFlags::POLLIN)];
    let limit = u16::try_from(limit.as_millis()).unwrap_or(u16::MAX).max(1);
    // an error of poll(2) is handled like a timeout
    let _ = poll(&mut descriptors, PollTimeout::from(limit));
}
