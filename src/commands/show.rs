//! `wontun show`: how the tunnels that run are.

pub(super) mod client;
pub(super) mod human;
mod json;
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

/// Prints what one tunnel, or each that runs, says of itself. Keys that are secret are not asked for.
///
/// With [`ShowOptions::json`] it is one document, whose fields keep their names and meaning; new ones may be added:
///
/// ```json
/// {"tunnels": [{
///   "name": "tun0", "version": "0.1.0", "public_key": "base64, or null without a key",
///   "listen_port": 51820, "fwmark": 0, "mtu": 1420, "up": true,
///   "dropped": {"replay": 3},
///   "peers": [{
///     "public_key": "base64", "has_preshared_key": false, "has_session": true,
///     "endpoint": "192.0.2.1:51820", "allowed_ips": ["10.0.0.0/24"],
///     "latest_handshake": 1600000000, "received_bytes": 0, "sent_bytes": 0, "persistent_keepalive": 25
///   }]
/// }]}
/// ```
/// `mtu`, `up`, `endpoint`, `latest_handshake` (seconds since 1970) and `persistent_keepalive` (seconds) are null where
/// there is none; `fwmark` is 0. Peers are in the order of their latest handshake, the newest first.
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
        human::print(&reports, now)
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
