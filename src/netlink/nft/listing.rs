//! Parsing of the chains, tables and rules of other programs.

use super::constants::*;
use super::table::{Counted, Family, Hook, MetaKey, Verdict};
use crate::netlink::message::{attribute, attributes};

/// The families whose hooks packets of this host pass.
const INET: u8 = Family::Inet as u8;
const IPV4: u8 = Family::Ip as u8;
const IPV6: u8 = Family::Ip6 as u8;

/// A chain of any table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::netlink) struct FoundChain {
    /// The kernel's number of the family.
    pub(in crate::netlink) family: u8,
    pub(in crate::netlink) table: String,
    pub(in crate::netlink) name: String,
    /// The hook of a base chain.
    hook: Option<u32>,
    /// True if the chain's policy is to drop.
    drops: bool,
}

impl FoundChain {
    /// Parses an `NFT_MSG_NEWCHAIN`.
    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        let (family, attributes) = (*body.first()?, body.get(NFGENMSG_LEN..)?);
        Some(Self {
            family,
            table: text(attributes, NFTA_CHAIN_TABLE)?,
            name: text(attributes, NFTA_CHAIN_NAME)?,
            hook: attribute(attributes, NFTA_CHAIN_HOOK).and_then(|hook| number(&hook, NFTA_HOOK_HOOKNUM)),
            drops: number(attributes, NFTA_CHAIN_POLICY) == Some(Verdict::Drop as u32),
        })
    }

    /// Returns true if the chain is in a table of another program that stays: not of wontun, and
    /// not the one by which firewalld drops everything while it reloads, for seconds on a slow
    /// host.
    pub(in crate::netlink) fn is_foreign(&self) -> bool {
        !self.table.starts_with("wontun") && self.table != "firewalld_policy_drop"
    }

    /// Returns true if packets that this host forwards pass the chain.
    pub(in crate::netlink) fn is_forward(&self) -> bool {
        // a bridge's forward hook has the same number
        matches!(self.family, INET | IPV4 | IPV6) && self.hook == Some(Hook::Forward as u32)
    }

    /// Returns true if packets to this host itself pass the chain.
    pub(in crate::netlink) fn is_input(&self) -> bool {
        matches!(self.family, INET | IPV4 | IPV6) && self.hook == Some(Hook::Input as u32)
    }

    /// Returns true if packets that leave this host pass the chain.
    pub(in crate::netlink) fn is_postrouting(&self) -> bool {
        matches!(self.family, INET | IPV4 | IPV6) && self.hook == Some(Hook::Postrouting as u32)
    }

    /// Returns true if the chain's policy is to drop.
    pub(in crate::netlink) const fn drops(&self) -> bool {
        self.drops
    }

    /// Returns true if packets of that family pass the chain.
    pub(in crate::netlink) const fn applies_to(&self, v6: bool) -> bool {
        self.family == INET || self.family == if v6 { IPV6 } else { IPV4 }
    }

    /// Returns the family as nft(8) spells it.
    pub(in crate::netlink) const fn family_name(&self) -> &'static str {
        match self.family {
            IPV4 => "ip",
            IPV6 => "ip6",
            _ => "inet",
        }
    }
}

/// A table in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FoundTable {
    /// Port id of the netlink socket that owns the table (`NFTA_TABLE_OWNER`).
    pub(super) owner: Option<u32>,
}

impl FoundTable {
    /// Parses an `NFT_MSG_NEWTABLE`.
    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        let owner = number(body.get(NFGENMSG_LEN..)?, NFTA_TABLE_OWNER);
        Some(Self { owner: owner.filter(|port| *port != 0) })
    }
}

/// Returns true for an `NFT_MSG_NEWRULE` that gives packets another source address, if it is reached
/// by them.
pub(super) fn translates_source(body: &[u8]) -> Option<bool> {
    let rule = body.get(NFGENMSG_LEN..)?;
    let expressions = attribute(rule, NFTA_RULE_EXPRESSIONS)?;
    Some(attributes(&expressions, NFTA_LIST_ELEM).any(|expression| {
        let data = attribute(&expression, NFTA_EXPR_DATA).unwrap_or_default();
        match text(&expression, NFTA_EXPR_NAME).unwrap_or_default().as_str() {
            "masq" => true,
            "nat" => number(&data, NFTA_NAT_TYPE) == Some(NFT_NAT_SNAT),
            // of iptables
            "target" => {
                text(&data, NFTA_TARGET_NAME).is_some_and(|name| TRANSLATORS.contains(&name.as_str()))
            }
            _ => false,
        }
    }))
}

