//! All network state of a host that the tunnel or other programs may have set.

use std::collections::BTreeMap;

use crate::wireguard::site::Site;

/// Sysctls that a tunnel turns on, as shell patterns.
const SETTINGS: &str = "/proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv4/conf/*/forwarding \
     /proc/sys/net/ipv4/conf/all/src_valid_mark /proc/sys/net/ipv6/conf/all/forwarding \
     /proc/sys/net/ipv6/conf/*/force_forwarding";

/// State of a host, by kind. Equal snapshots are indistinguishable states.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Snapshot(BTreeMap<&'static str, Vec<String>>);

impl Snapshot {
    pub(super) fn of(site: &Site) -> Self {
        let text = site.shell(&format!(
            "ip -brief address; echo ---
             ip -o link show dev wg0; echo ---
             ip -4 route show table all; ip -6 route show table all; echo ---
             ip -4 rule; echo ---
             ip -6 rule; echo ---
             nft list ruleset; echo ---
             for file in {SETTINGS}; do [ ! -e $file ] || echo $file $(cat $file); done"
        ));
        let parts: Vec<&str> = text.split("---\n").collect();
        let [addresses, link, routes, v4_rules, v6_rules, tables, settings] = parts[..] else {
            panic!("{} parts: {text}", parts.len());
        };
        let lines = |text: &str| text.lines().map(|line| line.trim().to_owned()).collect::<Vec<_>>();
        let sorted = |text: &str| {
            let mut lines = lines(text);
            lines.sort();
            lines
        };
        Self(BTreeMap::from([
            // restored objects come after the others
            ("addresses", lines(addresses).iter().map(|line| sorted_words(line)).collect()),
            ("link", lines(link)),
            ("routes", sorted(routes)),
            ("IPv4 rules", lines(v4_rules)),
            ("IPv6 rules", lines(v6_rules)),
            ("tables", tables_of(tables)),
            ("settings", lines(settings)),
        ]))
    }

    /// Returns the lines that only one of the two has.
    pub(super) fn difference(&self, after: &Self) -> String {
        let mut text = String::new();
        for (kind, before) in &self.0 {
            let after = &after.0[kind];
            if before == after {
                continue;
            }
            for (sign, some, others) in [("-", before, after), ("+", after, before)] {
                let mut others = others.clone();
                for line in some {
                    match others.iter().position(|other| other == line) {
                        Some(place) => drop(others.remove(place)),
                        None => text += &format!("{sign} {kind}: {line}\n"),
                    }
                }
            }
            if text.is_empty() {
                text = format!("{kind} in another order: {before:#?}, now {after:#?}\n");
            }
        }
        text
    }
}

fn sorted_words(line: &str) -> String {
    let mut words: Vec<&str> = line.split_whitespace().collect();
    words.sort_unstable();
    words.join(" ")
}

/// Returns one text for each table, without its owner and the set elements that rules have added.
fn tables_of(ruleset: &str) -> Vec<String> {
    let mut tables: Vec<String> = Vec::new();
    let mut is_dynamic = false;
    for line in ruleset.lines() {
        let line = line.split(" # progname ").next().unwrap();
        let words = line.trim();
        if line.starts_with("table ") {
            tables.push(String::new());
        }
        if line.starts_with("\tflags ") || is_dynamic {
            is_dynamic &= !words.ends_with('}');
            continue;
        }
        if words.starts_with("elements = ") && words.contains(" expires ") {
            is_dynamic = !words.ends_with('}');
            continue;
        }
        if let Some(table) = tables.last_mut() {
            *table += line;
            table.push('\n');
        }
    }
    tables.sort();
    tables
}
