//! The host's routing for one tunnel device: routes for the allowed IPs, and policy routing where
//! the outer packets would be routed into the tunnel that they carry; equivalent to wg-quick(8).
//!
//! The current state is read from the kernel each time and compared with the wanted one. Changes by
//! other programs in between therefore do not matter, and no state is lost with a killed run.
//! wontun's own entries are recognized as follows:
//!
//! - routes and rules carry [`rule::PROTOCOL`] (kernels before 4.17 do not report a rule's, so that
//!   leftovers stay there);
//! - routes are to the tunnel's device, and are deleted with it;
//! - rules name a table that has our ownership marker ([`marker`]), which outlives the device;
//! - the nf_tables tables are called `wontun-NAME`; a user has to choose other names.
//!
//! NAME, also used for the ownership marker, is the name that the tunnel was started with,
//! regardless of the current name of its device: by it the next start finds the state that a killed
//! run left.
//!
//! While the device is in another network namespace, the networks routed by policy are made
//! unreachable: the policy table is empty then, and the next table that the rules name would route
//! them past the tunnel.

mod desired;
mod filter;
mod kernel;
mod marker;
mod observed;
mod plan;
mod preview;
mod route;
mod rule;
mod src_valid_mark;
mod warning;

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU32;

use nix::errno::Errno;

pub use self::desired::DesiredRouting;
use self::filter::Filters;
use self::kernel::{Kernel, RouteErrors};
use self::observed::ObservedRouting;
use self::plan::{IpFamily, PerFamily, RoutePlan};
pub(crate) use self::preview::{RoutingPreview, preview};
pub(super) use self::rule::PROTOCOL;
use self::rule::{Policy, Rule};
use self::src_valid_mark::SrcValidMark;
pub use self::warning::RouteWarning;
pub(super) use self::warning::join_prefixes;
use super::error::LinkError;
use crate::config::wg_quick::Table;
use wontun_proto::allowed_ips::Prefix;

/// Result of `Routes::apply`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AppliedRouting {
    /// The mark that the tunnel's sockets must use from now on (`SO_MARK`).
    pub mark: Option<NonZeroU32>,
    /// Warnings that the last call did not return.
    pub warnings: Vec<RouteWarning>,
}

/// Missing parts of the routing that have been added.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddedRouting {
    /// The routes added.
    pub routes: Vec<Prefix>,
    /// Number of policy rules.
    pub rules: usize,
    /// Number of settings that were on before and had been turned off.
    pub settings: usize,
    /// Number of routes that are missing and were not to be added.
    pub skipped: usize,
}

/// Part of the routing that [`Routes::restore`] restores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestoreScope {
    /// All parts.
    All,
    /// Policy rules and the routes of their table: without them packets bypass the tunnel.
    Policy,
}

impl fmt::Display for AddedRouting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        match &self.routes[..] {
            [] => {}
            [one] => parts.push(format!("the route to {one}")),
            routes => parts.push(format!("the routes to {}", warning::join_prefixes(routes))),
        }
        match self.rules {
            0 => {}
            1 => parts.push("a policy rule".to_owned()),
            rules => parts.push(format!("{rules} policy rules")),
        }
        if self.settings > 0 {
            parts.push("src_valid_mark".to_owned());
        }
        f.write_str(&parts.join(", "))
    }
}

/// Returns the error that no priorities are free for the rules of `device`.
fn no_priority(family: IpFamily, device: &str) -> LinkError {
    LinkError::Refused {
        action: format!("add the {} rules of {device}", family.name()),
        errno: Errno::ENOSPC,
        extack: None,
        remedy: "leave some priorities free between the rules for the tables local and main",
    }
}

/// The policy table, and the part of the routes to add.
#[derive(Clone, Copy)]
struct Target {
    policy_table: u32,
    scope: RestoreScope,
}

/// The missing routes that have been added, and the surplus ones, as tables and networks.
#[derive(Default)]
struct Difference {
    added: Vec<Prefix>,
    /// Number of routes that are still missing.
    skipped: usize,
    surplus: Vec<(u32, Prefix)>,
}

/// Routing of the host for one device. Dropping it removes everything that it added.
#[derive(Debug)]
pub struct Routes {
    kernel: Kernel,
    filters: Filters,
    src_valid_mark: SrcValidMark,
    /// The argument of the last [`Routes::apply`].
    wanted: Option<DesiredRouting>,
    /// The networks with ordinary routes, for [`Routes::captures_endpoint`].
    ordinary: PerFamily<BTreeSet<Prefix>>,
    /// The policy, and the rules installed last: missing ones are added with the same priorities.
    rules: PerFamily<Option<(Policy, Vec<Rule>)>>,
    reported: Vec<RouteWarning>,
    /// True if the device is in another network namespace.
    is_in_other_netns: bool,
    /// True if there may be routes that make networks unreachable.
    may_block: bool,
    /// True if IPv6 was wanted and not disabled.
    had_ipv6: bool,
    /// True if networks of IPv6 are unreachable since IPv6 was disabled on the device.
    is_ipv6_blocked: bool,
}

