//! The host's routes to what the peers may be sent, where they are ours to set.

use tracing::{info, warn};

use super::WireGuard;
use super::peer_log::Line;
use crate::config::wg_quick::Table;
use crate::device::DeviceError;
use crate::device::core::{Core, IPV6_MIN_MTU, system};
use crate::link::{Added, Applied, LinkError, RouteWarning, Routes, Wanted};
use crate::tunnel::wireguard::{Peer, PeerId};

impl WireGuard {
    /// Sets the routes for the first time, if there is a file and it does not keep us from it.
    ///
    /// # Errors
    /// The kernel refuses them.
    pub(super) fn open_routes(&mut self, core: &Core) -> Result<(), DeviceError> {
        if self.source.configuration().is_none_or(|file| file.interface.table == Table::Off) {
            return Ok(());
        }
        let mut routes = Routes::open(core.name.as_str(), core.link.index)?;
        let applied = routes.apply(&self.wanted_routes())?;
        self.routes = Some(routes);
        self.take_applied(core, applied).map_err(system("marking the sockets"))
    }

    /// The routes follow the peers' allowed IPs and confirmed addresses.
    pub(super) fn update_routes(&mut self, core: &mut Core) {
        let wanted = self.wanted_routes();
        if let Some(routes) =
            self.routes.as_mut().filter(|routes| !core.link.away && !routes.is_wanted(&wanted))
        {
            let applied = routes.apply(&wanted);
            self.handle_applied(core, applied);
        }
    }

    /// A device that was down has lost its routes.
    pub(super) fn restore_routes(&mut self, core: &mut Core) {
        if let Some(routes) = self.routes.as_mut().filter(|_| !core.link.away) {
            let applied = routes.restore();
            self.handle_applied(core, applied.map(|(applied, _)| applied));
        }
    }

    /// Puts back routes and rules that somebody else has deleted, and warns of it. Network managers
    /// do that when they start.
    pub(super) fn repair_routing(&mut self, core: &mut Core) {
        let Some(routes) = self.routes.as_mut().filter(|_| !core.link.away) else { return };
        // with a smaller MTU the kernel has taken IPv6 off the device, routes included: they come
        // back with the MTU
        let has_ipv6 = core.link.link.state().is_ok_and(|state| state.mtu >= IPV6_MIN_MTU);
        let mut applied = routes.restore();
        if let Ok((applied, _)) = &mut applied
            && !has_ipv6
        {
            applied.warnings.retain(|warning| !matches!(warning, RouteWarning::Ipv6Disabled { .. }));
        }
        if let Ok((_, added)) = applied
            && added != Added::default()
            && let Some(suppressed) = self.quiet.repairs.allow(core.now)
        {
            let tun = &core.name;
            warn!(
                %tun,
                routes = added.routes,
                rules = added.rules,
                suppressed,
                "routes or policy rules of {tun} were deleted by another program, and are back; if it is \
                 systemd-networkd, set ManageForeignRoutingPolicyRules=no and ManageForeignRoutes=no in networkd.conf"
            );
        }
        self.handle_applied(core, applied.map(|(applied, _)| applied));
    }

    /// A peer's own address may lie behind the tunnel now, which its datagrams must not be led
    /// into. Only a completed handshake changes the host's routing for that, or the configuration:
    /// the source of other messages is what the peer says it is. Until then the peer has moved, as
    /// WireGuard has it, and the host's routes lead where they did.
    pub(super) fn update_routes_for(&mut self, core: &mut Core, id: PeerId) {
        let Some(peer) = self.engine.peer(id) else { return };
        let Some(endpoint) = peer.endpoint().map(|endpoint| endpoint.remote) else { return };
        if !self.routes.as_ref().is_some_and(|routes| routes.concerns(endpoint.ip())) {
            return;
        }
        let is_confirmed = peer.confirmed_address() == Some(endpoint.ip());
        let line = if is_confirmed { Line::Routed } else { Line::Captured };
        if let Some(suppressed) = self.peer_log.allow(id, line, core.now) {
            let peer = self.peer_name(id);
            if is_confirmed {
                info!(
                    peer,
                    %endpoint,
                    suppressed,
                    "the host's routes change: the peer's address lies in a network that they lead into the tunnel"
                );
            } else {
                warn!(
                    peer,
                    %endpoint,
                    suppressed,
                    "a peer sends from a network that the host's routes lead into the tunnel, and answers go there, too: \
                     they change once the peer has completed a handshake from there; if it cannot, add a route to its \
                     address past the tunnel (ip route add ADDRESS via GATEWAY)"
                );
            }
        }
        if is_confirmed {
            self.update_routes(core);
        }
    }

    fn wanted_routes(&self) -> Wanted {
        let interface = self.source.configuration().map(|file| &file.interface);
        let peers = self.engine.peer_ids().filter_map(|id| self.engine.peer(id));
        Wanted {
            table: interface.map_or(Table::Off, |interface| interface.table),
            fwmark: self.fwmark,
            allowed_ips: self.allowed_ips.iter().map(|(prefix, _)| prefix).collect(),
            endpoints: peers.filter_map(Peer::confirmed_address).collect(),
            addresses: interface.map(|interface| interface.addresses.clone()).unwrap_or_default(),
        }
    }

    fn handle_applied(&mut self, core: &Core, applied: Result<Applied, LinkError>) {
        match applied {
            Ok(applied) => {
                if let Err(error) = self.take_applied(core, applied)
                    && let Some(suppressed) = self.quiet.routes.allow(core.now)
                {
                    warn!(%error, suppressed, "the sockets do not take the mark that the routes need");
                }
            }
            Err(error) => {
                if let Some(suppressed) = self.quiet.routes.allow(core.now) {
                    warn!(%error, suppressed, "the host's routes are not as they should be");
                }
            }
        }
    }

    fn take_applied(&mut self, core: &Core, applied: Applied) -> std::io::Result<()> {
        if !applied.warnings.is_empty() && self.quiet.route_warnings.allow(core.now).is_some() {
            applied.warnings.iter().for_each(|warning| warn!("{warning}"));
        }
        self.set_mark(applied.mark.or(self.fwmark))
    }
}
