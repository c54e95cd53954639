//! Another program moves the device of a running tunnel to another network namespace, and back.

use std::net::Ipv4Addr;
use std::sync::Arc;

use crate::bare::{INNER_CLIENT, INNER_SERVER};
use crate::daemon::Daemon;
use crate::lab::Lab;
use crate::mounts::BINARY;
use crate::waiting::{Finished, TIMEOUT, eventually, finish, holds_within};
use crate::wireguard::kill_switch::{Stage, WORLD_V4, WORLD_V6, kill, reaches_the_world, start};
use crate::wireguard::pair::{Outer, Plan, SERVER_V4};
use crate::wireguard::site::Site;
use crate::wireguard::tally::Tally;

/// Packets to the Internet in clear.
const WORLD: &[(&str, &str)] = &[("v4", "ip daddr 203.0.113.1"), ("v6", "ip6 daddr 2001:db8:ffff::1")];

/// Makes a network namespace of the site's own, without a network.
fn add_cell(site: &Site) {
    site.shell("mkdir -p /run/netns; ip netns add cell; ip -n cell link set lo up");
}

/// Moves the device `tun` into that namespace, and gives it a client's addresses there.
fn move_there(site: &Site, tun: &str) {
    site.shell(&format!(
        "ip link set {tun} netns cell
         ip -n cell address add 10.9.0.2/24 dev {tun}
         ip -n cell address add fd00:9::2/64 dev {tun} nodad
         ip -n cell link set {tun} up"
    ));
}

fn move_back(site: &Site, tun: &str) {
    site.shell(&format!("ip -n cell link set {tun} netns $$"));
}

fn reaches_the_server(site: &Site) -> bool {
    let mut ping = site.command("ip");
    ping.args(["netns", "exec", "cell", "ping", "-n", "-c", "1", "-W", "2", SERVER_V4]);
    finish(&mut ping, TIMEOUT).status.success()
}

fn health(site: &Site, tun: &str) -> Finished {
    finish(site.command(BINARY).args(["health", "--tun", tun]), TIMEOUT)
}

/// Returns the addresses, routes, rules and tables.
fn state(site: &Site, tun: &str) -> String {
    site.shell(&format!(
        "ip -brief address show dev {tun} | tr -s ' ' | cut -d ' ' -f 3-
         ip -4 rule; ip -6 rule; ip -4 route show table all proto 119; ip -6 route show table all proto 119
         nft list tables | grep wontun | sort"
    ))
}

/// Panics unless everything is, now or soon, as it was before.
fn is_set_again(site: &Site, tun: &str, before: &str) {
    let mut now = String::new();
    let is_equal = holds_within(TIMEOUT, || {
        now = state(site, tun);
        now == before
    });
    assert!(is_equal, "wanted:\n{before}\nfound:\n{now}");
}

/// Sends to the Internet over both families, and returns the number of packets that left in clear.
fn talk(site: &Site, tally: &Tally<'_>) -> [u64; 2] {
    tally.reset();
    assert!(!site.ping_once(WORLD_V4, 56) && !site.ping_once(WORLD_V6, 56));
    ["v4", "v6"].map(|class| tally.count(class))
}

/// Without a kill switch: traffic of the tunnel's default routes does not leave outside it.
#[test]
fn a_full_tunnel_that_is_moved_leaves_nothing_in_clear() {
    let stage = Stage::new();
    let client = stage.client();
    let tally = Tally::start(&stage.router, "prerouting", WORLD);
    // the control: the Internet is reachable without a tunnel
    client.ping(WORLD_V4);
    client.ping(WORLD_V6);
    assert!(tally.count("v4") > 0 && tally.count("v6") > 0);
    let daemon = start(client, &stage.plan.client, &[]);
    reaches_the_world(&stage);
    let before = state(client, "wg0");
    add_cell(client);
    for round in 0..2 {
        move_there(client, "wg0");
        daemon.wait_for_more("wg0 was moved to another network namespace", round);
        eventually("it carries packets there", || reaches_the_server(client));
        let ill = health(client, "wg0");
        let reason =
            "wg0 is in another network namespace, and networks routed into it are unreachable from here";
        assert!(ill.code() == 1 && ill.stderr.contains(reason), "{ill:?}");
        assert_eq!(talk(client, &tally), [0, 0]);
        // nor when its rules are deleted meanwhile
        client.shell("ip -4 rule flush protocol 119; ip -6 rule flush protocol 119");
        eventually("the rules are back", || {
            ["ip -4 rule", "ip -6 rule"].iter().all(|list| client.shell(list).contains("lookup 51820"))
        });
        assert_eq!(talk(client, &tally), [0, 0]);
        move_back(client, "wg0");
        eventually("the health is well", || health(client, "wg0").status.success());
        is_set_again(client, "wg0", &before);
        reaches_the_world(&stage);
    }
    assert!(daemon.stop().status.success());
    let left = client.shell("ip -4 rule; ip -6 rule; ip -4 route show table all; ip -6 route show table all");
    assert!(!left.contains("51820") && !left.contains("proto 119"), "{left}");
    client.ping(WORLD_V4);
}

