//! Replaces a file atomically: if the process is killed at any time, the old or the new file is
//! there, and complete.
//!
//! One writer at a time holds the lock, a file beside the target: `.NAME.lock`. It is never
//! removed, and the kernel releases the lock when the process ends. The folder itself cannot be the
//! lock, since every user may open and lock it. The new content is written to `.NAME.new`, synced,
//! and only then renamed. A `.NAME.new` that a killed writer left is removed by the next.

use std::ffi::OsString;
use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::libc::{O_DIRECTORY, O_NOFOLLOW};
use nix::sys::stat::Mode;

use super::error::ServerError;

/// Timeout for the lock; a write takes milliseconds.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);
const LOCK_RETRY_INTERVAL: Duration = Duration::from_millis(10);
/// Mode of a new file, which contains keys.
const SECRET_MODE: u32 = 0o600;
const GROUP_BITS: u32 = 0o070;
/// The mode bits that a replaced file keeps.
const PERMISSION_BITS: u32 = 0o777;

/// The lock on a file for writing, held until it is dropped.
#[derive(Debug)]
pub struct Writer {
    /// The file, with symbolic links resolved.
    path: PathBuf,
    temporary: PathBuf,
    folder: File,
    _lock: Flock<File>,
}

impl Writer {
    /// Locks the file at `path`. Waits up to ten seconds for other writers. The folder must exist.
    ///
    /// # Errors
    /// [`ServerError`] if there is no permission or no space, or another writer holds the lock for
    /// too long.
    pub fn lock(path: &Path) -> Result<Self, ServerError> {
        // a symbolic link is followed, and kept
        let path = match fs::canonicalize(path) {
            Ok(path) => path,
            Err(error) if error.kind() == io::ErrorKind::NotFound => path.to_owned(),
            Err(error) => return Err(write_error(path, error)),
        };
        let folder_path = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let beside = |end: &str| {
            let mut name = OsString::from(".");
            name.push(path.file_name().unwrap_or_default());
            name.push(end);
            folder_path.join(name)
        };
        let folder = File::options()
            .read(true)
            .custom_flags(O_DIRECTORY)
            .open(folder_path)
            .map_err(|error| write_error(folder_path, error))?;
        let (lock_path, temporary) = (beside(".lock"), beside(".new"));
        let lock = acquire_lock(&lock_path, &folder, &path)?;
        // left by a killed writer
        remove(&temporary).map_err(|error| write_error(&temporary, error))?;
        Ok(Self { path, temporary, folder, _lock: lock })
    }

    /// Replaces the content of the file. The file keeps its owner and its permissions, except for
    /// set-user-ID and similar bits: a file with keys is not executed.
    ///
    /// # Errors
    /// [`ServerError`]; the file is unchanged.
    pub fn replace(&self, text: &[u8]) -> Result<(), ServerError> {
        let old = metadata(&self.path).map_err(|error| write_error(&self.path, error))?;
        self.write(text, &old, old.mode() & PERMISSION_BITS, &self.path)?;
        self.finish(fs::rename(&self.temporary, &self.path))
    }

