//! Reading and changing routes and rules.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::ops::RangeInclusive;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::RouteMessage;
use netlink_packet_route::rule::RuleMessage;
use nix::errno::Errno;
use nix::libc;

use super::marker::OwnershipMarker;
use super::observed::{ObservedFamily, ObservedRouting};
use super::plan::{IpFamily, MAIN, PerFamily, RoutePlan};
use super::route::{self, Route};
use super::rule::{self, Rule};
use super::warning::RouteWarning;
use crate::netlink::error::LinkError;
use crate::netlink::message;
use crate::netlink::request_error::{self, Refusal, RequestError};
use crate::netlink::socket::NetlinkSocket;
use wontun_proto::allowed_ips::Prefix;

/// The first number tried as the policy table, which is the mark, too; wg-quick's value.
const FIRST_TABLE: u32 = 51_820;
/// The tables `default`, `main` and `local`.
const RESERVED: RangeInclusive<u32> = libc::RT_TABLE_DEFAULT as u32..=libc::RT_TABLE_LOCAL as u32;
const POLICY_REMEDY: &str =
    "policy routing needs CONFIG_IP_MULTIPLE_TABLES in the kernel: set Table and make the rules yourself";

/// Access to the kernel's routing for one device.
#[derive(Debug)]
pub(super) struct Kernel {
    netlink: NetlinkSocket,
    /// The tunnel's name, from which the ownership marker is made.
    tunnel: String,
    /// The current name of the tunnel's device.
    name: String,
    index: u32,
    /// The policy table, once it has an ownership marker: its rules stay ours if another program
    /// empties it.
    table: Option<u32>,
}

/// The routes that could not be added.
#[derive(Debug, Default)]
pub(super) struct RouteErrors {
    taken: Vec<(u32, Prefix)>,
    refused: Vec<(Prefix, Refusal)>,
    /// True if IPv6 is disabled on the device, or the device is gone.
    pub(super) ipv6_disabled: bool,
}

impl RouteErrors {
    /// Returns a warning for each kind of failure.
    pub(super) fn warnings(self, device: &str) -> impl Iterator<Item = RouteWarning> {
        let taken = self.taken.first().map(|&(table, _)| RouteWarning::Taken {
            device: device.to_owned(),
            prefixes: self.taken.iter().map(|(_, prefix)| *prefix).collect(),
            table,
        });
        let refused = self.refused.first().map(|(_, refusal)| RouteWarning::Refused {
            device: device.to_owned(),
            prefixes: self.refused.iter().map(|(prefix, _)| *prefix).collect(),
            reason: request_error::describe_errno(refusal.errno, refusal.extack.as_deref()),
        });
        taken.into_iter().chain(refused)
    }
}

impl Kernel {
    pub(super) fn open(name: &str, index: u32) -> Result<Self, LinkError> {
        let netlink = NetlinkSocket::open().map_err(|source| LinkError::Socket {
            action: format!("open a netlink socket for the routes of {name}"),
            source,
        })?;
        Ok(Self { netlink, tunnel: name.to_owned(), name: name.to_owned(), index, table: None })
    }

    /// Sets the new name and index of the device.
    pub(super) fn set_device(&mut self, name: &str, index: u32) {
        name.clone_into(&mut self.name);
        self.index = index;
    }

    /// Returns true if there is a policy table.
    pub(super) const fn has_table(&self) -> bool {
        self.table.is_some()
    }

    /// Returns the device's name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Reads the current state: two lists of rules and three of routes, none of which contains
    /// other devices' routes.
    pub(super) fn read(&mut self) -> Result<ObservedRouting, LinkError> {
        let markers = self.routes(IpFamily::V4, route::list_of_markers())?.unwrap_or_default();
        let markers = markers
            .into_iter()
            .filter(|route| route.is_own() && route.throws)
            .map(|route| OwnershipMarker { table: route.table, metric: route.metric });
        let (own_markers, foreign_markers): (Vec<_>, Vec<_>) =
            markers.partition(|marker| marker.belongs_to(&self.tunnel));
        let tables: BTreeSet<u32> = own_markers.iter().map(|marker| marker.table).chain(self.table).collect();
        let mut families = PerFamily::default();
        for family in IpFamily::BOTH {
            *families.of_mut(family) = self.read_family(family, &tables)?;
        }
        Ok(ObservedRouting { own_markers, foreign_markers, tables, families })
    }

