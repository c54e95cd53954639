//! The host's routing for one tunnel device: routes for the allowed IPs, and policy routing where our own outer
//! packets would take the tunnel that they carry. As wg-quick(8) does it.
//!
//! What is there is read from the kernel each time and compared with what is wanted, so it does not matter who
//! changed something in between, and nothing is remembered that a killed run could forget. What is ours is known
//! by its looks:
//!
//! - routes and rules carry [`rule::PROTOCOL`] (kernels before 4.17 do not tell a rule's: leftovers stay there);
//! - routes are to our device, and vanish with it;
//! - rules name a table that has our [`label`], which outlives the device;
//! - the nf_tables tables are called `wontun-NAME`; a user has to choose other names.
//!
//! NAME, and the name that the label is made of, is the one that the tunnel was started with,
//! whatever its device is called by now: that is how the next start finds what a killed run left.
//!
//! While the device is in another network namespace, the networks that go by policy are unreachable
//! from here: their table is empty then, and the next one that the rules name leads past the
//! tunnel.

mod filter;
mod kernel;
mod label;
mod plan;
mod route;
mod rule;
mod seen;
mod source_mark;
mod wanted;
mod warning;

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU32;

use nix::errno::Errno;

use self::filter::Filters;
use self::kernel::{Kernel, Trouble};
use self::plan::{Both, Family, MAIN, Plan};
pub(super) use self::rule::PROTOCOL;
use self::rule::{Policy, Rule};
use self::seen::Seen;
use self::source_mark::SourceMark;
pub use self::wanted::Wanted;
pub use self::warning::RouteWarning;
pub(super) use self::warning::listed;
use super::error::LinkError;
use crate::config::wg_quick::Table;
use crate::routing::Prefix;

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// What the sockets of the tunnel must mark their packets with from now on (`SO_MARK`).
    pub mark: Option<NonZeroU32>,
    /// What could not be had, and was not said the last time.
    pub warnings: Vec<RouteWarning>,
}

/// Pieces of routing that were missing and have been added.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Added {
    /// Routes.
    pub routes: Vec<Prefix>,
    /// Number of policy rules.
    pub rules: usize,
    /// Number of settings that were on before and had been turned off.
    pub settings: usize,
    /// Number of routes that are missing, and were not to be added.
    pub skipped: usize,
}

/// Part of the routing that [`Routes::restore`] puts back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Everything.
    All,
    /// Policy rules and the routes of their table: without them packets leave past the tunnel.
    Policy,
}

impl fmt::Display for Added {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        match &self.routes[..] {
            [] => {}
            [one] => parts.push(format!("the route to {one}")),
            routes => parts.push(format!("the routes to {}", warning::listed(routes))),
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

/// The table of policy routing, and the part of the routes that is added.
#[derive(Clone, Copy)]
struct Target {
    policy_table: u32,
    scope: Scope,
}

/// The routes that were missing and have been added, and those that are too many, as tables and
/// networks.
#[derive(Default)]
struct Difference {
    added: Vec<Prefix>,
    /// Number of those that are still missing.
    skipped: usize,
    surplus: Vec<(u32, Prefix)>,
}

/// The host's routing for one device; what it put up goes when it is dropped.
#[derive(Debug)]
pub struct Routes {
    kernel: Kernel,
    filters: Filters,
    source_mark: SourceMark,
    /// What [`Routes::apply`] was last called for.
    wanted: Option<Wanted>,
    /// The networks with ordinary routes, for [`Routes::concerns`].
    plain: Both<BTreeSet<Prefix>>,
    /// What the rules are to do, and those that were put up the last time: they come back where
    /// they were.
    rules: Both<Option<(Policy, Vec<Rule>)>>,
    told: Vec<RouteWarning>,
    /// The device is in another network namespace.
    is_away: bool,
    /// There may be routes that make networks unreachable.
    may_block: bool,
    /// IPv6 was wanted, and not disabled.
    had_ipv6: bool,
    /// Networks of IPv6 are unreachable since it was disabled on the device.
    is_ipv6_blocked: bool,
}

impl Routes {
    /// The routing for the device called `name` with this index, in this thread's network namespace. Changes
    /// nothing yet.
    ///
    /// # Errors
    /// Netlink is unavailable.
    pub fn open(name: &str, index: u32) -> Result<Self, LinkError> {
        Ok(Self {
            kernel: Kernel::open(name, index)?,
            filters: Filters::new(name),
            source_mark: SourceMark::default(),
            wanted: None,
            plain: Both::default(),
            rules: Both::default(),
            told: Vec::new(),
            is_away: false,
            may_block: false,
            had_ipv6: false,
            is_ipv6_blocked: false,
        })
    }

