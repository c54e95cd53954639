//! Implements `wontun peer test`.

use super::print;
use crate::cli::TestOptions;
use crate::commands::error::CommandError;
use crate::netlink::local_addresses;
use crate::server::Folder;
use crate::server::access::{self, AccessQuery, Verdict};

/// Prints whether a connection of a peer, given by its name or public key, is allowed, and by which
/// rule. Returns false if it is denied.
///
/// # Errors
/// [`CommandError`]: there is no such peer or host, the file cannot be read, or the output cannot be
/// written.
pub(crate) fn test_peer(folder: &Folder, wanted: &str, options: TestOptions) -> Result<bool, CommandError> {
    let file = folder.read()?;
    let number = file.find(wanted)?;
    let TestOptions { target, from, policy } = options;
    // without netlink, only the addresses of the file are known to be the server's
    let own = local_addresses().unwrap_or_default();
    let Verdict { is_allowed, text } =
        access::evaluate(&file, number, &AccessQuery { target, from, policy }, own)?;
    print(&format!("{text}\n"))?;
    Ok(is_allowed)
}
