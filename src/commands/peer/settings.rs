//! Implements `wontun peer set`.

use crate::cli::SetOptions;
use crate::commands::apply;
use crate::commands::error::CommandError;
use crate::config::peer_settings::PeerSettings;
use crate::server::Folder;

/// Changes settings of a peer, given by its name or public key, in the server's file and in the
/// running tunnel.
///
/// # Errors
/// [`CommandError`]. After any but [`CommandError::NotApplied`] the file is unchanged.
pub(crate) fn set_peer(folder: &Folder, wanted: &str, options: SetOptions) -> Result<(), CommandError> {
    if options == SetOptions::default() {
        return Err(CommandError::NothingToSet);
    }
    change_settings(folder, wanted, |settings| options.settings.apply(settings))
}

fn change_settings(
    folder: &Folder,
    wanted: &str,
    change: impl FnOnce(&mut PeerSettings),
) -> Result<(), CommandError> {
    let (writer, file) = folder.lock()?;
    let number = file.find(wanted)?;
    let Some(peer) = file.peers().nth(number) else { return Ok(()) };
    let before = peer.peer.settings();
    let mut settings = before.clone();
    change(&mut settings);
    if settings == *before {
        return Ok(());
    }
    let file = file.with_settings(number, &settings)?;
    writer.replace(file.text())?;
    apply::reload(folder, &file, Some("it has the settings when it starts"))
}
