//! A network with IPv6 only, and NAT64: a server that has an IPv4 address only is reached by the
//! prefix that the network's name server shows (RFC 7050).

use std::process::{Child, Stdio};

use super::meter::Outage;
use super::records::Records;
use super::world::{Tunnel, Uplink, World, address, own_resolver, set_servers};
use crate::daemons::need;
use crate::lab::Host;
use crate::mounts::Folder;
use crate::waiting::eventually;
use crate::wireguard::pair::{Outer, PORT};

const PREFIX: &str = "2001:db8:64::";
/// Answers of a name server with DNS64 for `ipv4only.arpa`.
const IPV4ONLY: [&str; 4] = ["192.0.0.170", "192.0.0.171", "2001:db8:64::c000:aa", "2001:db8:64::c000:ab"];

/// The translator tayga on a router.
struct Translator {
    child: Child,
    _folder: Folder,
}

impl Translator {
    fn start(router: &Host) -> Self {
        need(&["tayga"]);
        let folder = Folder::new();
        let configuration = format!(
            "tun-device nat64\nipv4-addr 192.168.64.1\nprefix {PREFIX}/96\n\
             dynamic-pool 192.168.64.0/24\ndata-dir {}\n",
            folder.path().display()
        );
        let file = folder.write("tayga.conf", &configuration);
        let file = file.to_str().unwrap();
        router.shell(&format!(
            "tayga --config {file} --mktun
            ip link set nat64 up
            ip address add 192.168.64.254/32 dev nat64
            ip route add 192.168.64.0/24 dev nat64
            ip -6 route add {PREFIX}/96 dev nat64"
        ));
        let child = router
            .command("tayga")
            .args(["--config", file, "--nodetach"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, _folder: folder }
    }
}

impl Drop for Translator {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn only_nat64_is_left(by_name: bool, is_full: bool) {
    let world = World::new();
    let (client, router) = (world.client(), world.router(Uplink::Lte));
    client.shell(&Uplink::Wifi.route_v4());
    let _translator = Translator::start(router);
    // the client's uplink has no IPv4
    client.ip(&["address", "delete", "10.2.0.2/24", "dev", "wwan0"]);
    let mut plan = world.plan(Outer::V4, is_full);
    let at_wifi = Records::serve(world.router(Uplink::Wifi), address("10.1.0.1"));
    at_wifi.set("server.example", &["192.0.2.1"]);
    // without DNS64 for this name, as behind a validating resolver
    let at_lte = Records::serve(router, address("2001:db8:b::1"));
    at_lte.set("server.example", &["192.0.2.1"]);
    at_lte.set("ipv4only.arpa", &IPV4ONLY);
    let folder = own_resolver(&plan, "10.1.0.1");
    if by_name {
        plan.client.peers[0].endpoint = Some(format!("server.example:{PORT}"));
    }
    let tunnel = Tunnel::start(&plan);
    let meter = tunnel.meter();
    let what = format!("by name {by_name}, full tunnel {is_full}");
    client.ip(&["link", "set", "wlan0", "down"]);
    set_servers(&folder, "2001:db8:b::1");
    let moved = meter.outage(&format!("to a network with NAT64 only ({what})"), || {
        client.shell(&Uplink::Lte.route_v6());
    });
    let endpoint = || tunnel.client.only_peer().endpoint;
    assert_eq!(endpoint(), format!("[2001:db8:64::c000:201]:{PORT}"));
    client.ip(&["link", "set", "wwan0", "down"]);
    set_servers(&folder, "10.1.0.1");
    client.ip(&["link", "set", "wlan0", "up"]);
    let back = meter.outage(&format!("back to a network with IPv4 only ({what})"), || {
        client.shell(&Uplink::Wifi.route_v4());
    });
    eventually("the address of the server is used again", || endpoint() == format!("192.0.2.1:{PORT}"));
    [moved, back].into_iter().for_each(Outage::assert_short);
}

#[test]
fn an_address_is_reached_through_nat64() {
    only_nat64_is_left(false, true);
}

#[test]
fn a_name_with_an_ipv4_address_is_reached_through_nat64() {
    only_nat64_is_left(true, false);
}

/// The tunnel starts in a network with NAT64 only.
#[test]
fn a_tunnel_starts_behind_nat64() {
    let world = World::new();
    let (client, router) = (world.client(), world.router(Uplink::Lte));
    let _translator = Translator::start(router);
    client.shell(&format!(
        "ip link set wlan0 down; ip address flush dev wwan0 scope global; \
        ip address add 2001:db8:b::2/64 dev wwan0 nodad; {}",
        Uplink::Lte.route_v6()
    ));
    let plan = world.plan(Outer::V4, true);
    let records = Records::serve(router, address("2001:db8:b::1"));
    records.set("ipv4only.arpa", &IPV4ONLY);
    let _folder = own_resolver(&plan, "2001:db8:b::1");
    let tunnel = Tunnel::start(&plan);
    assert_eq!(tunnel.client.only_peer().endpoint, format!("[2001:db8:64::c000:201]:{PORT}"));
    records.remove("ipv4only.arpa");
}
