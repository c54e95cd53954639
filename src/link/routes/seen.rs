//! What of the host's routing is there.

use std::collections::BTreeSet;

use super::label::Label;
use super::plan::Both;
use super::rule::Rule;
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
    /// Whether a network of our device's addresses has it already.
    pub(super) fn is_connected(&self, prefix: Prefix) -> bool {
        self.connected
            .iter()
            .any(|network| network.length() <= prefix.length() && network.contains(prefix.network()))
    }
}
