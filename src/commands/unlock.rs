//! `wontun unlock`: takes away what a kill switch left in place.

use std::io::{self, Write};

use super::error::CommandError;
use crate::config::TunName;
use crate::link::KillSwitch;

/// Lets everything out again that the kill switch of the tunnel called `name`, or of any, holds back, and says so.
/// A tunnel that still runs goes on without; it engages its kill switch anew when it reads its file again. That there is
/// none is no error.
///
/// # Errors
/// [`CommandError::Link`]: not permitted, or no netlink. [`CommandError::Output`].
pub fn unlock(name: Option<&TunName>) -> Result<(), CommandError> {
    let names = match name {
        Some(name) => vec![name.as_str().to_owned()],
        None => KillSwitch::all()?,
    };
    let mut unlocked = Vec::new();
    for name in names {
        if KillSwitch::unlock(&name)? {
            unlocked.push(name);
        }
    }
    let said = match (unlocked.as_slice(), name) {
        ([], Some(name)) => format!("{name} has no kill switch engaged\n"),
        ([], None) => "no kill switch is engaged\n".to_owned(),
        (names, _) => names.iter().map(|name| format!("{name} is unlocked\n")).collect(),
    };
    match io::stdout().write_all(said.as_bytes()).and_then(|()| io::stdout().flush()) {
        // whoever hung up has the exit code
        Err(failure) if failure.kind() != io::ErrorKind::BrokenPipe => Err(CommandError::Output(failure)),
        _ => Ok(()),
    }
}
