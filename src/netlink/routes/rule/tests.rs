use std::net::{IpAddr, Ipv4Addr};

use netlink_packet_core::Emitable;
use proptest::prelude::*;

use super::*;
use wontun_proto::allowed_ips::Prefix;

const MARK: u32 = 51_820;

/// Returns a rule unrelated to the tunnel.
fn lookup(priority: u32, table: u32) -> Rule {
    Rule { priority, invert: false, mark: 0, mask: 0, protocol: 2, ..Rule::unmarked(0, table, None) }
}

/// Returns the default rules of a host.
fn host() -> Vec<Rule> {
    vec![lookup(0, LOCAL), lookup(32_766, MAIN), lookup(32_767, 253)]
}

fn policy(prefix_lengths: &[u8]) -> Policy {
    Policy {
        family: IpFamily::V4,
        mark: MARK,
        table: MARK,
        prefix_lengths: prefix_lengths.to_vec(),
        bypasses_dns: false,
    }
}

/// Returns the bytes of the rule's message. The kernel would fill in omitted attributes and add
/// others.
fn echoed(rule: &Rule, family: IpFamily) -> Vec<u8> {
    let message = rule.message(family);
    let mut bytes = vec![0; message.buffer_len()];
    message.emit(&mut bytes);
    bytes
}

#[test]
fn a_default_route_has_wg_quicks_two_rules() {
    let rules = policy(&[0]).rules(&[], &[], &host()).unwrap();
    let main = Rule { priority: 32_764, ..Rule::unmarked(MARK, MAIN, Some(0)) };
    let ours = Rule { priority: 32_765, ..Rule::unmarked(MARK, MARK, None) };
    assert_eq!(rules, [main, ours]);
    // they keep their priorities, regardless of the rules after them
    let mut busier = host();
    busier.insert(1, lookup(100, 900));
    assert_eq!(policy(&[0]).rules(&rules, &[], &busier).unwrap(), rules);
    assert_eq!(policy(&[0]).rules(&[], &[], &busier).unwrap()[0].priority, 98);
}

#[test]
fn rules_come_back_where_they_were() {
    let policy = policy(&[0]);
    let rules = policy.rules(&[], &[], &host()).unwrap();
    let mut busier = host();
    busier.insert(1, lookup(100, 900));
    for own in [&rules[..0], &rules[..1], &rules[1..]] {
        assert_eq!(policy.rules(own, &rules, &busier).unwrap(), rules);
    }
    // unless the priorities are too high or too low now, or the rules are different
    let early = [lookup(0, LOCAL), lookup(200, MAIN)];
    assert_eq!(policy.rules(&[], &rules, &early).unwrap()[0].priority, 198);
    let late = [lookup(32_765, LOCAL), lookup(32_770, MAIN)];
    assert_eq!(policy.rules(&[], &rules, &late).unwrap()[0].priority, 32_768);
    let other = Policy { mark: 7, ..policy };
    assert_eq!(other.rules(&[], &rules, &busier).unwrap()[0].priority, 98);
}

#[test]
fn rules_go_before_the_main_rule_that_somebody_has_deleted() {
    // `ip rule flush`
    let rules = policy(&[0]).rules(&[], &[], &host()[..1]).unwrap();
    assert_eq!(rules, policy(&[0]).rules(&[], &[], &host()).unwrap());
    let others = [lookup(0, LOCAL), lookup(32_767, 253), lookup(40_000, 77)];
    assert_eq!(policy(&[0]).rules(&[], &[], &others).unwrap(), rules);
}

#[test]
fn rules_come_after_the_local_table_and_before_main() {
    // Cilium's rules
    let moved = [lookup(9, 2004), lookup(100, LOCAL), lookup(32_766, MAIN)];
    assert_eq!(policy(&[0]).rules(&[], &[], &moved).unwrap()[0].priority, 32_764);
    // the first gap that is wide enough
    let crowded = [lookup(0, LOCAL), lookup(2, 900), lookup(5, 900), lookup(32_766, MAIN)];
    assert_eq!(policy(&[0]).rules(&[], &[], &crowded).unwrap()[0].priority, 3);
    assert_eq!(policy(&[8, 0]).rules(&[], &[], &crowded).unwrap()[0].priority, 32_762);
    let full = [lookup(0, LOCAL), lookup(1, MAIN), lookup(32_766, MAIN)];
    assert_eq!(policy(&[0]).rules(&[], &[], &full), None);
}

/// DNS queries bypass the tunnel temporarily; the kernel's echo is parsed as the rules wanted, and
/// the rules of a killed run are recognized as ours.
#[test]
fn questions_to_name_servers_pass() {
    let before = policy(&[0]).rules(&[], &[], &host()).unwrap();
    let passing = Policy { bypasses_dns: true, ..policy(&[0]) };
    let rules = passing.rules(&before, &before, &host()).unwrap();
    let actions: Vec<_> = rules.iter().map(|rule| (rule.priority, rule.port, rule.action)).collect();
    let end = Action::Goto(32_765);
    assert_eq!(
        actions,
        [
            (32_759, Some((17, 53)), end),
            (32_760, Some((6, 53)), end),
            (32_761, Some((17, 853)), end),
            (32_762, Some((6, 853)), end),
            (32_763, None, Action::Lookup),
            (32_764, None, Action::Lookup),
            (32_765, None, Action::Nothing),
        ]
    );
    for rule in &rules {
        assert_eq!(Rule::parse(&echoed(rule, IpFamily::V4), IpFamily::V4).as_ref(), Some(rule));
    }
    assert_eq!(passing.rules(&rules, &rules, &host()).unwrap(), rules);
    assert_eq!(policy(&[0]).rules(&rules, &rules, &host()).unwrap(), before);
    let all = [&host()[..1], &rules, &host()[1..]].concat();
    assert_eq!(split(all, &BTreeSet::from([MARK])), (rules, host()));
}

