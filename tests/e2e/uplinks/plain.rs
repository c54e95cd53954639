//! Plain mode follows the routes, too.

use super::meter::{LIMIT, Meter};
use super::world::{Uplink, World};
use crate::bare::{INNER_CLIENT, INNER_SERVER};
use crate::daemon::Daemon;

#[test]
fn a_plain_client_follows_the_default_route() {
    let world = World::new();
    let (client, server) = (world.client(), world.lab.server());
    client.shell(&format!("{}; {}", Uplink::Wifi.route_v4(), Uplink::Lte.route_v4()));
    // a server takes another address for another host's until the first was silent for three
    // intervals
    let _server = Daemon::server(server, &["--keepalive", "1"]);
    let _client = Daemon::client(client, server, &["--keepalive", "1"]);
    client.ping(INNER_SERVER);
    std::thread::sleep(std::time::Duration::from_millis(2500));
    let meter = Meter::start((client, INNER_CLIENT.into()), (server, INNER_SERVER.into()));
    let outage = meter.outage("plain mode: Wi-Fi loses its default route, LTE has one", || {
        client.ip(&["route", "delete", "default", "dev", "wlan0"]);
    });
    // three of the server's intervals, and time for a busy machine
    assert!(outage.took <= LIMIT * 5, "{outage:?}");
}