    /// Creates the file with the owner of the folder, accessible by the owner only. Never
    /// overwrites a file.
    ///
    /// # Errors
    /// [`ServerError`], for example [`ServerError::Exists`]; nothing was changed.
    pub fn create(&self, text: &[u8]) -> Result<(), ServerError> {
        let folder = self.folder.metadata().map_err(|error| write_error(&self.path, error))?;
        self.write(text, &folder, SECRET_MODE, self.path.parent().unwrap_or(&self.path))?;
        let named = match fs::hard_link(&self.temporary, &self.path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let _ = remove(&self.temporary);
                return Err(ServerError::Exists(self.path.clone()));
            }
            // a file system without hard links
            Err(_) if !self.path.exists() => fs::rename(&self.temporary, &self.path),
            linked => linked.and_then(|()| fs::remove_file(&self.temporary)),
        };
        self.finish(named)
    }

    /// Writes the temporary file with the owner of `like`. `owner_path` is the path of `like` for
    /// messages.
    fn write(&self, text: &[u8], like: &Metadata, mode: u32, owner_path: &Path) -> Result<(), ServerError> {
        let written = self.try_write(text, like, mode, owner_path);
        if written.is_err() {
            let _ = remove(&self.temporary);
        }
        written
    }

    fn try_write(
        &self,
        text: &[u8],
        like: &Metadata,
        mode: u32,
        owner_path: &Path,
    ) -> Result<(), ServerError> {
        let error = |error| write_error(&self.path, error);
        let mut file = new_secret(&self.temporary).map_err(error)?;
        copy_owner(&file, like, mode).map_err(|source| ServerError::Owner {
            path: owner_path.to_owned(),
            uid: like.uid(),
            gid: like.gid(),
            source,
        })?;
        // after the owner: no wrong group gets access at any time
        file.set_permissions(Permissions::from_mode(mode)).map_err(error)?;
        file.write_all(text).map_err(error)?;
        file.sync_all().map_err(error)
    }

    /// Makes a rename durable, or removes the temporary file if it failed.
    fn finish(&self, named: io::Result<()>) -> Result<(), ServerError> {
        if let Err(error) = named {
            let _ = remove(&self.temporary);
            return Err(write_error(&self.path, error));
        }
        match self.folder.sync_all() {
            // a file system that cannot sync folders
            Err(error) if error.raw_os_error() != Some(Errno::EINVAL as i32) => {
                Err(write_error(&self.path, error))
            }
            _ => Ok(()),
        }
    }
}

/// Creates the file `path` with the content `text`, accessible by the owner only. Never overwrites
/// a file.
///
/// # Errors
/// [`ServerError`], for example [`ServerError::Exists`]. The file then does not exist, or is the
/// old one.
pub(crate) fn create_secret(path: &Path, text: &[u8]) -> Result<(), ServerError> {
    let file = create_unsynced(path, text)?;
    file.sync_all().map_err(|error| {
        let _ = fs::remove_file(path);
        write_error(path, error)
    })
}

/// Creates a file as [`create_secret`] does, which a power failure may lose until the file is
/// synced.
///
/// # Errors
/// As [`create_secret`].
pub(crate) fn create_unsynced(path: &Path, text: &[u8]) -> Result<File, ServerError> {
    let mut file = new_secret(path).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => ServerError::Exists(path.to_owned()),
        _ => write_error(path, error),
    })?;
    match file.write_all(text) {
        Ok(()) => Ok(file),
        Err(error) => {
            let _ = fs::remove_file(path);
            Err(write_error(path, error))
        }
    }
}

/// Makes all files durable that are on the file system of `folder`.
///
/// # Errors
/// [`ServerError::Write`].
pub(crate) fn sync_all_in(folder: &Path) -> Result<(), ServerError> {
    let sync = || -> io::Result<()> { Ok(nix::unistd::syncfs(File::open(folder)?)?) };
    sync().map_err(|error| write_error(folder, error))
}

/// Returns the metadata of the regular file at `path`. Reads it from a descriptor, so that a
/// symbolic link put in its place is not followed.
fn metadata(path: &Path) -> io::Result<Metadata> {
    // with musl, std masks out O_PATH, which is part of O_ACCMODE there
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let file = File::from(nix::fcntl::open(path, flags, Mode::empty())?);
    let metadata = file.metadata()?;
    if metadata.is_file() { Ok(metadata) } else { Err(io::Error::other("it is not a regular file")) }
}

fn new_secret(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(SECRET_MODE).custom_flags(O_NOFOLLOW).open(path)
}

