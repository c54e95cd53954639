//! From one uplink to another, another address, IPv6 that comes and goes.

use std::thread::sleep;
use std::time::Duration;

use super::meter::Outage;
use super::records::Records;
use super::world::{Tunnel, Uplink, World, address, own_resolver};
use crate::wireguard::capture::Capture;
use crate::wireguard::pair::{Outer, PORT};
use crate::wireguard::probe::INITIATION;

/// The default route moves between two uplinks that both keep their addresses: nothing but the
/// routes says that the source address does not fit any more.
fn the_default_route_moves(outer: Outer, is_full: bool) {
    let world = World::new();
    let (client, family) = (world.client(), if outer == Outer::V6 { "-6" } else { "-4" });
    let [wifi, lte] = match outer {
        Outer::V4 => [Uplink::Wifi.route_v4(), Uplink::Lte.route_v4()],
        Outer::V6 => [Uplink::Wifi.route_v6(), Uplink::Lte.route_v6()],
    };
    client.shell(&format!("{wifi}; {lte}"));
    let tunnel = Tunnel::start(&world.plan(outer, is_full));
    let capture = Capture::start(world.lab.server());
    let what = format!("{outer:?}, full tunnel {is_full}");
    let meter = tunnel.meter();
    let lost = meter.outage(&format!("Wi-Fi loses its default route, LTE has one ({what})"), || {
        client.ip(&[family, "route", "delete", "default", "dev", "wlan0"]);
    });
    let endpoint = || tunnel.server.only_peer().endpoint;
    let [at_wifi, at_lte] = match outer {
        Outer::V4 => [world.router(Uplink::Wifi).v4, world.router(Uplink::Lte).v4].map(|v4| v4.to_string()),
        Outer::V6 => ["[2001:db8:a::2]", "[2001:db8:b::2]"].map(str::to_owned),
    };
    assert!(endpoint().starts_with(&at_lte), "{}", endpoint());
    let back = meter.outage(&format!("Wi-Fi has a better default route again ({what})"), || {
        client.shell(&wifi);
    });
    assert!(endpoint().starts_with(&at_wifi), "{}", endpoint());
    [lost, back].into_iter().for_each(Outage::assert_short);
    drop(meter);
    let frames = capture.stop();
    let initiations = frames.iter().filter(|frame| frame.to.1 == PORT && frame.kind() == Some(INITIATION));
    assert_eq!(initiations.count(), 2, "each move has made a handshake");
}

#[test]
fn a_default_route_that_moves_is_followed() {
    the_default_route_moves(Outer::V4, false);
}

#[test]
fn a_default_route_that_moves_is_followed_with_a_full_tunnel() {
    the_default_route_moves(Outer::V4, true);
}

#[test]
fn an_ipv6_default_route_that_moves_is_followed() {
    the_default_route_moves(Outer::V6, false);
}

/// The Wi-Fi goes, LTE comes up a moment later. Only the server sends: the client has no packet
/// that would show the server where it is.
#[test]
fn a_client_that_only_listens_is_found_again() {
    let world = World::new();
    let client = world.client();
    client.shell(&format!("ip link set wwan0 down; {}", Uplink::Wifi.route_v4()));
    let tunnel = Tunnel::start(&world.plan(Outer::V4, false));
    let meter = tunnel.meter_from_server();
    client.ip(&["link", "set", "wlan0", "down"]);
    sleep(Duration::from_millis(300));
    let outage = meter.outage("Wi-Fi has gone, LTE comes, only the server sends", || {
        client.shell(&format!("ip link set wwan0 up; {}", Uplink::Lte.route_v4()));
    });
    outage.assert_short();
}

/// A DHCP client prolongs its lease: nothing changes, and nothing is sent. Then it gets another
/// address.
#[test]
fn a_lease_is_renewed_and_replaced() {
    let world = World::new();
    let client = world.client();
    client.shell(&Uplink::Wifi.route_v4());
    let tunnel = Tunnel::start(&world.plan(Outer::V4, false));
    let meter = tunnel.meter_from_server();
    let renewed = meter.outage("a lease is renewed", || {
        client.shell(
            "ip address replace 10.1.0.2/24 dev wlan0 valid_lft 7200 preferred_lft 7200
            ip route replace default via 10.1.0.1 dev wlan0 metric 600",
        );
    });
    assert_eq!(renewed.lost, 0);
    sleep(Duration::from_millis(600));
    assert_eq!(tunnel.handshakes(), 1, "a renewed lease costs no handshake");
    let replaced = meter.outage("a lease is replaced, only the server sends", || {
        client.shell(&format!(
            "ip address delete 10.1.0.2/24 dev wlan0; ip address add 10.1.0.77/24 dev wlan0; {}",
            Uplink::Wifi.route_v4()
        ));
    });
    replaced.assert_short();
}

/// A dock brings an Ethernet device with a better route, and takes it away.
#[test]
fn a_dock_comes_and_goes() {
    let world = World::new();
    let (client, lte) = (world.client(), world.router(Uplink::Lte));
    client.shell(&format!("ip link delete wwan0; {}", Uplink::Wifi.route_v4()));
    let tunnel = Tunnel::start(&world.plan(Outer::V4, true));
    let meter = tunnel.meter();
    lte.shell("until ! ip link show lan 2>/dev/null; do sleep 0.01; done");
    let docked = meter.outage("docked", || {
        client.shell(&format!("ip link add eth1 type veth peer name lan netns {}", lte.name()));
        lte.shell("ip link set lan up; ip address add 10.2.0.1/24 dev lan");
        client.shell("ip link set eth1 up; ip address add 10.2.0.9/24 dev eth1");
        client.shell("ip route add default via 10.2.0.1 dev eth1 metric 100");
    });
    let undocked = meter.outage("undocked", || {
        client.ip(&["link", "delete", "eth1"]);
    });
    [docked, undocked].into_iter().for_each(Outage::assert_short);
}

/// The server's name has an address of each family. IPv6 goes, and comes back without IPv4.
#[test]
fn ipv6_comes_and_goes() {
    let world = World::new();
    let client = world.client();
    let (v4, v6) = (Uplink::Wifi.route_v4(), Uplink::Wifi.route_v6());
    client.shell(&format!("{v4}; {v6}"));
    let mut plan = world.plan(Outer::V4, false);
    let records = Records::serve(world.router(Uplink::Wifi), address("10.1.0.1"));
    records.set("server.example", &["2001:db8::1", "192.0.2.1"]);
    let _folder = own_resolver(&plan, "10.1.0.1");
    plan.client.peers[0].endpoint = Some(format!("server.example:{PORT}"));
    let tunnel = Tunnel::start(&plan);
    assert_eq!(tunnel.client.only_peer().endpoint, format!("[2001:db8::1]:{PORT}"));
    let meter = tunnel.meter();
    let gone = meter.outage("IPv6 loses its default route", || {
        client.ip(&["-6", "route", "delete", "default", "dev", "wlan0"]);
    });
    assert_eq!(tunnel.client.only_peer().endpoint, format!("192.0.2.1:{PORT}"));
    client.shell(&v6);
    let back = meter.outage("IPv6 is back, and IPv4 loses its default route", || {
        client.ip(&["-4", "route", "delete", "default", "dev", "wlan0"]);
    });
    assert_eq!(tunnel.client.only_peer().endpoint, format!("[2001:db8::1]:{PORT}"));
    [gone, back].into_iter().for_each(Outage::assert_short);
}
