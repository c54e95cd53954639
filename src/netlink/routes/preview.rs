//! The routing that a tunnel would set up, determined without changing anything and without a
//! privilege.

use std::num::NonZeroU32;

use super::desired::DesiredRouting;
use super::filter;
use super::kernel::Kernel;
use super::plan::{IpFamily, PerFamily, RoutePlan};
use super::rule::Policy;
use super::src_valid_mark::SrcValidMark;
use crate::netlink::error::LinkError;
use wontun_proto::allowed_ips::Prefix;

/// The routing that [`Routes::apply`] would set up now.
///
/// [`Routes::apply`]: super::Routes::apply
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RoutingPreview {
    /// The routes to the device, as tables and networks.
    pub(crate) routes: Vec<(u32, Prefix)>,
    /// The policy rules, in the order of their families and priorities.
    pub(crate) rules: Vec<PreviewedRule>,
    /// The mark of the outer packets.
    pub(crate) mark: Option<NonZeroU32>,
    /// The nf_tables tables of policy routing, with their families.
    pub(crate) tables: Vec<String>,
    /// True if `net.ipv4.conf.all.src_valid_mark` is off and would be turned on.
    pub(crate) sets_src_valid_mark: bool,
    /// The networks of IPv6 that are left out, since the kernel has no IPv6.
    pub(crate) without_ipv6: Vec<Prefix>,
}

/// A policy rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PreviewedRule {
    /// `IPv4` or `IPv6`.
    pub(crate) family: &'static str,
    /// The rule, as ip-rule(8) shows it.
    pub(crate) rule: String,
}

/// Returns the routing that the tunnel called `name` would set up; `index` is that of its device,
/// if it exists.
///
/// # Errors
/// Netlink fails, or no table or priority is free.
pub(crate) fn preview(
    name: &str,
    index: Option<u32>,
    wanted: &DesiredRouting,
) -> Result<RoutingPreview, LinkError> {
    let mut kernel = Kernel::open(name, index.unwrap_or(0))?;
    let mut observed = kernel.read()?;
    let mut plans = PerFamily::new(|family| RoutePlan::new(wanted, family));
    let mut preview = RoutingPreview::default();
    if !observed.families.of(IpFamily::V6).present {
        let RoutePlan { ordinary, policy } = std::mem::take(plans.of_mut(IpFamily::V6));
        preview.without_ipv6 = ordinary.into_iter().chain(policy).collect();
    }
    if index.is_none() {
        // the kernel will add them for the device's addresses
        for address in &wanted.addresses {
            let family = observed.families.of_mut(IpFamily::of(address.address()));
            family.connected.extend(Prefix::new(address.address(), address.prefix()));
        }
    }
    let (mark, table) = kernel.mark_and_table(wanted.fwmark, &plans, &observed)?;
    preview.mark = mark;
    preview.sets_src_valid_mark = plans.of(IpFamily::V4).has_policy() && !SrcValidMark::is_on();
    for family in IpFamily::BOTH {
        let (plan, state) = (plans.of(family), observed.families.of(family));
        preview.routes.extend(state.wanted_routes(plan, wanted.table, table));
        let Some(mark) = mark.filter(|_| plan.has_policy()) else { continue };
        let policy = Policy::new(family, mark, table, plan.prefix_lengths(), wanted.bypasses_dns);
        let rules = policy.rules(&state.own, &[], &state.foreign);
        let rules = rules.ok_or_else(|| super::no_priority(family, name))?;
        let family_name = family.name();
        let shown = |rule: &super::Rule| PreviewedRule { family: family_name, rule: rule.to_string() };
        preview.rules.extend(rules.iter().map(shown));
        preview.tables.push(format!("{} {}", family.nft().name(), filter::table_name(name)));
    }
    Ok(preview)
}
