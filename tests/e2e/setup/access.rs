//! Peers whose access ends: disabled by a command, expired by the clock.

use std::sync::Arc;
use std::time::Duration;

use super::server::{Server, client, value, while_pings_are_answered};
use crate::lab::Lab;
use crate::mounts::BINARY;
use crate::waiting::{TIMEOUT, eventually, finish};
use crate::wireguard::implementation::Implementation;
use crate::wireguard::site::Site;
use crate::wireguard::wg_quick_tool::wg_quick;

/// The server's inner address.
const SERVER: [u8; 4] = [10, 8, 0, 1];
/// Time within which access comes back. Without the server's greeting a client notices only after
/// 15 s that its session is gone.
const AT_ONCE: Duration = Duration::from_secs(5);

/// Returns true if the running tunnel has the peer `name`.
fn has_peer(server: &Server, name: &str) -> bool {
    server.site.wg(&["show", "tun0", "peers"]).contains(&server.key_of(name))
}

/// Panics unless the running tunnel has lost the peer `name`, which is at `site`.
fn assert_cut_off(server: &Server, name: &str, site: &Site) {
    assert!(!has_peer(server, name), "the tunnel has {name}");
    let mut ping = site.command("ping");
    ping.args(["-n", "-c", "1", "-W", "0.5", "10.8.0.1"]);
    assert!(!finish(&mut ping, TIMEOUT).status.success(), "{name} is answered");
}

#[test]
fn a_disabled_peer_is_cut_off_and_comes_back_and_others_notice_nothing() {
    let lab = Arc::new(Lab::new(3));
    let server = Server::new(&lab, 0);
    let address = lab.host(0).v4.to_string();
    let daemon = server.serve(&["--endpoint", &address]);
    let text = server.output(&["peer", "add", "phone"]);
    let (phone, phone_daemon) = client(&lab, 1, &text);
    // another implementation
    let tablet = Site::new(&lab, 2);
    let file = tablet.write("wg0.conf", &server.output(&["peer", "add", "tablet"]));
    let up = wg_quick(&tablet, Implementation::WireguardGo, "up", &file);
    assert!(up.status.success(), "{up:?}");
    phone.ping(SERVER);
    tablet.ping(SERVER);
    while_pings_are_answered(&tablet, || {
        server.output(&["peer", "disable", "phone"]);
        assert_cut_off(&server, "phone", &phone);
        server.output(&["peer", "enable", "phone"]);
        phone.ping_within(AT_ONCE, SERVER);
    });
    let told = || daemon.count("disabled phone") + daemon.count("enabled phone");
    eventually("both are told", || told() >= 2);
    assert_eq!(told(), 2, "{:#?}", daemon.lines());

    // several at once; also another implementation
    server.output(&["peer", "disable", "phone", "tablet"]);
    assert_cut_off(&server, "tablet", &tablet);
    server.fails(&["peer", "enable", "tablet", "nobody"], 1, "there is no peer 'nobody'");
    server.output(&["peer", "enable", "tablet"]);
    tablet.ping_within(AT_ONCE, SERVER);

    // the comment counts for those who cannot read it
    let key = server.key_of("phone");
    server.site.wg(&["set", "tun0", "peer", &key, "allowed-ips", "10.8.0.2/32"]);
    assert!(!has_peer(&server, "phone"));
    daemon.wait_for("a command would have added peers that the file disables");
    server.site.shell("nft flush ruleset");
    // a new handshake is refused, and the log says whose
    assert!(phone_daemon.stop().status.success());
    let (phone, _phone) = client(&lab, 1, &text);
    assert_cut_off(&server, "phone", &phone);
    daemon.wait_for("the peer is disabled");
    // every command says so
    let file = server.file();
    for args in [
        &["peer", "list"][..],
        &["peer", "show", "phone"],
        &["peer", "list", "--json"],
        &["show", "tun0"],
        &["status", "tun0"],
        &["check", file.to_str().unwrap()],
    ] {
        let said = server.output(args);
        assert!(said.contains("phone") && said.contains("disabled"), "{args:?}: {said}");
    }

    // it stays so over a hand-over and a restart
    let successor = server.serve(&["--endpoint", &address, "--take-over"]);
    assert!(daemon.wait_exit().status.success());
    assert_cut_off(&server, "phone", &phone);
    tablet.ping_within(AT_ONCE, SERVER);
    assert!(successor.stop().status.success());
    let daemon = server.serve(&["--endpoint", &address]);
    daemon.wait_for("peers without access: phone (disabled)");
    tablet.ping_within(AT_ONCE, SERVER);
    assert_cut_off(&server, "phone", &phone);
    // renamed and removed without access
    server.output(&["peer", "rename", "phone", "handy"]);
    server.output(&["peer", "remove", "handy"]);
    assert!(!server.output(&["show", "tun0"]).contains("phone"));
}

