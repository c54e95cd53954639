//! Implements `wontun init`: creates a server's key and file.

use std::fmt::Write as _;

use super::error::CommandError;
use super::old_endpoint::clients_with_old_endpoint;
use super::output::{stdout, write};
use crate::server::{Folder, InitOptions, Prepared};

/// Creates the server's file, or uses the existing one, and prints a summary; never its private
/// key.
///
/// # Errors
/// [`CommandError::Server`]: an error in the file, the options or the folder.
pub(crate) fn init(folder: &Folder, options: &InitOptions) -> Result<(), CommandError> {
    let Prepared { file, is_new, old_endpoint, updated } = folder.prepare(options)?;
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
            if old_endpoint.is_some() {
                text.push_str(&clients_with_old_endpoint(folder, &file, usize::MAX));
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
