//! Observed state of the host's routing.

use std::collections::BTreeSet;

use super::marker::OwnershipMarker;
use super::plan::{MAIN, PerFamily, RoutePlan};
use super::rule::Rule;
use crate::config::wg_quick::Table;
use wontun_proto::allowed_ips::Prefix;

/// The state read before a change.
#[derive(Debug, Default)]
pub(super) struct ObservedRouting {
    /// The ownership marker of our table; several if a change was interrupted.
    pub(super) own_markers: Vec<OwnershipMarker>,
    /// The ownership markers of other tunnels of wontun.
    pub(super) foreign_markers: Vec<OwnershipMarker>,
    /// The routing tables of this tunnel.
    pub(super) tables: BTreeSet<u32>,
    pub(super) families: PerFamily<ObservedFamily>,
}

#[derive(Debug, Default)]
pub(super) struct ObservedFamily {
    /// True if the kernel has this family.
    pub(super) present: bool,
    /// Our rules, in the kernel's order.
    pub(super) own: Vec<Rule>,
    /// All other rules, in the kernel's order.
    pub(super) foreign: Vec<Rule>,
    /// Our routes, as tables and networks.
    pub(super) routes: BTreeSet<(u32, Prefix)>,
    /// The networks of the addresses of our device.
    pub(super) connected: Vec<Prefix>,
}

impl ObservedRouting {
    /// Returns whether `src_valid_mark` has to be restored for a killed run; `None` if there was
    /// none with policy routing.
    pub(super) fn stale_state(&self) -> Option<bool> {
        let needs_restore = self.own_markers.iter().any(|marker| marker.needs_restore());
        if self.own_markers.is_empty() { None } else { Some(needs_restore) }
    }
}

impl ObservedFamily {
    /// Returns the routes of `plan`, as tables and networks: the policy's in the table
    /// `policy_table`, the others in that of `table`, without those that the kernel has added for
    /// the device's addresses.
    pub(super) fn wanted_routes(
        &self,
        plan: &RoutePlan,
        table: Table,
        policy_table: u32,
    ) -> BTreeSet<(u32, Prefix)> {
        let ordinary_table = match table {
            Table::Number(number) => number.get(),
            Table::Auto | Table::Off => MAIN,
        };
        let ordinary = plan.ordinary.iter().filter(|prefix| !self.has_route(table, **prefix));
        let policy = plan.policy.iter().map(|prefix| (policy_table, *prefix));
        ordinary.map(|prefix| (ordinary_table, *prefix)).chain(policy).collect()
    }

    /// Returns true if a route that the kernel added for our device's addresses already covers
    /// `prefix`, so that none in `table` is needed. The kernel's route sets the source address that
    /// fits the network, which a route of ours does not. In the main table, where the user selects
    /// it, only a route to the same network counts.
    fn has_route(&self, table: Table, prefix: Prefix) -> bool {
        match table {
            Table::Auto => {
                let leads_to = |network: &Prefix| {
                    network.length() <= prefix.length() && network.contains(prefix.network())
                };
                self.connected.iter().any(leads_to)
            }
            Table::Number(number) if number.get() == MAIN => self.connected.contains(&prefix),
            Table::Number(_) | Table::Off => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    #[test]
    fn a_route_of_the_kernels_for_the_device_is_enough() {
        let net = |last, length| Prefix::of([10, 9, 0, last].into(), length);
        let observed = ObservedFamily { connected: vec![net(0, 24)], ..ObservedFamily::default() };
        let number = |number| Table::Number(NonZeroU32::new(number).unwrap());
        for (table, prefix, expected) in [
            (Table::Auto, net(0, 24), true),
            (Table::Auto, net(5, 32), true),
            (Table::Auto, net(0, 16), false),
            (number(MAIN), net(0, 24), true),
            (number(MAIN), net(5, 32), false),
            (number(7), net(0, 24), false),
            (Table::Off, net(0, 24), false),
        ] {
            assert_eq!(observed.has_route(table, prefix), expected, "{table:?} {prefix}");
        }
    }
}
