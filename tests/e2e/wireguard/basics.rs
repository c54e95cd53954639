//! Traffic in both directions, of either inner family over either outer one.

use std::net::IpAddr;

use super::implementation::Implementation;
use super::iperf::Iperf;
use super::pair::{CLIENT_V4, CLIENT_V6, Outer, Pair, SERVER_V4, SERVER_V6};
use crate::lab::heavy;
use crate::streams::Connection;
use crate::waiting::eventually;

fn traffic_passes(server: Implementation, client: Implementation, outer: Outer) {
    let pair = Pair::new(server, client, outer);
    // The first packet of each family waits for the handshake or finds the session.
    pair.client.ping(SERVER_V4);
    pair.client.ping(SERVER_V6);
    pair.server.ping(CLIENT_V4);
    pair.server.ping(CLIENT_V6);
    // The largest packets and the smallest.
    for (node, address, payload) in [
        (&pair.client, SERVER_V4, 1420 - 28),
        (&pair.server, CLIENT_V6, 1420 - 48),
        (&pair.client, SERVER_V6, 0),
    ] {
        let address: IpAddr = address.parse().unwrap();
        eventually("a packet of that size passes", || node.site.ping_once(address, payload));
    }
    let _guard = heavy();
    let iperf = Iperf::serve(&pair.server);
    let flows: [(&str, &[&str]); 5] = [
        (SERVER_V4, &["-n", "10M"]),
        (SERVER_V6, &["-n", "10M"]),
        (SERVER_V4, &["-n", "10M", "-R"]),
        (SERVER_V6, &["-n", "10M", "-R"]),
        (SERVER_V4, &["-n", "10M", "-P", "8", "--bidir"]),
    ];
    for (address, arguments) in flows {
        // iperf3 stops counting before the last bytes have arrived; that all of them do is checked
        // below.
        let received = iperf.run(&pair.client, address, arguments);
        assert!(received > 1 << 20, "iperf3 {arguments:?}: {received} bytes arrived");
    }
    iperf.run_udp(&pair.client, SERVER_V6, &[]);
    iperf.run_udp(&pair.client, SERVER_V4, &["-R"]);
    let inner: IpAddr = SERVER_V4.parse().unwrap();
    Connection::open(&pair.server.site, (inner, 0), &pair.client.site).exchange(4 << 20);
}

between!(traffic_passes: {
    wontun_to_wontun: (Wontun, ConfigFile, Outer::V4),
    wontun_to_wontun_over_v6: (ConfigFile, Wontun, Outer::V6),
    wireguard_go_to_wontun: (ConfigFile, WireguardGo, Outer::V4),
    wontun_to_wireguard_go: (WireguardGo, ConfigFile, Outer::V6),
    boringtun_to_wontun: (Wontun, Boringtun, Outer::V6),
    wontun_to_boringtun: (Boringtun, Wontun, Outer::V4),
});
