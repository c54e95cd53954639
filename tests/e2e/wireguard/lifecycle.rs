//! Start and end: the device, its socket, the process.

use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::implementation::Implementation::{self, Wontun};
use super::node::Node;
use super::pair::{Outer, Pair, Plan, SERVER_V4};
use super::settings::{Keys, Settings};
use super::site::Site;
use crate::lab::Lab;
use crate::mounts::BINARY;
use crate::waiting::{TIMEOUT, eventually, finish};

/// Makes a site on a host of its own, without a network.
fn site() -> Arc<Site> {
    Arc::new(Site::new(&Arc::new(Lab::new(2)), 0))
}

fn is_gone(site: &Site) -> bool {
    !site.has_device("wg0") && !site.socket("wg0").exists()
}

fn a_deleted_device_ends_it(client: Implementation) {
    let pair = Pair::new(Wontun, client, Outer::V4);
    pair.client.ping(SERVER_V4);
    let Pair { server: _server, client, plan } = pair;
    plan.client_site.ip(&["link", "delete", "wg0"]);
    let stopped = client.daemon.wait_exit();
    assert!(stopped.status.code().is_some(), "{stopped:?}");
    assert!(!plan.client_site.socket("wg0").exists(), "the socket is left: {:?}", stopped.lines);
    assert_eq!(plan.client_site.processes(), []);
}

between!(a_deleted_device_ends_it: {
    started_from_a_file: (ConfigFile),
    told_by_wg: (Wontun),
});

/// Some versions of `wg-quick down` end a program by removing its socket.
fn a_removed_socket_ends_it(client: Implementation) {
    let pair = Pair::new(Wontun, client, Outer::V4);
    pair.client.ping(SERVER_V4);
    let Pair { server: _server, client, plan } = pair;
    plan.client_site.shell("rm -f /run/wireguard/wg0.sock");
    let stopped = client.daemon.wait_exit();
    assert!(is_gone(&plan.client_site), "{stopped:?}");
}

between!(a_removed_socket_ends_it: {
    started_from_a_file: (ConfigFile),
    told_by_wg: (Wontun),
});

fn a_signal_ends_it_tidily(client: Implementation) {
    let pair = Pair::new(Wontun, client, Outer::V4);
    pair.client.ping(SERVER_V4);
    let Pair { server: _server, client, plan } = pair;
    let stopped = client.daemon.stop();
    assert_eq!(stopped.status.code(), Some(0), "{stopped:?}");
    assert!(is_gone(&plan.client_site), "{stopped:?}");
    assert_eq!(plan.client_site.processes(), []);
}

between!(a_signal_ends_it_tidily: {
    started_from_a_file: (ConfigFile),
    told_by_wg: (Wontun),
});

/// kill -9 leaves a socket without a listener.
#[test]
fn a_stale_socket_is_replaced() {
    let site = site();
    let node = Node::bare("wg0", &site, Wontun);
    node.daemon.signal(Signal::SIGKILL);
    node.daemon.wait_exit();
    eventually("the kernel removes the device", || !site.has_device("wg0"));
    assert!(site.socket("wg0").exists(), "nothing is left, so this test shows nothing");
    let node = Node::bare("wg0", &site, Wontun);
    node.configure(&Settings::new(&Keys::new(), &["10.9.0.1/24"]));
    node.daemon.stop();
    assert!(is_gone(&site));
}

/// A live one is refused, with a line that names the process; it continues.
#[test]
fn a_live_tunnel_is_not_replaced() {
    let site = site();
    let mut node = Node::bare("wg0", &site, Wontun);
    let second = finish(site.command(BINARY).args(["-f", "wg0"]), TIMEOUT);
    assert_eq!(second.code(), 69, "{second:?}");
    assert_eq!(second.stderr.lines().count(), 1, "{second:?}");
    assert!(node.daemon.is_running());
    site.wg(&["show", "wg0"]);
}

