//! Taking the name of a socket in one folder: a stale one is replaced, a live one is not, and of two processes that
//! come at once one gets it.

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
use socket2::{Domain, SockAddr, Socket, Type};

use super::place::{UapiError, socket_name};
use crate::config::TunName;

/// How long another process may take for what takes a millisecond.
const PATIENCE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(5);
/// How often somebody who does not know our lock may take the name just before us.
const TRIES: u32 = 8;
pub(super) const BACKLOG: i32 = 64;

/// A listening socket at its place.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) socket: Socket,
    pub(super) path: PathBuf,
    /// The folder, whatever happens to the path that leads there.
    pub(super) folder: fs::File,
    /// The file's name in it.
    pub(super) name: String,
    /// Device and inode of the file.
    pub(super) identity: (u64, u64),
}

/// Why it is not there.
#[derive(Debug)]
pub(super) enum ClaimError {
    /// This folder does not take it; another may.
    Folder(io::Error),
    /// It must not be elsewhere either.
    Refused(UapiError),
}

impl From<io::Error> for ClaimError {
    fn from(error: io::Error) -> Self {
        Self::Folder(error)
    }
}

/// Who has the name already.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Occupant {
    Nobody,
    /// A socket whose owner is gone.
    Stale,
    Live(Option<i32>),
    /// A file, a symbolic link, …
    Other,
}

/// Makes the socket of `tun` in `folder`, which is made if `make` says so.
pub(super) fn claim(folder: &Path, tun: &TunName, make: bool) -> Result<Claim, ClaimError> {
    let folder = std::path::absolute(folder)?;
    if make {
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

    // Made under another name and listening before it gets its own: whoever finds a socket that refuses connections
    // takes it for a stale one, and `wg` removes it. Nobody can connect before it listens, so that its mode is
    // right from the first instant on.
    remove(&temporary)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
    socket.bind(&address)?;
    let result = fs::set_permissions(&temporary, Permissions::from_mode(0o600))
        .and_then(|()| socket.listen(BACKLOG))
        .and_then(|()| fs::symlink_metadata(&temporary))
        .map_err(ClaimError::from)
        .and_then(|file| put_in_place(&temporary, &path).map(|()| (file.dev(), file.ino())));
    // if it stays, the next one to come removes it
    let _ = remove(&temporary);
    Ok(Claim { socket, identity: result?, path, folder: opened, name })
}

fn put_in_place(temporary: &Path, path: &Path) -> Result<(), ClaimError> {
    for _ in 0..TRIES {
        match occupant(path, Type::STREAM)? {
            Occupant::Nobody => {}
            Occupant::Stale => remove(path)?,
            Occupant::Live(pid) => {
                return Err(ClaimError::Refused(UapiError::InUse { path: path.to_owned(), pid }));
            }
            Occupant::Other => return Err(ClaimError::Refused(UapiError::NoSocket(path.to_owned()))),
        }
        match fs::hard_link(temporary, path) {
            Ok(()) => return Ok(()),
            // somebody without our lock, such as wireguard-go
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            // a file system without links
            Err(_) => return fs::rename(temporary, path).map_err(ClaimError::from),
        }
    }
    Err(io::Error::from(io::ErrorKind::AlreadyExists).into())
}

/// Tells who has the name. A socket of another kind than `kind` is live, whoever has it.
pub(super) fn occupant(path: &Path, kind: Type) -> io::Result<Occupant> {
    match fs::symlink_metadata(path) {
        Ok(file) if file.file_type().is_socket() => {}
        Ok(_) => return Ok(Occupant::Other),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Occupant::Nobody),
        Err(error) => return Err(error),
    }
    let socket = Socket::new(Domain::UNIX, kind.nonblocking(), None)?;
    let Err(error) = socket.connect(&SockAddr::unix(path)?) else {
        let pid = getsockopt(&socket, sockopt::PeerCredentials)?.pid();
        // the kernel says 0 for one that this PID namespace does not have
        return Ok(Occupant::Live(Some(pid).filter(|&pid| pid > 0)));
    };
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ECONNREFUSED) => Ok(Occupant::Stale),
        Some(Errno::ENOENT) => Ok(Occupant::Nobody),
        // its queue is full, or it is of another kind
        Some(Errno::EAGAIN | Errno::EPROTOTYPE) => Ok(Occupant::Live(None)),
        _ => Err(error),
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Keeps others from taking the same name meanwhile, in whatever namespace they are. A file of its own and not
/// the folder, which every user may open and lock.
struct Lock<'a> {
    path: &'a Path,
    _file: Flock<fs::File>,
}

impl<'a> Lock<'a> {
    /// `None` if another process does not let go of it.
    fn take(path: &'a Path) -> io::Result<Option<Self>> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .custom_flags(libc::O_NOFOLLOW)
                .open(path)?;
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                // the one before us has removed it: what we hold nobody else will find
                Ok(file) if !is_at(&file, path) => {}
                Ok(file) => return Ok(Some(Self { path, _file: file })),
                Err((_, Errno::EWOULDBLOCK)) => thread::sleep(PAUSE),
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
        // before it is let go of, so that it is ours that is removed
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
