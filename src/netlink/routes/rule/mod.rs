//! Policy routing rules: encoding, parsing, and the choice of the rules that route packets to the
//! tunnel.
//!
//! wg-quick(8) uses two rules: `not fwmark MARK lookup TABLE`, so that all packets except the outer
//! packets are routed to the tunnel, and before it `lookup main suppress_prefixlength 0`, so that a
//! route in main other than a default route takes precedence. That is correct for 0.0.0.0/0 only.
//! With 10.1.0.0/16 in the policy table, a 10.0.0.0/8 in main must not take precedence, and a
//! 10.1.2.0/24 must. Therefore there is such a pair of rules for each prefix length in the policy
//! table, the longest first: main's routes that are longer, then the policy table's routes that are
//! not shorter. Together they find the longest match of both tables; for equal prefixes, the policy
//! table's.
//!
//! Rules before these skip all of them: for the outer packets of other tunnels and, temporarily,
//! for the DNS queries of this host's own name server.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::num::NonZeroU32;

use netlink_packet_core::DefaultNla;
use netlink_packet_route::route::RouteProtocol;
use netlink_packet_route::rule::{
    RuleAction, RuleAttribute, RuleFlags, RuleHeader, RuleMessage, RulePortRange,
};
use nix::libc;

use super::plan::{IpFamily, MAIN};
use crate::netlink::message::{attribute, attribute_u32};
use wontun_packet::transport::{TCP, UDP};

/// The protocol number that identifies wontun's routes and rules (`ip route show proto 119`). No
/// known program uses this number of `/etc/iproute2/rt_protos`. It is the ASCII code of the letter
/// w.
pub(in crate::netlink) const PROTOCOL: u8 = 119;
/// The table of this host's own addresses.
const LOCAL: u32 = libc::RT_TABLE_LOCAL as u32;
/// The priority that the kernel gives the rule for the main table.
const MAIN_PRIORITY: u32 = 32_766;
/// Length of `struct fib_rule_hdr` in bytes.
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
/// Protocols and ports of DNS queries: DNS, and DNS over TLS or QUIC (RFC 7858, RFC 9250).
const DNS: [Port; 4] = [(UDP, 53), (TCP, 53), (UDP, 853), (TCP, 853)];

/// A transport protocol and a destination port.
type Port = (u8, u16);

/// The parts of a rule that are used.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rule {
    /// The priority: rules are evaluated in ascending order.
    pub(super) priority: u32,
    /// True if the rule applies to packets that do not match.
    invert: bool,
    /// The mark of the packets; 0 for any.
    pub(super) mark: u32,
    /// Bit mask for the mark.
    mask: u32,
    action: Action,
    /// The table to look up; for other actions, only an ownership marker.
    pub(super) table: u32,
    /// The prefix length up to which routes are ignored.
    suppress: Option<u32>,
    /// The destination port of the packets.
    port: Option<Port>,
    /// True if the rule has no other conditions: any destination, any source.
    any: bool,
    protocol: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Action {
    Lookup,
    /// Continues with the rule of this priority.
    Goto(u32),
    /// No action: the target of an [`Action::Goto`].
    Nothing,
    /// Any other action.
    Other,
}

impl Rule {
    /// Parses an `RTM_NEWRULE` of `family`.
    pub(super) fn parse(body: &[u8], family: IpFamily) -> Option<Self> {
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
            // all bits set mean that nothing is suppressed
            suppress: number(FRA_SUPPRESS_PREFIXLEN).filter(|&length| length != u32::MAX),
            port: port(attributes),
            any: header.dst_len == 0 && header.src_len == 0,
            protocol: attribute(attributes, FRA_PROTOCOL)
                .and_then(|value| value.first().copied())
                .unwrap_or(0),
        })
    }

    /// Builds the message that adds or deletes the rule.
    pub(super) fn message(&self, family: IpFamily) -> RuleMessage {
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

    /// Creates a rule for all packets except the outer packets, without a priority.
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

    /// Returns the mark of another tunnel's outer packets if this rule routes all other packets to
    /// that tunnel: a rule of wontun, or of wg-quick (whose mark is its table number).
    fn other_tunnel(&self) -> Option<u32> {
        let ours = self.protocol == PROTOCOL && self.table != MAIN;
        let catches = self.invert && self.mask == u32::MAX && self.action == Action::Lookup;
        (catches && self.mark != 0 && (ours || self.table == self.mark)).then_some(self.mark)
    }

    /// Returns true if this is the default rule for the main table.
    fn is_main(&self) -> bool {
        self.action == Action::Lookup
            && self.table == MAIN
            && (self.mark, self.mask, self.suppress, self.port) == (0, 0, None, None)
            && self.any
    }
}

/// Parameters of the rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Policy {
    pub(super) family: IpFamily,
    /// The mark of the outer packets.
    pub(super) mark: u32,
    /// The table of the tunnel's routes.
    pub(super) table: u32,
    /// Prefix lengths of these routes, longest first.
    pub(super) prefix_lengths: Vec<u8>,
    /// True if DNS queries bypass the tunnel.
    pub(super) bypasses_dns: bool,
}

