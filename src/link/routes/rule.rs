//! Policy routing rules: what they look like on the wire, and which ones send packets to the tunnel.
//!
//! wg-quick(8) has two: `not fwmark MARK lookup TABLE`, so that everything but our own outer packets takes the
//! tunnel, and above it `lookup main suppress_prefixlength 0`, so that whatever main knows better than by a
//! default route does not. That is right for 0.0.0.0/0 only. With 10.1.0.0/16 in our table, a 10.0.0.0/8 in main
//! must not win, and a 10.1.2.0/24 must. So there is such a pair for each length of prefix in our table, the
//! longest first: main's routes that are longer than it, then ours that are not shorter. Together they find the
//! longest match of both tables; where both have the same prefix, ours.
//!
//! Rules in front of these lead past all of them: what other tunnels send, and, for a moment, the
//! questions of this host's own name server.

use std::collections::{BTreeMap, BTreeSet};

use netlink_packet_core::DefaultNla;
use netlink_packet_route::route::RouteProtocol;
use netlink_packet_route::rule::{
    RuleAction, RuleAttribute, RuleFlags, RuleHeader, RuleMessage, RulePortRange,
};

use super::plan::{Family, MAIN};
use crate::link::message::{attribute, attribute_u32};

/// Marks routes and rules as ours (`ip route show proto 119`): no program known to us has taken this number of
/// `/etc/iproute2/rt_protos`. It is the letter w.
pub(in crate::link) const PROTOCOL: u8 = 119;
/// The table of this host's own addresses, from linux/rtnetlink.h.
const LOCAL: u32 = 255;
/// The priority that the kernel gives the rule for the main table.
const MAIN_PRIORITY: u32 = 32_766;
const RULE_HEADER: usize = 12;
/// Attribute types, from linux/fib_rules.h.
const FRA_GOTO: u16 = 4;
const FRA_PRIORITY: u16 = 6;
const FRA_FWMARK: u16 = 10;
const FRA_SUPPRESS_PREFIXLEN: u16 = 14;
const FRA_TABLE: u16 = 15;
const FRA_FWMASK: u16 = 16;
const FRA_PROTOCOL: u16 = 21;
const FRA_IP_PROTO: u16 = 22;
const FRA_DPORT_RANGE: u16 = 24;
/// Protocols and ports of questions to name servers: DNS, and DNS over TLS or QUIC (RFC 7858, RFC
/// 9250).
const DNS: [Port; 4] = [(UDP, 53), (TCP, 53), (UDP, 853), (TCP, 853)];
const TCP: u8 = 6;
const UDP: u8 = 17;

/// A transport protocol and a destination port.
type Port = (u8, u16);

/// What of a rule concerns us.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rule {
    /// Its place: rules are asked in ascending order.
    pub(super) priority: u32,
    /// It is for packets that do not match.
    invert: bool,
    /// The packets' mark; 0 for any.
    pub(super) mark: u32,
    /// The bits of the mark that count.
    mask: u32,
    action: Action,
    /// The table to look up; of other actions, only a label.
    pub(super) table: u32,
    /// Routes of this length or a shorter one do not count.
    suppress: Option<u32>,
    /// It is for packets to this port.
    port: Option<Port>,
    /// It has no other conditions: any destination, any source.
    any: bool,
    protocol: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Action {
    Lookup,
    /// On with the rule of this priority.
    Goto(u32),
    /// Nothing: where a [`Action::Goto`] leads.
    Nothing,
    /// One that we have no use for.
    Other,
}

impl Rule {
    /// Reads an `RTM_NEWRULE` of `family`.
    pub(super) fn parse(body: &[u8], family: Family) -> Option<Self> {
        let header = RuleHeader::parse(body).ok().filter(|header| header.family == family.netlink())?;
        let attributes = body.get(RULE_HEADER..)?;
        let number = |kind| attribute_u32(attributes, kind);
        let mark = number(FRA_FWMARK).unwrap_or(0);
        Some(Self {
            priority: number(FRA_PRIORITY).unwrap_or(0),
            invert: header.flags.contains(RuleFlags::Invert),
            mark,
            mask: number(FRA_FWMASK).unwrap_or(if mark == 0 { 0 } else { u32::MAX }),
            action: match header.action {
                RuleAction::ToTable => Action::Lookup,
                RuleAction::Goto => Action::Goto(number(FRA_GOTO).unwrap_or(0)),
                RuleAction::Nop => Action::Nothing,
                _ => Action::Other,
            },
            table: number(FRA_TABLE).unwrap_or(u32::from(header.table)),
            // all bits mean that nothing is suppressed
            suppress: number(FRA_SUPPRESS_PREFIXLEN).filter(|&length| length != u32::MAX),
            port: port(attributes),
            any: header.dst_len == 0 && header.src_len == 0,
            protocol: attribute(attributes, FRA_PROTOCOL)
                .and_then(|value| value.first().copied())
                .unwrap_or(0),
        })
    }

