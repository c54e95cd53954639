//! `wg-quick(8)` with this program as its user space implementation.

use std::path::Path;
use std::sync::Arc;

use super::implementation::Implementation;
use super::node::Node;
use super::pair::{CLIENT_V4, Outer, Plan};
use super::site::Site;
use crate::lab::Lab;
use crate::mounts::BINARY;
use crate::waiting::{Finished, TIMEOUT, eventually, finish};

/// Runs `wg-quick args…` as on a machine whose kernel has no WireGuard: wg-quick uses the `ip`
/// beside it, and looks for the module in /sys/module.
pub(crate) fn wg_quick(site: &Site, implementation: Implementation, action: &str, file: &Path) -> Finished {
    let shim = "#!/bin/sh\ncase \"$*\" in *'type wireguard'*) echo no such type >&2; exit 2 ;; esac\n\
        exec /sbin/ip \"$@\"\n";
    site.write("ip", shim);
    let script = "cp \"$(command -v wg-quick)\" ./wg-quick; chmod 755 wg-quick ip
        mount -t tmpfs none /sys/module; exec unshare --mount ./wg-quick \"$@\"";
    let mut command = site.command("unshare");
    command.args(["--mount", "sh", "-ec", &format!("cd {}; {script}", site.path().display()), "sh"]);
    command.arg(action).arg(file);
    command.env("WG_QUICK_USERSPACE_IMPLEMENTATION", implementation.binary());
    finish(&mut command, TIMEOUT)
}

fn up_and_down(server: Implementation, client: Implementation, allowed: &[&str]) {
    let client = client.resolve();
    let lab = Arc::new(Lab::new(2));
    let mut plan = Plan::new(&lab, Outer::V4);
    plan.client.peers[0].allowed = allowed.iter().map(ToString::to_string).collect();
    let server = Node::start(&plan.server_site, server, &plan.server);
    let site = &plan.client_site;
    let file = site.write("wg0.conf", &plan.client.wg_quick());
    let state = || site.shell("ip -4 rule; ip -6 rule; ip -4 route; ip -6 route; nft list ruleset");
    let before = state();
    let up = wg_quick(site, client, "up", &file);
    assert!(up.status.success(), "{up:?}");
    site.ping([10, 9, 0, 1]);
    server.ping(CLIENT_V4);
    assert_eq!(site.wg(&["show", "interfaces"]), "wg0\n");
    let program = std::fs::read_link(format!("/proc/{}/exe", site.processes()[0])).unwrap();
    assert_eq!(program.file_name(), client.binary().file_name());
    if client == Implementation::Wontun {
        let down = finish(site.command(BINARY).args(["down", "wg0"]), TIMEOUT);
        assert!(down.code() == 1 && down.stderr.contains("'wg-quick down wg0'"), "{down:?}");
    }
    let down = wg_quick(site, client, "down", &file);
    assert!(down.status.success(), "{down:?}");
    eventually("the process ends", || site.processes().is_empty());
    assert!(!site.has_device("wg0") && !site.socket("wg0").exists());
    assert_eq!(state(), before);
}

#[test]
fn wg_quick_up_and_down() {
    up_and_down(Implementation::WireguardGo, Implementation::Wontun, &["10.9.0.0/24", "fd00:9::/64"]);
}

#[test]
fn wg_quick_with_default_routes() {
    up_and_down(Implementation::ConfigFile, Implementation::Wontun, &["0.0.0.0/0", "::/0"]);
}