    /// The device is called `name` from now on, and has this index, which the next
    /// [`Self::restore`] heeds.
    pub fn follow(&mut self, name: &str, index: u32) {
        self.kernel.follow(name, index);
        self.filters.follow(name);
    }

    /// The device is in another network namespace, or back from it, which the next
    /// [`Self::restore`] heeds.
    pub const fn set_away(&mut self, is_away: bool) {
        self.is_away = is_away;
        self.may_block |= is_away;
    }

    /// Returns true if networks are unreachable because the device is in another network namespace.
    pub const fn blocks(&self) -> bool {
        self.is_away && self.kernel.has_table()
    }

    /// Makes the host's routing what is wanted, changing only what differs. The first time, what a killed run of
    /// the same device name left behind is replaced. Routes of a device that is down wait for [`Routes::restore`].
    ///
    /// # Errors
    /// The privilege, the device or policy routing is missing, or netlink fails. What was put up until then stays
    /// for [`Routes::undo`].
    pub fn apply(&mut self, wanted: &Wanted) -> Result<Applied, LinkError> {
        self.apply_counted(wanted, Scope::All).map(|(applied, _)| applied)
    }

    fn apply_counted(&mut self, wanted: &Wanted, scope: Scope) -> Result<(Applied, Added), LinkError> {
        let seen = self.read()?;
        let first = self.wanted.replace(wanted.clone()).is_none();
        if first && let Some(owed) = seen.leftover() {
            self.source_mark = SourceMark::new(owed);
            self.filters.may_be_left_over();
            self.may_block = true;
        }
        self.make(wanted, seen, scope)
    }

    fn read(&mut self) -> Result<Seen, LinkError> {
        let mut seen = self.kernel.read()?;
        if self.is_away {
            // the index may be another device's by now
            for family in Family::BOTH {
                seen.families.of_mut(family).routes.clear();
            }
        }
        Ok(seen)
    }

    /// Whether `wanted` is what [`Routes::apply`] was last called for, so that there is nothing to do unless somebody
    /// else changed something.
    pub fn is_wanted(&self, wanted: &Wanted) -> bool {
        self.wanted.as_ref() == Some(wanted)
    }

    /// Whether [`Routes::apply`] must be called for a peer that is now at `endpoint`: it lies in an allowed
    /// prefix with an ordinary route, which would lead our packets to it into the tunnel.
    pub fn concerns(&self, endpoint: IpAddr) -> bool {
        let endpoint = endpoint.to_canonical();
        let automatic = self.wanted.as_ref().is_some_and(|wanted| wanted.table == Table::Auto);
        automatic && plan::is_captured(endpoint, self.plain.of(Family::of(endpoint)))
    }

    /// Puts back what is missing of what was last wanted, and counts it: a device that went down
    /// has lost its routes, and other programs delete rules that are not theirs.
    ///
    /// # Errors
    /// As for [`Routes::apply`].
    pub fn restore(&mut self, scope: Scope) -> Result<(Applied, Added), LinkError> {
        let Some(wanted) = self.wanted.clone() else { return Ok(<(Applied, Added)>::default()) };
        // without them everything leaves in clear: they do not wait until thousands of routes are
        // compared
        let rules = self.restore_rules()?;
        let (applied, mut added) = self.apply_counted(&wanted, scope)?;
        added.rules = added.rules.saturating_add(rules);
        Ok((applied, added))
    }

    /// Puts back what is missing of the rules that were put up the last time, and returns their
    /// number.
    fn restore_rules(&mut self) -> Result<usize, LinkError> {
        let mut added = 0_usize;
        for family in Family::BOTH {
            let Some((policy, last)) = self.rules.of(family) else { continue };
            let (own, foreign) = self.kernel.rules(family)?;
            // if there is no room any more, that is told by whoever compares everything
            let Some(rules) = policy.rules(&own, last, &foreign) else { continue };
            added = added.saturating_add(self.kernel.add_missing_rules(family, &rules, &own)?);
        }
        Ok(added)
    }

