//! systemd-networkd: by default it deletes routes and policy rules that are not its own.

use super::client::Stage;
use super::need;
use super::program::{Program, start_dbus};
use crate::waiting::eventually;
use crate::wireguard::site::Site;

/// Has networkd manage the uplink, with the addresses and routes that it has.
const UPLINK: &str = "[Match]
Name=eth0
[Network]
Address=198.51.100.2/24
Address=2001:db8:1::2/64
Gateway=198.51.100.254
Gateway=2001:db8:1::fe
IPv6AcceptRA=no
";

/// Has it manage the tunnel's device too, as a file for all devices does.
const EVERYTHING: &str = "[Match]
Name=*
[Network]
LinkLocalAddressing=no
IPv6AcceptRA=no
";

fn prepare(site: &Site) {
    need(&["dbus-daemon", "systemd-networkd"]);
    let file = site.write("uplink.network", UPLINK);
    // A read-only /sys tells it that there is no udev. It sets the addresses with another broadcast
    // address, which is no change that the kernel makes.
    for family in ["-4", "-6"] {
        site.ip(&[family, "address", "flush", "dev", "eth0", "scope", "global"]);
    }
    site.shell(&format!(
        "mount -o remount,bind,ro /sys; mkdir -p /run/systemd/network; install -m 644 {} /run/systemd/network",
        file.display()
    ));
}

fn start(site: &Site) -> Program {
    let mut networkd = Program::start(site, "/lib/systemd/systemd-networkd", &[]);
    networkd.wait_until("networkd has configured the uplink", || is_configured(site));
    networkd
}

fn is_configured(site: &Site) -> bool {
    site.shell("networkctl --no-pager --no-legend list eth0 2>&1 || true").contains(" configured")
}

fn client(arguments: &[&str]) {
    let stage = Stage::new();
    let site = stage.site();
    prepare(site);
    let _dbus = start_dbus(site);
    let networkd = start(site);
    let client = stage.start(arguments);
    let lost = client.daemon.count("were deleted by another program");
    for command in ["networkctl reconfigure eth0", "networkctl reload"] {
        site.shell(command);
        eventually("the uplink is configured", || is_configured(site));
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
    eventually("the uplink is configured", || is_configured(site));
    client.is_as_before("the uplink's cable was pulled");
    networkd.stop();
    client.is_as_before("the end of networkd");
    let everything = site.write("zz-everything.network", EVERYTHING);
    site.shell(&format!("install -m 644 {} /run/systemd/network", everything.display()));
    let networkd = start(site);
    client.is_as_before("the second start of networkd");
    let is_managed = || site.shell("networkctl --no-pager --no-legend list wg0").contains(" configured");
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
