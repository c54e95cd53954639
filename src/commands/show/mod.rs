//! Implements `wontun show`: the status of running tunnels.

pub(super) mod human;

use std::io::{self, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use super::error::CommandError;
use crate::config::TunName;
use crate::documents::tunnels_to_json;
use crate::uapi::{TunnelStatus, UapiFolders, client};

/// Options of `wontun show`.
#[derive(Clone, Debug)]
pub(crate) struct ShowOptions {
    /// Name of the tunnel; `None` for all running ones.
    pub name: Option<TunName>,
    /// Folders that may hold the sockets.
    pub folders: UapiFolders,
    /// True for JSON output.
    pub json: bool,
}

/// Prints the state of one tunnel, or of each running one: with [`ShowOptions::json`] in the format
/// of docs/src/reference/json.md. Secret keys are not requested.
///
/// # Errors
/// [`CommandError`]: no tunnel runs, or it does not answer within two seconds. If only some of
/// several fail, the others are printed nevertheless.
pub(crate) fn show(options: &ShowOptions) -> Result<(), CommandError> {
    let (mut statuses, error) = match &options.name {
        Some(name) => (vec![client::status_by_name(&options.folders, name)?], None),
        None => client::status_of_all(&options.folders),
    };
    statuses.iter_mut().for_each(TunnelStatus::sort);
    if statuses.is_empty() {
        return Err(error.map_or(CommandError::NoneRunning, CommandError::from));
    }
    let text = if options.json {
        tunnels_to_json(&statuses)
    } else {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        human::format(&statuses, now, human::wants_colours())
    };
    match io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()) {
        // it is no error if the reader is gone
        Err(failure) if failure.kind() != io::ErrorKind::BrokenPipe => {
            return Err(CommandError::Output(failure));
        }
        _ => {}
    }
    error.map_or(Ok(()), |error| Err(error.into()))
}

#[cfg(test)]
mod tests;
