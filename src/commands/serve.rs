//! Implements the preparation of `wontun serve`, which starts with an empty folder.

use std::io::{self, Write};
use std::path::PathBuf;

use super::error::CommandError;
use crate::server::{Folder, Initial};

/// Creates the server's file if missing, as `wontun init` does, and returns its path: the tunnel to
/// run. The folder may be read-only if the file exists. Warns if the file would be deleted along
/// with its container.
///
/// # Errors
/// [`CommandError::Setup`]: an error in the file, the options or the folder.
pub fn prepare(folder: &Folder, wanted: &Initial) -> Result<PathBuf, CommandError> {
    let prepared = folder.prepare(wanted)?;
    let file = prepared.file.path().display();
    let told = match prepared.noted {
        Ok(true) if prepared.is_new => Some(format!("made {file}")),
        Ok(true) => Some(format!("noted in {file} what clients are told")),
        Ok(false) => None,
        Err(error) => Some(format!("warning: clients are told what {file} says, since {error}")),
    };
    if let Some(told) = told {
        let _ = writeln!(io::stderr(), "wontun: {told}");
    }
    if folder.is_lost_with_container() {
        let folder = folder.path().display();
        let _ = writeln!(
            io::stderr(),
            "wontun: warning: {folder} is on no volume: the server's key and its clients are deleted along with this \
             container; mount one there (docker run -v wontun:{folder} ...)"
        );
    }
    Ok(folder.file())
}
