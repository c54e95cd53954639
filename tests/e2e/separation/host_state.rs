//! All host state that a tunnel could change, as text.

use crate::waiting::eventually;
use crate::wireguard::site::Site;

/// Returns the links with their details, addresses, rules, routes of all tables, the ruleset
/// without its counters, and the sysctls of the network.
pub(crate) fn host_state(site: &Site) -> String {
    settles(site);
    site.shell(
        "ip -d link; ip address; ip -4 rule; ip -6 rule; ip -4 route show table all
         ip -6 route show table all; nft -s list ruleset
         grep -rs . /proc/sys/net/ipv4 /proc/sys/net/ipv6 /proc/sys/net/core /proc/sys/net/netfilter |
             grep -v -e stable_secret -e nf_conntrack_count -e tcp_fastopen_key -e ping_group_range | sort",
    )
}

/// Waits until duplicate address detection for this host's addresses has ended, which changes them.
pub(super) fn settles(site: &Site) {
    eventually("the addresses are there", || site.ip(&["-6", "address", "show", "tentative"]).is_empty());
}

/// Panics with the first lines that differ unless the host's state is the same as before.
pub(crate) fn is_as_before(site: &Site, before: &str) {
    let after = host_state(site);
    let gone: Vec<_> = before.lines().filter(|line| !after.lines().any(|other| other == *line)).collect();
    let new: Vec<_> = after.lines().filter(|line| !before.lines().any(|other| other == *line)).collect();
    assert!(after == before, "the host was changed; gone: {gone:#?}, new: {new:#?}");
}

/// Returns the kill switch of wg0 without its owner, which it loses when its process ends: the
/// flag, and the name that nft(8) prints after the table's.
pub(super) fn kill_switch_table(site: &Site) -> String {
    let table = site.shell("nft -s list table inet wontun-lock-wg0");
    let lines = table.lines().filter(|line| !line.trim().starts_with("flags"));
    lines.map(|line| line.trim_end_matches(" # progname wontun")).collect::<Vec<_>>().join("\n")
}