impl Routes {
    /// Opens the routing for the device called `name` with this index in this thread's network
    /// namespace. Changes nothing in the kernel.
    ///
    /// # Errors
    /// Netlink is unavailable.
    pub fn open(name: &str, index: u32) -> Result<Self, LinkError> {
        Ok(Self {
            kernel: Kernel::open(name, index)?,
            filters: Filters::new(name),
            src_valid_mark: SrcValidMark::default(),
            wanted: None,
            ordinary: PerFamily::default(),
            rules: PerFamily::default(),
            reported: Vec::new(),
            is_in_other_netns: false,
            may_block: false,
            had_ipv6: false,
            is_ipv6_blocked: false,
        })
    }

    /// Sets the new name and index of the device, which the next [`Self::restore`] applies.
    pub fn set_device(&mut self, name: &str, index: u32) {
        self.kernel.set_device(name, index);
        self.filters.set_device(name);
    }

    /// Sets whether the device is in another network namespace, which the next [`Self::restore`]
    /// applies.
    pub const fn set_in_other_netns(&mut self, is_in_other_netns: bool) {
        self.is_in_other_netns = is_in_other_netns;
        self.may_block |= is_in_other_netns;
    }

    /// Returns true if networks are unreachable because the device is in another network namespace.
    pub const fn blocks(&self) -> bool {
        self.is_in_other_netns && self.kernel.has_table()
    }

    /// Changes the host's routing to `wanted`, as far as it differs. The first call replaces the
    /// state that a killed run of the same tunnel left behind. Routes of a device that is down are
    /// added by [`Routes::restore`].
    ///
    /// # Errors
    /// The privilege, the device or policy routing is missing, or netlink fails. Parts installed
    /// until then stay in place for [`Routes::undo`].
    pub fn apply(&mut self, wanted: &DesiredRouting) -> Result<AppliedRouting, LinkError> {
        self.apply_counted(wanted, RestoreScope::All).map(|(applied, _)| applied)
    }

    fn apply_counted(
        &mut self,
        wanted: &DesiredRouting,
        scope: RestoreScope,
    ) -> Result<(AppliedRouting, AddedRouting), LinkError> {
        let observed = self.read()?;
        let first = self.wanted.replace(wanted.clone()).is_none();
        if first && let Some(needs_restore) = observed.stale_state() {
            self.src_valid_mark = SrcValidMark::new(needs_restore);
            self.filters.mark_stale();
            self.may_block = true;
        }
        self.apply_difference(wanted, observed, scope)
    }

    fn read(&mut self) -> Result<ObservedRouting, LinkError> {
        let mut observed = self.kernel.read()?;
        if self.is_in_other_netns {
            // another device may have the index by now
            for family in IpFamily::BOTH {
                observed.families.of_mut(family).routes.clear();
            }
        }
        Ok(observed)
    }

    /// Returns true if `wanted` is the argument of the last [`Routes::apply`], so that there is
    /// nothing to do unless another program changed something.
    pub fn is_applied(&self, wanted: &DesiredRouting) -> bool {
        self.wanted.as_ref() == Some(wanted)
    }

    /// Returns true if [`Routes::apply`] must be called for a peer that is now at `endpoint`: the
    /// endpoint lies in an allowed prefix with an ordinary route, which would route packets to it
    /// into the tunnel.
    pub fn captures_endpoint(&self, endpoint: IpAddr) -> bool {
        let endpoint = endpoint.to_canonical();
        let automatic = self.wanted.as_ref().is_some_and(|wanted| wanted.table == Table::Auto);
        automatic && plan::is_captured(endpoint, self.ordinary.of(IpFamily::of(endpoint)))
    }

    /// Adds the missing parts of the routing wanted last, and counts them: a device that went down
    /// has lost its routes, and other programs delete rules of wontun.
    ///
    /// # Errors
    /// As for [`Routes::apply`].
    pub fn restore(&mut self, scope: RestoreScope) -> Result<(AppliedRouting, AddedRouting), LinkError> {
        let Some(wanted) = self.wanted.clone() else {
            return Ok(<(AppliedRouting, AddedRouting)>::default());
        };
        // without the rules all packets leave unencrypted: they are restored before thousands of
        // routes are compared
        let rules = self.restore_rules()?;
        let (applied, mut added) = self.apply_counted(&wanted, scope)?;
        added.rules = added.rules.saturating_add(rules);
        Ok((applied, added))
    }

