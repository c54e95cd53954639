//! Finding the tunnels that run, and asking them.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{getsockopt, sockopt};
use nix::unistd::geteuid;
use socket2::{Domain, SockAddr, Socket, Type};

use super::report::Report;
use crate::commands::CommandError;
use crate::config::TunName;
use crate::control::uapi::{Changes, UapiFolders, socket_name};

/// How long a tunnel may say nothing.
const PATIENCE: Duration = Duration::from_secs(2);
const REQUEST: &[u8] = b"status=1\n\n";
/// Bytes that the answer to a change may have.
const MAX_ERRNO: u64 = 64;

/// Asks the tunnel of this name, wherever its socket is.
pub(super) fn ask_by_name(folders: &UapiFolders, tun: &TunName) -> Result<Report, CommandError> {
    ask(connect_by_name(folders, tun, None)?, tun)
}

/// A connection to the tunnel of this name, wherever its socket is. Whoever listens must be root, this user, or
/// `trusted`.
pub(in crate::commands) fn connect_by_name(
    folders: &UapiFolders,
    tun: &TunName,
    trusted: Option<u32>,
) -> Result<UnixStream, CommandError> {
    for folder in folders.iter() {
        if let Some(socket) = connect(&folder.join(socket_name(tun)), tun, trusted)? {
            return Ok(socket);
        }
    }
    Err(CommandError::NotRunning(tun.clone()))
}

/// Asks all that run, in the order of their names. Those of other programs are passed over; of the errors of others the
/// first is given too.
pub(super) fn ask_all(folders: &UapiFolders) -> (Vec<Report>, Option<CommandError>) {
    let mut reports = Vec::new();
    let mut first_error = None;
    for (path, tun) in sockets(folders) {
        let answer =
            connect(&path, &tun, None).and_then(|socket| socket.map(|socket| ask(socket, &tun)).transpose());
        match answer {
            Ok(report) => reports.extend(report),
            Err(CommandError::Foreign(_)) => {}
            Err(error) => {
                first_error.get_or_insert(error);
            }
        }
    }
    (reports, first_error)
}

/// The sockets of tunnels, live or not.
fn sockets(folders: &UapiFolders) -> BTreeMap<PathBuf, TunName> {
    let mut found = BTreeMap::new();
    for folder in folders.iter() {
        let Ok(resolved) = fs::canonicalize(folder) else { continue };
        let is_users = folders.config.as_deref() == Some(folder);
        for entry in fs::read_dir(&resolved).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let tun = name.to_str().and_then(|name| name.strip_suffix(".sock")?.parse().ok());
            // what else is in a user's folder is none of our business; ours are for their owner alone
            let is_ours = entry
                .metadata()
                .is_ok_and(|file| file.file_type().is_socket() && (!is_users || file.mode() & 0o077 == 0));
            if let Some(tun) = tun.filter(|_| is_ours) {
                found.insert(entry.path(), tun);
            }
        }
    }
    found
}

/// `None` if nobody listens there.
fn connect(path: &Path, tun: &TunName, trusted: Option<u32>) -> Result<Option<UnixStream>, CommandError> {
    let other = |source| CommandError::Other { path: path.to_owned(), source };
    // the path is too long for any socket
    let Ok(address) = SockAddr::unix(path) else { return Ok(None) };
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(other)?;
    // the first also bounds how long a full queue may hold up the connection
    socket.set_write_timeout(Some(PATIENCE)).map_err(other)?;
    socket.set_read_timeout(Some(PATIENCE)).map_err(other)?;
    if let Err(error) = socket.connect(&address) {
        return match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::ENOENT | Errno::ENOTDIR | Errno::ECONNREFUSED) => Ok(None),
            Some(Errno::EAGAIN) => Err(CommandError::Hangs(tun.clone())),
            Some(Errno::EACCES | Errno::EPERM) => Err(CommandError::NotPermitted(path.to_owned())),
            Some(Errno::EPROTOTYPE) => Err(CommandError::Foreign(tun.clone())),
            _ => Err(other(error)),
        };
    }
    let uid = getsockopt(&socket, sockopt::PeerCredentials).map_err(|error| other(error.into()))?.uid();
    if uid != 0 && uid != geteuid().as_raw() && Some(uid) != trusted {
        return Err(CommandError::Stranger { uid, path: path.to_owned() });
    }
    Ok(Some(UnixStream::from(std::os::fd::OwnedFd::from(socket))))
}

/// Asks how the tunnel is.
pub(in crate::commands) fn ask(socket: UnixStream, tun: &TunName) -> Result<Report, CommandError> {
    let failed = |error| failed(&error, tun);
    (&socket).write_all(REQUEST).map_err(failed)?;
    let mut report = Report::new(tun);
    let mut has_answered = false;
    for line in BufReader::new(&socket).split(b'\n') {
        let line = line.map_err(failed)?;
        if line.is_empty() {
            break;
        }
        let line = String::from_utf8_lossy(&line);
        let (key, value) = line.split_once('=').unwrap_or((&line, ""));
        if key == "errno" {
            return match value.parse() {
                Ok(0) => Ok(report),
                // one that answers, but does not know what is asked
                Ok(_) if !has_answered => Err(CommandError::Foreign(tun.clone())),
                errno => Err(CommandError::Reported { tun: tun.clone(), errno: errno.unwrap_or_default() }),
            };
        }
        has_answered = true;
        report.handle_line(key, value).ok_or_else(|| CommandError::Answer {
            tun: tun.clone(),
            key: key.chars().take(40).collect::<String>().escape_debug().to_string(),
        })?;
    }
    Err(CommandError::Foreign(tun.clone()))
}

/// Asks the tunnel to change, all of it or nothing.
pub(in crate::commands) fn set(
    socket: UnixStream,
    tun: &TunName,
    changes: &Changes,
) -> Result<(), CommandError> {
    let failed = |error| failed(&error, tun);
    (&socket).write_all(&changes.print()).map_err(failed)?;
    let mut line = String::new();
    BufReader::new(&socket).take(MAX_ERRNO).read_line(&mut line).map_err(failed)?;
    match line.trim_end().strip_prefix("errno=").map(str::parse) {
        Some(Ok(0)) => Ok(()),
        Some(Ok(errno)) => Err(CommandError::Reported { tun: tun.clone(), errno }),
        _ => Err(CommandError::Foreign(tun.clone())),
    }
}

fn failed(error: &io::Error, tun: &TunName) -> CommandError {
    match error.kind() {
        io::ErrorKind::WouldBlock => CommandError::Hangs(tun.clone()),
        // wireguard-go hangs up on an operation that it does not know
        _ => CommandError::Foreign(tun.clone()),
    }
}