    /// Returns true if IPv6 was disabled on the device since it had routes of wontun's.
    pub fn has_lost_ipv6(&self) -> bool {
        self.had_ipv6 && self.told.iter().any(|warning| matches!(warning, RouteWarning::Ipv6Disabled { .. }))
    }

    /// Puts up again those of our nf_tables tables that somebody else has deleted or changed, and
    /// returns their names.
    pub fn repair_tables(&mut self) -> Vec<String> {
        self.filters.repair()
    }

    /// Returns true if all of them are there, as they were put up.
    pub fn has_tables(&mut self) -> bool {
        self.filters.are_intact()
    }

    /// Leaves everything as it is, as the death of the process does.
    pub fn abandon(mut self) {
        self.wanted = None;
    }

    /// Takes away everything that was put up, as far as possible.
    pub fn undo(&mut self) {
        if self.wanted.take().is_some()
            // without the device the routes are gone, but the rules are not
            && let Ok(seen) = self.read()
        {
            self.is_away = false;
            let nothing = Wanted { table: Table::Off, ..Wanted::default() };
            let _ = self.make(&nothing, seen, Scope::All);
        }
        self.told.clear();
    }

    /// Makes the difference between what is `seen` and what is `wanted`. First comes what is missing, then goes
    /// what is too much, so that nothing is without a way in between.
    fn make(&mut self, wanted: &Wanted, mut seen: Seen, scope: Scope) -> Result<(Applied, Added), LinkError> {
        let mut plans = Both::new(|family| Plan::new(wanted, family));
        let (mut warnings, mut added) = (Vec::new(), Added::default());
        if !seen.families.of(Family::V6).present {
            self.drop_ipv6(&mut plans, &mut warnings);
        }
        let by_policy = plans.iter().any(Plan::has_policy);
        let (mark, table) =
            if by_policy { self.kernel.choose(wanted.fwmark, &seen)? } else { (wanted.fwmark, MAIN) };
        if plans.of(Family::V4).has_policy() {
            match self.source_mark.heed(&seen) {
                Ok(is_put_back) => added.settings += usize::from(is_put_back),
                Err(warning) => warnings.push(warning),
            }
        }
        if by_policy {
            self.kernel.put_label(table, self.source_mark.owed(), &mut seen)?;
        }

        let target = Target { policy_table: table, scope };
        let routes = if self.is_away {
            self.kernel.block(table, plans.iter().flat_map(|plan| &plan.policy))?;
            Difference::default()
        } else {
            self.add_routes(wanted, target, &mut plans, &seen, &mut warnings)?
        };
        added.rules = self.add_rules(wanted, mark, table, &plans, &mut seen, &mut warnings)?;

        for family in Family::BOTH {
            self.kernel.delete_rules(family, &seen.families.of(family).own)?;
        }
        self.kernel.delete_routes(&routes.surplus)?;
        if !self.is_away && !self.is_ipv6_blocked && std::mem::take(&mut self.may_block) {
            let tables = by_policy.then_some(table).into_iter().chain(seen.tables.iter().copied()).collect();
            self.kernel.unblock(&tables)?;
        }
        for family in Family::BOTH.into_iter().filter(|family| !plans.of(*family).has_policy()) {
            self.filters.take_away(family);
        }
        if !plans.of(Family::V4).has_policy() {
            self.source_mark.forget(&seen);
        }
        let by_policy = plans.iter().any(Plan::has_policy);
        if by_policy {
            // it says something else now, if the setting was put back
            self.kernel.put_label(table, self.source_mark.owed(), &mut seen)?;
        }
        self.kernel.delete_labels(by_policy.then_some(table), self.source_mark.owed(), &seen)?;

        (added.routes, added.skipped) = (routes.added, routes.skipped);
        self.had_ipv6 |= plans.of(Family::V6) != &Plan::default();
        self.plain = Both::new(|family| std::mem::take(&mut plans.of_mut(family).plain));
        let new = warnings.iter().filter(|warning| !self.told.contains(warning)).cloned().collect();
        self.told = warnings;
        let mark = if by_policy { mark } else { wanted.fwmark };
        Ok((Applied { mark, warnings: new }, added))
    }

