//! Implements `wontun enroll`.

use std::fs::{self, File};
use std::io::{self, IsTerminal as _, Read, Write as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use zeroize::Zeroizing;

use super::error::CommandError;
use crate::cli::CodeArgument;
use crate::config::TunName;
use crate::config::peer_settings::Expiry;
use crate::enroll::client::{DeviceKeys, EnrollError, Enrolment, device_file};
use crate::enroll::code::InvitationCode;
use crate::net::random::SystemRandom;
use crate::net::timer::unix_now;
use crate::server::{ServerError, create_secret};

/// Maximum length of a code on standard input in bytes, with white space around it.
const MAX_INPUT: u64 = 4096;
/// Argument for standard input.
const STDIN: &str = "-";

/// Enrols this device with a code, and writes its file.
///
/// # Errors
/// [`CommandError`]. After any but [`CommandError::Unconfirmed`] no file was written.
pub(crate) fn enroll(
    code: CodeArgument,
    name: &TunName,
    out: Option<PathBuf>,
    timeout: Duration,
) -> Result<(), CommandError> {
    let text = if code.0.as_str() == STDIN { read_code()? } else { code.0 };
    let code: InvitationCode = text.parse()?;
    if code.expires <= unix_now() {
        let end = Expiry::from_epoch(code.expires).map(|end| end.to_string()).unwrap_or_default();
        return Err(CommandError::CodeExpired(end));
    }
    let path = out.unwrap_or_else(|| PathBuf::from(format!("{name}.conf")));
    // before the code is used up
    if fs::symlink_metadata(&path).is_ok() {
        return Err(ServerError::Exists(path).into());
    }
    let mut random = SystemRandom::open()?;
    let keys = DeviceKeys::generate(&mut random);
    let mut enrolment = Enrolment::connect(&code, timeout, &mut random)?;
    let file = device_file(&enrolment.settings()?, &code, &keys)?;
    create_secret(&path, &file)?;
    match enrolment.enrol(&keys) {
        Ok(()) => {}
        // the server may have the keys, so this file may be the only copy of its private key
        Err(source @ (EnrollError::Unconfirmed | EnrollError::System(_))) => {
            return Err(CommandError::Unconfirmed { path, source });
        }
        Err(error) => {
            let _ = fs::remove_file(&path);
            return Err(error.into());
        }
    }
    let _ = writeln!(
        io::stderr(),
        "wontun: this device is enrolled as {} at {}; run it with 'wontun --config {}', or as 'wg-quick up'",
        code.address,
        code.endpoint,
        shown(&path)
    );
    Ok(())
}

/// Returns a path that is read as one: `wg-quick` and shells read `wg0.conf` otherwise.
fn shown(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string()
}

/// Reads a code from standard input.
fn read_code() -> Result<Zeroizing<String>, CommandError> {
    // the standard library's stdin keeps a copy of its input in a buffer
    let stdin = io::stdin().as_fd().try_clone_to_owned().map_err(CommandError::Input)?;
    let is_terminal = stdin.is_terminal();
    if is_terminal {
        let _ = write!(io::stderr(), "Code: ");
    }
    let mut text = Zeroizing::new(Vec::with_capacity(usize::try_from(MAX_INPUT).unwrap_or_default()));
    let mut input = File::from(stdin).take(MAX_INPUT);
    let mut part = Zeroizing::new([0; 512]);
    loop {
        match input.read(part.as_mut()) {
            Ok(0) => break,
            Ok(count) => {
                text.extend_from_slice(part.get(..count).unwrap_or_default());
                // a terminal gives a line at a time
                if is_terminal && text.ends_with(b"\n") {
                    break;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(CommandError::Input(error)),
        }
    }
    Ok(Zeroizing::new(str::from_utf8(&text).unwrap_or_default().to_owned()))
}