#[test]
fn access_ends_by_the_clock_and_can_be_extended() {
    let lab = Arc::new(Lab::new(2));
    let server = Server::new(&lab, 0);
    let daemon = server.serve(&["--endpoint", &lab.host(0).v4.to_string()]);
    let text = server.output(&["peer", "add", "phone", "--expires", "2d"]);
    let (phone, _daemon) = client(&lab, 1, &text);
    phone.ping(SERVER);
    server.output(&["peer", "set", "phone", "--expires", "5s"]);
    assert_eq!(daemon.count("expired phone"), 0);
    eventually("the access ends", || {
        daemon.count("the clock has changed the access of peers: expired phone") > 0
    });
    assert_cut_off(&server, "phone", &phone);
    server.output(&["peer", "set", "phone", "--expires", "never"]);
    phone.ping_within(AT_ONCE, SERVER);
    daemon.wait_for("extended phone");
    assert_eq!(daemon.count("extended phone"), 1);
    assert!(!server.text().contains("Expires"));

    // a day in the past, while it runs and at its start
    server.output(&["peer", "set", "phone", "--expires", "2020-02-29"]);
    assert_cut_off(&server, "phone", &phone);
    assert!(server.text().contains("# Expires = 2020-02-29\n"));
    assert!(daemon.stop().status.success());
    let daemon = server.serve(&["--endpoint", &lab.host(0).v4.to_string()]);
    daemon.wait_for("peers without access: phone (expired)");
    assert_cut_off(&server, "phone", &phone);
    server.output(&["peer", "set", "phone", "--expires", "30d"]);
    phone.ping_within(AT_ONCE, SERVER);
    for (when, expected) in [("2026-02-30", "expected a date such as 2026-12-31"), ("-1d", "--expires")] {
        server.fails(&["peer", "set", "phone", &format!("--expires={when}")], 2, expected);
    }
}

#[test]
fn new_keys_replace_the_old_ones_at_once_and_everything_else_stays() {
    let lab = Arc::new(Lab::new(3));
    let server = Server::new(&lab, 0);
    let daemon = server.serve(&["--endpoint", &lab.host(0).v4.to_string()]);
    let old = server.output(&["peer", "add", "phone", "--note", "Anna", "--expires", "30d", "--mtu", "1400"]);
    let tablet = server.output(&["peer", "add", "tablet"]);
    let (phone, _phone) = client(&lab, 1, &old);
    phone.ping(SERVER);
    let traffic = |name: &str| {
        let shown: serde_json::Value =
            serde_json::from_str(&server.output(&["peer", "show", name, "--json"])).unwrap();
        let month = &shown["peers"][0]["traffic"]["month"];
        month["received_bytes"].as_u64().unwrap() + month["sent_bytes"].as_u64().unwrap()
    };
    let carried = traffic("phone");
    assert!(carried > 64, "{carried}");
    let (before, old_key) = (server.text(), server.key_of("phone"));
    let renewed = server.run(&["peer", "renew", "phone"]);
    assert_eq!((renewed.code(), renewed.stderr.as_str()), (0, ""), "{renewed:?}");
    let mut ping = phone.command("ping");
    ping.args(["-n", "-c", "1", "-W", "0.5", "10.8.0.1"]);
    assert!(!finish(&mut ping, TIMEOUT).status.success(), "the old keys are accepted");
    assert!(!server.site.wg(&["show", "tun0", "peers"]).contains(&old_key));
    // the traffic of the month, and with it the use of a quota, stays that of the peer
    assert!(traffic("phone") >= carried, "{} of {carried}", traffic("phone"));

    // two lines of the file have changed, and two of the client's
    let changed = |before: &str, after: &str| {
        assert_eq!(before.lines().count(), after.lines().count(), "{after}");
        let pairs = before.lines().zip(after.lines()).filter(|(before, after)| before != after);
        pairs.map(|(_, after)| after.split(' ').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(changed(&before, &server.text()), ["PublicKey", "PresharedKey"]);
    assert_eq!(changed(&old, &renewed.stdout), ["PrivateKey", "PresharedKey"]);
    let (device, _device) = client(&lab, 2, &renewed.stdout);
    device.ping(SERVER);
    let carried = traffic("phone");
    server.output(&["peer", "disable", "phone"]);
    server.output(&["peer", "renew", "phone"]);
    assert!(traffic("phone") >= carried, "renewed while disabled: {} of {carried}", traffic("phone"));
    server.output(&["peer", "enable", "phone"]);
    let over = ["peer", "set", "phone", "--quota", "1kB/month"];
    server.output(&over);
    daemon.wait_for("over quota: dropping all packets of the peer");
    server.output(&["peer", "renew", "phone"]);
    eventually("the new keys are over the quota, too", || {
        server
            .output(&["peer", "list"])
            .lines()
            .any(|line| line.starts_with("phone") && line.contains("over"))
    });
    server.output(&["peer", "set", "phone", "--quota", "none"]);
    // with the old file the client stays out
    assert!(!finish(&mut ping, TIMEOUT).status.success(), "the old keys are accepted again");

    // errors, after each of which the keys are as before
    let taken = server.key_of("tablet");
    server.fails(
        &["peer", "renew", "phone", "--public-key", &taken],
        1,
        "the peer tablet has that public key",
    );
    let own = value(&tablet, "PublicKey");
    server.fails(&["peer", "renew", "phone", "--public-key", own], 1, "the public key of this server");
    server.fails(&["peer", "renew", "nobody"], 1, "there is no peer 'nobody'");
    let text = server.text();
    let full = server.site.shell(&format!(
        "WONTUN_DIR={} {BINARY} peer renew tablet 2>&1 >/dev/full || true",
        server.dir.display()
    ));
    assert!(full.contains("the peer has its old keys again") && server.text() == text, "{full}");
    assert!(has_peer(&server, "tablet"));
    daemon.wait_for("removed phone");
}
