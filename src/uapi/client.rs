//! Finds the running tunnels and sends requests to them.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{getsockopt, sockopt};
use nix::unistd::{Pid, geteuid};
use socket2::{Domain, SockAddr, Socket, Type};
use zeroize::Zeroizing;

use super::changes::Changes;
use super::folders::{UapiFolders, socket_name};
use super::status::TunnelStatus;
use crate::config::{OwnerName, TunName};
use crate::exit::{self, ExitCode};
use crate::interrupted::retry;

/// Timeout of each read and write.
const IO_TIMEOUT: Duration = Duration::from_secs(2);
/// Timeout of a whole answer: the process that answers may be hostile.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum length of an answer in bytes: a hundred thousand peers.
const MAX_ANSWER: u64 = 64 << 20;
/// Owner of the folders of a service with DynamicUser= outside of the service, from systemd 257 on:
/// nobody. Inside, an id-mapped mount shows them as the service's.
const ID_MAPPED_USER: u32 = 65534;
const STATUS_REQUEST: &[u8] = b"status=1\n\n";
const FILE_REQUEST: &[u8] = b"file=1\n\n";
/// Error number of the answer to an operation that the tunnel does not know.
const UNKNOWN_OPERATION: i64 = -(Errno::EPROTO as i64);
/// Error number of a request for something that is not there.
const NO_ENTRY: i64 = -(Errno::ENOENT as i64);
const RELOAD_REQUEST: &[u8] = b"reload=1\n\n";
const TOKENS_REQUEST: &[u8] = b"admin_tokens=1\n\n";
/// Maximum length of the answer to that in bytes.
const MAX_RELOAD_ANSWER: u64 = 16 << 10;
/// Maximum length of the path of a file, and its key, in bytes.
const MAX_FILE_ANSWER: u64 = 4096 + 16;
/// Maximum length of the answer to a change in bytes.
const MAX_SET_ANSWER: u64 = 64;

/// Reason why a tunnel could not be queried or changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// No tunnel of this name runs.
    #[error("tunnel {0} is not running: start it, or name one that 'wontun show' lists")]
    NotRunning(TunName),
    /// The tunnel does not answer in time.
    #[error("the tunnel {0} does not respond: its event loop hangs; restart it")]
    Timeout(TunName),
    /// The listener does not know the request; it is another program.
    #[error("{0} is not a wontun tunnel: use 'wg show {0}'")]
    Foreign(TunName),
    /// This user may not connect to the socket.
    #[error("permission denied: {}: run this as root or as the tunnel's user", .0.display())]
    NotPermitted(PathBuf),
    /// The listener runs as a user that is not trusted.
    #[error(
        "the listener at {} runs as user {uid}, which is not trusted (neither root nor this user, or its folder is writable by \
         others): run this as the tunnel's user",
        path.display()
    )]
    UntrustedListener {
        /// User id of the listener.
        uid: u32,
        /// Path of the socket.
        path: PathBuf,
    },
    /// The answer cannot be parsed.
    #[error(
        "the tunnel {tun} sent an invalid status ({key}): it may be another version of wontun; restart it"
    )]
    InvalidStatus {
        /// Name of the tunnel.
        tun: TunName,
        /// Key of the line.
        key: String,
    },
    /// The tunnel answered with an error.
    #[error("the tunnel {tun} reports error {errno}: see its log")]
    Reported {
        /// Name of the tunnel.
        tun: TunName,
        /// Error number of the answer.
        errno: i64,
    },
    /// The tunnel refused to read its file again.
    #[error("the tunnel {tun} refused it: {reason}")]
    ReloadRefused {
        /// Name of the tunnel.
        tun: TunName,
        /// Reason, in one line.
        reason: String,
    },
    /// The tunnel does not know the request to read its file again.
    #[error("the tunnel {0} runs an older version of wontun: restart it")]
    Older(TunName),
    /// The tunnel serves no admin page.
    #[error("the tunnel {0} serves no admin page: start it by 'wontun serve --admin'")]
    NoAdminPage(TunName),
    /// Any other error.
    #[error("cannot query {}: {source}", path.display())]
    Other {
        /// Path of the socket.
        path: PathBuf,
        /// Error of the kernel.
        source: io::Error,
    },
}

impl ExitCode for ClientError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::NotPermitted(_) | Self::UntrustedListener { .. } => exit::NO_PERMISSION,
            _ => exit::FAILURE,
        }
    }
}

