//! Adapts the tunnel's tables, routes and socket to its device: to a new name, and while it is in
//! another network namespace.

use tracing::warn;

use super::state::WireGuard;
use crate::netlink::Routes;
use crate::supervisor::context::Context;

impl WireGuard {
    /// Renames everything that depends on the device's name, the kill switch first: until then
    /// nothing leaves by the device. Returns the first failure.
    ///
    /// # Errors
    /// An error of the kernel, or another process holds the name.
    pub(super) fn update_device(&mut self, context: &mut Context) -> Result<(), String> {
        let name = context.name.clone();
        let kill_switch =
            self.firewall.kill_switch.as_mut().map_or(Ok(()), |switch| switch.set_device(&name));
        if let Some(guard) = &mut self.firewall.guard {
            guard.set_device(name.as_str());
        }
        if let Some(nat) = &mut self.firewall.nat {
            nat.set_device(name.as_str());
        }
        self.update_tables();
        let access = self.firewall.rules.as_mut().map_or(Ok(()), |access| access.set_device(name.as_str()));
        if let Err(error) = access {
            warn!(%error, "cannot enforce the rules of the peers on the device's new index");
            self.stop_restricted_peers(context);
        }
        if let Some(routes) = &mut self.routes {
            routes.set_device(name.as_str(), context.link.index);
        }
        self.restore_routes(context);
        self.apply_dns(context);
        let socket = self.uapi.rename(&name).map_err(|error| error.to_string());
        kill_switch.map_err(|error| error.to_string()).and(socket)
    }

    /// Returns true if networks are unreachable because the device is in another network namespace.
    pub(super) fn blocks(&self) -> bool {
        self.routes.as_ref().is_some_and(Routes::blocks)
    }
}
