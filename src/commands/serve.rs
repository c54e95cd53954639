//! Implements the preparation of `wontun serve`, which starts with an empty folder.

use std::io::{self, Write};
use std::path::PathBuf;

use super::error::CommandError;
use crate::server::{Folder, InitOptions};

/// Creates the server's file if missing, as `wontun init` does, and returns its path: the tunnel to
/// run. The folder may be read-only if the file exists. Warns if the file would be deleted along
/// with its container.
///
/// # Errors
/// [`CommandError::Server`]: an error in the file, the options or the folder.
pub(crate) fn prepare(folder: &Folder, wanted: &InitOptions) -> Result<PathBuf, CommandError> {
    let prepared = folder.prepare(wanted)?;
    let file = prepared.file.path().display();
    let message = match prepared.updated {
        Ok(true) if prepared.is_new => Some(format!("created {file}")),
        Ok(true) => Some(format!("updated the client settings in {file}")),
        Ok(false) => None,
        Err(error) => Some(format!("warning: the client settings in {file} were not updated: {error}")),
    };
    if let Some(message) = message {
        let _ = writeln!(io::stderr(), "wontun: {message}");
    }
    if folder.is_ephemeral() {
        let folder = folder.path().display();
        let _ = writeln!(
            io::stderr(),
            "wontun: warning: {folder} is on no volume: the server's key and its clients are deleted along with this \
             container; mount one there (docker run -v wontun:{folder} ...)"
        );
    }
    Ok(folder.file())
}
