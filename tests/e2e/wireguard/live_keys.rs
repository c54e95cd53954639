//! Keys that change while the tunnel runs.

use std::time::Duration;

use super::implementation::Implementation;
use super::pair::{CLIENT_V4, Outer, Pair, SERVER_V4};
use super::settings::{Keys, preshared_key};
use crate::waiting::eventually;

/// A new private key at the client: nothing passes until the server knows it, and then everything.
fn the_private_key_changes(server: Implementation, client: Implementation) {
    let pair = Pair::new(server, client, Outer::V4);
    pair.client.ping(SERVER_V4);
    let new = Keys::new();
    let file = pair.client.key_file("new", &new.private);
    pair.client.set(&["private-key", file.to_str().unwrap()]);
    assert_eq!(pair.client.site.wg(&["show", "wg0", "public-key"]).trim(), new.public);
    assert!(!pair.client.site.ping_once([10, 9, 0, 1], 56), "the old session sends nothing more");
    pair.server.set(&["peer", pair.client_public(), "remove"]);
    pair.server.set(&["peer", &new.public, "allowed-ips", "10.9.0.2/32,fd00:9::2/128"]);
    pair.client.ping(SERVER_V4);
    pair.server.ping(CLIENT_V4);
}

between!(the_private_key_changes: {
    wontun_and_wontun: (ConfigFile, Wontun),
    wontun_to_wireguard_go: (WireguardGo, ConfigFile),
    wontun_to_boringtun: (Boringtun, Wontun),
});

/// Fault 10: sessions stay, and the next handshake uses the new preshared key.
fn a_preshared_key_is_added(server: Implementation, client: Implementation) {
    let pair = Pair::new(server, client, Outer::V4);
    pair.client.ping(SERVER_V4);
    let handshake = pair.server.only_peer().handshake;
    let shared = preshared_key();
    let file = pair.server.key_file("psk", &shared);
    pair.server.set(&["peer", pair.client_public(), "preshared-key", file.to_str().unwrap()]);
    pair.client.ping_exactly(SERVER_V4, 3, 56);
    let state = pair.server.only_peer();
    assert_eq!(
        (state.preshared.as_str(), state.handshake),
        (shared.as_str(), handshake),
        "the session stays"
    );
    // The client starts a new handshake and does not know of it.
    let (peer, endpoint) = (pair.server_public(), Outer::V4.endpoint(&pair.server.site));
    pair.client.set(&["peer", peer, "remove"]);
    pair.client.set(&["peer", peer, "endpoint", &endpoint, "allowed-ips", "10.9.0.0/24"]);
    for _ in 0..2 {
        assert!(!pair.client.site.ping_once([10, 9, 0, 1], 56), "a handshake without the preshared key");
    }
    assert_eq!(pair.client.only_peer().handshake, 0);
    let file = pair.client.key_file("psk", &shared);
    pair.client.set(&["peer", peer, "preshared-key", file.to_str().unwrap()]);
    let took = pair.client.site.ping_within(Duration::from_secs(12), [10, 9, 0, 1]);
    eprintln!("the next attempt, with the preshared key, succeeded after {took:?}");
    pair.server.ping(CLIENT_V4);
}

between!(a_preshared_key_is_added: {
    wontun_and_wontun: (Wontun, ConfigFile),
    wireguard_go_to_wontun: (ConfigFile, WireguardGo),
    wontun_to_wireguard_go: (WireguardGo, Wontun),
});

/// With a key that is wrong in one bit nothing passes; with the right one it does.
fn a_wrong_preshared_key_gets_nothing(server: Implementation, client: Implementation) {
    let pair = Pair::new(server, client, Outer::V4);
    for (node, other) in [(&pair.server, pair.client_public()), (&pair.client, pair.server_public())] {
        let file = node.key_file("psk", &preshared_key());
        node.set(&["peer", other, "preshared-key", file.to_str().unwrap()]);
    }
    assert!(!pair.client.site.ping_once([10, 9, 0, 1], 56));
    assert_eq!((pair.server.only_peer().handshake, pair.client.only_peer().handshake), (0, 0));
    for (node, other) in [(&pair.server, pair.client_public()), (&pair.client, pair.server_public())] {
        node.set(&["peer", other, "preshared-key", "/dev/null"]);
    }
    pair.client.ping(SERVER_V4);
    eventually("a handshake is shown", || pair.server.only_peer().handshake > 0);
}

between!(a_wrong_preshared_key_gets_nothing: {
    wontun_and_wontun: (ConfigFile, Wontun),
    wireguard_go_to_wontun: (Wontun, WireguardGo),
});