/// Listeners that are trusted besides root and this user.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Trust {
    /// If root connects: any user whose socket is at a place where only root and that user can have
    /// put it. The worst they can do is to misreport their own tunnel: for requests without
    /// secrets.
    PathOwner,
    /// This user.
    User(Option<u32>),
}

impl Trust {
    fn allows(self, uid: u32, path: &Path) -> bool {
        let own = geteuid().as_raw();
        match self {
            _ if uid == 0 || uid == own => true,
            Self::PathOwner => own == 0 && is_owned_path(path, uid),
            Self::User(Some(ID_MAPPED_USER)) => own == 0 && is_owned_path(path, uid),
            Self::User(trusted) => trusted == Some(uid),
        }
    }
}

/// Returns true if only root and `uid` can have put the socket at `path`. An abstract name, such as
/// the health check's, could be taken by any user.
fn is_owned_path(path: &Path, uid: u32) -> bool {
    let Some(folder) = path.parent().and_then(|folder| fs::canonicalize(folder).ok()) else { return false };
    // the id-mapped user stands for the service's, if no other can reach the folder
    let owners = if is_roots_alone(folder.parent()) { vec![uid, ID_MAPPED_USER] } else { vec![uid] };
    let is_safe = fs::metadata(&folder).is_ok_and(|folder| {
        (folder.uid() == 0 || owners.contains(&folder.uid())) && folder.mode() & 0o022 == 0
    });
    is_safe && fs::symlink_metadata(path).is_ok_and(|socket| owners.contains(&socket.uid()))
}

/// Returns true if only root can reach what is in the folder, as in systemd's /run/private.
fn is_roots_alone(folder: Option<&Path>) -> bool {
    folder
        .and_then(|folder| fs::metadata(folder).ok())
        .is_some_and(|folder| folder.uid() == 0 && folder.mode() & 0o077 == 0)
}

/// Requests the status of the tunnel of this name.
pub(crate) fn status_by_name(folders: &UapiFolders, tun: &TunName) -> Result<TunnelStatus, ClientError> {
    status(connect_by_name(folders, tun, Trust::PathOwner)?, tun)
}

/// Connects to the tunnel of this name, in whichever folder its socket is. The listener must be
/// root, this user, or covered by `trust`.
pub(crate) fn connect_by_name(
    folders: &UapiFolders,
    tun: &TunName,
    trust: Trust,
) -> Result<UnixStream, ClientError> {
    for folder in folders.iter() {
        if let Some(socket) = connect(&folder.join(socket_name(tun)), tun, trust)? {
            return Ok(socket);
        }
    }
    Err(ClientError::NotRunning(tun.clone()))
}

/// A process, as the kernel names the one that opened a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Listener {
    /// Process id; `None` if it is in another PID namespace.
    pub(crate) pid: Option<Pid>,
    /// User id when the socket was opened.
    pub(crate) uid: u32,
}

/// Returns the process that listens on the control socket of the tunnel of this name.
pub(crate) fn listener_by_name(folders: &UapiFolders, tun: &TunName) -> Result<Listener, ClientError> {
    let socket = connect_by_name(folders, tun, Trust::PathOwner)?;
    let credentials =
        getsockopt(&socket, sockopt::PeerCredentials).map_err(|error| failed(&error.into(), tun))?;
    let pid = (credentials.pid() > 0).then(|| Pid::from_raw(credentials.pid()));
    Ok(Listener { pid, uid: credentials.uid() })
}

/// Requests the status of all running tunnels, in the order of their names. Skips sockets of other
/// programs, and returns the first error of the others.
pub(crate) fn status_of_all(folders: &UapiFolders) -> (Vec<TunnelStatus>, Option<ClientError>) {
    let mut statuses = Vec::new();
    let mut first_error = None;
    for (path, tun) in find_sockets(folders) {
        let answer = connect(&path, &tun, Trust::PathOwner)
            .and_then(|socket| socket.map(|socket| status(socket, &tun)).transpose());
        match answer {
            Ok(status) => statuses.extend(status),
            Err(ClientError::Foreign(_)) => {}
            Err(error) => {
                first_error.get_or_insert(error);
            }
        }
    }
    (statuses, first_error)
}

/// A running tunnel with a configuration file.
#[derive(Clone, Debug)]
pub(crate) struct RunningFile {
    /// Name of the tunnel.
    pub(crate) tun: TunName,
    /// Absolute path of the file, as the tunnel sees it.
    pub(crate) path: PathBuf,
    /// User id of the tunnel.
    uid: u32,
}