    /// Adds the missing ones of the rules installed last, and returns their number.
    fn restore_rules(&mut self) -> Result<usize, LinkError> {
        let mut added = 0_usize;
        for family in IpFamily::BOTH {
            let Some((policy, last)) = self.rules.of(family) else { continue };
            let (own, foreign) = self.kernel.rules(family)?;
            // if no priority is free, the complete comparison reports it
            let Some(rules) = policy.rules(&own, last, &foreign) else { continue };
            added = added.saturating_add(self.kernel.add_missing_rules(family, &rules, &own)?);
        }
        Ok(added)
    }

    /// Returns true if the device once had IPv6 routes of wontun.
    pub const fn had_ipv6(&self) -> bool {
        self.had_ipv6
    }

    /// Returns true if IPv6 was disabled on the device after it had routes of wontun.
    pub fn has_lost_ipv6(&self) -> bool {
        self.had_ipv6
            && self.reported.iter().any(|warning| matches!(warning, RouteWarning::Ipv6Disabled { .. }))
    }

    /// Restores the nf_tables tables that another program has deleted or changed, and returns
    /// their names.
    pub fn repair_tables(&mut self) -> Vec<String> {
        self.filters.repair()
    }

    /// Returns true if all nf_tables tables are in place unchanged.
    pub fn has_tables(&mut self) -> bool {
        self.filters.are_intact()
    }

    /// Leaves everything in place, as after a kill of the process.
    pub fn leave_in_place(mut self) {
        self.wanted = None;
    }

    /// Removes everything that was installed, as far as possible.
    pub fn undo(&mut self) {
        if self.wanted.take().is_some()
            // the routes are deleted with the device, but the rules are not
            && let Ok(observed) = self.read()
        {
            self.is_in_other_netns = false;
            let nothing = DesiredRouting { table: Table::Off, ..DesiredRouting::default() };
            let _ = self.apply_difference(&nothing, observed, RestoreScope::All);
        }
        self.reported.clear();
    }

    /// Applies the difference between `observed` and `wanted`. Missing parts are added before
    /// surplus ones are deleted, so that no packets are without a route in between.
    fn apply_difference(
        &mut self,
        wanted: &DesiredRouting,
        mut observed: ObservedRouting,
        scope: RestoreScope,
    ) -> Result<(AppliedRouting, AddedRouting), LinkError> {
        let mut plans = PerFamily::new(|family| RoutePlan::new(wanted, family));
        let (mut warnings, mut added) = (Vec::new(), AddedRouting::default());
        if !observed.families.of(IpFamily::V6).present {
            self.drop_ipv6(&mut plans, &mut warnings);
        }
        let by_policy = plans.iter().any(RoutePlan::has_policy);
        let (mark, table) = self.kernel.mark_and_table(wanted.fwmark, &plans, &observed)?;
        if plans.of(IpFamily::V4).has_policy() {
            match self.src_valid_mark.turn_on(&observed) {
                Ok(is_put_back) => added.settings += usize::from(is_put_back),
                Err(warning) => warnings.push(warning),
            }
        }
        if by_policy {
            self.kernel.add_marker(table, self.src_valid_mark.needs_restore(), &mut observed)?;
        }

        let target = Target { policy_table: table, scope };
        let routes = if self.is_in_other_netns {
            self.kernel.block(table, plans.iter().flat_map(|plan| &plan.policy))?;
            Difference::default()
        } else {
            self.add_routes(wanted, target, &mut plans, &observed, &mut warnings)?
        };
        added.rules = self.add_rules(wanted, mark, table, &plans, &mut observed, &mut warnings)?;

        for family in IpFamily::BOTH {
            self.kernel.delete_rules(family, &observed.families.of(family).own)?;
        }
        self.kernel.delete_routes(&routes.surplus)?;
        if !self.is_in_other_netns && !self.is_ipv6_blocked && std::mem::take(&mut self.may_block) {
            let tables =
                by_policy.then_some(table).into_iter().chain(observed.tables.iter().copied()).collect();
            self.kernel.unblock(&tables)?;
        }
        for family in IpFamily::BOTH.into_iter().filter(|family| !plans.of(*family).has_policy()) {
            self.filters.remove(family);
        }
        if !plans.of(IpFamily::V4).has_policy() {
            self.src_valid_mark.restore(&observed);
        }
        let by_policy = plans.iter().any(RoutePlan::has_policy);
        if by_policy {
            // its content has changed if the setting was restored
            self.kernel.add_marker(table, self.src_valid_mark.needs_restore(), &mut observed)?;
        }
        self.kernel.delete_markers(
            by_policy.then_some(table),
            self.src_valid_mark.needs_restore(),
            &observed,
        )?;

        (added.routes, added.skipped) = (routes.added, routes.skipped);
        self.had_ipv6 |= plans.of(IpFamily::V6) != &RoutePlan::default();
        self.ordinary = PerFamily::new(|family| std::mem::take(&mut plans.of_mut(family).ordinary));
        let new = warnings.iter().filter(|warning| !self.reported.contains(warning)).cloned().collect();
        self.reported = warnings;
        let mark = if by_policy { mark } else { wanted.fwmark };
        Ok((AppliedRouting { mark, warnings: new }, added))
    }

