//! Implements `wontun peer set`, `disable` and `enable`.

use std::io::{self, Write as _};

use super::wanted::failure_of_one;
use crate::cli::{ClientOptions, SetOptions};
use crate::commands::apply;
use crate::commands::error::CommandError;
use crate::config::peer_settings::{Exclusion, PeerSettings};
use crate::net::timer::unix_now;
use crate::server::{Folder, ServerPeer, peers};

/// Changes settings of a peer, given by its name or public key, in the server's file and in the
/// running tunnel.
///
/// # Errors
/// [`CommandError`]. After any but [`CommandError::NotApplied`] the file is unchanged.
pub(crate) fn set_peer(folder: &Folder, wanted: &str, options: SetOptions) -> Result<(), CommandError> {
    if options == SetOptions::default() {
        return Err(CommandError::NothingToSet);
    }
    change_settings(folder, wanted, |settings| {
        options.settings.apply(settings);
        options.client.apply(&mut settings.client);
    })?;
    if options.client != ClientOptions::default() {
        let _ = writeln!(
            io::stderr(),
            "wontun: the client needs a new file: 'wontun peer show {wanted} --file' prints it"
        );
    }
    Ok(())
}

/// Ends the access of peers, given by their names or public keys, or gives it back, in the server's
/// file and in the running tunnel.
///
/// # Errors
/// [`CommandError`]. After any but [`CommandError::NotApplied`] the file is unchanged.
pub(crate) fn disable_peers(
    folder: &Folder,
    wanted: &[String],
    is_disabled: bool,
) -> Result<(), CommandError> {
    let (writer, before) = folder.lock()?;
    let mut file = before.clone();
    for wanted in wanted {
        let number = file.find(wanted)?;
        let Some(peer) = file.peer(number) else { continue };
        let settings = peer.peer.settings();
        if settings.is_disabled == is_disabled {
            continue;
        }
        let settings = PeerSettings { is_disabled, ..settings.clone() };
        if settings.exclusion(unix_now()) == Some(Exclusion::Expired) {
            warn_expired(&peer);
        }
        file = file.with_settings(number, &settings)?;
    }
    if file.text() == before.text() {
        return Ok(());
    }
    writer.replace(file.text())?;
    let then =
        if is_disabled { "they have no access when it starts" } else { "they can connect once it does" };
    apply::reload(folder, &file, Some(then))
}

/// Warns that a peer that is enabled has expired.
fn warn_expired(peer: &ServerPeer<'_>) {
    if let Some(expires) = peer.peer.settings().expires {
        let name = peer.name_or_key();
        let _ = writeln!(
            io::stderr(),
            "wontun: warning: the access of '{name}' has ended ({expires}): 'wontun peer set' with --expires 30d or never \
             extends it"
        );
    }
}

fn change_settings(
    folder: &Folder,
    wanted: &str,
    change: impl FnOnce(&mut PeerSettings),
) -> Result<(), CommandError> {
    let (writer, before) = folder.lock()?;
    let number = before.find(wanted)?;
    let Some(peer) = before.peer(number) else { return Ok(()) };
    let mut settings = peer.peer.settings().clone();
    change(&mut settings);
    let file = peers::set(&before, number, &settings).map_err(|error| failure_of_one(error, wanted))?;
    if file.text() == before.text() {
        return Ok(());
    }
    writer.replace(file.text())?;
    apply::reload(folder, &file, Some("it has the settings when it starts"))
}
