//! ufw: `enable`, `reload`, and the rules that it needs.

use std::time::Instant;

use super::client::Stage;
use super::need;
use super::server::Server;
use crate::wireguard::site::Site;

/// Makes copies of ufw's directories that the site may change.
fn prepare(site: &Site) {
    need(&["ufw"]);
    site.shell(
        "for folder in /etc/ufw /etc/default; do
             mkdir -p /run/copies$folder
             cp -a $folder/. /run/copies$folder
             mount --bind /run/copies$folder $folder
         done",
    );
}

fn client(arguments: &[&str]) {
    let stage = Stage::new();
    prepare(stage.site());
    let client = stage.start(arguments);
    for command in ["ufw --force enable", "ufw reload", "ufw disable", "ufw --force enable"] {
        stage.site().shell(command);
        client.is_as_before(command);
    }
    client.finish("ufw, client");
}

#[test]
fn a_client_outlives_ufw() {
    client(&[]);
}

#[test]
fn a_locked_client_outlives_ufw() {
    client(&["--kill-switch"]);
}

#[test]
fn a_server_names_the_rules_that_ufw_needs() {
    let server = Server::start();
    prepare(server.site());
    let (since, title) = (Instant::now(), "ufw, server");
    server.site().shell("ufw --force enable");
    let needles = [": ufw allow 51820/udp", ": ufw route allow in on wg0"];
    let commands = needles.map(|needle| server.command_of_warning(title, needle, since));
    assert_eq!(server.forwards(), [false; 2]);
    server.is_fixed_by(&commands);
    server.is_as_before("ufw enable");
    let warnings = server.daemon.count("WARN");
    server.site().shell("ufw reload");
    server.is_as_before("ufw reload");
    server.is_fixed_by(&[]);
    assert_eq!(server.daemon.count("WARN"), warnings, "{}", server.daemon.lines().join("\n"));
    server.finish(title);
}