impl RunningFile {
    /// Returns true if the tunnel may name a file of this user: its own, and any if it runs as root
    /// or as this user.
    pub(crate) fn may_own(&self, owner: u32) -> bool {
        self.uid == 0 || self.uid == geteuid().as_raw() || self.uid == owner
    }
}

/// Returns the running tunnels that have a configuration file. Those that cannot be asked are left
/// out.
pub(crate) fn running_files(folders: &UapiFolders) -> Vec<RunningFile> {
    let sockets = find_sockets(folders).into_iter();
    let file = |(path, tun): (PathBuf, TunName)| {
        let socket = connect(&path, &tun, Trust::PathOwner).ok()??;
        let uid = getsockopt(&socket, sockopt::PeerCredentials).ok()?.uid();
        (&socket).write_all(FILE_REQUEST).ok()?;
        let mut line = String::new();
        BufReader::new(&socket).take(MAX_FILE_ANSWER).read_line(&mut line).ok()?;
        let path = PathBuf::from(line.strip_suffix('\n')?.strip_prefix("config_file=")?);
        path.is_absolute().then_some(RunningFile { tun, path, uid })
    };
    sockets.filter_map(file).collect()
}

/// Returns the sockets of tunnels, live or stale.
fn find_sockets(folders: &UapiFolders) -> BTreeMap<PathBuf, TunName> {
    let mut found = BTreeMap::new();
    for folder in folders.iter() {
        let Ok(resolved) = fs::canonicalize(folder) else { continue };
        let is_users = folders.config.iter().any(|config| config == folder);
        for entry in fs::read_dir(&resolved).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let tun = name.to_str().and_then(|name| name.strip_suffix(".sock")?.parse().ok());
            // a user's folder may hold sockets of other programs; those of wontun are accessible by
            // their owner only
            let is_candidate = entry
                .metadata()
                .is_ok_and(|file| file.file_type().is_socket() && (!is_users || file.mode() & 0o077 == 0));
            if let Some(tun) = tun.filter(|_| is_candidate) {
                found.insert(entry.path(), tun);
            }
        }
    }
    found
}

/// Connects to the socket. Returns `None` if nothing listens there.
fn connect(path: &Path, tun: &TunName, trust: Trust) -> Result<Option<UnixStream>, ClientError> {
    let other = |source| ClientError::Other { path: path.to_owned(), source };
    // a path too long for a socket address
    let Ok(address) = SockAddr::unix(path) else { return Ok(None) };
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(other)?;
    // the write timeout also bounds how long a full queue can block connect()
    socket.set_write_timeout(Some(IO_TIMEOUT)).map_err(other)?;
    socket.set_read_timeout(Some(IO_TIMEOUT)).map_err(other)?;
    if let Err(error) = retry(|| socket.connect(&address)) {
        return match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::ENOENT | Errno::ENOTDIR | Errno::ECONNREFUSED) => Ok(None),
            Some(Errno::EAGAIN) => Err(ClientError::Timeout(tun.clone())),
            Some(Errno::EACCES | Errno::EPERM) => Err(ClientError::NotPermitted(path.to_owned())),
            Some(Errno::EPROTOTYPE) => Err(ClientError::Foreign(tun.clone())),
            _ => Err(other(error)),
        };
    }
    let uid = getsockopt(&socket, sockopt::PeerCredentials).map_err(|error| other(error.into()))?.uid();
    if !trust.allows(uid, path) {
        return Err(ClientError::UntrustedListener { uid, path: path.to_owned() });
    }
    Ok(Some(UnixStream::from(std::os::fd::OwnedFd::from(socket))))
}

/// Requests the status of the tunnel.
pub(crate) fn status(socket: UnixStream, tun: &TunName) -> Result<TunnelStatus, ClientError> {
    let failed = |error| failed(&error, tun);
    (&socket).write_all(STATUS_REQUEST).map_err(failed)?;
    let mut status = TunnelStatus::new(tun);
    let mut has_answered = false;
    let reader =
        DeadlineReader { socket: &socket, deadline: Instant::now() + ANSWER_TIMEOUT, each: IO_TIMEOUT }
            .take(MAX_ANSWER);
    for line in BufReader::new(reader).split(b'\n') {
        let line = line.map_err(failed)?;
        if line.is_empty() {
            break;
        }
        let line = String::from_utf8_lossy(&line);
        let (key, value) = line.split_once('=').unwrap_or((&line, ""));
        if key == "errno" {
            return match value.parse() {
                Ok(0) => Ok(status),
                // it answers, but does not know the operation
                Ok(_) if !has_answered => Err(ClientError::Foreign(tun.clone())),
                errno => Err(ClientError::Reported { tun: tun.clone(), errno: errno.unwrap_or_default() }),
            };
        }
        has_answered = true;
        status.handle_line(key, value).ok_or_else(|| ClientError::InvalidStatus {
            tun: tun.clone(),
            key: key.chars().take(40).collect::<String>().escape_debug().to_string(),
        })?;
    }
    Err(ClientError::Foreign(tun.clone()))
}

