//! A client behind a NAT with a short timeout.

use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use super::implementation::Implementation;
use super::pair::{CLIENT_V4, Outer, Pair, Plan, SERVER_V4};
use crate::lab::Lab;
use crate::waiting::eventually;

/// Time for which the router keeps a silent UDP flow.
const MEMORY: Duration = Duration::from_secs(3);

/// Starts a pair with a NAT router between them, whose address is 198.51.100.254 for the server.
fn behind_nat(server: Implementation, client: Implementation, keepalive: Option<u16>) -> Pair {
    let lab = Arc::new(Lab::routed(1500));
    lab.host(2).shell(&format!(
        "nft 'table ip nat {{ chain out {{ type nat hook postrouting priority 100; oifname right masquerade; }}; }}'
        cd /proc/sys/net/netfilter
        for timeout in nf_conntrack_udp_timeout nf_conntrack_udp_timeout_stream; do echo {0} >$timeout; done",
        MEMORY.as_secs()
    ));
    let mut plan = Plan::between(&lab, [1, 0], Outer::V4);
    plan.client.peers[0].keepalive = keepalive;
    let pair = plan.start(server, client);
    pair.client.ping(SERVER_V4);
    assert!(pair.server.only_peer().endpoint.starts_with("198.51.100.254:"), "{:?}", pair.server.peers());
    pair
}

/// Returns true if the server reaches the client after a silence.
fn is_reached_after_silence(pair: &Pair) -> bool {
    // Shorter than the ten seconds after which the client answers the server's last packet with a
    // keepalive.
    sleep(MEMORY + Duration::from_secs(2));
    pair.server.site.ping_once([10, 9, 0, 2], 56)
}

fn nat_is_kept_open(server: Implementation, client: Implementation) {
    let pair = behind_nat(server, client, Some(1));
    let endpoint = pair.server.only_peer().endpoint;
    assert!(is_reached_after_silence(&pair));
    assert_eq!(pair.server.only_peer().endpoint, endpoint);
}

between!(nat_is_kept_open: {
    wontun_and_wontun: (Wontun, ConfigFile),
    wireguard_go_to_wontun: (ConfigFile, WireguardGo),
    wontun_to_boringtun: (Boringtun, ConfigFile),
});

/// The control: without keepalives the mapping expires, until the client sends again.
fn nat_closes_without_keepalives(server: Implementation, client: Implementation) {
    let pair = behind_nat(server, client, None);
    assert!(!is_reached_after_silence(&pair));
    pair.client.ping(SERVER_V4);
    eventually("the server reaches the client again", || pair.server.site.ping_once([10, 9, 0, 2], 56));
    pair.server.ping(CLIENT_V4);
}

between!(nat_closes_without_keepalives: {
    wontun_and_wontun: (ConfigFile, Wontun),
});
