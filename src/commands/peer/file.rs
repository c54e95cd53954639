//! Implements `wontun peer show --file`.

use std::io::{self, Write as _};

use crate::commands::error::CommandError;
use crate::commands::output::print_secret;
use crate::server::{Folder, KeptKeys, peers};

/// Prints the file of a client, given by its name or public key, as `wontun peer add` would print
/// it now: with the private key if that was kept.
///
/// # Errors
/// [`CommandError`]: there is no such peer, or the server's file or a key cannot be read.
pub(crate) fn print_file(folder: &Folder, wanted: &str) -> Result<(), CommandError> {
    let file = folder.read()?;
    let number = file.find(wanted)?;
    let Some(peer) = file.peer(number) else { return Ok(()) };
    let key = KeptKeys::of(folder).read(&peer.peer.public_key)?;
    let has_key = key.is_some();
    let client = peers::client_of(&file, number, key)?;
    print_secret(&client.to_text())?;
    if !has_key {
        let _ = writeln!(
            io::stderr(),
            "wontun: the private key is not kept here: take the line PrivateKey from the client's present file, or make \
             new keys with 'wontun peer renew'"
        );
    }
    Ok(())
}