/// A reader of a socket with a deadline.
struct DeadlineReader<'a> {
    socket: &'a UnixStream,
    deadline: Instant,
    /// Timeout of each read.
    each: Duration,
}

impl Read for DeadlineReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let remaining = self.deadline.saturating_duration_since(Instant::now());
        if remaining.is_zero() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.socket.set_read_timeout(Some(remaining.min(self.each)))?;
        self.socket.read(buffer)
    }
}

/// Sends a change request, which is applied completely or not at all.
pub(crate) fn set(socket: UnixStream, tun: &TunName, changes: &Changes) -> Result<(), ClientError> {
    let failed = |error| failed(&error, tun);
    // the kernel may take time to set the routes of a change on a busy host
    socket.set_read_timeout(Some(ANSWER_TIMEOUT)).map_err(failed)?;
    (&socket).write_all(&changes.to_request()).map_err(failed)?;
    let mut line = String::new();
    BufReader::new(&socket).take(MAX_SET_ANSWER).read_line(&mut line).map_err(failed)?;
    match line.trim_end().strip_prefix("errno=").map(str::parse) {
        Some(Ok(0)) => Ok(()),
        Some(Ok(errno)) => Err(ClientError::Reported { tun: tun.clone(), errno }),
        _ => Err(ClientError::Foreign(tun.clone())),
    }
}

/// Requests that the tunnel reads its file again, and waits until that is applied.
pub(crate) fn reload(socket: UnixStream, tun: &TunName) -> Result<(), ClientError> {
    read_again(&socket, RELOAD_REQUEST, tun)
}

/// Requests that the tunnel reads the tokens of the admin page's API again, and waits until they
/// are in force.
pub(crate) fn reload_tokens(socket: UnixStream, tun: &TunName) -> Result<(), ClientError> {
    read_again(&socket, TOKENS_REQUEST, tun)
}

fn read_again(mut socket: &UnixStream, request: &[u8], tun: &TunName) -> Result<(), ClientError> {
    let failed = |error| failed(&error, tun);
    socket.write_all(request).map_err(failed)?;
    // the kernel may take time to set routes and tables on a busy host
    let reader = DeadlineReader { socket, deadline: Instant::now() + ANSWER_TIMEOUT, each: ANSWER_TIMEOUT };
    let mut reason = None;
    for line in BufReader::new(reader.take(MAX_RELOAD_ANSWER)).lines() {
        let line = line.map_err(failed)?;
        match line.split_once('=') {
            Some(("error", text)) => {
                reason = Some(text.chars().filter(|letter| !letter.is_control()).collect());
            }
            Some(("errno", errno)) => {
                let tun = tun.clone();
                return match (errno.parse().ok(), reason) {
                    (Some(0), _) => Ok(()),
                    (Some(_), Some(reason)) => Err(ClientError::ReloadRefused { tun, reason }),
                    (Some(NO_ENTRY), None) => Err(ClientError::NoAdminPage(tun)),
                    (Some(UNKNOWN_OPERATION), None) => Err(ClientError::Older(tun)),
                    (Some(errno), None) => Err(ClientError::Reported { tun, errno }),
                    (None, _) => Err(ClientError::Foreign(tun)),
                };
            }
            _ => {}
        }
    }
    Err(ClientError::Foreign(tun.clone()))
}

/// Links to the admin page.
#[derive(Debug, Default)]
pub(crate) struct AdminLinks {
    /// The links, each of which contains a secret.
    pub(crate) links: Vec<Zeroizing<String>>,
    /// The fingerprint of the page's certificate, if it has one.
    pub(crate) fingerprint: Option<String>,
}

