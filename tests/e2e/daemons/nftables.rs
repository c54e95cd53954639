//! Debian's nftables.service: it flushes everything and loads a file.

use std::time::Instant;

use super::client::Stage;
use super::server::Server;
use crate::wireguard::site::Site;

/// Does what `systemctl start`, `reload` and `stop` do, with Debian's file and with one that has
/// rules.
fn reload(site: &Site) {
    let own = site.write(
        "nftables.conf",
        "flush ruleset
         table inet filter {
             chain input { type filter hook input priority filter; ct state established accept; }
             chain forward { type filter hook forward priority filter; counter; }
         }\n",
    );
    site.shell(&format!("nft -f {}", own.display()));
}

#[test]
fn a_client_outlives_reloads() {
    for arguments in [&[][..], &["--kill-switch"]] {
        let stage = Stage::new();
        let client = stage.start(arguments);
        stage.site().shell("nft flush ruleset");
        client.is_as_before("nft flush ruleset");
        for what in ["a start", "a reload"] {
            reload(stage.site());
            client.is_as_before(what);
        }
        stage.site().shell("nft -f /etc/nftables.conf");
        client.is_as_before("nft -f /etc/nftables.conf");
        client.finish("nftables.service, client");
    }
}

/// A strict ruleset with sets and maps that accepts the tunnel's packets.
const STRICT: &str = "flush ruleset
table inet filter {
    set open { type inet_service; flags interval; elements = { 22, 80-443, 51000-52000 }; }
    chain input {
        type filter hook input priority filter; policy drop;
        ct state vmap { established : accept, related : accept, invalid : drop }
        iifname vmap { \"lo\" : accept }
        meta l4proto { icmp, ipv6-icmp } accept
        udp dport @open accept
    }
    chain tunnel { tcp dport 25 drop; accept; }
    chain forward {
        type filter hook forward priority filter; policy drop;
        ct state { established, related } accept
        iifname { \"wg0\", \"wg1\" } oifname { \"left\", \"right\" } jump tunnel
    }
}
";

/// Returns the same ruleset without the port and the device.
fn without_tunnel() -> String {
    STRICT.replace(", 51000-52000", "").replace("\"wg0\", ", "")
}

#[test]
fn rules_with_sets_and_maps_are_read() {
    let server = Server::start();
    let load = |name: &str, text: &str| {
        let file = server.site().write(name, text);
        server.site().shell(&format!("nft -f {}", file.display()));
    };
    load("strict.conf", STRICT);
    server.is_as_before("a strict ruleset");
    assert_eq!(server.forwards(), [true; 2]);
    server.is_fixed_by(&[]);
    assert_eq!(server.daemon.count("WARN"), 0, "{}", server.daemon.lines().join("\n"));

    load("without.conf", &without_tunnel());
    let (since, title) = (Instant::now(), "nftables.service, server with a strict file");
    let needles = [
        ": nft insert rule inet filter input udp dport 51820",
        ": nft insert rule inet filter forward iifname wg0",
    ];
    let commands = needles.map(|needle| server.command_of_warning(title, needle, since));
    assert_eq!(server.forwards(), [false; 2]);
    server.is_fixed_by(&commands);
    server.finish(title);
}

#[test]
fn a_server_outlives_reloads() {
    let server = Server::start();
    server.site().shell("nft flush ruleset");
    server.is_as_before("nft flush ruleset");
    for what in ["a start", "a reload"] {
        reload(server.site());
        server.is_as_before(what);
    }
    assert_eq!(server.forwards(), [true; 2]);
    server.finish("nftables.service, server");
}