    /// The message that adds or deletes it.
    pub(super) fn message(&self, family: Family) -> RuleMessage {
        let mut message = RuleMessage::default();
        message.header.family = family.netlink();
        message.header.flags = if self.invert { RuleFlags::Invert } else { RuleFlags::empty() };
        message.header.action = match self.action {
            Action::Lookup => RuleAction::ToTable,
            Action::Goto(_) => RuleAction::Goto,
            Action::Nothing | Action::Other => RuleAction::Nop,
        };
        message.attributes = vec![
            RuleAttribute::Priority(self.priority),
            RuleAttribute::FwMark(self.mark),
            RuleAttribute::FwMask(self.mask),
            RuleAttribute::Table(self.table),
            RuleAttribute::Protocol(RouteProtocol::from(PROTOCOL)),
        ];
        message.attributes.extend(self.suppress.map(RuleAttribute::SuppressPrefixLen));
        if let Action::Goto(priority) = self.action {
            message.attributes.push(RuleAttribute::Goto(priority));
        }
        if let Some((protocol, port)) = self.port {
            message.attributes.push(RuleAttribute::Other(DefaultNla::new(FRA_IP_PROTO, vec![protocol])));
            let range = RulePortRange { start: port, end: port };
            message.attributes.push(RuleAttribute::DestinationPortRange(range));
        }
        message
    }

    /// A rule for all but our own outer packets.
    fn unmarked(mark: u32, table: u32, suppress: Option<u32>) -> Self {
        Self {
            priority: 0,
            invert: true,
            mark,
            mask: u32::MAX,
            action: Action::Lookup,
            table,
            suppress,
            port: None,
            any: true,
            protocol: PROTOCOL,
        }
    }

    /// The mark of another tunnel's outer packets, if this is how it catches the rest: ours, or wg-quick's (its
    /// mark is its table).
    fn other_tunnel(&self) -> Option<u32> {
        let ours = self.protocol == PROTOCOL && self.table != MAIN;
        let catches = self.invert && self.mask == u32::MAX && self.action == Action::Lookup;
        (catches && self.mark != 0 && (ours || self.table == self.mark)).then_some(self.mark)
    }

    /// Whether it is where a host without other rules ends up.
    fn is_main(&self) -> bool {
        self.action == Action::Lookup
            && self.table == MAIN
            && (self.mark, self.mask, self.suppress, self.port) == (0, 0, None, None)
            && self.any
    }
}

/// What our rules shall do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Policy {
    pub(super) family: Family,
    /// What our outer packets carry.
    pub(super) mark: u32,
    /// Where the tunnel's routes are.
    pub(super) table: u32,
    /// Lengths of these routes, longest first.
    pub(super) levels: Vec<u8>,
    /// Questions to name servers pass the tunnel by.
    pub(super) passes_dns: bool,
}

impl Policy {
    /// The rules, the first of which has the priority `base`. Outer packets of the tunnels that come after us,
    /// known by their marks in `others`, pass us by: if ours travel by theirs and theirs by ours, neither arrive.
    fn block(&self, others: &BTreeSet<u32>, base: u32) -> Vec<Rule> {
        let mut rules: Vec<Rule> = Vec::new();
        for (place, &level) in self.levels.iter().enumerate() {
            // there is nothing longer than the longest
            if level < self.family.bits() {
                rules.push(Rule::unmarked(self.mark, MAIN, Some(level.into())));
            }
            let last = place.saturating_add(1) == self.levels.len();
            let shorter = level.checked_sub(1).filter(|_| !last).map(u32::from);
            rules.push(Rule::unmarked(self.mark, self.table, shorter));
        }
        let ports = if self.passes_dns { &DNS[..] } else { &[] };
        let count = others.len().saturating_add(ports.len());
        if count > 0 {
            rules.push(Rule { action: Action::Nothing, ..Rule::unmarked(self.mark, self.table, None) });
        }
        let count = count.saturating_add(rules.len());
        let end = u32::try_from(count).unwrap_or(u32::MAX).saturating_sub(1).saturating_add(base);
        let pass = |mark| Rule {
            action: Action::Goto(end),
            invert: false,
            ..Rule::unmarked(mark, self.table, None)
        };
        let others = others.iter().map(|&mark| pass(mark));
        let ports = ports.iter().map(|port| Rule { mask: 0, port: Some(*port), ..pass(0) });
        let mut block: Vec<Rule> = others.chain(ports).chain(rules).collect();
        for (rule, priority) in block.iter_mut().zip(base..) {
            rule.priority = priority;
        }
        block
    }