/// Changes the owner of a file to that of `like`. A wrong group is accepted if the mode gives it no
/// rights.
fn copy_owner(file: &File, like: &Metadata, mode: u32) -> io::Result<()> {
    let is = file.metadata()?;
    if (is.uid(), is.gid()) == (like.uid(), like.gid()) {
        return Ok(());
    }
    match fchown(file, Some(like.uid()), Some(like.gid())) {
        Err(_) if is.uid() == like.uid() && mode & GROUP_BITS == 0 => Ok(()),
        result => result,
    }
}

fn acquire_lock(lock_path: &Path, folder: &File, path: &Path) -> Result<Flock<File>, ServerError> {
    let error = |error| write_error(lock_path, error);
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(SECRET_MODE)
        .custom_flags(O_NOFOLLOW)
        .open(lock_path)
        .map_err(error)?;
    // The folder's owner must be able to take the lock too if root created it. Anything but an
    // empty file with a single name was put there by another user, possibly to have its owner
    // changed.
    if file.metadata().is_ok_and(|lock| lock.is_file() && lock.len() == 0 && lock.nlink() == 1) {
        let _ = folder.metadata().and_then(|folder| copy_owner(&file, &folder, SECRET_MODE));
    }
    let deadline = Instant::now() + LOCK_TIMEOUT;
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((back, Errno::EWOULDBLOCK)) if Instant::now() < deadline => file = back,
            Err((_, Errno::EWOULDBLOCK)) => {
                return Err(ServerError::Locked { path: path.to_owned(), lock: lock_path.to_owned() });
            }
            Err((_, errno)) => return Err(error(errno.into())),
        }
        thread::sleep(LOCK_RETRY_INTERVAL);
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Returns the error of writing the file or folder at `path`, with a remedy.
pub(super) fn write_error(path: &Path, source: io::Error) -> ServerError {
    let path = path.to_owned();
    let remedy = match source.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EACCES | Errno::EPERM) => return ServerError::NotPermitted { what: "write", path },
        Some(Errno::EROFS) => ": mount its folder writable, or choose another",
        Some(Errno::EBUSY) => ": it is a mount point itself, mount its folder instead",
        Some(Errno::ENOSPC | Errno::EDQUOT) => ": free some space",
        Some(Errno::ENOENT | Errno::ENOTDIR) => ": create its folder first",
        _ => "",
    };
    ServerError::Write { path, source, remedy }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::testing::TestFolder;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn a_file_is_replaced_as_a_whole_and_keeps_its_mode() {
        let folder = TestFolder::new();
        let path = folder.path().join("tun0.conf");
        for wanted in [0o600, 0o640, 0o400] {
            let _ = fs::remove_file(&path);
            fs::write(&path, "old").unwrap();
            fs::set_permissions(&path, Permissions::from_mode(wanted)).unwrap();
            let mut before = File::open(&path).unwrap();
            Writer::lock(&path).unwrap().replace(b"new").unwrap();
            assert_eq!((fs::read_to_string(&path).unwrap().as_str(), mode(&path)), ("new", wanted));
            let mut old = String::new();
            io::Read::read_to_string(&mut before, &mut old).unwrap();
            assert_eq!(old, "old", "whoever reads goes on reading the old one");
        }
        assert_eq!(folder.names(), [".tun0.conf.lock", "tun0.conf"]);
    }

    #[test]
    fn bits_beside_the_permissions_do_not_survive() {
        let folder = TestFolder::new();
        let path = folder.path().join("tun0.conf");
        fs::write(&path, "old").unwrap();
        for (before, after) in [(0o4700, 0o700), (0o2650, 0o650), (0o1640, 0o640)] {
            // a package build sandbox, such as Nix's, forbids the first two
            if fs::set_permissions(&path, Permissions::from_mode(before)).is_err() {
                continue;
            }
            assert_eq!(mode(&path), before);
            Writer::lock(&path).unwrap().replace(b"new").unwrap();
            assert_eq!(mode(&path), after, "{before:o}");
        }
    }

    #[test]
    fn what_takes_the_files_place_is_not_followed() {
        let folder = TestFolder::new();
        let (path, other) = (folder.path().join("tun0.conf"), folder.path().join("other"));
        fs::write(&path, "old").unwrap();
        fs::write(&other, "other").unwrap();
        fs::set_permissions(&other, Permissions::from_mode(0o666)).unwrap();
        let writer = Writer::lock(&path).unwrap();
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(&other, &path).unwrap();
        let error = writer.replace(b"new").unwrap_err().to_string();
        assert!(error.contains("tun0.conf") && error.contains("not a regular file"), "{error}");
        assert_eq!(fs::read(&other).unwrap(), b"other");
        assert_eq!(folder.names(), [".tun0.conf.lock", "other", "tun0.conf"]);
    }

    #[test]
    fn a_new_file_is_for_its_owner_and_never_in_the_place_of_another() {
        let folder = TestFolder::new();
        let path = folder.path().join("tun0.conf");
        let writer = Writer::lock(&path).unwrap();
        writer.create(b"one").unwrap();
        assert_eq!(mode(&path), 0o600);
        assert!(matches!(writer.create(b"two"), Err(ServerError::Exists(_))));
        assert_eq!(fs::read(&path).unwrap(), b"one");
        assert_eq!(folder.names(), [".tun0.conf.lock", "tun0.conf"]);
        let secret = folder.path().join("a.svg");
        create_secret(&secret, b"x").unwrap();
        assert_eq!(mode(&secret), 0o600);
        assert!(matches!(create_secret(&secret, b"y"), Err(ServerError::Exists(_))));
        assert_eq!(fs::read(&secret).unwrap(), b"x");
        let nowhere = create_secret(&folder.path().join("none/a.svg"), b"x").unwrap_err().to_string();
        assert!(nowhere.contains("none/a.svg") && nowhere.contains("create its folder"), "{nowhere}");
    }

    #[test]
    fn a_symbolic_link_stays_one() {
        let folder = TestFolder::new();
        let (path, target) = (folder.path().join("tun0.conf"), folder.path().join("target"));
        fs::create_dir(&target).unwrap();
        fs::write(target.join("real.conf"), "old").unwrap();
        std::os::unix::fs::symlink("target/real.conf", &path).unwrap();
        Writer::lock(&path).unwrap().replace(b"new").unwrap();
        assert!(fs::symlink_metadata(&path).unwrap().is_symlink());
        assert_eq!(fs::read(target.join("real.conf")).unwrap(), b"new");
    }

    #[test]
    fn leftovers_are_removed_and_nobody_is_let_in_meanwhile() {
        let folder = TestFolder::new();
        let path = folder.path().join("tun0.conf");
        fs::write(&path, "old").unwrap();
        fs::write(folder.path().join(".tun0.conf.new"), "half").unwrap();
        let writer = Writer::lock(&path).unwrap();
        assert_eq!(folder.names(), [".tun0.conf.lock", "tun0.conf"]);
        let (sender, done) = std::sync::mpsc::channel();
        let other = path.clone();
        let second = thread::spawn(move || {
            let writer = Writer::lock(&other).unwrap();
            sender.send(()).unwrap();
            writer.replace(b"second").unwrap();
        });
        assert!(done.recv_timeout(Duration::from_millis(100)).is_err(), "two writers at once");
        writer.replace(b"first").unwrap();
        drop(writer);
        second.join().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"second");
    }

    #[test]
    fn a_failure_leaves_the_old_file_and_nothing_else() {
        let folder = TestFolder::new();
        let path = folder.path().join("tun0.conf");
        let writer = Writer::lock(&path).unwrap();
        assert!(
            matches!(writer.replace(b"new"), Err(ServerError::Write { .. })),
            "there is nothing to replace"
        );
        // a target that a file cannot replace
        fs::create_dir(&path).unwrap();
        let error = writer.replace(b"new").unwrap_err().to_string();
        assert!(error.contains("tun0.conf"), "{error}");
        assert_eq!(folder.names(), [".tun0.conf.lock", "tun0.conf"]);
    }
}
