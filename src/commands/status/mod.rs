//! Implements `wontun status`: one screen about the running tunnels, to be read first.

mod summary;
mod text;

use std::io::{self, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use self::summary::Host;
use super::error::CommandError;
use super::show::human::wants_colours;
use crate::config::TunName;
use crate::uapi::UapiFolders;

/// Prints one screen about the tunnel `name`, or about all that run, with what to do where
/// something is wrong.
///
/// # Errors
/// [`CommandError::NotShown`]: no tunnel runs, or not that one, which the screen says.
pub(crate) fn status(name: Option<TunName>, folders: &UapiFolders) -> Result<(), CommandError> {
    let host = Host::look(name.as_ref(), folders);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let text = text::format(&host, name.as_ref(), now, wants_colours());
    match io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()) {
        // it is no error if the reader is gone
        Err(failure) if failure.kind() != io::ErrorKind::BrokenPipe => {
            return Err(CommandError::Output(failure));
        }
        _ => {}
    }
    if host.tunnels.is_empty() { Err(CommandError::NotShown) } else { Ok(()) }
}
