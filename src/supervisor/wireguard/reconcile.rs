//! What is the tunnel's on the host, compared with what is wanted: whatever is missing is put back,
//! and what cannot be put back is trouble that the health tells.

use tracing::warn;

use super::{EngagedKillSwitch, WireGuard};
use crate::link::{Guard, Nat, Routes};
use crate::supervisor::context::Context;

impl WireGuard {
    /// Compares everything: addresses of the device, routes and policy rules, tables of nf_tables,
    /// and what address translation turned on. Returns the first thing that is missing and cannot
    /// be put back.
    pub(super) fn reconcile_host(&mut self, context: &mut Context) -> Option<String> {
        if context.link.away || !context.link.up {
            // the health tells that by itself, and the kernel takes no routes then
            return None;
        }
        let (repaired, tables) = self.repair_tables(context);
        if !repaired.is_empty() {
            let tables = repaired.join(", ");
            warn!(tables, "nf_tables tables of this tunnel were missing: they are back");
        }
        let addresses = context.repair_addresses().err();
        let routes = self.repair_routing(context).err();
        self.update_tables();
        let trouble = |what: &str, error: Option<String>| {
            error.map(|error| format!("{what} of {} are missing on this host: {error}", context.name))
        };
        trouble("nf_tables tables", tables)
            .or_else(|| trouble("addresses", addresses.map(|error| error.to_string())))
            .or_else(|| trouble("routes or policy rules", routes))
    }

    /// Puts back what is missing of this tunnel's tables, the kill switch first. Returns the names
    /// of those that are back, and the error of a kill switch that cannot be engaged.
    pub(super) fn repair_tables(&mut self, context: &mut Context) -> (Vec<String>, Option<String>) {
        let firewall = &mut self.firewall;
        let kill_switch = firewall.kill_switch.as_mut().map_or(Ok(None), EngagedKillSwitch::put_back);
        let (kill_switch, error) = match kill_switch {
            Ok(table) => (table, None),
            Err(error) => (None, Some(error.to_string())),
        };
        let mut repaired: Vec<_> = kill_switch.into_iter().collect();
        repaired.extend(firewall.guard.as_mut().and_then(Guard::repair));
        repaired.extend(firewall.nat.as_mut().and_then(Nat::repair));
        repaired.extend(self.routes.as_mut().map(Routes::repair_tables).unwrap_or_default());
        context.repairs.tables += repaired.len() as u64;
        (repaired, error)
    }
}
