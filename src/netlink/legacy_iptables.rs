//! Detection of legacy iptables, whose rules this program has no privilege to read.

use std::fs;

/// Returns true if legacy iptables, or ip6tables where `v6` is true, has a table that can drop.
pub(super) fn has_filter(v6: bool) -> bool {
    has_table("filter", v6)
}

/// Returns true if legacy iptables, or ip6tables where `v6` is true, has a table that translates
/// addresses.
pub(super) fn has_nat(v6: bool) -> bool {
    has_table("nat", v6)
}

fn has_table(table: &str, v6: bool) -> bool {
    let names = if v6 { "/proc/net/ip6_tables_names" } else { "/proc/net/ip_tables_names" };
    fs::read_to_string(names).is_ok_and(|names| lists(&names, table))
}

/// Returns true if the list of tables in use contains `table`.
fn lists(names: &str, table: &str) -> bool {
    names.lines().any(|name| name.trim() == table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn legacy_tables_are_recognized_by_name() {
        assert!(lists("nat\nfilter\n", "filter"));
        assert!(!["nat\nmangle\n", "", "filters\n"].iter().any(|names| lists(names, "filter")));
    }
}
