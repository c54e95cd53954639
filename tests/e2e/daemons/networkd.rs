//! systemd-networkd: by default it deletes routes and policy rules that are not its own.

use super::client::Stage;
use super::need;
use super::program::{Program, start_dbus};
use super::server::Server;
use crate::waiting::eventually;
use crate::wireguard::site::Site;

/// Has networkd manage the client's uplink, with its present addresses and routes.
const UPLINK: &str = "[Match]
Name=eth0
[Network]
Address=198.51.100.2/24
Address=2001:db8:1::2/64
Gateway=198.51.100.254
Gateway=2001:db8:1::fe
IPv6AcceptRA=no
";
/// The same for the server's devices.
const LEFT: &str = "[Match]
Name=left
[Network]
Address=192.0.2.254/24
Address=2001:db8::fe/64
IPv6AcceptRA=no
";
const RIGHT: &str = "[Match]
Name=right
[Network]
Address=198.51.100.254/24
Address=2001:db8:1::fe/64
IPv6AcceptRA=no
";

/// Has networkd manage the tunnel's device too, as a file that matches all devices does.
const EVERYTHING: &str = "[Match]
Name=*
[Network]
LinkLocalAddressing=no
IPv6AcceptRA=no
";

/// Has networkd manage the devices, each with its file.
fn prepare(site: &Site, devices: &[(&str, &str)]) {
    need(&["dbus-daemon", "systemd-networkd"]);
    // with a read-only /sys networkd assumes that there is no udev
    site.shell("mount -o remount,bind,ro /sys; mkdir -p /run/systemd/network");
    for (device, text) in devices {
        install(site, device, text);
        // networkd sets the addresses with another broadcast address, and the kernel does not
        // change that of an existing address.
        for family in ["-4", "-6"] {
            site.ip(&[family, "address", "flush", "dev", device, "scope", "global"]);
        }
    }
}

fn install(site: &Site, name: &str, text: &str) {
    let file = site.write(&format!("{name}.network"), text);
    site.shell(&format!("install -m 644 {} /run/systemd/network", file.display()));
}

fn start(site: &Site, devices: &[&str]) -> Program {
    let mut networkd = Program::start(site, "/lib/systemd/systemd-networkd", &[]);
    networkd.wait_until("networkd has configured its devices", || {
        devices.iter().all(|device| is_configured(site, device))
    });
    networkd
}

fn is_configured(site: &Site, device: &str) -> bool {
    site.shell(&format!("networkctl --no-pager --no-legend list {device} 2>&1 || true"))
        .contains(" configured")
}

fn client(arguments: &[&str]) {
    let stage = Stage::new();
    let site = stage.site();
    prepare(site, &[("eth0", UPLINK)]);
    let _dbus = start_dbus(site);
    let networkd = start(site, &["eth0"]);
    let client = stage.start(arguments);
    let lost = client.daemon.count("were deleted by another program");
    for command in ["networkctl reconfigure eth0", "networkctl reload"] {
        site.shell(command);
        eventually("the uplink is configured", || is_configured(site, "eth0"));
        client.is_as_before(command);
    }
    assert!(
        client.daemon.count("were deleted by another program") > lost,
        "networkd has deleted nothing:\n{}",
        networkd.output()
    );
    stage.router.ip(&["link", "set", "right", "down"]);
    eventually("networkd sees that the cable is pulled", || {
        !site.ip(&["-4", "address", "show", "dev", "eth0"]).contains("198.51.100.2/24")
    });
    stage.router.ip(&["link", "set", "right", "up"]);
    eventually("the uplink is configured", || is_configured(site, "eth0"));
    client.is_as_before("the uplink's cable was pulled");
    networkd.stop();
    client.is_as_before("the end of networkd");
    install(site, "zz-everything", EVERYTHING);
    let networkd = start(site, &["eth0"]);
    client.is_as_before("the second start of networkd");
    let is_managed = || is_configured(site, "wg0");
    eventually("networkd manages the tunnel's device", is_managed);
    client.is_as_before("networkd has taken the tunnel's device");
    site.shell("networkctl reconfigure wg0");
    eventually("networkd manages the tunnel's device", is_managed);
    client.is_as_before("networkctl reconfigure wg0");
    networkd.stop();
    client.finish("systemd-networkd, client");
}

#[test]
fn a_client_outlives_networkd() {
    client(&[]);
}

#[test]
fn a_locked_client_outlives_networkd() {
    client(&["--kill-switch"]);
}

#[test]
fn a_server_outlives_networkd() {
    let server = Server::start();
    let site = server.site();
    let devices = ["left", "right"];
    let _dbus = start_dbus(site);
    prepare(site, &[("left", LEFT), ("right", RIGHT)]);
    let networkd = start(site, &devices);
    server.is_as_before("the start of networkd");
    site.shell("networkctl reconfigure left right");
    eventually("the devices are configured", || devices.iter().all(|device| is_configured(site, device)));
    server.is_as_before("networkctl reconfigure");
    eventually("the client's connections pass", || server.forwards() == [true; 2]);
    networkd.stop();
    server.is_as_before("the end of networkd");
    server.finish("systemd-networkd, server");
}