    /// Adds the routes that are missing. If IPv6 turns out to be disabled, it goes from `plans`;
    /// networks that went by policy become unreachable.
    fn add_routes(
        &mut self,
        wanted: &Wanted,
        target: Target,
        plans: &mut Both<Plan>,
        seen: &Seen,
        warnings: &mut Vec<RouteWarning>,
    ) -> Result<Difference, LinkError> {
        let plain_table = match wanted.table {
            Table::Number(number) => number.get(),
            Table::Auto | Table::Off => MAIN,
        };
        self.is_ipv6_blocked = false;
        let mut trouble = Trouble::default();
        let (mut added, mut skipped, mut surplus) = (Vec::new(), 0_usize, Vec::new());
        for family in Family::BOTH {
            let (plan, state) = (plans.of(family), seen.families.of(family));
            let plain = plan.plain.iter().filter(|prefix| !state.has_route(wanted.table, **prefix));
            let routes: BTreeSet<_> = plain
                .map(|prefix| (plain_table, *prefix))
                .chain(plan.policy.iter().map(|prefix| (target.policy_table, *prefix)))
                .collect();
            // without a policy its table is none
            let is_due = |(table, _): &(u32, Prefix)| {
                target.scope == Scope::All || plan.has_policy() && *table == target.policy_table
            };
            let (missing, late): (Vec<_>, Vec<_>) =
                routes.difference(&state.routes).copied().partition(is_due);
            skipped = skipped.saturating_add(late.len());
            surplus.extend(state.routes.difference(&routes).copied());
            added.extend(self.kernel.add_routes(&missing, &mut trouble)?);
        }
        if trouble.ipv6_disabled {
            self.kernel.confirm_device()?;
            let policy = plans.of(Family::V6).policy.clone();
            self.drop_ipv6(plans, warnings);
            if self.had_ipv6 && !policy.is_empty() {
                // what went through the tunnel does not leave past it until IPv6 is back
                self.kernel.block(target.policy_table, policy.iter())?;
                plans.of_mut(Family::V6).policy = policy;
                (self.may_block, self.is_ipv6_blocked) = (true, true);
            }
        }
        warnings.extend(trouble.warnings(self.kernel.name()));
        Ok(Difference { added, skipped, surplus })
    }

    /// Puts up the rules and filters of policy routing that are missing, and returns the number of
    /// rules. What is wanted goes from the rules `seen`, so that those that are too many stay
    /// there.
    fn add_rules(
        &mut self,
        wanted: &Wanted,
        mark: Option<NonZeroU32>,
        table: u32,
        plans: &Both<Plan>,
        seen: &mut Seen,
        warnings: &mut Vec<RouteWarning>,
    ) -> Result<usize, LinkError> {
        let mut added = 0_usize;
        let addresses: Vec<IpAddr> = wanted.addresses.iter().map(|address| address.address()).collect();
        for family in Family::BOTH {
            let plan = plans.of(family);
            let Some(mark) = mark.filter(|_| plan.has_policy()) else {
                *self.rules.of_mut(family) = None;
                continue;
            };
            warnings.extend(self.filters.put_up(family, &addresses, mark));
            let policy = Policy {
                family,
                mark: mark.get(),
                table,
                levels: plan.levels(),
                passes_dns: wanted.passes_dns,
            };
            let state = seen.families.of_mut(family);
            let last = self.rules.of(family).as_ref().map_or(&[][..], |(_, rules)| rules);
            let rules = policy.rules(&state.own, last, &state.foreign).ok_or_else(|| LinkError::Refused {
                action: format!("add the {} rules of {}", family.name(), self.kernel.name()),
                errno: Errno::ENOSPC,
                said: None,
                remedy: "leave some priorities free between the rules for the tables local and main",
            })?;
            added = added.saturating_add(self.kernel.add_missing_rules(family, &rules, &state.own)?);
            state.own.retain(|rule| !rules.contains(rule));
            *self.rules.of_mut(family) = Some((policy, rules));
        }
        Ok(added)
    }

    /// IPv6 cannot be had: nothing of it is wanted.
    fn drop_ipv6(&self, plans: &mut Both<Plan>, warnings: &mut Vec<RouteWarning>) {
        let plan = std::mem::take(plans.of_mut(Family::V6));
        let prefixes = plan.plain.len().saturating_add(plan.policy.len());
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
