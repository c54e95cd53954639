//! `docs/src/guide/behind-nat.md`: a server at home is reached through one outside at any time.

use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use crate::daemon::Daemon;
use crate::lab::Lab;
use crate::setup::server::{Server, client};
use crate::streams::Connection;
use crate::wireguard::site::Site;

/// Time for which the home router keeps a silent UDP flow; `PersistentKeepalive` is 25 s.
const MEMORY: Duration = Duration::from_secs(28);
const HOME: [u8; 4] = [10, 8, 0, 2];

/// Starts the outside server on host 1 and the home server on host 0, with the home router, host 2,
/// between them.
fn home(change: fn(String) -> String) -> (Arc<Lab>, Server, Daemon, Site, Daemon) {
    let lab = Arc::new(Lab::routed(1500));
    lab.host(2).shell(&format!(
        "nft 'table ip nat {{ chain out {{ type nat hook postrouting priority 100; oifname right masquerade; }}; }}'
        # nothing comes in that nobody at home asked for
        nft 'table ip filter {{ chain in {{ type filter hook forward priority 0; iifname right ct state new drop; }}; }}'
        cd /proc/sys/net/netfilter
        for timeout in nf_conntrack_udp_timeout nf_conntrack_udp_timeout_stream; do echo {0} >$timeout; done",
        MEMORY.as_secs()
    ));
    let server = Server::new(&lab, 1);
    let serve = server.serve(&["--endpoint", &lab.host(1).v4.to_string()]);
    let text = change(server.output(&["peer", "add", "home"]));
    let (home, daemon) = client(&lab, 0, &text);
    home.ping([10, 8, 0, 1]);
    assert!(server.output(&["peer", "show", "home"]).contains("endpoint: 198.51.100.254:"), "no NAT");
    // it answers the last packet that it received with a keepalive of its own, after ten seconds
    sleep(MEMORY + Duration::from_secs(14));
    (lab, server, serve, home, daemon)
}

#[test]
fn a_home_server_is_reached_after_a_long_silence() {
    let (_lab, server, _serve, home, _daemon) = home(|text| {
        assert!(text.contains("PersistentKeepalive = 25\n"), "{text}");
        text
    });
    assert!(server.site.ping_once(HOME, 56), "the way in has closed");
    Connection::open(&home, (HOME, 80), &server.site).exchange(300_000);
}

/// The control: without keepalives the NAT mapping has expired by then.
#[test]
fn without_keepalives_the_way_in_closes() {
    let (_lab, server, _serve, home, _daemon) = home(|text| text.replace("PersistentKeepalive = 25\n", ""));
    assert!(!server.site.ping_once(HOME, 56), "the router has not forgotten: the other test shows nothing");
    home.ping([10, 8, 0, 1]);
    server.site.ping(HOME);
}
