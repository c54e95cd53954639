//! A host's state as text: wontun's own, and that of other programs.

use crate::mounts::BINARY;
use crate::waiting::{TIMEOUT, eventually, finish, holds_within};
use crate::wireguard::site::Site;

/// Returns the rules, routes, addresses, nf_tables tables and sysctls that belong to the tunnel
/// `wg0`.
pub(super) fn own(site: &Site) -> String {
    site.shell(
        "ip -4 rule list protocol 119; ip -6 rule list protocol 119
         ip -4 route show table all protocol 119; ip -6 route show table all protocol 119
         ip -brief address show dev wg0
         ip -brief link show dev wg0
         cat /proc/sys/net/ipv4/conf/all/src_valid_mark
         nft list tables | grep -F ' wontun-' | sort | while read table family name; do
             nft --stateless list table $family $name | sed -e 's/ # progname .*//' -e '/^\\tflags/d' -e '/elements = .* timeout /d'
         done",
    )
}

/// Returns the rules, routes and nf_tables tables of other programs.
pub(super) fn others(site: &Site) -> String {
    site.shell(
        "ip -4 rule; ip -6 rule
         ip -4 route show; ip -6 route show
         nft list tables 2>/dev/null | sort | while read table family name; do
             nft --stateless list table $family $name 2>/dev/null
         done",
    )
    .lines()
    .filter(|line| !line.contains("proto 119"))
    .scan(false, |is_own, line| {
        // a table ends with a brace in the first column
        let begins = line.starts_with("table ") && line.contains(" wontun-");
        let hidden = *is_own || begins;
        *is_own = hidden && line != "}";
        Some((!hidden).then_some(line))
    })
    .flatten()
    // routes of the device disappear with it
    .filter(|line| !line.contains("dev wg0"))
    .fold(String::new(), |text, line| text + line + "\n")
}

/// Panics unless the tunnel's state becomes `wanted` and stays so.
pub(super) fn is_back(site: &Site, what: &str, wanted: &str) {
    let mut found = String::new();
    let mut is_as_wanted = || {
        found = own(site);
        found == wanted
    };
    // the other program may go on after the first look
    let is_back = holds_within(TIMEOUT, || {
        is_as_wanted() && {
            std::thread::sleep(std::time::Duration::from_millis(100));
            is_as_wanted()
        }
    });
    assert!(is_back, "after {what} it is not as before, or there twice:\n{found}\nbut should be:\n{wanted}");
}

/// Panics unless `wontun health` reports, now or soon, that the tunnel is healthy.
pub(super) fn is_healthy(site: &Site) {
    let mut said = None;
    let is_healthy = holds_within(TIMEOUT, || {
        let health = finish(site.command(BINARY).args(["health", "--tun", "wg0"]), TIMEOUT);
        let is_healthy = health.status.success();
        said = Some(health);
        is_healthy
    });
    assert!(is_healthy, "{said:?}");
}

/// Waits until the state of other programs has not changed for a while, and returns it.
pub(super) fn settled_others(site: &Site) -> String {
    let mut last = others(site);
    eventually("the host settles", || {
        std::thread::sleep(std::time::Duration::from_millis(300));
        let now = others(site);
        let is_same = now == last;
        last = now;
        is_same
    });
    last
}
