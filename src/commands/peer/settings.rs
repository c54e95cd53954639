//! Implements `wontun peer set`, `disable` and `enable`.

use std::io::{self, Write as _};

use super::sites::report_sites;
use super::wanted::failure_of_one;
use crate::cli::{ClientOptions, SetOptions};
use crate::commands::apply;
use crate::commands::error::CommandError;
use crate::config::peer_settings::{Exclusion, PeerSettings};
use crate::net::timer::unix_now;
use crate::server::peers::{self, Changed, PeerChange};
use crate::server::{Folder, ServerPeer};

/// Changes settings of a peer, given by its name or public key, in the server's file and in the
/// running tunnel.
///
/// # Errors
/// [`CommandError`]. After any but [`CommandError::NotApplied`] the file is unchanged.
pub(crate) fn set_peer(folder: &Folder, wanted: &str, options: SetOptions) -> Result<(), CommandError> {
    if options == SetOptions::default() {
        return Err(CommandError::NothingToSet);
    }
    let (writer, before) = folder.lock()?;
    let number = before.find(wanted)?;
    let Some(peer) = before.peer(number) else { return Ok(()) };
    let mut settings = peer.peer.settings().clone();
    options.settings.apply(&mut settings);
    options.client.apply(&mut settings.client);
    let sites = options.sites();
    let change = PeerChange { settings, addresses: options.address, sites };
    let changed = peers::change(&before, number, &change).map_err(|error| failure_of_one(error, wanted))?;
    let Changed { file, warnings } = changed;
    let applied = if file.text() == before.text() {
        Ok(())
    } else {
        writer.replace(file.text())?;
        apply::reload(folder, &file, Some("it has the settings when it starts"))
    };
    drop(writer);
    for warning in warnings {
        let _ = writeln!(io::stderr(), "wontun: warning: {warning}");
    }
    report_sites(folder, change.sites.into_iter().flatten());
    if options.client != ClientOptions::default() || !change.addresses.is_empty() {
        let _ = writeln!(
            io::stderr(),
            "wontun: the client needs a new file: 'wontun peer show {wanted} --file' prints it"
        );
    }
    applied
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