    /// Reads the rules of one family and splits them into ours and all others.
    fn read_rules(
        &mut self,
        family: IpFamily,
        tables: &BTreeSet<u32>,
    ) -> Result<(Vec<Rule>, Vec<Rule>), LinkError> {
        let mut message = RuleMessage::default();
        message.header.family = family.netlink();
        let parse = |body: &[u8]| Rule::parse(body, family);
        let rules = self.netlink.dump(&RouteNetlinkMessage::GetRule(message), parse);
        // a kernel may have a family without policy rules
        let rules = self.if_known(rules, "rules")?.unwrap_or_default();
        Ok(rule::split(rules, tables))
    }

    /// Like [`Self::read_rules`], for the policy table already known. Does not read routes, of
    /// which there may be many.
    pub(super) fn rules(&mut self, family: IpFamily) -> Result<(Vec<Rule>, Vec<Rule>), LinkError> {
        let tables = self.table.into_iter().collect();
        self.read_rules(family, &tables)
    }

    fn read_family(&mut self, family: IpFamily, tables: &BTreeSet<u32>) -> Result<ObservedFamily, LinkError> {
        let (own, foreign) = self.read_rules(family, tables)?;
        let mut observed = ObservedFamily { own, foreign, ..ObservedFamily::default() };
        if let Some(routes) = self.routes(family, route::list_of_device(family, self.index))? {
            observed.present = true;
            for route in routes.into_iter().filter(|route| route.device == self.index) {
                if route.is_own() {
                    observed.routes.insert((route.table, route.prefix));
                } else if route.is_connected() {
                    observed.connected.push(route.prefix);
                }
            }
        }
        Ok(observed)
    }

    fn routes(&mut self, family: IpFamily, list: RouteMessage) -> Result<Option<Vec<Route>>, LinkError> {
        let parse = |body: &[u8]| Route::parse(body, family);
        let routes = self.netlink.dump(&RouteNetlinkMessage::GetRoute(list), parse);
        self.if_known(routes, "routes")
    }

    /// Converts the outcome of a dump; `None` if the kernel does not have the family.
    fn if_known<T>(
        &self,
        outcome: Result<Vec<T>, RequestError>,
        what: &str,
    ) -> Result<Option<Vec<T>>, LinkError> {
        match outcome {
            Ok(list) => Ok(Some(list)),
            Err(RequestError::Refused { errno: Errno::EAFNOSUPPORT | Errno::EOPNOTSUPP, .. }) => Ok(None),
            // no such table, or the device was deleted, so that no route leads to it
            Err(RequestError::Refused { errno: Errno::ENOENT | Errno::ENODEV, .. }) => Ok(Some(Vec::new())),
            Err(failure) => Err(LinkError::new(format!("read the {what} for {}", self.name), failure, "")),
        }
    }

    /// Returns the mark of the outer packets, and the table of `plans`: the main table without
    /// policy routing.
    pub(super) fn mark_and_table(
        &mut self,
        fwmark: Option<NonZeroU32>,
        plans: &PerFamily<RoutePlan>,
        observed: &ObservedRouting,
    ) -> Result<(Option<NonZeroU32>, u32), LinkError> {
        if plans.iter().any(RoutePlan::has_policy) {
            self.choose_table(fwmark, observed)
        } else {
            Ok((fwmark, MAIN))
        }
    }

    /// Chooses the mark and the table of policy routing: the user's mark, which is the table
    /// number, too, unless that table belongs to another tunnel; without a mark, the pair in use or
    /// the first free one.
    fn choose_table(
        &mut self,
        fwmark: Option<NonZeroU32>,
        observed: &ObservedRouting,
    ) -> Result<(Option<NonZeroU32>, u32), LinkError> {
        let foreign = |table: u32| observed.foreign_markers.iter().any(|marker| marker.table == table);
        if let Some(mark) = fwmark.map(NonZeroU32::get)
            && !RESERVED.contains(&mark)
            && !foreign(mark)
        {
            return Ok((fwmark, mark));
        }
        let table = match observed.tables.iter().find(|&&table| table >= FIRST_TABLE && !foreign(table)) {
            Some(table) => *table,
            None => self.free_table(observed)?,
        };
        Ok((fwmark.or(NonZeroU32::new(table)), table))
    }

