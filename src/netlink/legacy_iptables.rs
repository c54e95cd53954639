//! Detection of legacy iptables, whose rules this program has no privilege to read.

use std::fs;

/// Returns true if legacy iptables, or ip6tables where `v6` is true, has a table that can drop.
pub(super) fn has_filter(v6: bool) -> bool {
    let names = if v6 { "/proc/net/ip6_tables_names" } else { "/proc/net/ip_tables_names" };
    fs::read_to_string(names).is_ok_and(|names| lists_filter(&names))
}

/// Returns true if the list of tables in use contains `filter`.
fn lists_filter(names: &str) -> bool {
    names.lines().any(|name| name.trim() == "filter")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn legacy_tables_are_recognized_by_name() {
        assert!(lists_filter("nat\nfilter\n"));
        assert!(!lists_filter("nat\nmangle\n") && !lists_filter("") && !lists_filter("filters\n"));
    }
}
