//! A client that moves: its stream continues, and the server's endpoint follows.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::implementation::Implementation;
use super::pair::{CLIENT_V4, Outer, Pair, SERVER_V4, SERVER_V6};
use crate::lab::heavy;
use crate::streams::Connection;
use crate::waiting::{SetAtEnd, TIMEOUT, eventually, holds_within};

/// A TCP stream runs all the time, while address and port of the client change.
fn a_stream_survives_roaming(server: Implementation, client: Implementation, outer: Outer) {
    let pair = Pair::new(server, client, outer);
    pair.client.ping(SERVER_V4);
    let _guard = heavy();
    let inner: IpAddr = SERVER_V4.parse().unwrap();
    let connection = Connection::open(&pair.server.site, (inner, 0), &pair.client.site);
    let (moved, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let stream = scope.spawn(|| {
            connection.exchange_while(|sent| {
                // Slow enough that the moves happen during a stream and not on a saturated machine.
                std::thread::sleep(Duration::from_millis(2));
                moved.fetch_max(sent, Ordering::Relaxed);
                !stop.load(Ordering::Relaxed)
            })
        });
        let _stop = SetAtEnd(&stop);
        let goes_on = |what: &str| {
            let before = moved.load(Ordering::Relaxed);
            assert!(
                holds_within(TIMEOUT, || moved.load(Ordering::Relaxed) > before + (1 << 20)),
                "the stream stopped after {what}"
            );
        };
        goes_on("the start");
        let (old, new) = match outer {
            Outer::V4 => ("192.0.2.2/24", "192.0.2.55/24"),
            Outer::V6 => ("2001:db8::2/64", "2001:db8::55/64"),
        };
        let moved_to = new.split('/').next().unwrap();
        for (leaves, comes, shown) in [(old, new, moved_to), (new, old, old.split('/').next().unwrap())] {
            // As when a laptop changes networks: the old address is removed, then the new one is
            // added.
            pair.client.site.ip(&["address", "delete", leaves, "dev", "eth0"]);
            pair.client.site.ip(&["address", "add", comes, "dev", "eth0", "nodad"]);
            goes_on("a new address");
            let shown = if outer == Outer::V6 { format!("[{shown}]:") } else { format!("{shown}:") };
            let endpoint = || pair.server.only_peer().endpoint;
            assert!(holds_within(TIMEOUT, || endpoint().starts_with(&shown)), "{shown} {}", endpoint());
        }
        pair.client.set(&["listen-port", "40001"]);
        goes_on("a new port");
        let endpoint = || pair.server.only_peer().endpoint;
        assert!(holds_within(TIMEOUT, || endpoint().ends_with(":40001")), "{}", endpoint());
        stop.store(true, Ordering::Relaxed);
        stream.join().unwrap();
    });
    pair.client.ping(SERVER_V6);
    pair.server.ping(CLIENT_V4);
}

// Over IPv4, wireguard-go 20220316 does not recover from ENETUNREACH for the source address that it
// has lost.
between!(a_stream_survives_roaming: {
    wontun_and_wontun: (ConfigFile, Wontun, Outer::V4),
    wontun_and_wontun_over_v6: (Wontun, ConfigFile, Outer::V6),
    wireguard_go_to_wontun: (ConfigFile, WireguardGo, Outer::V6),
    wontun_to_wireguard_go: (WireguardGo, ConfigFile, Outer::V4),
    wontun_to_boringtun: (Boringtun, Wontun, Outer::V6),
});

/// From IPv4 to IPv6: the client is given another endpoint of the same server.
fn the_outer_family_may_change(server: Implementation, client: Implementation) {
    let pair = Pair::new(server, client, Outer::V4);
    pair.client.ping(SERVER_V4);
    for outer in [Outer::V6, Outer::V4] {
        let endpoint = outer.endpoint(&pair.server.site);
        pair.client.set(&["peer", pair.server_public(), "endpoint", &endpoint]);
        pair.client.ping(SERVER_V4);
        eventually("the server follows", || {
            pair.server.only_peer().endpoint.starts_with('[') == (outer == Outer::V6)
        });
        pair.server.ping(CLIENT_V4);
        assert_eq!(pair.client.only_peer().endpoint, endpoint);
    }
}

between!(the_outer_family_may_change: {
    wontun_and_wontun: (Wontun, ConfigFile),
});
