//! Implements `wontun admin link`.

use std::io::{self, Write as _};

use super::apply;
use super::error::CommandError;
use super::output::print_secret;
use crate::server::Folder;
use crate::uapi::SecretText;

/// Prints links to the admin page of the running server, of which one can be used, once: on
/// standard output, since each contains a secret.
///
/// # Errors
/// [`CommandError`]: the server does not run, or serves no page.
pub(crate) fn admin_link(folder: &Folder) -> Result<(), CommandError> {
    let file = folder.read()?;
    let mut text = SecretText::default();
    let answer = apply::admin_links(folder, &file)?;
    for link in &answer.links {
        text.push(link.as_bytes());
        text.push(b"\n");
    }
    print_secret(&text.into_inner())?;
    if let Some(fingerprint) = answer.fingerprint {
        let _ =
            writeln!(io::stderr(), "wontun: SHA-256 fingerprint of the page's certificate: {fingerprint}");
    }
    let _ = writeln!(
        io::stderr(),
        "wontun: one of these signs in once, within 15 minutes: inside of the tunnel that of its address; from elsewhere one \
         with https, if there is any, or that of 127.0.0.1, after 'ssh -L PORT:127.0.0.1:PORT' to this host"
    );
    Ok(())
}
