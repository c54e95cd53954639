//! Claims the name of a socket in a folder. A stale socket is replaced, a live one is not, and only
//! one of two concurrent processes gets the name.

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::libc;
use nix::sys::socket::{getsockopt, sockopt};
use nix::sys::stat::lstat;
use socket2::{Domain, SockAddr, Socket, Type};

use super::folders::{UapiError, socket_name};
use crate::config::TunName;

/// Timeout for the lock of another process, which is normally held for a millisecond.
const LOCK_TIMEOUT: Duration = Duration::from_secs(2);
const LOCK_RETRY_INTERVAL: Duration = Duration::from_millis(5);
/// Number of attempts when a process that does not use the lock takes the name first.
const ATTEMPTS: u32 = 8;
pub(super) const BACKLOG: i32 = 64;

/// A listening socket bound to its final path.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) socket: Socket,
    pub(super) path: PathBuf,
    /// The folder, opened, so that it stays the same if its path changes.
    pub(super) folder: fs::File,
    /// Name of the file in the folder.
    pub(super) name: String,
    /// Device and inode of the socket's file.
    pub(super) identity: (libc::dev_t, libc::ino_t),
}

/// Reason why the socket could not be created.
#[derive(Debug)]
pub(super) enum ClaimError {
    /// This folder cannot be used; another one may.
    Folder(io::Error),
    /// No other folder may be tried either.
    Refused(UapiError),
}

impl From<io::Error> for ClaimError {
    fn from(error: io::Error) -> Self {
        Self::Folder(error)
    }
}

/// Current holder of a name.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ExistingSocket {
    None,
    /// A socket whose process is gone.
    Stale,
    Live(Option<i32>),
    /// Another kind of file, such as a regular file or a symbolic link.
    NotASocket,
}

/// Creates the socket of `tun` in `folder`; creates the folder too if `create_folder` is true.
pub(super) fn claim(folder: &Path, tun: &TunName, create_folder: bool) -> Result<Claim, ClaimError> {
    let folder = std::path::absolute(folder)?;
    if create_folder {
        DirBuilder::new().recursive(true).mode(0o755).create(&folder)?;
    }
    let opened =
        OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_DIRECTORY).open(&folder)?;
    let name = socket_name(tun);
    let path = folder.join(&name);
    let lock_path = folder.join(format!(".{tun}.lock"));
    let temporary = folder.join(format!(".{tun}.new"));
    let address = SockAddr::unix(&temporary)
        .map_err(|_| io::Error::other("the path is longer than a socket's may be, 107 bytes"))?;
    let Some(_lock) = Lock::take(&lock_path)? else {
        return Err(ClaimError::Refused(UapiError::Locked { path, lock: lock_path }));
    };

    // Created under another name and listening before it gets its own: another process takes a
    // socket that refuses connections for a stale one, and `wg` removes it. No process can connect
    // before it listens, so its mode is right from the start.
    remove(&temporary)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
    socket.bind(&address)?;
    let result = fs::set_permissions(&temporary, Permissions::from_mode(0o600))
        .and_then(|()| socket.listen(BACKLOG))
        .and_then(|()| Ok(lstat(&temporary)?))
        .map_err(ClaimError::from)
        .and_then(|file| put_in_place(&temporary, &path).map(|()| (file.st_dev, file.st_ino)));
    // if this fails, the next process to claim the name removes it
    let _ = remove(&temporary);
    Ok(Claim { socket, identity: result?, path, folder: opened, name })
}

fn put_in_place(temporary: &Path, path: &Path) -> Result<(), ClaimError> {
    for _ in 0..ATTEMPTS {
        match existing_socket(path, Type::STREAM)? {
            ExistingSocket::None => {}
            ExistingSocket::Stale => remove(path)?,
            ExistingSocket::Live(pid) => {
                return Err(ClaimError::Refused(UapiError::InUse { path: path.to_owned(), pid }));
            }
            ExistingSocket::NotASocket => {
                return Err(ClaimError::Refused(UapiError::NotASocket(path.to_owned())));
            }
        }
        match fs::hard_link(temporary, path) {
            Ok(()) => return Ok(()),
            // a process that does not use the lock, such as wireguard-go
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            // a file system without hard links
            Err(_) => return fs::rename(temporary, path).map_err(ClaimError::from),
        }
    }
    Err(io::Error::from(io::ErrorKind::AlreadyExists).into())
}

/// Determines the holder of the name. A socket of a type other than `kind` counts as live.
pub(super) fn existing_socket(path: &Path, kind: Type) -> io::Result<ExistingSocket> {
    match fs::symlink_metadata(path) {
        Ok(file) if file.file_type().is_socket() => {}
        Ok(_) => return Ok(ExistingSocket::NotASocket),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(ExistingSocket::None),
        Err(error) => return Err(error),
    }
    let socket = Socket::new(Domain::UNIX, kind.nonblocking(), None)?;
    let Err(error) = socket.connect(&SockAddr::unix(path)?) else {
        let pid = getsockopt(&socket, sockopt::PeerCredentials)?.pid();
        // the kernel reports 0 for a process outside this PID namespace
        return Ok(ExistingSocket::Live(Some(pid).filter(|&pid| pid > 0)));
    };
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ECONNREFUSED) => Ok(ExistingSocket::Stale),
        Some(Errno::ENOENT) => Ok(ExistingSocket::None),
        // its queue is full, or it has another type
        Some(Errno::EAGAIN | Errno::EPROTOTYPE) => Ok(ExistingSocket::Live(None)),
        _ => Err(error),
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Prevents other processes, in any namespace, from claiming the same name concurrently. Locks a
/// file of its own instead of the folder, which every user may open and lock.
struct Lock<'a> {
    path: &'a Path,
    _file: Flock<fs::File>,
}

impl<'a> Lock<'a> {
    /// Takes the lock. Returns `None` if another process does not release it in time.
    fn take(path: &'a Path) -> io::Result<Option<Self>> {
        let deadline = Instant::now() + LOCK_TIMEOUT;
        loop {
            let file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .custom_flags(libc::O_NOFOLLOW)
                .open(path)?;
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                // the previous holder has removed this file: other processes would not find the
                // lock
                Ok(file) if !is_at(&file, path) => {}
                Ok(file) => return Ok(Some(Self { path, _file: file })),
                Err((_, Errno::EWOULDBLOCK)) => thread::sleep(LOCK_RETRY_INTERVAL),
                Err((_, error)) => return Err(error.into()),
            }
            if Instant::now() > deadline {
                return Ok(None);
            }
        }
    }
}

impl Drop for Lock<'_> {
    fn drop(&mut self) {
        // before the lock is released, so that the file removed is this one
        let _ = fs::remove_file(self.path);
    }
}

fn is_at(file: &fs::File, path: &Path) -> bool {
    let identity = |file: fs::Metadata| (file.dev(), file.ino());
    match (file.metadata(), fs::symlink_metadata(path)) {
        (Ok(held), Ok(found)) => identity(held) == identity(found),
        _ => false,
    }
}
