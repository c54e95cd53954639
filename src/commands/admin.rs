//! Implements `wontun admin`.

use std::io::{self, Write as _};

use super::apply;
use super::error::CommandError;
use super::output::print_secret;
use crate::admin;
use crate::config::OwnerName;
use crate::server::Folder;
use crate::uapi::SecretText;

/// Prints links to the admin page of the running server, of which one can be used, once: on
/// standard output, since each contains a secret.
///
/// # Errors
/// [`CommandError`]: the server does not run, or serves no page; no client belongs to the owner.
pub(crate) fn admin_link(folder: &Folder, owner: Option<&OwnerName>) -> Result<(), CommandError> {
    let file = folder.read()?;
    if let Some(owner) = owner
        && !file.peers().any(|peer| peer.peer.settings().owner.as_ref() == Some(owner))
    {
        return Err(CommandError::NoClientOf(owner.clone()));
    }
    let mut text = SecretText::default();
    let answer = apply::admin_links(folder, &file, owner)?;
    for link in &answer.links {
        text.push(link.as_bytes());
        text.push(b"\n");
    }
    print_secret(&text.into_inner())?;
    if let Some(fingerprint) = answer.fingerprint {
        let _ =
            writeln!(io::stderr(), "wontun: SHA-256 fingerprint of the page's certificate: {fingerprint}");
    }
    if let Some(owner) = owner {
        let _ = writeln!(
            io::stderr(),
            "wontun: for {owner}: one of these signs in once, within 15 minutes. It is a secret: whoever opens it first sets the \
             password"
        );
        return Ok(());
    }
    let _ = writeln!(
        io::stderr(),
        "wontun: one of these signs in once, within 15 minutes: inside of the tunnel that of its address; from elsewhere one \
         with https, if there is any, or that of 127.0.0.1, after 'ssh -L PORT:127.0.0.1:PORT' to this host"
    );
    Ok(())
}

/// Removes the account of an owner of clients, and ends the owner's sessions.
///
/// # Errors
/// [`CommandError`]: there is no such account, or the file cannot be changed; or the running server
/// has not read it.
pub(crate) fn admin_remove(folder: &Folder, owner: &OwnerName) -> Result<(), CommandError> {
    let file = folder.read()?;
    admin::remove_account(&folder.file(), folder.tun(), owner).map_err(CommandError::Account)?;
    apply::reload(folder, &file, None)
}
