//! Applies changes of the server's file to the running tunnel.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;

use super::error::CommandError;
use crate::config::{OwnerName, TunName};
use crate::server::{Folder, ServerFile};
use crate::uapi::client::{self, Trust};
use crate::uapi::{Changes, ClientError, PeerChanges, TunnelStatus, UapiFolders};

/// Requests the status of the running tunnel of `file`. Returns `None` if it does not run, or if
/// the tunnel of that name has another key and so belongs to another file.
pub(super) fn status(folder: &Folder, file: &ServerFile) -> Result<Option<TunnelStatus>, ClientError> {
    let is_own = |status: &TunnelStatus| status.public_key == Some(*file.public_key());
    let status = connect(folder, folder.tun()).and_then(|socket| client::status(socket, folder.tun()));
    match status {
        Ok(status) => Ok(Some(status).filter(is_own)),
        // its device may have been renamed
        Err(ClientError::NotRunning(_)) => {
            Ok(client::status_of_all(&folders(folder)).0.into_iter().find(is_own))
        }
        Err(error) => Err(error),
    }
}

/// Changes peers of the running tunnel at once; the others stay as they are. It is no error if the
/// tunnel does not run; this is printed on standard error if `then` is given, which completes the
/// line.
fn change(
    folder: &Folder,
    file: &ServerFile,
    peers: Vec<PeerChanges>,
    then: Option<&str>,
) -> Result<(), CommandError> {
    report(file, then, try_change(folder, file, peers))
}

/// Applies a change of the file, from `before` to `file`, to the running tunnel: by `peers`, or, if
/// the file has settings of peers that these do not carry, by reading it again.
///
/// # Errors
/// As for [`reload`].
pub(super) fn change_or_reload(
    folder: &Folder,
    before: &ServerFile,
    file: &ServerFile,
    peers: Vec<PeerChanges>,
    then: Option<&str>,
) -> Result<(), CommandError> {
    let has_settings = |file: &ServerFile| file.peers().any(|peer| peer.peer.settings().concerns_tunnel());
    if has_settings(before) || has_settings(file) {
        reload(folder, file, then)
    } else {
        change(folder, file, peers, then)
    }
}

/// Makes the running tunnel read its file again, which it has applied then: for what a change of
/// one peer does not carry. It is no error if the tunnel does not run, as for [`change`].
///
/// # Errors
/// [`CommandError::NotApplied`].
pub(super) fn reload(folder: &Folder, file: &ServerFile, then: Option<&str>) -> Result<(), CommandError> {
    let reloaded = status(folder, file).and_then(|status| match status {
        Some(TunnelStatus { name, .. }) => {
            connect(folder, &name).and_then(|socket| client::reload(socket, &name))
        }
        None => Err(ClientError::NotRunning(folder.tun().clone())),
    });
    report(file, then, reloaded)
}

/// Returns links to the admin page of the tunnel, which must be running.
///
/// # Errors
/// The tunnel does not run, or serves no page.
pub(super) fn admin_links(
    folder: &Folder,
    file: &ServerFile,
    owner: Option<&OwnerName>,
) -> Result<client::AdminLinks, CommandError> {
    let links = status(folder, file).and_then(|status| match status {
        Some(TunnelStatus { name, .. }) => {
            connect(folder, &name).and_then(|socket| client::admin_links(socket, &name, owner))
        }
        None => Err(ClientError::NotRunning(folder.tun().clone())),
    });
    Ok(links?)
}

/// Puts changed tokens of the API in force. It is no error if the tunnel does not run or serves no
/// page: a line on standard error says it.
///
/// # Errors
/// [`CommandError::NotApplied`].
pub(super) fn reload_tokens(folder: &Folder, file: &ServerFile) -> Result<(), CommandError> {
    let reloaded = status(folder, file).and_then(|status| match status {
        Some(TunnelStatus { name, .. }) => {
            connect(folder, &name).and_then(|socket| client::reload_tokens(socket, &name))
        }
        None => Err(ClientError::NotRunning(folder.tun().clone())),
    });
    match reloaded {
        Err(ClientError::NotRunning(tun) | ClientError::NoAdminPage(tun)) => {
            let _ = writeln!(
                io::stderr(),
                "wontun: tunnel {tun} serves no admin page now: tokens can be used once 'wontun serve --admin' runs"
            );
            Ok(())
        }
        reloaded => report(file, None, reloaded),
    }
}

/// Reports how a change of the file was applied to the tunnel.
fn report(
    file: &ServerFile,
    then: Option<&str>,
    applied: Result<(), ClientError>,
) -> Result<(), CommandError> {
    match applied {
        Err(ClientError::NotRunning(tun)) => {
            if let Some(then) = then {
                let path = file.path().display();
                let _ = writeln!(io::stderr(), "wontun: tunnel {tun} of {path} is not running: {then}");
            }
            Ok(())
        }
        Err(source) => {
            Err(CommandError::NotApplied { file: file.path().to_owned(), source: Box::new(source) })
        }
        Ok(()) => Ok(()),
    }
}

/// Changes one peer of the tunnel, which must be running.
pub(super) fn change_running(
    folder: &Folder,
    file: &ServerFile,
    peer: PeerChanges,
) -> Result<(), CommandError> {
    Ok(try_change(folder, file, vec![peer])?)
}

fn try_change(folder: &Folder, file: &ServerFile, peers: Vec<PeerChanges>) -> Result<(), ClientError> {
    let changes = Changes { peers, ..Changes::default() };
    match status(folder, file)? {
        Some(TunnelStatus { name, .. }) => {
            connect(folder, &name).and_then(|socket| client::set(socket, &name, &changes))
        }
        None => Err(ClientError::NotRunning(folder.tun().clone())),
    }
}

/// Connects to the tunnel. It may run as the owner of the file, who can read everything sent to it
/// in the file as well.
fn connect(folder: &Folder, tun: &TunName) -> Result<UnixStream, ClientError> {
    let owner = fs::metadata(folder.file()).ok().map(|file| file.uid());
    client::connect_by_name(&folders(folder), tun, Trust::User(owner))
}

fn folders(folder: &Folder) -> UapiFolders {
    UapiFolders::new([folder.path()])
}