/// Its index may belong to another device by then; in another case its name has changed.
#[test]
fn it_comes_back_with_another_index_or_another_name() {
    let stage = Stage::new();
    let client = stage.client();
    let daemon = start(client, &stage.plan.client, &["--kill-switch"]);
    reaches_the_world(&stage);
    let before = state(client, "wg0");
    let index = |tun: &str| client.shell(&format!("ip -o link show dev {tun} | cut -d : -f 1"));
    add_cell(client);
    let old = index("wg0");
    move_there(client, "wg0");
    daemon.wait_for("wg0 was moved to another network namespace");
    client.shell(&format!(
        "ip link add index {} name squatter type veth peer name far; ip link set squatter up",
        old.trim()
    ));
    assert_eq!(health(client, "wg0").code(), 1, "another device with its index is not it");
    move_back(client, "wg0");
    is_set_again(client, "wg0", &before);
    assert_ne!(index("wg0"), old);
    reaches_the_world(&stage);
    client.ip(&["address", "flush", "dev", "wg0"]);
    is_set_again(client, "wg0", &before);

    move_there(client, "wg0");
    daemon.wait_for_more("wg0 was moved to another network namespace", 1);
    client.shell("ip -n cell link set wg0 name home");
    move_back(client, "home");
    eventually("the health follows", || health(client, "home").status.success());
    let before = before.replace("dev wg0", "dev home");
    is_set_again(client, "home", &before);
    reaches_the_world(&stage);
    assert!(!client.shell("ip address show dev squatter").contains("10.9.0.2"));
    assert!(daemon.stop().status.success());
}

/// Another program deletes a route to its network after it has come back with another index.
#[test]
fn its_routes_are_watched_when_it_is_back_with_another_index() {
    let lab = Arc::new(Lab::new(2));
    let plan = Plan::new(&lab, Outer::V4);
    let client = &plan.client_site;
    let daemon = start(client, &plan.client, &[]);
    let routes = || client.ip(&["-4", "route", "show", "10.9.0.0/24"]);
    let before = routes();
    assert!(before.contains("dev wg0"), "{before}");
    add_cell(client);
    let index = client.shell("cat /sys/class/net/wg0/ifindex");
    move_there(client, "wg0");
    daemon.wait_for("wg0 was moved to another network namespace");
    client.shell(&format!("ip link add index {} name squatter type veth peer name far", index.trim()));
    move_back(client, "wg0");
    daemon.wait_for("wg0 is back in this network namespace");
    eventually("its address is back", || routes() == before);
    client.ip(&["route", "delete", "10.9.0.0/24", "dev", "wg0"]);
    eventually("the network is routed into the device", || routes().contains("dev wg0"));
    assert!(daemon.stop().status.success());
}

/// The next start finds the routes that a run killed meanwhile has made unreachable.
#[test]
fn a_run_that_is_killed_meanwhile_locks_nobody_out() {
    let stage = Stage::new();
    let client = stage.client();
    let daemon = start(client, &stage.plan.client, &[]);
    reaches_the_world(&stage);
    let before = state(client, "wg0");
    add_cell(client);
    move_there(client, "wg0");
    daemon.wait_for("wg0 was moved to another network namespace");
    kill(daemon);
    assert!(client.shell("ip route show table 51820").contains("unreachable default"));
    let daemon = start(client, &stage.plan.client, &[]);
    assert_eq!(state(client, "wg0"), before);
    reaches_the_world(&stage);
    assert!(daemon.stop().status.success());
    client.ping(WORLD_V4);
    client.ping(WORLD_V6);
}

/// A tunnel with a few networks protects nothing here: it is healthy, and reports where the device
/// is.
#[test]
fn a_split_tunnel_is_well_there_and_set_again_here() {
    let lab = Arc::new(Lab::new(2));
    let plan = Plan::new(&lab, Outer::V4);
    let _server = start(&plan.server_site, &plan.server, &[]);
    let client = &plan.client_site;
    let daemon = start(client, &plan.client, &[]);
    let server = SERVER_V4.parse::<Ipv4Addr>().unwrap();
    client.ping(server);
    let before = state(client, "wg0");
    add_cell(client);
    move_there(client, "wg0");
    eventually("it carries packets there", || reaches_the_server(client));
    daemon.wait_for("wg0 was moved to another network namespace");
    let well = health(client, "wg0");
    assert!(
        well.code() == 0 && well.stdout.contains("the device is in another network namespace"),
        "{well:?}"
    );
    move_back(client, "wg0");
    is_set_again(client, "wg0", &before);
    client.ping(server);
    // the device may be deleted with its namespace
    move_there(client, "wg0");
    client.shell("ip netns delete cell");
    let stopped = daemon.wait_exit();
    assert_eq!(stopped.status.code(), Some(69), "{:?}", stopped.lines);
    assert!(!client.shell("nft list tables").contains("wontun") && !client.socket("wg0").exists());
}

#[test]
fn a_plain_tunnel_is_set_again() {
    let lab = Lab::new(3);
    let server = Daemon::server(lab.server(), &[]);
    let _client = Daemon::client(lab.client(), lab.server(), &[]);
    lab.client().ping(INNER_SERVER);
    let elsewhere = lab.host(2);
    lab.server().ip(&["link", "set", "tun0", "netns", elsewhere.name()]);
    server.wait_for("tun0 was moved to another network namespace");
    elsewhere.ip(&["link", "set", "tun0", "mtu", "1300"]);
    elsewhere.ip(&["link", "set", "tun0", "netns", lab.server().name()]);
    server.wait_for("tun0 is back in this network namespace");
    lab.client().ping(INNER_SERVER);
    lab.server().ping(INNER_CLIENT);
    assert_eq!(lab.server().mtu("tun0"), 1472);
    assert!(server.stop().status.success());
}
