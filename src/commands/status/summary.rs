//! Collects the state of the running tunnels.

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::commands::resolv_conf::ResolvConf;
use crate::commands::top::text::name as short_name;
use crate::config::TunName;
use crate::config::wg_quick::{self, Hooks};
use crate::control::health::{self, Health};
use crate::netlink::{FoundKillSwitch, KillSwitch};
use crate::uapi::client::{self, RunningFile};
use crate::uapi::{TunnelStatus, UapiFolders};

/// A running tunnel.
#[derive(Debug)]
pub(super) struct Summary {
    pub(super) name: TunName,
    /// Its peers and counters; `None` in plain mode, or if it does not answer to this user.
    pub(super) status: Option<TunnelStatus>,
    /// True if the kill switch of the tunnel is on; `None` if this user cannot look.
    pub(super) kill_switch: Option<bool>,
    pub(super) file: Option<PathBuf>,
    /// Name servers and search domains of the file.
    pub(super) dns: Vec<String>,
    /// Problems with their remedies, one line each, the most important first.
    pub(super) problems: Vec<String>,
}

/// The tunnels of this host, and what concerns all of them.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) tunnels: Vec<Summary>,
    /// Names of kill switches whose tunnels do not run.
    pub(super) left_kill_switches: Vec<String>,
    pub(super) resolv_conf: Option<ResolvConf>,
}

impl Host {
    /// Returns the state of the tunnel `name`, or of all that run.
    pub(super) fn look(name: Option<&TunName>, folders: &UapiFolders) -> Self {
        let running = health::running_tunnels();
        let (mut statuses, mut error) = (Vec::new(), None);
        match name {
            None => (statuses, error) = client::status_of_all(folders),
            Some(name) => match client::status_by_name(folders, name) {
                Ok(status) => statuses.push(status),
                Err(refusal) => error = Some(refusal),
            },
        }
        let mut names: Vec<TunName> = statuses.iter().map(|status| status.name.clone()).collect();
        names.extend(running.iter().filter(|running| name.is_none_or(|name| *running == name)).cloned());
        names.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        names.dedup();
        let files = client::running_files(folders);
        // needs a privilege
        let switches = KillSwitch::list().ok();
        let tunnels: Vec<_> = names
            .into_iter()
            .map(|name| {
                let status = statuses.iter().position(|status| status.name == name);
                let status = status.map(|place| statuses.swap_remove(place));
                let refusal = error.as_ref().filter(|_| status.is_none()).map(ToString::to_string);
                summary(name, status, refusal, &files, switches.as_deref())
            })
            .collect();
        let is_left = |found: &&FoundKillSwitch| !running.iter().any(|name| name.as_str() == found.device);
        let left = switches.iter().flatten().filter(is_left).map(|found| found.tunnel.clone()).collect();
        Self { tunnels, left_kill_switches: left, resolv_conf: ResolvConf::read().ok() }
    }
}

fn summary(
    name: TunName,
    mut status: Option<TunnelStatus>,
    refusal: Option<String>,
    files: &[RunningFile],
    switches: Option<&[FoundKillSwitch]>,
) -> Summary {
    if let Some(status) = &mut status {
        status.sort();
    }
    let file = files.iter().find(|file| file.tun == name).map(|file| file.path.clone());
    // a reload must not wait for a pipe, and neither must this; the name servers alone are used
    let configuration = file.as_deref().and_then(|file| wg_quick::reload(file, Hooks::Ignore).ok());
    let dns = configuration.map(|loaded| loaded.configuration.interface.dns).unwrap_or_default();
    let kill_switch = switches.map(|all| all.iter().any(|found| found.device == name.as_str()));
    let mut problems = Vec::new();
    match health::ask(&name, None) {
        Ok(Health { warnings, .. }) => problems.extend(warnings),
        // it is in another network namespace
        Err(health::HealthError::NotRunning(_)) => {}
        Err(error) => problems.push(error.to_string()),
    }
    problems.extend(refusal);
    problems.extend(status.iter().flat_map(|status| status.problems.iter().cloned()));
    let silent = status.iter().flat_map(|status| &status.peers).filter(|peer| {
        peer.last_handshake.is_zero() && peer.endpoint.is_some() && peer.persistent_keepalive > 0
    });
    problems.extend(silent.map(|peer| {
        let shown = short_name(peer);
        format!(
            "{shown} has not answered yet: check that it runs at its endpoint, that its UDP port is open, and that each \
             side has the other's public key"
        )
    }));
    let mut seen = BTreeSet::new();
    problems.retain(|problem| seen.insert(problem.clone()));
    Summary { name, status, kill_switch, file, dns, problems }
}