#[test]
fn other_tunnels_packets_pass() {
    let first = policy(&[0]).rules(&[], &[], &host()).unwrap();
    let mut busy = host();
    busy.splice(1..1, first);
    let second = Policy { mark: 7, table: 700, ..policy(&[0]) };
    let rules = second.rules(&[], &[], &busy).unwrap();
    let actions: Vec<_> = rules.iter().map(|rule| (rule.priority, rule.mark, rule.action)).collect();
    assert_eq!(
        actions,
        [
            (32_760, MARK, Action::Goto(32_763)),
            (32_761, 7, Action::Lookup),
            (32_762, 7, Action::Lookup),
            (32_763, 7, Action::Nothing),
        ]
    );
    // if the first is gone nothing changes, nor if it comes back before us
    assert_eq!(second.rules(&rules, &[], &host()).unwrap(), rules);
    // all of them are found again, and nothing else
    busy.splice(1..1, rules.clone());
    let (own, foreign) = split(busy.clone(), &[700].into());
    assert_eq!(own, rules);
    assert_eq!(own.len() + foreign.len(), busy.len());
    assert!(has_tunnel(&foreign) && !has_tunnel(&host()));
}

#[test]
fn a_rule_survives_the_wire() {
    for family in IpFamily::BOTH {
        let policy = Policy { family, prefix_lengths: vec![32, 16, 0], ..policy(&[]) };
        for rule in policy.block(&[9, 10].into(), 100) {
            let parsed = Rule::parse(&echoed(&rule, family), family).unwrap();
            assert_eq!(parsed, rule);
        }
    }
}

#[test]
fn rules_of_another_family_or_half_a_rule_are_left_out() {
    let bytes = echoed(&lookup(5, 7), IpFamily::V4);
    assert_eq!(Rule::parse(&bytes, IpFamily::V6), None);
    assert_eq!(Rule::parse(&bytes[..11], IpFamily::V4), None);
    // shown by ip(8) as `from all lookup main`: FRA_SUPPRESS_PREFIXLEN is -1
    let main = [&[2, 0, 0, 0, 254, 0, 0, 1, 0, 0, 0, 0][..], &[8, 0, 14, 0, 255, 255, 255, 255]].concat();
    let main = Rule::parse(&main, IpFamily::V4).unwrap();
    assert!(main.is_main() && main.suppress.is_none());
}

/// Returns the longest of these prefixes that contains `address`, if it is longer than `suppress`.
fn look_up(table: &[Prefix], address: IpAddr, suppress: Option<u32>) -> Option<Prefix> {
    let best = table.iter().filter(|prefix| prefix.contains(address)).max_by_key(|prefix| prefix.length())?;
    (suppress.is_none_or(|suppress| u32::from(best.length()) > suppress)).then_some(*best)
}

/// Returns the table in which the kernel would find a route, main or ours.
fn route(rules: &[Rule], main: &[Prefix], ours: &[Prefix], address: IpAddr, mark: u32) -> Option<(bool, u8)> {
    let mut from = 0;
    for rule in rules {
        if rule.priority < from || ((mark & rule.mask) == rule.mark) == rule.invert {
            continue;
        }
        match rule.action {
            Action::Goto(priority) => from = priority,
            Action::Nothing | Action::Other => {}
            Action::Lookup => {
                let table = if rule.table == MAIN { main } else { ours };
                if let Some(prefix) = look_up(table, address, rule.suppress) {
                    return Some((rule.table == MARK, prefix.length()));
                }
            }
        }
    }
    None
}

fn prefixes() -> impl Strategy<Value = Vec<Prefix>> {
    // few bits, so that the prefixes contain one another
    let prefix = (0_u32..16, 0_u8..=32).prop_map(|(bits, length)| {
        Prefix::new(Ipv4Addr::from_bits(bits << 28 | bits).into(), length).unwrap()
    });
    prop::collection::vec(prefix, 0..12)
}

proptest! {
    /// The rules find the longest match of both tables, ours for equal lengths; marked packets use
    /// main only.
    #[test]
    fn the_longest_match_wins(main in prefixes(), ours in prefixes(), bits in 0_u32..16, odd in 0_u32..3) {
        let address = IpAddr::from(Ipv4Addr::from_bits(bits << 28 | (bits ^ odd)));
        let lengths: BTreeSet<u8> = ours.iter().map(|prefix| prefix.length()).collect();
        let policy = policy(&lengths.into_iter().rev().collect::<Vec<_>>());
        let mut rules = host();
        rules.splice(1..1, policy.rules(&[], &[], &host()).unwrap());
        rules.retain(|rule| rule.table == MAIN || rule.table == MARK);
        let length = |prefix: Option<Prefix>| prefix.map(Prefix::length);
        let in_main = length(look_up(&main, address, None));
        let in_ours = length(look_up(&ours, address, None));
        let expected = if in_ours.is_some() && in_ours >= in_main {
            in_ours.map(|length| (true, length))
        } else {
            in_main.map(|length| (false, length))
        };
        prop_assert_eq!(route(&rules, &main, &ours, address, 0), expected);
        prop_assert_eq!(route(&rules, &main, &ours, address, MARK), in_main.map(|length| (false, length)));
    }

    #[test]
    fn any_body_is_survived(mut body in prop::collection::vec(any::<u8>(), 0..100)) {
        let _ = Rule::parse(&body, IpFamily::V4);
        if let Some(family) = body.first_mut() {
            *family = 2;
        }
        let _ = Rule::parse(&body, IpFamily::V4);
    }
}
