//! NetworkManager: its start, a connection that goes up, and the tunnel's device managed by it.

use super::client::Stage;
use super::need;
use super::program::{Program, start_dbus};
use crate::waiting::{TIMEOUT, eventually, finish};
use crate::wireguard::site::Site;

/// The uplink as a NetworkManager connection. Its routes get another metric, so they are deleted
/// and added.
const UPLINK: &str = "[connection]
id=uplink
type=ethernet
interface-name=eth0
autoconnect=false
[ipv4]
method=manual
address1=198.51.100.2/24,198.51.100.254
[ipv6]
method=manual
address1=2001:db8:1::2/64,2001:db8:1::fe
";

const SETTINGS: &str = "[main]
plugins=keyfile
dns=none
rc-manager=unmanaged
no-auto-default=*
";

fn prepare(site: &Site) {
    need(&["dbus-daemon", "NetworkManager"]);
    let uplink = site.write("uplink.nmconnection", UPLINK);
    let settings = site.write("NetworkManager.conf", SETTINGS);
    site.shell(&format!(
        "mount -o remount,bind,ro /sys
         mount -t tmpfs none /etc/NetworkManager
         mount -t tmpfs none /var/lib/NetworkManager
         mkdir /etc/NetworkManager/system-connections
         install -m 600 {} /etc/NetworkManager/system-connections
         install -m 644 {} /etc/NetworkManager",
        uplink.display(),
        settings.display()
    ));
}

fn start(site: &Site) -> Program {
    let mut manager = Program::start(site, "NetworkManager", &["--no-daemon"]);
    manager.wait_until("NetworkManager has started up", || {
        let status = finish(site.command("nmcli").args(["--terse", "device"]), TIMEOUT);
        status.stdout.contains("eth0:") && status.stdout.contains("wg0:")
    });
    manager
}

fn client(arguments: &[&str]) {
    let stage = Stage::new();
    let site = stage.site();
    prepare(site);
    let client = stage.start(arguments);
    let _dbus = start_dbus(site);
    let manager = start(site);
    client.is_as_before("the start of NetworkManager");
    for command in [
        "nmcli connection up uplink",
        "nmcli device set wg0 managed yes",
        "nmcli device reapply eth0",
        "nmcli connection down uplink; nmcli connection up uplink",
        "nmcli networking off; nmcli networking on; nmcli connection up uplink",
    ] {
        site.shell(command);
        eventually("the uplink is connected", || {
            site.shell("nmcli --terse device").contains("eth0:ethernet:connected")
        });
        client.is_as_before(command);
    }
    manager.stop();
    client.is_as_before("the end of NetworkManager");
    let manager = start(site);
    client.is_as_before("the second start of NetworkManager");
    manager.stop();
    client.finish("NetworkManager, client");
}

#[test]
fn a_client_outlives_network_manager() {
    client(&[]);
}

#[test]
fn a_locked_client_outlives_network_manager() {
    client(&["--kill-switch"]);
}
