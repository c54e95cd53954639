//! Access to /etc/resolv.conf: it is read and written in place, since it is a bind mount in
//! containers, which cannot be renamed over.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag, open};
use nix::sys::stat::{Mode, fstat, lstat, stat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::error::ResolvConfError;
use super::layers::{MAX_LENGTH, Stack};
use crate::sandbox::RESOLV_CONF_PATH;

/// Mode of a new file.
const MODE: Mode = Mode::from_bits_truncate(0o644);
/// Number of attempts to lock the file, and the pause between them.
const LOCK_ATTEMPTS: u32 = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// The file, opened for one change.
#[derive(Debug)]
pub(super) struct ResolvConfFile {
    file: File,
    /// Contents; `None` if the file did not exist before it was opened.
    contents: Option<Vec<u8>>,
    /// Lock against other tunnels, released when it is dropped.
    _lock: Option<Flock<OwnedFd>>,
}

/// Reads the contents of the file; `None` if it does not exist.
///
/// # Errors
/// It cannot be read, or is not a regular file of at most [`MAX_LENGTH`] bytes.
pub(super) fn read() -> Result<Option<Vec<u8>>, ResolvConfError> {
    match open(RESOLV_CONF_PATH, OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK, Mode::empty()) {
        Ok(file) => read_all(&File::from(file)).map(Some),
        Err(Errno::ENOENT) => Ok(None),
        Err(error) => Err(ResolvConfError::Read(error.into())),
    }
}

fn read_all(file: &File) -> Result<Vec<u8>, ResolvConfError> {
    let metadata = file.metadata().map_err(ResolvConfError::Read)?;
    if !metadata.is_file() {
        return Err(ResolvConfError::NotAFile);
    }
    // one byte more, to notice that it is longer
    let mut bytes = vec![0; MAX_LENGTH + 1];
    let mut length = 0;
    loop {
        let rest = bytes.get_mut(length..).unwrap_or_default();
        match file.read_at(rest, length as u64) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(ResolvConfError::Read(error)),
        }
    }
    if length > MAX_LENGTH {
        return Err(ResolvConfError::TooLong);
    }
    bytes.truncate(length);
    Ok(bytes)
}

impl ResolvConfFile {
    /// Opens the file for a change, creates it if it does not exist, and locks it against changes
    /// by other tunnels. The lock is advisory, and any user can hold one: after a moment the file
    /// is changed without it.
    ///
    /// # Errors
    /// [`ResolvConfError`].
    pub(super) fn open() -> Result<Self, ResolvConfError> {
        let flags = OFlag::O_RDWR | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        loop {
            let (file, is_new) = match open(RESOLV_CONF_PATH, flags, Mode::empty()) {
                Ok(file) => (file, false),
                Err(Errno::ENOENT) => {
                    match open(RESOLV_CONF_PATH, flags | OFlag::O_CREAT | OFlag::O_EXCL, MODE) {
                        Ok(file) => (file, true),
                        Err(Errno::EEXIST) if stat(RESOLV_CONF_PATH).is_ok() => continue,
                        // a symbolic link to a file that does not exist
                        Err(Errno::EEXIST) => return Err(ResolvConfError::DanglingLink),
                        Err(error) => return Err(ResolvConfError::Open { cause: error.into() }),
                    }
                }
                Err(error) => return Err(ResolvConfError::Open { cause: error.into() }),
            };
            let lock = lock(&file);
            // another program may have replaced it meanwhile
            let is_current = match (fstat(&file), stat(RESOLV_CONF_PATH)) {
                (Ok(opened), Ok(current)) => {
                    (opened.st_dev, opened.st_ino) == (current.st_dev, current.st_ino)
                }
                _ => false,
            };
            if !is_current {
                continue;
            }
            let file = File::from(file);
            let contents = read_all(&file)?;
            let contents = (!is_new || !contents.is_empty()).then_some(contents);
            return Ok(Self { file, contents, _lock: lock });
        }
    }

    /// Returns the contents as layers.
    pub(super) fn stack(&self) -> Stack {
        Stack::parse(self.contents.as_deref())
    }

    /// Replaces the contents, and waits until they are on the disk; `None` removes the file.
    ///
    /// Readers never find an empty file, which would mean a name server on this host, nor the rest
    /// of the previous contents, which may be name servers outside the tunnel.
    ///
    /// # Errors
    /// They cannot be written. The previous contents are written again then.
    pub(super) fn write(&self, contents: Option<&[u8]>) -> Result<(), ResolvConfError> {
        let before = self.contents.as_deref().unwrap_or_default();
        let Some(contents) = contents else { return self.remove() };
        if contents.len() > MAX_LENGTH {
            return Err(ResolvConfError::TooLong);
        }
        let written = self.overwrite(contents, before.len());
        written.map_err(|error| {
            let _ = self.overwrite(before, contents.len());
            ResolvConfError::Write(error)
        })
    }

    fn overwrite(&self, contents: &[u8], previous: usize) -> io::Result<()> {
        let mut bytes = contents.to_vec();
        bytes.resize(contents.len().max(previous), b'\n');
        self.file.write_all_at(&bytes, 0)?;
        self.file.set_len(contents.len() as u64)?;
        self.file.sync_all()
    }

    /// Removes the file, or empties it if it is a link or a mount.
    fn remove(&self) -> Result<(), ResolvConfError> {
        let is_own = match (lstat(RESOLV_CONF_PATH), fstat(&self.file)) {
            (Ok(current), Ok(opened)) => (current.st_dev, current.st_ino) == (opened.st_dev, opened.st_ino),
            _ => false,
        };
        if is_own && unlinkat(nix::fcntl::AT_FDCWD, RESOLV_CONF_PATH, UnlinkatFlags::NoRemoveDir).is_ok() {
            return Ok(());
        }
        self.file.set_len(0).and_then(|()| self.file.sync_all()).map_err(ResolvConfError::Write)
    }
}

fn lock(file: &OwnedFd) -> Option<Flock<OwnedFd>> {
    let mut file = file.try_clone().ok()?;
    for _ in 0..LOCK_ATTEMPTS {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Some(lock),
            Err((returned, Errno::EWOULDBLOCK)) => file = returned,
            Err(_) => return None,
        }
        thread::sleep(LOCK_PAUSE);
    }
    None
}
