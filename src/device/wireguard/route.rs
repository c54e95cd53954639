//! The host's routes to what the peers may be sent, where they are ours to set.

use tracing::warn;

use super::WireGuard;
use crate::config::wg_quick::Table;
use crate::device::DeviceError;
use crate::device::core::{Core, system};
use crate::link::{Added, Applied, LinkError, Routes, Wanted};
use crate::tunnel::wireguard::{Endpoint, Peer};

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
        self.take_applied(applied).map_err(system("marking the sockets"))
    }

    /// The routes follow the peers' allowed IPs and endpoints.
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

    /// Puts back routes and rules that somebody else has deleted, and warns of it. Network managers do that
    /// when they start.
    pub(super) fn repair_routing(&mut self, core: &Core) {
        let Some(routes) = self.routes.as_mut().filter(|_| !core.link.away) else { return };
        let applied = routes.restore();
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

    /// A peer's own address may lie behind the tunnel now, which its datagrams must not be led into.
    pub(super) fn update_routes_for(&mut self, core: &mut Core, endpoint: Endpoint) {
        if self.routes.as_ref().is_some_and(|routes| routes.concerns(endpoint.remote.ip())) {
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
            endpoints: peers.filter_map(Peer::endpoint).map(|endpoint| endpoint.remote.ip()).collect(),
            addresses: interface.map(|interface| interface.addresses.clone()).unwrap_or_default(),
        }
    }

    fn handle_applied(&mut self, core: &Core, applied: Result<Applied, LinkError>) {
        match applied {
            Ok(applied) => {
                if let Err(error) = self.take_applied(applied) {
                    warn!(%error, "the sockets do not take the mark that the routes need");
                }
            }
            Err(error) => {
                if let Some(suppressed) = self.quiet.routes.allow(core.now) {
                    warn!(%error, suppressed, "the host's routes are not as they should be");
                }
            }
        }
    }

    fn take_applied(&mut self, applied: Applied) -> std::io::Result<()> {
        for warning in &applied.warnings {
            warn!("{warning}");
        }
        self.set_mark(applied.mark.or(self.fwmark))
    }
}
