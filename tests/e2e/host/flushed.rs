//! State that is deleted along with something else, or whose deletion the kernel does not announce.

use super::older::NfTables;
use super::snapshot::Snapshot;
use super::stage::Stage;
use crate::waiting::eventually;

/// The routes to the networks of the addresses are the kernel's own. Peers within these networks
/// have no other routes.
#[test]
fn peers_are_reached_without_the_kernels_routes() {
    let stage = Stage::server(NfTables::Kernel, &[]);
    stage.passes();
    for removal in [
        "ip -4 route del 10.9.0.0/24 dev wg0",
        "ip -6 route del fd00:9::/64 dev wg0",
        "ip -4 route flush dev wg0; ip -6 route flush dev wg0",
    ] {
        stage.site.shell(removal);
        stage.passes();
    }
    assert_eq!(stage.health().code(), 0);
}

/// When a device loses its last IPv4 address, it loses its routes, and the kernel does not announce
/// it.
#[test]
fn routes_come_back_with_the_last_address() {
    let stage = Stage::full_tunnel(NfTables::Kernel, &[]);
    stage.passes();
    stage.settle();
    let before = Snapshot::of(&stage.site);
    stage.site.ip(&["-4", "address", "flush", "dev", "wg0"]);
    let mut after = before.clone();
    eventually("the routes are back", || {
        after = Snapshot::of(&stage.site);
        after == before
    });
    stage.passes();
}

/// A change of `src_valid_mark` is not announced: a health request compares it.
#[test]
fn a_setting_is_put_back_when_the_health_is_asked_for() {
    let stage = Stage::full_tunnel(NfTables::Kernel, &["--kill-switch"]);
    let file = "/proc/sys/net/ipv4/conf/all/src_valid_mark";
    assert_eq!(stage.site.shell(&format!("cat {file}")), "1\n");
    stage.site.shell(&format!("echo 0 >{file}"));
    eventually("it is set again", || {
        assert_eq!(stage.health().code(), 0);
        stage.site.shell(&format!("cat {file}")) == "1\n"
    });
}

/// Some scripts delete all rules, and add only those that they know.
#[test]
fn rules_come_back_where_they_were_when_all_rules_are_deleted() {
    let stage = Stage::full_tunnel(NfTables::Kernel, &[]);
    stage.add_foreign_state();
    stage.passes();
    stage.settle();
    let before = Snapshot::of(&stage.site);
    let foreign = stage.site.shell("ip -4 rule show priority 100; ip -4 rule show priority 40000");
    assert_eq!(foreign.lines().count(), 2, "{foreign}");
    stage.site.shell(
        "ip -4 rule flush
         sleep 0.3
         ip -4 rule add priority 32766 lookup main
         ip -4 rule add priority 32767 lookup default
         ip -4 rule add from 198.18.7.1 lookup 77 priority 100
         ip -4 rule add fwmark 0x77 lookup 77 priority 40000",
    );
    let mut after = before.clone();
    eventually("all rules are there", || {
        after = Snapshot::of(&stage.site);
        after == before
    });
    stage.passes();
}

/// Replacing a route is not announced as a deletion: without the tunnel's route everything would
/// leave in clear.
#[test]
fn a_route_of_the_policy_table_that_is_replaced_comes_back() {
    let stage = Stage::full_tunnel(NfTables::Kernel, &[]);
    stage.passes();
    stage.settle();
    let before = Snapshot::of(&stage.site);
    for (family, gateway) in [("-4", "192.0.2.254"), ("-6", "2001:db8::fe")] {
        let route = ["route", "replace", "default", "via", gateway, "table", "51820"];
        stage.site.ip(&[&[family], &route[..]].concat());
        let mut after = before.clone();
        eventually("the route is back", || {
            after = Snapshot::of(&stage.site);
            after == before
        });
    }
    stage.passes();
}