/// Targets of ip6tables(8) that give packets another source address.
const TRANSLATORS: [&str; 3] = ["MASQUERADE", "SNAT", "NETMAP"];

/// Returns the name in an `NFT_MSG_NEWTABLE`.
pub(super) fn table_name(body: &[u8]) -> Option<String> {
    text(body.get(NFGENMSG_LEN..)?, NFTA_TABLE_NAME)
}

/// Returns the input device named by an `NFT_MSG_NEWRULE` of the chain `chain`.
pub(super) fn input_device(body: &[u8], chain: &str) -> Option<String> {
    let rule = body.get(NFGENMSG_LEN..)?;
    if text(rule, NFTA_RULE_CHAIN)? != chain {
        return None;
    }
    let mut loaded = None;
    for expression in attributes(&attribute(rule, NFTA_RULE_EXPRESSIONS)?, NFTA_LIST_ELEM) {
        let data = attribute(&expression, NFTA_EXPR_DATA)?;
        match text(&expression, NFTA_EXPR_NAME)?.as_str() {
            "meta" => loaded = number(&data, NFTA_META_KEY),
            "cmp" if loaded == Some(MetaKey::IifName as u32) => {
                let value =
                    attribute(&data, NFTA_CMP_DATA).and_then(|value| attribute(&value, NFTA_DATA_VALUE))?;
                let name = value.split(|byte| *byte == 0).next()?;
                return Some(String::from_utf8_lossy(name).into_owned());
            }
            _ => {}
        }
    }
    None
}

/// Returns the family (true for IPv6) and the input device of the packets that an `NFT_MSG_NEWRULE`
/// of the chain `chain` drops; `None` if it does not drop. Without a device the rule drops all
/// packets of the family.
pub(super) fn dropped_packets(body: &[u8], chain: &str) -> Option<(bool, Option<String>)> {
    let rule = body.get(NFGENMSG_LEN..)?;
    if text(rule, NFTA_RULE_CHAIN)? != chain {
        return None;
    }
    let (mut loaded, mut v6, mut device, mut drops) = (None, None, None, false);
    for expression in attributes(&attribute(rule, NFTA_RULE_EXPRESSIONS)?, NFTA_LIST_ELEM) {
        let data = attribute(&expression, NFTA_EXPR_DATA)?;
        match text(&expression, NFTA_EXPR_NAME)?.as_str() {
            "meta" => loaded = number(&data, NFTA_META_KEY),
            "cmp" => {
                let value =
                    attribute(&data, NFTA_CMP_DATA).and_then(|value| attribute(&value, NFTA_DATA_VALUE))?;
                if loaded == Some(MetaKey::NfProto as u32) {
                    v6 = value.first().map(|family| *family == IPV6);
                } else if loaded == Some(MetaKey::IifName as u32) {
                    let name = value.split(|byte| *byte == 0).next()?;
                    device = Some(String::from_utf8_lossy(name).into_owned());
                }
            }
            "immediate" => {
                let verdict = attribute(&data, NFTA_IMMEDIATE_DATA)
                    .and_then(|data| attribute(&data, NFTA_DATA_VERDICT));
                drops = verdict.and_then(|verdict| number(&verdict, NFTA_VERDICT_CODE))
                    == Some(Verdict::Drop as u32);
            }
            _ => {}
        }
    }
    v6.filter(|_| drops).map(|v6| (v6, device))
}

/// Returns the values in an `NFT_MSG_NEWOBJ` of a counter.
pub(super) fn counted(body: &[u8]) -> Option<Counted> {
    let data = attribute(body.get(NFGENMSG_LEN..)?, NFTA_OBJ_DATA)?;
    let value = |kind| Some(u64::from_be_bytes(*attribute(&data, kind)?.first_chunk()?));
    Some(Counted { packets: value(NFTA_COUNTER_PACKETS)?, bytes: value(NFTA_COUNTER_BYTES)? })
}

