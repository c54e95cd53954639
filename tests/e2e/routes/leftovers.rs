//! State that a killed run leaves behind, and state of other programs.

use std::num::NonZeroU32;

use wontun::netlink::DesiredRouting;

use super::{add_device, apply, full, lab, marked, open, route_to, routing_state, wanted};

/// Simulates a killed run: its device disappears with it, and nothing else.
fn kill(host: &crate::lab::Host, name: &str, wanted: &DesiredRouting) {
    let mut routes = open(host, name);
    apply(host, &mut routes, wanted);
    routes.leave_in_place();
    host.ip(&["link", "delete", name]);
}

#[test]
fn leftovers_of_a_killed_run_are_replaced() {
    let lab = lab();
    let host = lab.client();
    let clean = routing_state(host);
    kill(host, "tun7", &full());
    let left = routing_state(host);
    for what in ["lookup 51820", "wontun-tun7", "throw default table 51820"] {
        assert!(left.contains(what), "{what} in {left}");
    }
    assert!(left.ends_with("1\n"), "src_valid_mark stays: {left}");

    // the next run wants the same: it has the same mark and table, and undoes what the first did
    add_device(host, "tun7");
    let mut routes = open(host, "tun7");
    assert_eq!(apply(host, &mut routes, &full()), marked(51_820));
    assert_eq!(host.ip(&["rule", "show"]).matches("proto 119").count(), 2);
    assert_eq!(route_to(host, "198.51.100.7", 0), "tun7");
    drop(routes);
    assert_eq!(without_indices(&routing_state(host)), without_indices(&clean));

    // the next run wants another mark
    kill(host, "tun7", &full());
    add_device(host, "tun7");
    let mut routes = open(host, "tun7");
    let other = DesiredRouting { fwmark: NonZeroU32::new(0x1234), ..full() };
    assert_eq!(apply(host, &mut routes, &other), marked(0x1234));
    let now = routing_state(host);
    assert!(!now.contains("51820") && !now.contains("0xca6c"), "{now}");
    routes.leave_in_place();
    host.ip(&["link", "delete", "tun7"]);

    // the next run wants no routes
    add_device(host, "tun7");
    let mut routes = open(host, "tun7");
    assert_eq!(apply(host, &mut routes, &wanted(&["10.9.0.0/16"], &[])).mark, None);
    let now = routing_state(host);
    for what in ["0x1234", "4660", "wontun", "throw"] {
        assert!(!now.contains(what), "{what} in {now}");
    }
    drop(routes);
    assert_eq!(without_indices(&routing_state(host)), without_indices(&clean));
}

/// Removes interface indices: devices that were created again are listed in another order.
fn without_indices(routing_state: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = routing_state.lines().collect();
    lines.sort_unstable();
    lines
}

/// Rules and tables of a user and of wg-quick that resemble the tunnel's.
#[test]
fn what_is_not_ours_stays() {
    let lab = lab();
    let host = lab.client();
    host.shell(
        "ip rule add not fwmark 51820 table 51820; ip rule add table main suppress_prefixlength 0
         ip rule add fwmark 0x9 lookup 900 protocol 119; ip rule add not fwmark 9 lookup 901 protocol 119
         ip route add default dev eth0 table 51820 proto 119
         ip route add 10.30.0.0/16 dev tun7; ip route add 10.31.0.0/16 dev eth0 proto 119
         ip -6 route add default dev eth0 table 51821
         ip route add throw default table 51822 metric 77 proto 119
         ip rule add lookup 51823 priority 20000
         nft add table ip wg-quick-tun7; nft add table inet wontun-tun7; nft add table ip wontun-tun70",
    );
    let before = routing_state(host);
    let mut routes = open(host, "tun7");
    assert_eq!(apply(host, &mut routes, &full()), marked(51_824), "the first number that nobody uses");
    let with = routing_state(host);
    apply(host, &mut routes, &wanted(&["10.30.0.0/24", "192.168.0.0/16"], &["192.168.3.4"]));
    apply(host, &mut routes, &full());
    assert_eq!(route_to(host, "203.0.113.1", 0), "tun7");
    assert_ne!(with, before);
    drop(routes);
    let after = routing_state(host);
    assert_eq!(after.trim_end_matches("1\n"), before.trim_end_matches("0\n"));
    assert!(after.ends_with("1\n"), "src_valid_mark is for the tunnel that stays");
}