/// A device of the same name in another network namespace does not conflict, but the socket in the
/// same `/run` does.
#[test]
fn a_live_socket_of_another_network_is_not_replaced() {
    let lab = Arc::new(Lab::new(2));
    let site = Arc::new(Site::new(&lab, 0));
    let mut node = Node::bare("wg0", &site, Wontun);
    let other = format!("--net=/run/netns/{}", lab.client().name());
    let second = finish(
        std::process::Command::new("nsenter").args([
            "--target",
            &site.holder_pid().to_string(),
            "--mount",
            &other,
            "--",
            BINARY,
            "-f",
            "wg0",
        ]),
        TIMEOUT,
    );
    assert_eq!(second.code(), 69, "{second:?}");
    let pid = node.daemon.pid().to_string();
    assert!(second.stderr.contains(&pid), "the message does not name the process {pid}: {second:?}");
    assert!(node.daemon.is_running() && site.socket("wg0").exists());
    assert!(!lab.client().has_device("wg0"), "a device is left");
}

/// Runs `PROGRAM wg0` on `site`, as wg-quick does, and waits for the process in the background.
fn as_wg_quick_runs(site: &Site, program: &str, variable: &str) -> crate::waiting::Finished {
    finish(site.command(program).arg("wg0").env("WG_QUICK_USERSPACE_IMPLEMENTATION", variable), TIMEOUT)
}

/// A mistyped command makes no interface; only wg-quick gives a name alone.
#[test]
fn a_name_alone_makes_an_interface_for_wg_quick_only() {
    let site = site();
    let stand_in = site.path().join("wireguard-go");
    std::os::unix::fs::symlink(BINARY, &stand_in).unwrap();
    let mistyped =
        finish(site.command(BINARY).args(["wg0"]).env_remove("WG_QUICK_USERSPACE_IMPLEMENTATION"), TIMEOUT);
    assert_eq!((mistyped.code(), mistyped.stderr.lines().count()), (2, 1), "{mistyped:?}");
    assert!(mistyped.stderr.contains("'wontun interface wg0'"), "{mistyped:?}");
    assert!(is_gone(&site) && site.processes().is_empty());
    let starts: [&dyn Fn() -> crate::waiting::Finished; 3] = [
        &|| as_wg_quick_runs(&site, BINARY, BINARY),
        &|| as_wg_quick_runs(&site, stand_in.to_str().unwrap(), ""),
        &|| finish(site.command(BINARY).args(["interface", "wg0"]), TIMEOUT),
    ];
    for start in starts {
        let started = start();
        assert_eq!(started.code(), 0, "{started:?}");
        assert!(site.has_device("wg0") && site.socket("wg0").exists());
        site.ip(&["link", "delete", "wg0"]);
        eventually("the process ends", || site.processes().is_empty() && is_gone(&site));
    }
}

/// `wontun NAME`, as wg-quick runs it, returns when device and socket exist, and continues without
/// a terminal.
#[test]
fn it_goes_to_the_background() {
    let lab = Arc::new(Lab::new(2));
    let plan = Plan::new(&lab, Outer::V4);
    let server = Node::start(&plan.server_site, Implementation::WireguardGo, &plan.server);
    let site = &plan.client_site;
    let program = Wontun.resolve().binary();
    let started = as_wg_quick_runs(site, program.to_str().unwrap(), program.to_str().unwrap());
    assert_eq!(started.code(), 0, "{started:?}");
    assert!(site.has_device("wg0") && site.socket("wg0").exists());
    let mode = if Wontun.resolve() == Wontun { 0o600 } else { 0o700 };
    assert_eq!(file_mode(site), mode);
    assert!(!site.processes().is_empty());
    let file = site.write("wg0.setconf", &plan.client.setconf());
    site.wg(&["setconf", "wg0", file.to_str().unwrap()]);
    site.ip(&["address", "add", "10.9.0.2/24", "dev", "wg0"]);
    site.ip(&["link", "set", "wg0", "up"]);
    site.ping([10, 9, 0, 1]);
    drop(server);
    site.ip(&["link", "delete", "wg0"]);
    eventually("the process ends", || site.processes().is_empty());
    assert!(is_gone(site));
}

fn file_mode(site: &Site) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(site.socket("wg0")).unwrap().permissions().mode() & 0o777
}

/// Stopping and starting again, immediately and often, meets no conflict.
#[test]
fn it_starts_again_at_once() {
    let lab = Arc::new(Lab::new(2));
    let plan = Plan::new(&lab, Outer::V4);
    let server = Node::start(&plan.server_site, Wontun, &plan.server);
    for _ in 0..3 {
        let client = Node::start(&plan.client_site, Implementation::ConfigFile, &plan.client);
        client.site.ping_within(Duration::from_secs(12), [10, 9, 0, 1]);
        client.daemon.stop();
    }
    drop(server);
}
