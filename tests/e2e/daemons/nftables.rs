//! Debian's nftables.service: it flushes everything and loads a file.

use super::client::Stage;
use super::server::Server;
use crate::wireguard::site::Site;

/// Does as `systemctl start`, `reload` and `stop` do, with Debian's file and with one that has
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

#[test]
fn a_server_outlives_reloads() {
    let server = Server::start();
    server.site().shell("nft flush ruleset");
    server.is_as_before("nft flush ruleset");
    for what in ["a start", "a reload"] {
        reload(server.site());
        server.is_as_before(what);
    }
    assert_eq!(server.lets_out(), [true; 2]);
    server.finish("nftables.service, server");
}
