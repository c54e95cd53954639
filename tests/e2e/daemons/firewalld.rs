//! firewalld: its start, `--reload` and `--complete-reload`, and the rules that it needs.

use std::time::Instant;

use super::client::Stage;
use super::need;
use super::program::{Program, start_dbus};
use super::server::Server;
use crate::waiting::{TIMEOUT, finish};
use crate::wireguard::site::Site;

/// Starts firewalld with a D-Bus and a configuration of the site's own.
fn start(site: &Site) -> [Program; 2] {
    need(&["firewalld", "dbus-daemon"]);
    site.shell(
        "mkdir -p /run/copies/firewalld /run/firewalld
         cp -a /etc/firewalld/. /run/copies/firewalld
         mount --bind /run/copies/firewalld /etc/firewalld
         mount -t tmpfs none /var/log",
    );
    let dbus = start_dbus(site);
    let mut firewalld = Program::start(site, "firewalld", &["--nofork", "--nopid"]);
    firewalld.wait_until("firewalld runs", || {
        finish(site.command("firewall-cmd").arg("--state"), TIMEOUT).status.success()
    });
    [firewalld, dbus]
}

fn client(arguments: &[&str]) {
    let stage = Stage::new();
    let site = stage.site();
    let client = stage.start(arguments);
    let [firewalld, _dbus] = start(site);
    client.is_as_before("the start of firewalld");
    for command in ["firewall-cmd --reload", "firewall-cmd --complete-reload"] {
        site.shell(command);
        client.is_as_before(command);
    }
    firewalld.stop();
    client.is_as_before("the end of firewalld");
    client.finish("firewalld, client");
}

#[test]
fn a_client_outlives_firewalld() {
    client(&[]);
}

#[test]
fn a_locked_client_outlives_firewalld() {
    client(&["--kill-switch"]);
}

#[test]
fn a_server_names_the_rules_that_firewalld_needs() {
    let server = Server::start();
    let _programs = start(server.site());
    let (since, title) = (Instant::now(), "firewalld, server");
    let needles = [": firewall-cmd --permanent --add-port=51820/udp", " --add-interface=wg0"];
    let commands = needles.map(|needle| server.command_of_warning(title, needle, since));
    assert_eq!(server.forwards(), [false; 2]);
    server.is_fixed_by(&commands);
    server.is_as_before("the start of firewalld");
    let warnings = server.daemon.count("WARN");
    for command in ["firewall-cmd --reload", "firewall-cmd --complete-reload"] {
        server.site().shell(command);
        server.is_as_before(command);
        server.is_fixed_by(&[]);
    }
    assert_eq!(server.daemon.count("WARN"), warnings, "{}", server.daemon.lines().join("\n"));
    server.finish(title);
}
