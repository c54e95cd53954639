//! Implements `wontun kill-switch`: sets up a kill switch before its tunnel starts, and removes
//! one, together with the name servers that a killed tunnel has left in /etc/resolv.conf.

use std::io::{self, Write};

use super::error::CommandError;
use crate::config::TunName;
use crate::dns::resolv_conf;
use crate::netlink::{FoundKillSwitch, KillSwitch};
use crate::uapi::client::{self, Trust};
use crate::uapi::{Changes, ClientError, UapiFolders};
use wontun_proto::allowed_ips::Prefix;

/// Blocks all traffic of this host except to `allowed` and through the tunnel `name`, which need
/// not run yet. A running tunnel that has a kill switch sets up its own again, with the networks it
/// was started with.
///
/// # Errors
/// [`CommandError::NoKillSwitch`]: the tunnel runs without one, and would be cut off.
/// [`CommandError::Link`]: not permitted, or no nf_tables. [`CommandError::Output`].
pub(crate) fn kill_switch_on(
    name: &TunName,
    folders: &UapiFolders,
    allowed: &[Prefix],
) -> Result<(), CommandError> {
    let mut result = set_kill_switch(name, folders, true);
    if let Err(ClientError::NotRunning(_)) = result
        && let Some(device) = current_device(name)?
    {
        result = set_kill_switch(&device, folders, true);
    }
    match result {
        Ok(()) => {
            let note =
                if allowed.is_empty() { "" } else { ", which allows the networks that it was started with" };
            print(&format!("{name}: kill switch on, set by the running tunnel{note}\n"))
        }
        Err(ClientError::Reported { .. }) => Err(CommandError::NoKillSwitch(name.clone())),
        // no tunnel that could do it, or one that does not answer: the table of the latter is left
        // alone
        Err(error) => {
            let mut switch = KillSwitch::engage(name.as_str(), allowed)?;
            if matches!(error, ClientError::NotRunning(_)) {
                switch.install()?;
            }
            print(&format!("{name}: kill switch on; remove it with `wontun kill-switch off {name}`\n"))
        }
    }
}

/// Returns the current device name of the tunnel that was started as `name`, if it differs and
/// there is a kill switch.
fn current_device(name: &TunName) -> Result<Option<TunName>, CommandError> {
    let found = KillSwitch::list()?.into_iter().find(|found| found.tunnel == name.as_str());
    let device = found.filter(|found| found.device != found.tunnel).map(|found| found.device);
    Ok(device.and_then(|device| device.parse().ok()))
}

/// Removes the kill switch of the tunnel called `name`, or all kill switches, restores the name
/// servers that were there before tunnels that do not run any more, and reports it. A running
/// tunnel is asked to remove its own, and leaves it off until its next start. It is no error if
/// there is none.
///
/// # Errors
/// [`CommandError::Link`]: not permitted, or no netlink. [`CommandError::ResolvConf`].
/// [`CommandError::Output`].
pub(crate) fn kill_switch_off(name: Option<&TunName>, folders: &UapiFolders) -> Result<(), CommandError> {
    // also where there are no tables
    let restored = restore_name_servers(name, folders);
    let all = KillSwitch::list()?;
    let wanted: Vec<_> = match name {
        Some(name) => find(&all, name.as_str()).into_iter().collect(),
        None => all.iter().collect(),
    };
    let mut removed = Vec::new();
    for found in wanted {
        remove_one(found, &all, folders)?;
        removed.push(name.map_or(found.device.as_str(), TunName::as_str));
    }
    let mut text = match (removed.as_slice(), name) {
        ([], Some(name)) => format!("{name} has no kill switch\n"),
        ([], None) => "no kill switch is on\n".to_owned(),
        (names, _) => names.iter().map(|name| format!("{name}: kill switch off\n")).collect(),
    };
    for tunnel in restored.iter().flatten() {
        text.push_str(&format!("{tunnel}: previous name servers restored in /etc/resolv.conf\n"));
    }
    print(&text)?;
    restored.map(drop)
}

/// Restores the name servers that were in /etc/resolv.conf before the tunnel `name`, or before all
/// tunnels, which must not run any more. Returns the tunnels.
fn restore_name_servers(name: Option<&TunName>, folders: &UapiFolders) -> Result<Vec<TunName>, CommandError> {
    let mut restored = Vec::new();
    for tunnel in resolv_conf::tunnels()?.into_iter().filter(|tunnel| name.is_none_or(|name| name == tunnel))
    {
        let is_running = client::connect_by_name(folders, &tunnel, Trust::PathOwner);
        if matches!(is_running, Err(ClientError::NotRunning(_))) && resolv_conf::restore_previous(&tunnel)? {
            restored.push(tunnel);
        }
    }
    Ok(restored)
}

/// Returns the kill switch of the device called `name`, or else of the tunnel that was started with
/// that name.
fn find<'a>(all: &'a [FoundKillSwitch], name: &str) -> Option<&'a FoundKillSwitch> {
    let device = all.iter().filter(|found| found.device == name);
    // a killed tunnel may have had a device of another name, which another tunnel has now
    device.min_by_key(|found| found.tunnel != name).or_else(|| all.iter().find(|found| found.tunnel == name))
}

fn remove_one(
    found: &FoundKillSwitch,
    all: &[FoundKillSwitch],
    folders: &UapiFolders,
) -> Result<(), CommandError> {
    let FoundKillSwitch { tunnel, device } = found;
    // left over if its device's name belongs to another tunnel by now, which keeps its kill switch
    let is_stale = device != tunnel && find(all, device) != Some(found);
    let result = device.parse().ok().filter(|_| !is_stale).map(|tun| set_kill_switch(&tun, folders, false));
    // whatever the answer is, check the table: an older version, or a tunnel that hangs, has left
    // it
    if KillSwitch::is_in_place(tunnel)? {
        KillSwitch::remove_by_name(tunnel).map_err(|error| match result {
            // a table that its owner alone can remove
            Some(Err(result)) if !matches!(result, ClientError::NotRunning(_)) => CommandError::from(result),
            _ => error.into(),
        })?;
    }
    Ok(())
}

/// Asks the tunnel called `name` to switch its kill switch on or off. It may run as another user,
/// since the request contains no secret.
fn set_kill_switch(name: &TunName, folders: &UapiFolders, is_engaged: bool) -> Result<(), ClientError> {
    let socket = client::connect_by_name(folders, name, Trust::PathOwner)?;
    client::set(socket, name, &Changes { kill_switch: Some(is_engaged), ..Changes::default() })
}

fn print(text: &str) -> Result<(), CommandError> {
    match io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()) {
        // if the reader is gone, the exit code tells the result
        Err(failure) if failure.kind() != io::ErrorKind::BrokenPipe => Err(CommandError::Output(failure)),
        _ => Ok(()),
    }
}