pub(super) fn text(list: &[u8], kind: u16) -> Option<String> {
    let value = attribute(list, kind)?;
    let text = value.split(|byte| *byte == 0).next()?;
    Some(String::from_utf8_lossy(text).into_owned())
}

pub(super) fn number(list: &[u8], kind: u16) -> Option<u32> {
    attribute(list, kind)?.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::batch::tests::messages;
    use super::super::table::{Chain, ChainType, CmpOp, Expression, Family, Priority, Table};
    use super::*;

    fn chain(
        family: Family,
        hook: Hook,
        policy: Verdict,
        rules: Vec<Vec<Expression>>,
    ) -> Vec<(u16, Vec<u8>)> {
        let (kind, priority) = (ChainType::Filter, Priority::Filter);
        let chains = vec![Chain { name: "FORWARD", kind, hook, priority, policy, rules }];
        let table = Table {
            family,
            name: "filter".to_owned(),
            sets: vec![],
            counters: vec![],
            chains,
            regular: vec![],
        };
        messages(&table).into_iter().skip(2).collect()
    }

    #[test]
    fn chains_that_drop_are_recognized() {
        let found =
            |family, hook, policy| FoundChain::parse(&chain(family, hook, policy, vec![])[0].1).unwrap();
        let drops = found(Family::Ip, Hook::Forward, Verdict::Drop);
        assert_eq!(
            (drops.table.as_str(), drops.name.as_str(), drops.family_name()),
            ("filter", "FORWARD", "ip")
        );
        assert!(drops.is_forward() && drops.drops() && drops.applies_to(false) && !drops.applies_to(true));
        let both = found(Family::Inet, Hook::Forward, Verdict::Drop);
        assert!(both.is_forward() && both.applies_to(false) && both.applies_to(true));
        assert!(!found(Family::Ip, Hook::Forward, Verdict::Accept).drops());
        assert!(!found(Family::Ip, Hook::Postrouting, Verdict::Drop).is_forward());
        let in_table = |table: &str| FoundChain { table: table.to_owned(), ..drops.clone() };
        assert!(drops.is_foreign() && in_table("firewalld").is_foreign());
        assert!(!in_table("wontun-nat-tun0").is_foreign() && !in_table("firewalld_policy_drop").is_foreign());
        let bridge = FoundChain { family: 7, ..drops };
        assert!(!bridge.is_forward());
    }

    #[test]
    fn dropped_packets_are_read_from_the_rules() {
        let read = |rule: Vec<Expression>| {
            let messages = chain(Family::Inet, Hook::Forward, Verdict::Accept, vec![rule]);
            dropped_packets(&messages[1].1, "FORWARD")
        };
        let from = Expression::device(MetaKey::IifName, CmpOp::Eq, "eth0");
        let (drop, accept) = (Expression::Verdict(Verdict::Drop), Expression::Verdict(Verdict::Accept));
        let rule = |v6: bool, verdict: &Expression| {
            [&Expression::family(v6)[..], &from, std::slice::from_ref(verdict)].concat()
        };
        assert_eq!(read(rule(false, &drop)), Some((false, Some("eth0".to_owned()))));
        assert_eq!(read(rule(true, &drop)), Some((true, Some("eth0".to_owned()))));
        assert_eq!(read([&Expression::family(true)[..], &[drop]].concat()), Some((true, None)));
        assert_eq!(read(rule(false, &accept)), None);
        let messages = chain(Family::Inet, Hook::Forward, Verdict::Accept, vec![rule(false, &accept)]);
        assert_eq!(dropped_packets(&messages[1].1, "others"), None, "of another chain");
        assert_eq!(input_device(&messages[1].1, "FORWARD"), Some("eth0".to_owned()));
        assert_eq!(input_device(&messages[1].1, "others"), None, "of another chain");
    }

    proptest! {
        #[test]
        fn any_body_is_survived(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = (FoundChain::parse(&body), table_name(&body), FoundTable::parse(&body), counted(&body));
            let _ = (dropped_packets(&body, "others"), input_device(&body, "others"));
        }
    }
}