    fn free_table(&mut self, observed: &ObservedRouting) -> Result<u32, LinkError> {
        for number in FIRST_TABLE.. {
            let mut used = observed.foreign_markers.iter().any(|marker| marker.table == number)
                || observed.families.iter().any(|observed| rule::mentions(&observed.foreign, number));
            for family in IpFamily::BOTH {
                if !used {
                    let routes = self.routes(family, route::list_of_table(family, number))?;
                    used = routes.unwrap_or_default().iter().any(|route| route.table == number);
                }
            }
            if !used {
                return Ok(number);
            }
        }
        Err(LinkError::NoReply { action: format!("find a free routing table for {}", self.name) })
    }

    /// Adds routes to the device, given as tables and networks, and returns those that the kernel
    /// accepted. In the policy table they replace other routes.
    pub(super) fn add_routes(
        &mut self,
        routes: &[(u32, Prefix)],
        errors: &mut RouteErrors,
    ) -> Result<Vec<Prefix>, LinkError> {
        let (index, own) = (self.index, self.table);
        let messages = routes.iter().map(|&(table, prefix)| {
            let route = route::to_device(table, prefix, index);
            let others = if own == Some(table) { NLM_F_REPLACE } else { NLM_F_EXCL };
            (RouteNetlinkMessage::NewRoute(route), NLM_F_CREATE | others)
        });
        let action = || format!("add routes to {}", self.name);
        let outcomes = self.netlink.request_all(messages).map_err(|f| LinkError::new(action(), f, ""))?;
        let mut added = Vec::new();
        for (outcome, &(table, prefix)) in outcomes.into_iter().zip(routes) {
            let Err(refusal) = outcome else {
                added.push(prefix);
                continue;
            };
            match refusal.errno {
                // added when the device is up
                Errno::ENETDOWN => {}
                Errno::EEXIST => errors.taken.push((table, prefix)),
                Errno::EACCES | Errno::ENODEV | Errno::EOPNOTSUPP | Errno::EAFNOSUPPORT
                    if prefix.network().is_ipv6() =>
                {
                    errors.ipv6_disabled = true;
                }
                Errno::EPERM | Errno::ENODEV => return Err(LinkError::new(action(), refusal.into(), "")),
                _ => errors.refused.push((prefix, refusal)),
            }
        }
        Ok(added)
    }

    /// Checks that the device exists: the kernel reports "no such device" for one without IPv6,
    /// too.
    pub(super) fn confirm_device(&mut self) -> Result<(), LinkError> {
        let outcome = self.netlink.request(message::get_link(self.index), 0);
        outcome.map(drop).map_err(|f| LinkError::new(format!("add routes to {}", self.name), f, ""))
    }

    pub(super) fn delete_routes(&mut self, routes: &[(u32, Prefix)]) -> Result<(), LinkError> {
        let index = self.index;
        let messages = routes
            .iter()
            .map(|&(table, prefix)| RouteNetlinkMessage::DelRoute(route::to_device(table, prefix, index)));
        self.delete(messages, "routes")
    }

