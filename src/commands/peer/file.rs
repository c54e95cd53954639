//! Implements `wontun peer show --file`.

use std::io::{self, Write as _};

use super::delivery::{ClientText, Delivery};
use crate::cli::DeliveryOptions;
use crate::commands::error::CommandError;
use crate::server::{Folder, KeptKeys, ServerError, peers};

/// Delivers the file of a client, given by its name or public key, as `wontun peer add` would print
/// it now: with the private key if that was kept.
///
/// # Errors
/// [`CommandError`]: there is no such peer, the server's file or a key cannot be read, or a file
/// cannot be written.
pub(crate) fn deliver_file(
    folder: &Folder,
    wanted: &str,
    options: &DeliveryOptions,
) -> Result<(), CommandError> {
    let delivery = Delivery::new(options, false);
    let file = folder.read()?;
    let number = file.find(wanted)?;
    let Some(peer) = file.peer(number) else { return Ok(()) };
    if peer.peer.settings().invitation.is_some() {
        return Err(ServerError::Invitation(peer.name_or_key()).into());
    }
    let key = KeptKeys::of(folder).read(&peer.peer.public_key)?;
    let has_key = key.is_some();
    let client = peers::client_of(&file, number, key)?;
    if !has_key && delivery.has_code() {
        return Err(CommandError::CodeWithoutKey(peer.name_or_key()));
    }
    let prepared = delivery.prepare(vec![ClientText { name: peer.name_or_key(), text: client.to_text() }])?;
    prepared.print()?;
    prepared.keep();
    if !has_key {
        let _ = writeln!(
            io::stderr(),
            "wontun: the private key is not kept here: take the line PrivateKey from the client's present file, or make \
             new keys with 'wontun peer renew'"
        );
    }
    Ok(())
}
