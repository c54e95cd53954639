//! `wontun kill-switch`: puts up a kill switch before its tunnel, and takes one away.

use std::io::{self, Write};

use super::error::CommandError;
use super::show::client::{self, Trust};
use crate::config::TunName;
use crate::control::uapi::{Changes, UapiFolders};
use crate::link::KillSwitch;
use crate::routing::Prefix;

/// Lets nothing leave this host from now on except to `allowed` and through the tunnel called
/// `name`, which need not run yet. A tunnel that runs and has a kill switch puts up its own again,
/// with the networks it was started with.
///
/// # Errors
/// [`CommandError::NoKillSwitch`]: the tunnel runs without one, and would be cut off.
/// [`CommandError::Link`]: not permitted, or no nf_tables. [`CommandError::Output`].
pub fn lock(name: &TunName, folders: &UapiFolders, allowed: &[Prefix]) -> Result<(), CommandError> {
    match tell(name, folders, true) {
        Ok(()) => {
            let aside =
                if allowed.is_empty() { "" } else { ", and allows the networks that it was started with" };
            say(&format!("{name} is locked: the tunnel runs{aside}\n"))
        }
        Err(CommandError::Reported { .. }) => Err(CommandError::NoKillSwitch(name.clone())),
        // no tunnel that could do it, or none that answers: that one's table is left alone
        Err(error) => {
            let mut switch = KillSwitch::engage(name.as_str(), allowed)?;
            if matches!(error, CommandError::NotRunning(_)) {
                switch.put_up()?;
            }
            say(&format!("{name} is locked: `wontun kill-switch off {name}` lets everything out\n"))
        }
    }
}

/// Lets everything out again that the kill switch of the tunnel called `name`, or of any, holds
/// back, and says so. A tunnel that runs is asked to take it away itself, and leaves it off until
/// its next start. That there is none is no error.
///
/// # Errors
/// [`CommandError::Link`]: not permitted, or no netlink. [`CommandError::Output`].
pub fn unlock(name: Option<&TunName>, folders: &UapiFolders) -> Result<(), CommandError> {
    let names = match name {
        Some(name) => vec![name.as_str().to_owned()],
        None => KillSwitch::all()?,
    };
    let mut unlocked = Vec::new();
    for name in names {
        if unlock_one(&name, folders)? {
            unlocked.push(name);
        }
    }
    let said = match (unlocked.as_slice(), name) {
        ([], Some(name)) => format!("{name} has no kill switch engaged\n"),
        ([], None) => "no kill switch is engaged\n".to_owned(),
        (names, _) => names.iter().map(|name| format!("{name} is unlocked\n")).collect(),
    };
    say(&said)
}

/// Returns false if there was no kill switch.
fn unlock_one(name: &str, folders: &UapiFolders) -> Result<bool, CommandError> {
    if !KillSwitch::is_in_place(name)? {
        return Ok(false);
    }
    let told = name.parse().ok().map(|tun| tell(&tun, folders, false));
    // whatever it answers, the table is there or not: an older version, or a tunnel that hangs, has
    // left it
    if KillSwitch::is_in_place(name)? {
        KillSwitch::unlock(name).map_err(|error| match told {
            // one whose table nobody else may remove
            Some(Err(told)) if !matches!(told, CommandError::NotRunning(_)) => told,
            _ => error.into(),
        })?;
    }
    Ok(true)
}

/// Asks the tunnel called `name` to switch its kill switch on or off. It may run as a user of its
/// own: no secret is told.
fn tell(name: &TunName, folders: &UapiFolders, is_engaged: bool) -> Result<(), CommandError> {
    let socket = client::connect_by_name(folders, name, Trust::Placed)?;
    client::set(socket, name, &Changes { kill_switch: Some(is_engaged), ..Changes::default() })
}

fn say(text: &str) -> Result<(), CommandError> {
    match io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()) {
        // whoever hung up has the exit code
        Err(failure) if failure.kind() != io::ErrorKind::BrokenPipe => Err(CommandError::Output(failure)),
        _ => Ok(()),
    }
}
