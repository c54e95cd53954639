//! The host's routes to the peers' networks, if wontun manages them.

use std::net::IpAddr;
use std::time::Duration;

use tracing::{info, warn};

use super::state::WireGuard;
use crate::config::wg_quick::Table;
use crate::netlink::{AppliedRouting, DesiredRouting, LinkError, RestoreScope, RouteWarning, Routes};
use crate::supervisor::context::Context;
use crate::supervisor::error::{SupervisorError, system};
use crate::supervisor::reconcile::{HostResource, ReconcileOutcome};
use wontun_packet::ip;
use wontun_proto::time::Instant;
use wontun_proto::wireguard::PublicKey;

/// Minimum interval between two changes of the routes that are caused by peers' addresses.
const MIN_UPDATE_INTERVAL: Duration = Duration::from_millis(100);
/// Delay after which IPv6 is tried again on a device on which another program has disabled it: the
/// kernel does not report that it is enabled again.
const IPV6_RETRY: Duration = Duration::from_secs(1);

impl WireGuard {
    /// Sets the routes for the first time, if there is a file that does not disable this.
    ///
    /// # Errors
    /// The kernel rejects them.
    pub(super) fn open_routes(&mut self, context: &mut Context) -> Result<(), SupervisorError> {
        if self.source.configuration().is_none_or(|file| file.interface.table == Table::Off) {
            return Ok(());
        }
        let mut routes = Routes::open(context.name.as_str(), context.link.index)?;
        let applied = routes.apply(&self.desired_routing())?;
        self.routes = Some(routes);
        self.take_applied(context, applied).map_err(system("marking the sockets"))
    }

    /// Adapts the routes to the peers' allowed IPs and confirmed addresses.
    pub(super) fn update_routes(&mut self, context: &mut Context) {
        let wanted = self.desired_routing();
        if let Some(routes) = self.routes.as_mut().filter(|routes| !routes.is_applied(&wanted)) {
            let applied = routes.apply(&wanted);
            self.handle_applied(context, applied);
        }
    }

    /// Restores the routes of a device that was down.
    pub(super) fn restore_routes(&mut self, context: &mut Context) {
        if let Some(routes) = &mut self.routes {
            routes.set_in_other_netns(context.link.is_in_other_netns);
            let applied = routes.restore(RestoreScope::All);
            self.handle_applied(context, applied.map(|(applied, _)| applied));
        }
    }

    /// Restores routes and rules that another program has deleted: all if `may_repair`, else policy
    /// rules and the routes of their table.
    pub(super) fn reconcile_routing(&mut self, context: &mut Context, may_repair: bool) -> ReconcileOutcome {
        let Some(routes) = &mut self.routes else { return ReconcileOutcome::default() };
        // with a smaller MTU the kernel has removed IPv6 from the device, routes included: they are
        // restored with the MTU
        let has_ipv6 = !context.link.is_in_other_netns
            && context.link.link.state().is_ok_and(|state| state.mtu >= ip::IPV6_MIN_MTU);
        let scope = if may_repair { RestoreScope::All } else { RestoreScope::Policy };
        let restored = routes.restore(scope);
        // the addresses may have been compared before IPv6 was enabled again, and the routes after
        // it
        let has_lost_ipv6 = routes.has_lost_ipv6() || routes.had_ipv6() && context.link.lacks_ipv6;
        self.ipv6_due = (has_ipv6 && has_lost_ipv6).then(|| context.now + IPV6_RETRY);
        let (mut applied, added) = match restored {
            Ok(restored) => restored,
            Err(error) => {
                let outcome =
                    ReconcileOutcome { error: Some(error.to_string()), ..ReconcileOutcome::default() };
                self.handle_applied(context, Err(error));
                return outcome;
            }
        };
        if !has_ipv6 {
            applied.warnings.retain(|warning| !matches!(warning, RouteWarning::Ipv6Disabled { .. }));
        }
        let repairs = &mut context.reconciler.repairs;
        repairs.routes += added.routes.len() as u64;
        repairs.rules += added.rules as u64;
        repairs.settings += added.settings as u64;
        self.handle_applied(context, Ok(applied));
        let is_missing = added.skipped > 0;
        let named = added.to_string();
        ReconcileOutcome {
            repaired: (!named.is_empty()).then_some(named),
            is_missing,
            ..ReconcileOutcome::default()
        }
    }

