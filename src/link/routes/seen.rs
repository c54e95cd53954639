//! What of the host's routing is there.

use std::collections::BTreeSet;

use super::label::Label;
use super::plan::{Both, MAIN};
use super::rule::Rule;
use crate::config::wg_quick::Table;
use crate::routing::Prefix;

/// What was read before anything is changed.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// The label of our table; more than one if a change was interrupted.
    pub(super) own_labels: Vec<Label>,
    /// Those of other tunnels of ours.
    pub(super) foreign_labels: Vec<Label>,
    /// Our tables.
    pub(super) tables: BTreeSet<u32>,
    pub(super) families: Both<SeenFamily>,
}

#[derive(Debug, Default)]
pub(super) struct SeenFamily {
    /// The kernel has this family.
    pub(super) present: bool,
    /// Our rules, in the kernel's order.
    pub(super) own: Vec<Rule>,
    /// All other rules, in the kernel's order.
    pub(super) foreign: Vec<Rule>,
    /// Our routes, as tables and networks.
    pub(super) routes: BTreeSet<(u32, Prefix)>,
    /// The networks of our device's addresses.
    pub(super) connected: Vec<Prefix>,
}

impl Seen {
    /// Whether `src_valid_mark` has to be put back for a killed run, if there was one with policy routing.
    pub(super) fn leftover(&self) -> Option<bool> {
        let owed = self.own_labels.iter().any(|label| label.is_owed());
        if self.own_labels.is_empty() { None } else { Some(owed) }
    }
}

impl SeenFamily {
    /// Returns true if a route that the kernel made for our device's addresses leads to `prefix`
    /// where one in `table` would. It names the source address that fits the network, as a route of
    /// ours does not. In the main table where the user asks for that, only a route to the same
    /// network is in the way.
    pub(super) fn has_route(&self, table: Table, prefix: Prefix) -> bool {
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
        let seen = SeenFamily { connected: vec![net(0, 24)], ..SeenFamily::default() };
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
            assert_eq!(seen.has_route(table, prefix), expected, "{table:?} {prefix}");
        }
    }
}