    /// The rules as they shall be, given those `own` that are there, those that were put up the
    /// last time (`last`) and all `foreign` ones: the same, if they do; else right behind the rule
    /// for local addresses, as wg-quick's. `None` if there is no room.
    pub(super) fn rules(&self, own: &[Rule], last: &[Rule], foreign: &[Rule]) -> Option<Vec<Rule>> {
        let below = |priority: u32| -> BTreeSet<u32> {
            let below = foreign.iter().filter(|rule| rule.priority > priority);
            below.filter_map(Rule::other_tunnel).filter(|&mark| mark != self.mark).collect()
        };
        let do_still = |rules: &[Rule]| {
            let (Some(first), Some(last)) = (rules.first(), rules.last()) else { return false };
            let passing =
                rules.iter().filter(|rule| matches!(rule.action, Action::Goto(_)) && rule.port.is_none());
            let passing: BTreeSet<u32> = passing.map(|rule| rule.mark).collect();
            let same = self.block(&passing, first.priority) == rules;
            same && below(last.priority).is_subset(&passing)
        };
        if do_still(own) {
            return Some(own.to_vec());
        }
        let local = foreign.iter().filter(|rule| rule.table == LOCAL && rule.action == Action::Lookup);
        let mut before = local.map(|rule| rule.priority).max().unwrap_or(0);
        // somebody who deletes all rules deletes the main table's, and adds it again
        let main = foreign.iter().find(|rule| rule.is_main()).map_or(MAIN_PRIORITY, |main| main.priority);
        let is_between = |rules: &[Rule]| {
            let priorities = rules.first().zip(rules.last());
            priorities.is_some_and(|(first, last)| first.priority > before && last.priority < main)
        };
        if is_between(last) && do_still(last) {
            return Some(last.to_vec());
        }
        let others = foreign.iter().map(|rule| rule.priority).filter(|priority| *priority < main);
        for priority in others.chain([main]).filter(|priority| *priority > before).collect::<BTreeSet<u32>>()
        {
            let others = below(priority.saturating_sub(1));
            let count = u32::try_from(self.block(&others, 0).len()).unwrap_or(u32::MAX);
            if priority.saturating_sub(before) > count {
                return Some(self.block(&others, priority.saturating_sub(count)));
            }
            before = priority;
        }
        None
    }
}

/// Returns the port that a rule's attributes name, if it is one and belongs to one protocol.
fn port(attributes: &[u8]) -> Option<Port> {
    let protocol = attribute(attributes, FRA_IP_PROTO)?.first().copied()?;
    let range = attribute(attributes, FRA_DPORT_RANGE)?;
    let (start, end) = range.split_first_chunk::<2>()?;
    (start[..] == *end).then_some((protocol, u16::from_ne_bytes(*start)))
}

/// Tells the rules that belong to our `tables` from all others. `rules` are in the kernel's order.
///
/// The rules that look up main do not name a table of ours: they belong to whom the next rule with the same mark
/// belongs to. If that one is gone, the mark tells, which is the table's number as a rule.
pub(super) fn split(rules: Vec<Rule>, tables: &BTreeSet<u32>) -> (Vec<Rule>, Vec<Rule>) {
    let mut ours_by_mark: BTreeMap<u32, bool> = BTreeMap::new();
    let (mut own, mut foreign) = (Vec::new(), Vec::new());
    for rule in rules.into_iter().rev() {
        let ours = rule.protocol == PROTOCOL
            && if rule.table == MAIN {
                let next = ours_by_mark.get(&rule.mark).copied();
                rule.invert && next.unwrap_or_else(|| tables.contains(&rule.mark))
            } else {
                tables.contains(&rule.table)
            };
        if rule.protocol == PROTOCOL && rule.invert && rule.table != MAIN {
            ours_by_mark.insert(rule.mark, ours);
        }
        if ours { own.push(rule) } else { foreign.push(rule) }
    }
    own.reverse();
    foreign.reverse();
    (own, foreign)
}

/// Whether a tunnel other than ours is among these rules.
pub(super) fn has_tunnel(foreign: &[Rule]) -> bool {
    foreign.iter().any(|rule| rule.other_tunnel().is_some())
}

/// Whether a rule speaks of this table or mark. That another tunnel lets a mark pass does not count: it may be the
/// one that we had the last time.
pub(super) fn mentions(rules: &[Rule], number: u32) -> bool {
    let passes = |rule: &Rule| rule.protocol == PROTOCOL && matches!(rule.action, Action::Goto(_));
    rules.iter().any(|rule| rule.table == number || (rule.mark == number && !passes(rule)))
}

#[cfg(test)]
mod tests;