    /// Handles a report of the tunnel process that a peer is at `address`, which may be routed into
    /// the tunnel, where the peer's own datagrams must not go. Only a completed handshake changes
    /// the host's routes for that, or the configuration: the source of other messages can be forged
    /// by the peer. Until then the peer has roamed, as WireGuard defines it, and the host's routes
    /// stay as they were.
    pub(super) fn handle_endpoint(
        &mut self,
        context: &mut Context,
        key: &PublicKey,
        address: IpAddr,
        is_confirmed: bool,
    ) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        if is_confirmed && !peer.set_address(address) {
            return;
        }
        if !self.routes.as_ref().is_some_and(|routes| routes.captures_endpoint(address)) {
            return;
        }
        let limit = peer.address_log(is_confirmed);
        if let Some(suppressed) = limit.allow(context.now) {
            let peer = peer.display_name(key);
            if is_confirmed {
                info!(
                    peer,
                    %address,
                    suppressed,
                    "adapting the host's routes: the peer's address is in a network that is routed into the tunnel"
                );
            } else {
                warn!(
                    peer,
                    %address,
                    suppressed,
                    "a peer sends from a network that is routed into the tunnel, and replies are routed there, \
                     too: the routes are adapted once the peer has completed a handshake from there; if it \
                      cannot, add a route to its address outside the tunnel (ip route add ADDRESS via GATEWAY)"
                );
            }
        }
        if is_confirmed {
            self.routes_due.get_or_insert_with(|| {
                self.routed_at.map_or(context.now, |at| context.now.max(at + MIN_UPDATE_INTERVAL))
            });
        }
    }

    /// Returns the time at which [`Self::handle_route_timeout`] is due.
    pub(super) fn routes_deadline(&self) -> Option<Instant> {
        [self.routes_due, self.ipv6_due].into_iter().flatten().min()
    }

    /// Adapts the routes to the peers' addresses, if that is due.
    pub(super) fn handle_route_timeout(&mut self, context: &mut Context) {
        if self.ipv6_due.is_some_and(|at| context.now >= at) {
            self.ipv6_due = None;
            context.reconciler.schedule(HostResource::Addresses);
            context.reconciler.schedule(HostResource::Routing);
        }
        if self.routes_due.is_some_and(|at| context.now >= at) {
            (self.routes_due, self.routed_at) = (None, Some(context.now));
            self.update_routes(context);
        }
    }

    fn desired_routing(&self) -> DesiredRouting {
        let interface = self.source.configuration().map(|file| &file.interface);
        DesiredRouting {
            table: interface.map_or(Table::Off, |interface| interface.table),
            fwmark: self.fwmark,
            allowed_ips: self.peers.allowed_ips().collect(),
            endpoints: self.peers.addresses().collect(),
            addresses: interface.map(|interface| interface.addresses.clone()).unwrap_or_default(),
            bypasses_dns: self.bypass.is_open(),
        }
    }

    fn handle_applied(&mut self, context: &mut Context, applied: Result<AppliedRouting, LinkError>) {
        match applied {
            Ok(applied) => {
                if let Err(error) = self.take_applied(context, applied)
                    && let Some(suppressed) = self.log_limits.routes.allow(context.now)
                {
                    warn!(%error, suppressed, "cannot set the mark of the sockets that the routes need");
                }
            }
            Err(error) => {
                if let Some(suppressed) = self.log_limits.routes.allow(context.now) {
                    warn!(%error, suppressed, "cannot update the host's routes");
                }
            }
        }
    }

    fn take_applied(&mut self, context: &mut Context, applied: AppliedRouting) -> std::io::Result<()> {
        if !applied.warnings.is_empty() && self.log_limits.route_warnings.allow(context.now).is_some() {
            applied.warnings.iter().for_each(|warning| warn!("{warning}"));
        }
        self.set_mark(context, applied.mark.or(self.fwmark))
    }
}