impl fmt::Display for Rule {
    /// Formats the rule as ip-rule(8) shows it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}from all", self.priority, if self.invert { "not " } else { "" })?;
        if self.mark != 0 {
            write!(f, " fwmark {:#x}", self.mark)?;
        }
        if let Some((protocol, port)) = self.port {
            write!(f, " ipproto {} dport {port}", if protocol == TCP { "tcp" } else { "udp" })?;
        }
        match self.action {
            Action::Lookup if self.table == MAIN => f.write_str(" lookup main")?,
            Action::Lookup => write!(f, " lookup {}", self.table)?,
            Action::Goto(priority) => write!(f, " goto {priority}")?,
            Action::Nothing | Action::Other => f.write_str(" nop")?,
        }
        self.suppress.map_or(Ok(()), |length| write!(f, " suppress_prefixlength {length}"))
    }
}

impl Policy {
    /// Creates the parameters for the outer packets' `mark` and the tunnel's `table`.
    pub(super) const fn new(
        family: IpFamily,
        mark: NonZeroU32,
        table: u32,
        prefix_lengths: Vec<u8>,
        bypasses_dns: bool,
    ) -> Self {
        Self { family, mark: mark.get(), table, prefix_lengths, bypasses_dns }
    }

    /// Returns the rules, of which the first has the priority `base`. Outer packets of the tunnels
    /// that come after this one, known by their marks in `others`, skip these rules: if the packets
    /// of two tunnels were routed into each other, none would arrive.
    fn block(&self, others: &BTreeSet<u32>, base: u32) -> Vec<Rule> {
        let mut rules: Vec<Rule> = Vec::new();
        for (position, &level) in self.prefix_lengths.iter().enumerate() {
            // no prefix is longer than the full length
            if level < self.family.bits() {
                rules.push(Rule::unmarked(self.mark, MAIN, Some(level.into())));
            }
            let last = position.saturating_add(1) == self.prefix_lengths.len();
            let shorter = level.checked_sub(1).filter(|_| !last).map(u32::from);
            rules.push(Rule::unmarked(self.mark, self.table, shorter));
        }
        let ports = if self.bypasses_dns { &DNS[..] } else { &[] };
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

    /// Returns the wanted rules, given the present rules `own`, the rules installed last (`last`)
    /// and all `foreign` rules. Keeps the priorities of `own` or `last` if they still fit;
    /// otherwise places the rules after the rule for local addresses, like wg-quick. `None` if no
    /// priorities are free.
    pub(super) fn rules(&self, own: &[Rule], last: &[Rule], foreign: &[Rule]) -> Option<Vec<Rule>> {
        let below = |priority: u32| -> BTreeSet<u32> {
            let below = foreign.iter().filter(|rule| rule.priority > priority);
            below.filter_map(Rule::other_tunnel).filter(|&mark| mark != self.mark).collect()
        };
        let still_fit = |rules: &[Rule]| {
            let (Some(first), Some(last)) = (rules.first(), rules.last()) else { return false };
            let passing =
                rules.iter().filter(|rule| matches!(rule.action, Action::Goto(_)) && rule.port.is_none());
            let passing: BTreeSet<u32> = passing.map(|rule| rule.mark).collect();
            let same = self.block(&passing, first.priority) == rules;
            same && below(last.priority).is_subset(&passing)
        };
        if still_fit(own) {
            return Some(own.to_vec());
        }
        let local = foreign.iter().filter(|rule| rule.table == LOCAL && rule.action == Action::Lookup);
        let mut before = local.map(|rule| rule.priority).max().unwrap_or(0);
        // a program that deletes all rules deletes main's, too, and adds it again
        let main = foreign.iter().find(|rule| rule.is_main()).map_or(MAIN_PRIORITY, |main| main.priority);
        let is_between = |rules: &[Rule]| {
            let priorities = rules.first().zip(rules.last());
            priorities.is_some_and(|(first, last)| first.priority > before && last.priority < main)
        };
        if is_between(last) && still_fit(last) {
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

/// Returns the destination port in a rule's attributes, if it is a single port of one protocol.
fn port(attributes: &[u8]) -> Option<Port> {
    let protocol = attribute(attributes, FRA_IP_PROTO)?.first().copied()?;
    let range = attribute(attributes, FRA_DPORT_RANGE)?;
    let (start, end) = range.split_first_chunk::<2>()?;
    (start[..] == *end).then_some((protocol, u16::from_ne_bytes(*start)))
}

/// Splits the rules into those that belong to our `tables` and all others. `rules` are in the
/// kernel's order.
///
/// A rule that looks up main does not name a table of ours: it belongs to the owner of the next
/// rule with the same mark. If that one is missing, the mark decides, which usually is the table's
/// number.
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

/// Returns true if these rules contain a tunnel other than ours.
pub(super) fn has_tunnel(foreign: &[Rule]) -> bool {
    foreign.iter().any(|rule| rule.other_tunnel().is_some())
}

/// Returns true if a rule refers to this table or mark. Rules by which another tunnel exempts a
/// mark do not count: the mark may be the one used last.
pub(super) fn mentions(rules: &[Rule], number: u32) -> bool {
    let passes = |rule: &Rule| rule.protocol == PROTOCOL && matches!(rule.action, Action::Goto(_));
    rules.iter().any(|rule| rule.table == number || (rule.mark == number && !passes(rule)))
}

#[cfg(test)]
mod tests;
