//! `--take-over`: another process continues a running tunnel, and nobody notices.

mod flow;
mod impostor;

mod failures;
mod nothing_lost;
mod state;
mod store;

use std::path::PathBuf;
use std::sync::Arc;

use crate::daemon::Daemon;
use crate::mounts::BINARY;
use crate::wireguard::settings::Settings;
use crate::wireguard::site::Site;

/// Writes the configuration of `site`, and returns its path.
fn write(site: &Site, settings: &Settings) -> PathBuf {
    site.write("wg0.conf", &settings.wg_quick())
}

/// Starts a process that takes the tunnel `wg0` of `site` over.
fn launch_successor(site: &Arc<Site>, arguments: &[&str]) -> Daemon {
    let file = site.path().join("wg0.conf");
    let config = ["--config", file.to_str().unwrap(), "--take-over", "--log-level", "debug"];
    site.launch(BINARY.as_ref(), &[&config[..], arguments].concat()).spawn()
}

/// Replaces the process of the tunnel `wg0` by another one, and waits until the first has ended.
fn hand_over(site: &Arc<Site>, before: &mut Daemon, arguments: &[&str]) {
    let successor = launch_successor(site, arguments);
    successor.wait_for(" ready mode=");
    let stopped = std::mem::replace(before, successor).wait_exit();
    assert_eq!(stopped.status.code(), Some(0), "{:#?}", stopped.lines);
}
