//! Implements `wontun init`: creates a server's key and file.

use std::fmt::Write as _;

use super::error::CommandError;
use super::output::{stdout, write};
use crate::server::{Folder, InitOptions, KeptKeys, Prepared, ServerError, ServerFile};

/// Creates the server's file, or uses the existing one, and prints a summary; never its private
/// key.
///
/// # Errors
/// [`CommandError::Server`]: an error in the file, the options or the folder.
pub(crate) fn init(folder: &Folder, options: &InitOptions) -> Result<(), CommandError> {
    let before = folder.read().ok().and_then(|file| file.endpoint().ok().flatten());
    let Prepared { file, is_new, updated } = folder.prepare(options)?;
    let updated = updated?;
    let interface = &file.configuration().interface;
    let addresses: Vec<_> = interface.addresses.iter().map(ToString::to_string).collect();
    let mut text = String::new();
    let outcome = match (is_new, updated) {
        (true, _) => "created",
        (false, true) => "updated; the key is unchanged",
        (false, false) => "already exists and is unchanged",
    };
    // writing to memory does not fail
    let _ = writeln!(text, "{}: {outcome}", file.path().display());
    let _ = writeln!(text, "  public key: {}", file.public_key());
    let _ = writeln!(text, "  addresses: {}", addresses.join(", "));
    if let Some(port) = interface.listen_port {
        let _ = writeln!(text, "  listening port: {port}, UDP: the firewall must accept it");
    }
    match file.endpoint()? {
        Some(endpoint) => {
            let _ = writeln!(text, "  endpoint for clients: {endpoint}");
            if before.is_some_and(|before| before != endpoint) {
                text.push_str(&clients_with_old_endpoint(folder, &file)?);
            }
        }
        None => text
            .push_str("  endpoint for clients: not set; set it with 'wontun init --endpoint HOST[:PORT]'\n"),
    }
    if let Some(dns) = file.client_dns()? {
        let _ = writeln!(text, "  name servers for clients: {dns}");
    }
    write(&mut stdout()?, text.as_bytes())
}

/// Returns a line for each client, whose file has another endpoint now, with what to do.
fn clients_with_old_endpoint(folder: &Folder, file: &ServerFile) -> Result<String, ServerError> {
    let mut text = String::new();
    if file.peers().next().is_none() {
        return Ok(text);
    }
    let kept = KeptKeys::of(folder);
    text.push_str("  clients that need a new file, or the new Endpoint in theirs:\n");
    for peer in file.peers() {
        let name = peer.name_or_key();
        let key = if kept.read(&peer.peer.public_key)?.is_some() { "" } else { ", without its private key" };
        // writing to memory does not fail
        let _ = writeln!(text, "    {name}: 'wontun peer show {name} --file' prints it{key}");
    }
    Ok(text)
}