/// Requests links to the admin page, of an owner of peers or else of the administrator.
pub(crate) fn admin_links(
    socket: UnixStream,
    tun: &TunName,
    owner: Option<&OwnerName>,
) -> Result<AdminLinks, ClientError> {
    let failed = |error| failed(&error, tun);
    let request = owner.map_or_else(|| "admin=1\n\n".to_owned(), |owner| format!("admin_owner={owner}\n\n"));
    (&socket).write_all(request.as_bytes()).map_err(failed)?;
    let reader =
        DeadlineReader { socket: &socket, deadline: Instant::now() + ANSWER_TIMEOUT, each: ANSWER_TIMEOUT };
    let mut answer = AdminLinks::default();
    for line in BufReader::new(reader.take(MAX_RELOAD_ANSWER)).lines() {
        let line = Zeroizing::new(line.map_err(failed)?);
        match line.split_once('=') {
            Some(("admin_link", link)) if link.bytes().all(|byte| byte.is_ascii_graphic()) => {
                answer.links.push(Zeroizing::new(link.to_owned()));
            }
            Some(("admin_fingerprint", text)) if text.bytes().all(|byte| byte.is_ascii_graphic()) => {
                answer.fingerprint = Some(text.to_owned());
            }
            Some(("errno", errno)) => {
                let tun = tun.clone();
                return match errno.parse().ok() {
                    Some(0) => Ok(answer),
                    Some(NO_ENTRY) => Err(ClientError::NoAdminPage(tun)),
                    Some(UNKNOWN_OPERATION) => Err(ClientError::Older(tun)),
                    Some(errno) => Err(ClientError::Reported { tun, errno }),
                    None => Err(ClientError::Foreign(tun)),
                };
            }
            _ => {}
        }
    }
    Err(ClientError::Foreign(tun.clone()))
}

fn failed(error: &io::Error, tun: &TunName) -> ClientError {
    match error.kind() {
        io::ErrorKind::WouldBlock => ClientError::Timeout(tun.clone()),
        // wireguard-go closes the connection on an unknown operation
        _ => ClientError::Foreign(tun.clone()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_folder_that_others_can_write_vouches_for_nobody() {
        let folder = std::env::temp_dir().join(format!("wontun-client-{}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        let path = folder.join("wt0.sock");
        let _listener = UnixListener::bind(&path).unwrap();
        let own = geteuid().as_raw();
        for (mode, placed) in [(0o755, true), (0o700, true), (0o775, false), (0o777, false), (0o1777, false)]
        {
            fs::set_permissions(&folder, PermissionsExt::from_mode(mode)).unwrap();
            assert_eq!(is_owned_path(&path, own), placed, "{mode:o}");
            assert!(!is_owned_path(&path, own + 1), "a socket that is not that user's");
        }
        assert!(!is_owned_path(&folder.join("none.sock"), own));
        assert!(!Trust::User(Some(ID_MAPPED_USER)).allows(own + 1, &path));
        fs::remove_dir_all(&folder).unwrap();
        assert!(Trust::PathOwner.allows(own, &path) && Trust::PathOwner.allows(0, &path));
        assert!(Trust::User(Some(own + 1)).allows(own + 1, &path));
        assert!(!Trust::User(None).allows(own + 1, &path) && !Trust::PathOwner.allows(own + 1, &path));
    }

    /// As ordinary users cannot make such folders, this tests only what root runs.
    #[test]
    fn an_id_mapped_folder_vouches_for_its_service_if_only_root_can_reach_it() {
        if !geteuid().is_root() {
            return;
        }
        let private = std::env::temp_dir().join(format!("wontun-mapped-{}", std::process::id()));
        let folder = private.join("wontun");
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("wt0.sock");
        let _listener = UnixListener::bind(&path).unwrap();
        let service = 63024;
        for (mode, is_trusted) in [(0o700, true), (0o711, false), (0o755, false)] {
            for owned in [&folder, &path] {
                std::os::unix::fs::chown(owned, Some(ID_MAPPED_USER), Some(ID_MAPPED_USER)).unwrap();
            }
            fs::set_permissions(&private, PermissionsExt::from_mode(mode)).unwrap();
            assert_eq!(Trust::PathOwner.allows(service, &path), is_trusted, "{mode:o}");
            assert_eq!(Trust::User(Some(ID_MAPPED_USER)).allows(service, &path), is_trusted, "{mode:o}");
            assert!(!Trust::User(Some(service + 1)).allows(service, &path), "another user's file");
        }
        fs::remove_dir_all(&private).unwrap();
    }
}
