//! `wontun show`: how the tunnels that run are.

pub(super) mod client;
pub(super) mod human;
pub(super) mod json;
pub(super) mod report;

use std::io::{self, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use super::error::CommandError;
use crate::config::TunName;
use crate::control::uapi::UapiFolders;

/// What to show, and how.
#[derive(Clone, Debug)]
pub struct ShowOptions {
    /// The tunnel; `None` for all that run.
    pub name: Option<TunName>,
    /// Where their sockets may be.
    pub folders: UapiFolders,
    /// Whether programs read it.
    pub json: bool,
}

/// Prints the state of one tunnel, or of each that runs: with [`ShowOptions::json`] in the format of
/// docs/src/reference/json.md. Secret keys are not requested.
///
/// # Errors
/// [`CommandError`]: nothing runs, or does not answer within two seconds. If only some of many do not, the others are
/// printed all the same.
pub fn show(options: &ShowOptions) -> Result<(), CommandError> {
    let (mut reports, error) = match &options.name {
        Some(name) => (vec![client::ask_by_name(&options.folders, name)?], None),
        None => client::ask_all(&options.folders),
    };
    reports.iter_mut().for_each(report::Report::sort);
    if reports.is_empty() {
        return Err(error.unwrap_or(CommandError::NoneRunning));
    }
    let text = if options.json {
        json::print(&reports)
    } else {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        human::print(&reports, now, human::wants_colours())
    };
    match io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()) {
        // whoever hung up has seen enough
        Err(failure) if failure.kind() != io::ErrorKind::BrokenPipe => {
            return Err(CommandError::Output(failure));
        }
        _ => {}
    }
    error.map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests;
