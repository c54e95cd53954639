//! IPv6 is disabled on the tunnel's device for a while, as NetworkManager does when it takes over a
//! device. The kernel reports neither the change to 1 nor the change back.

use std::time::Duration;

use super::client::Stage;

/// Disables IPv6 twice for `span`, and runs `command` right after it is enabled again.
fn disable(span: Duration, command: &str, what: &str) {
    let stage = Stage::new();
    let site = stage.site();
    let client = stage.start(&[]);
    let switch = "/proc/sys/net/ipv6/conf/wg0/disable_ipv6";
    for round in 1..=2 {
        site.shell(&format!("echo 1 >{switch}"));
        std::thread::sleep(span);
        site.shell(&format!("echo 0 >{switch}; {command}"));
        client.is_back(&format!("{what}, round {round}"));
    }
    client.finish(&format!("{what}, client"));
}

/// Traffic of the tunnel does not leave outside it meanwhile, and IPv6 is restored.
#[test]
fn ipv6_that_was_disabled_comes_back() {
    disable(Duration::from_secs(1), "true", "IPv6 was disabled");
}

/// Nor are the addresses forgotten if the routes are compared before IPv6 is tried again.
#[test]
fn addresses_come_back_although_the_routes_did_first() {
    let span = Duration::from_millis(300);
    disable(span, "ip -4 route del default dev wg0 table 51820", "the routes came back first");
}