    /// Adds the missing routes. If IPv6 turns out to be disabled, it is removed from `plans`, and
    /// networks that were routed by policy become unreachable.
    fn add_routes(
        &mut self,
        wanted: &DesiredRouting,
        target: Target,
        plans: &mut PerFamily<RoutePlan>,
        observed: &ObservedRouting,
        warnings: &mut Vec<RouteWarning>,
    ) -> Result<Difference, LinkError> {
        self.is_ipv6_blocked = false;
        let mut errors = RouteErrors::default();
        let (mut added, mut skipped, mut surplus) = (Vec::new(), 0_usize, Vec::new());
        for family in IpFamily::BOTH {
            let (plan, state) = (plans.of(family), observed.families.of(family));
            let routes = state.wanted_routes(plan, wanted.table, target.policy_table);
            // without a policy there is no policy table
            let is_due = |(table, _): &(u32, Prefix)| {
                target.scope == RestoreScope::All || plan.has_policy() && *table == target.policy_table
            };
            let (missing, late): (Vec<_>, Vec<_>) =
                routes.difference(&state.routes).copied().partition(is_due);
            skipped = skipped.saturating_add(late.len());
            surplus.extend(state.routes.difference(&routes).copied());
            added.extend(self.kernel.add_routes(&missing, &mut errors)?);
        }
        if errors.ipv6_disabled {
            self.kernel.confirm_device()?;
            let policy = plans.of(IpFamily::V6).policy.clone();
            self.drop_ipv6(plans, warnings);
            if self.had_ipv6 && !policy.is_empty() {
                // packets that went through the tunnel must not bypass it until IPv6 is back
                self.kernel.block(target.policy_table, policy.iter())?;
                plans.of_mut(IpFamily::V6).policy = policy;
                (self.may_block, self.is_ipv6_blocked) = (true, true);
            }
        }
        warnings.extend(errors.warnings(self.kernel.name()));
        Ok(Difference { added, skipped, surplus })
    }

    /// Installs the missing rules and filters of policy routing, and returns the number of rules.
    /// Wanted rules are removed from the rules in `observed`, so that the surplus ones remain.
    fn add_rules(
        &mut self,
        wanted: &DesiredRouting,
        mark: Option<NonZeroU32>,
        table: u32,
        plans: &PerFamily<RoutePlan>,
        observed: &mut ObservedRouting,
        warnings: &mut Vec<RouteWarning>,
    ) -> Result<usize, LinkError> {
        let mut added = 0_usize;
        let addresses: Vec<IpAddr> = wanted.addresses.iter().map(|address| address.address()).collect();
        for family in IpFamily::BOTH {
            let plan = plans.of(family);
            let Some(mark) = mark.filter(|_| plan.has_policy()) else {
                *self.rules.of_mut(family) = None;
                continue;
            };
            warnings.extend(self.filters.install(family, &addresses, mark));
            let policy = Policy::new(family, mark, table, plan.prefix_lengths(), wanted.bypasses_dns);
            let state = observed.families.of_mut(family);
            let last = self.rules.of(family).as_ref().map_or(&[][..], |(_, rules)| rules);
            let rules = policy.rules(&state.own, last, &state.foreign);
            let rules = rules.ok_or_else(|| no_priority(family, self.kernel.name()))?;
            added = added.saturating_add(self.kernel.add_missing_rules(family, &rules, &state.own)?);
            state.own.retain(|rule| !rules.contains(rule));
            *self.rules.of_mut(family) = Some((policy, rules));
        }
        Ok(added)
    }

    /// Removes IPv6 from the plans, with a warning, because it is unavailable.
    fn drop_ipv6(&self, plans: &mut PerFamily<RoutePlan>, warnings: &mut Vec<RouteWarning>) {
        let plan = std::mem::take(plans.of_mut(IpFamily::V6));
        let prefixes = plan.ordinary.len().saturating_add(plan.policy.len());
        if prefixes > 0 {
            warnings.push(RouteWarning::Ipv6Disabled { device: self.kernel.name().to_owned(), prefixes });
        }
    }
}

impl Drop for Routes {
    fn drop(&mut self) {
        self.undo();
    }
}