    /// Makes networks unreachable in the policy table. Routes to the device take precedence.
    pub(super) fn block<'a>(
        &mut self,
        table: u32,
        networks: impl Iterator<Item = &'a Prefix>,
    ) -> Result<(), LinkError> {
        let messages = networks.map(|network| {
            (RouteNetlinkMessage::NewRoute(route::unreachable(table, *network)), NLM_F_CREATE | NLM_F_EXCL)
        });
        let action = || format!("make the networks behind {} unreachable", self.name);
        let outcomes = self.netlink.request_all(messages);
        let outcomes = outcomes.map_err(|failure| LinkError::new(action(), failure, POLICY_REMEDY))?;
        let refusal = outcomes.into_iter().filter_map(Result::err).find(|r| r.errno != Errno::EEXIST);
        refusal.map_or(Ok(()), |refusal| Err(LinkError::new(action(), refusal.into(), "")))
    }

    /// Deletes the routes that [`Self::block`] has added to these tables, including those of a
    /// killed run.
    pub(super) fn unblock(&mut self, tables: &BTreeSet<u32>) -> Result<(), LinkError> {
        let mut blocked = Vec::new();
        for (family, table) in IpFamily::BOTH.into_iter().flat_map(|f| tables.iter().map(move |t| (f, *t))) {
            let routes = self.routes(family, route::list_of_table(family, table))?.unwrap_or_default();
            let own = routes.into_iter().filter(|route| route.is_block() && route.table == table);
            blocked.extend(own.map(|route| (table, route.prefix)));
        }
        let messages = blocked
            .iter()
            .map(|&(table, prefix)| RouteNetlinkMessage::DelRoute(route::unreachable(table, prefix)));
        self.delete(messages, "routes")
    }

    /// Adds those of `rules` that are not in `own`, and returns their number.
    pub(super) fn add_missing_rules(
        &mut self,
        family: IpFamily,
        rules: &[Rule],
        own: &[Rule],
    ) -> Result<usize, LinkError> {
        let missing: Vec<&Rule> = rules.iter().filter(|rule| !own.contains(rule)).collect();
        let messages = missing
            .iter()
            .map(|rule| (RouteNetlinkMessage::NewRule(rule.message(family)), NLM_F_CREATE | NLM_F_EXCL));
        let action = || format!("add the {} rules of {}", family.name(), self.name);
        let outcomes = self.netlink.request_all(messages);
        let outcomes = outcomes.map_err(|failure| LinkError::new(action(), failure, POLICY_REMEDY))?;
        match outcomes.into_iter().filter_map(Result::err).find(|r| r.errno != Errno::EEXIST) {
            Some(refusal) => Err(LinkError::new(action(), refusal.into(), POLICY_REMEDY)),
            None => Ok(missing.len()),
        }
    }

    pub(super) fn delete_rules(&mut self, family: IpFamily, rules: &[Rule]) -> Result<(), LinkError> {
        let messages = rules.iter().map(|rule| RouteNetlinkMessage::DelRule(rule.message(family)));
        self.delete(messages, "rules")
    }

    /// Adds the ownership marker of the policy table.
    pub(super) fn add_marker(
        &mut self,
        table: u32,
        needs_restore: bool,
        observed: &mut ObservedRouting,
    ) -> Result<(), LinkError> {
        let marker = OwnershipMarker::new(table, &self.tunnel, needs_restore);
        if !observed.own_markers.contains(&marker) {
            let added = RouteNetlinkMessage::NewRoute(route::marker(marker));
            let outcome = self.netlink.request(added, NLM_F_CREATE | NLM_F_EXCL);
            let action = || format!("add a route to table {table} for {}", self.name);
            outcome.map_err(|failure| LinkError::new(action(), failure, POLICY_REMEDY))?;
            observed.own_markers.push(marker);
        }
        self.table = Some(table);
        Ok(())
    }

    /// Deletes our ownership markers except that of the table `kept`.
    pub(super) fn delete_markers(
        &mut self,
        kept: Option<u32>,
        needs_restore: bool,
        observed: &ObservedRouting,
    ) -> Result<(), LinkError> {
        let kept = kept.map(|table| OwnershipMarker::new(table, &self.tunnel, needs_restore));
        self.table = kept.map(|marker| marker.table);
        let surplus = observed.own_markers.iter().filter(|marker| kept != Some(**marker));
        self.delete(surplus.map(|marker| RouteNetlinkMessage::DelRoute(route::marker(*marker))), "routes")
    }

    /// Deletes routes or rules. Those already deleted are ignored; a missing privilege is an error.
    fn delete(
        &mut self,
        messages: impl Iterator<Item = RouteNetlinkMessage>,
        what: &str,
    ) -> Result<(), LinkError> {
        let action = || format!("delete {what} of {}", self.name);
        let outcomes = self.netlink.request_all(messages.map(|message| (message, 0)));
        let outcomes = outcomes.map_err(|failure| LinkError::new(action(), failure, ""))?;
        let denied = outcomes.into_iter().filter_map(Result::err).find(|r| r.errno == Errno::EPERM);
        denied.map_or(Ok(()), |refusal| Err(LinkError::new(action(), refusal.into(), "")))
    }
}
