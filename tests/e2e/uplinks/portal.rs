//! A captive portal: datagrams are dropped and names lie, until somebody logs in.

use std::thread::sleep;
use std::time::Duration;

use super::records::Records;
use super::world::{Tunnel, Uplink, World, address, own_resolver, set_servers};
use crate::wireguard::pair::{Outer, PORT};

/// Time until somebody has logged in.
const LOGIN: Duration = Duration::from_millis(2500);
/// Verdicts of the portal for packets that it does not let through.
const VERDICTS: [&str; 2] = ["drop", "reject"];

fn a_portal_opens(by_name: bool, verdict: &str) {
    let world = World::new();
    let client = world.client();
    client.shell(&Uplink::Lte.route_v4());
    let mut plan = world.plan(Outer::V4, true);
    let [at_wifi, at_lte] = [(Uplink::Wifi, "10.1.0.1"), (Uplink::Lte, "10.2.0.1")]
        .map(|(uplink, own)| Records::serve(world.router(uplink), address(own)));
    at_lte.set("server.example", &["192.0.2.1"]);
    at_wifi.set("*", &["10.1.0.1"]);
    let folder = own_resolver(&plan, "10.2.0.1");
    if by_name {
        plan.client.peers[0].endpoint = Some(format!("server.example:{PORT}"));
    }
    let tunnel = Tunnel::start(&plan);
    let meter = tunnel.meter();
    let portal = world.router(Uplink::Wifi);
    portal.shell(&format!(
        "nft 'table ip portal {{ chain forward {{ type filter hook forward priority -1; {verdict}; }}; }}'"
    ));
    set_servers(&folder, "10.1.0.1");
    client.shell(&Uplink::Wifi.route_v4());
    sleep(LOGIN);
    let outage = meter.outage(&format!("a captive portal opens ({verdict}, by name {by_name})"), || {
        at_wifi.set("server.example", &["192.0.2.1"]);
        portal.shell("nft delete table ip portal");
    });
    outage.assert_short();
}

#[test]
fn a_portal_that_drops_opens_for_an_address() {
    a_portal_opens(false, VERDICTS[0]);
}

#[test]
fn a_portal_that_rejects_opens_for_a_name() {
    a_portal_opens(true, VERDICTS[1]);
}
