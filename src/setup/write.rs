//! Changing a file so that, whenever the process is killed, the old or the new one is there, and whole.
//!
//! One writer at a time holds the lock, a file beside the one that is changed: `.NAME.lock`. It stays there, and
//! the kernel lets go of it with the process. The folder itself will not do, since every user may open and lock it. What
//! is written goes to `.NAME.new`, is synced, and only then takes the name; one that a killed writer left is removed by
//! the next.

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

use super::error::SetupError;

/// How long another writer may take for what takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(10);
/// For a new file: it has keys in it.
const SECRET: u32 = 0o600;
const GROUP: u32 = 0o070;
/// The mode bits that a file keeps.
const PERMISSIONS: u32 = 0o777;

/// The one who may write a file, until it is dropped.
#[derive(Debug)]
pub struct Writer {
    /// The file, whatever symbolic links lead there.
    path: PathBuf,
    temporary: PathBuf,
    folder: File,
    _lock: Flock<File>,
}

impl Writer {
    /// Waits for other writers of the file at `path`, up to ten seconds. Its folder must be there.
    ///
    /// # Errors
    /// [`SetupError`]: no permission, no room, or somebody who does not get done.
    pub fn lock(path: &Path) -> Result<Self, SetupError> {
        // a symbolic link is followed, and stays
        let path = match fs::canonicalize(path) {
            Ok(path) => path,
            Err(error) if error.kind() == io::ErrorKind::NotFound => path.to_owned(),
            Err(error) => return Err(failed(path, error)),
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
            .map_err(|error| failed(folder_path, error))?;
        let (lock_path, temporary) = (beside(".lock"), beside(".new"));
        let lock = take(&lock_path, &folder, &path)?;
        // what a killed writer left
        remove(&temporary).map_err(|error| failed(&temporary, error))?;
        Ok(Self { path, temporary, folder, _lock: lock })
    }

    /// Puts `text` in the place of the file, which keeps its owner and its permissions, but for
    /// set-user-ID and the like: a file that has keys in it is not run.
    ///
    /// # Errors
    /// [`SetupError`]; the file is as it was.
    pub fn replace(&self, text: &[u8]) -> Result<(), SetupError> {
        let old = metadata(&self.path).map_err(|error| failed(&self.path, error))?;
        self.write(text, &old, old.mode() & PERMISSIONS, &self.path)?;
        self.finish(fs::rename(&self.temporary, &self.path))
    }

    /// Makes the file, for its owner alone, who is the folder's; never in the place of one that is there.
    ///
    /// # Errors
    /// [`SetupError`], [`SetupError::Exists`] among them; nothing was changed.
    pub fn create(&self, text: &[u8]) -> Result<(), SetupError> {
        let folder = self.folder.metadata().map_err(|error| failed(&self.path, error))?;
        self.write(text, &folder, SECRET, self.path.parent().unwrap_or(&self.path))?;
        let named = match fs::hard_link(&self.temporary, &self.path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let _ = remove(&self.temporary);
                return Err(SetupError::Exists(self.path.clone()));
            }
            // a file system without links
            Err(_) if !self.path.exists() => fs::rename(&self.temporary, &self.path),
            linked => linked.and_then(|()| fs::remove_file(&self.temporary)),
        };
        self.finish(named)
    }

    /// Writes the temporary file, with the owner of `like`, which is `whose`.
    fn write(&self, text: &[u8], like: &Metadata, mode: u32, whose: &Path) -> Result<(), SetupError> {
        let written = self.try_write(text, like, mode, whose);
        if written.is_err() {
            let _ = remove(&self.temporary);
        }
        written
    }

    fn try_write(&self, text: &[u8], like: &Metadata, mode: u32, whose: &Path) -> Result<(), SetupError> {
        let error = |error| failed(&self.path, error);
        let mut file = new_secret(&self.temporary).map_err(error)?;
        give(&file, like, mode).map_err(|source| SetupError::Owner {
            path: whose.to_owned(),
            uid: like.uid(),
            gid: like.gid(),
            source,
        })?;
        // after the owner: no group but the right one ever has a right to it
        file.set_permissions(Permissions::from_mode(mode)).map_err(error)?;
        file.write_all(text).map_err(error)?;
        file.sync_all().map_err(error)
    }

    /// Makes a change of names last.
    fn finish(&self, named: io::Result<()>) -> Result<(), SetupError> {
        if let Err(error) = named {
            let _ = remove(&self.temporary);
            return Err(failed(&self.path, error));
        }
        match self.folder.sync_all() {
            // a file system that does not do that for folders
            Err(error) if error.raw_os_error() != Some(Errno::EINVAL as i32) => {
                Err(failed(&self.path, error))
            }
            _ => Ok(()),
        }
    }
}

/// Makes the file `path` with `text` in it, for its owner alone; never in the place of anything.
///
/// # Errors
/// [`SetupError`], [`SetupError::Exists`] among them. The file is not there then.
pub fn create_secret(path: &Path, text: &[u8]) -> Result<(), SetupError> {
    let mut file = new_secret(path).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => SetupError::Exists(path.to_owned()),
        _ => failed(path, error),
    })?;
    file.write_all(text).and_then(|()| file.sync_all()).map_err(|error| {
        let _ = fs::remove_file(path);
        failed(path, error)
    })
}

/// Returns what the kernel says of the ordinary file at `path`, by a descriptor of it: a symbolic
/// link that somebody puts there instead is not followed.
fn metadata(path: &Path) -> io::Result<Metadata> {
    // std takes O_PATH away with musl, where it is part of O_ACCMODE
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let file = File::from(nix::fcntl::open(path, flags, Mode::empty())?);
    let metadata = file.metadata()?;
    if metadata.is_file() { Ok(metadata) } else { Err(io::Error::other("it is no ordinary file")) }
}

fn new_secret(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(SECRET).custom_flags(O_NOFOLLOW).open(path)
}

/// Gives a file of ours the owner of `like`. A group that has no rights on it does not matter.
fn give(file: &File, like: &Metadata, mode: u32) -> io::Result<()> {
    let is = file.metadata()?;
    if (is.uid(), is.gid()) == (like.uid(), like.gid()) {
        return Ok(());
    }
    match fchown(file, Some(like.uid()), Some(like.gid())) {
        Err(_) if is.uid() == like.uid() && mode & GROUP == 0 => Ok(()),
        result => result,
    }
}

fn take(lock_path: &Path, folder: &File, path: &Path) -> Result<Flock<File>, SetupError> {
    let error = |error| failed(lock_path, error);
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(SECRET)
        .custom_flags(O_NOFOLLOW)
        .open(lock_path)
        .map_err(error)?;
    // The folder's owner must be able to lock it too, when root has come first. What is not an empty file of this one
    // name was put there by somebody, perhaps for it to be given away.
    if file.metadata().is_ok_and(|lock| lock.is_file() && lock.len() == 0 && lock.nlink() == 1) {
        let _ = folder.metadata().and_then(|folder| give(&file, &folder, SECRET));
    }
    let deadline = Instant::now() + PATIENCE;
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((back, Errno::EWOULDBLOCK)) if Instant::now() < deadline => file = back,
            Err((_, Errno::EWOULDBLOCK)) => {
                return Err(SetupError::Locked { path: path.to_owned(), lock: lock_path.to_owned() });
            }
            Err((_, errno)) => return Err(error(errno.into())),
        }
        thread::sleep(PAUSE);
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Why the file or folder at `path` was not written, with what to do about it.
pub(super) fn failed(path: &Path, source: io::Error) -> SetupError {
    let path = path.to_owned();
    let remedy = match source.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EACCES | Errno::EPERM) => return SetupError::NotPermitted { what: "write", path },
        Some(Errno::EROFS) => ": mount its folder writable, or choose another",
        Some(Errno::EBUSY) => ": it is a mount point itself, mount its folder instead",
        Some(Errno::ENOSPC | Errno::EDQUOT) => ": make room there",
        Some(Errno::ENOENT | Errno::ENOTDIR) => ": make its folder first",
        _ => "",
    };
    SetupError::Write { path, source, remedy }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::testing::TestFolder;

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
            // a sandbox that builds packages, such as Nix's, forbids the first two
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
        assert!(error.contains("tun0.conf") && error.contains("no ordinary file"), "{error}");
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
        assert!(matches!(writer.create(b"two"), Err(SetupError::Exists(_))));
        assert_eq!(fs::read(&path).unwrap(), b"one");
        assert_eq!(folder.names(), [".tun0.conf.lock", "tun0.conf"]);
        let secret = folder.path().join("a.svg");
        create_secret(&secret, b"x").unwrap();
        assert_eq!(mode(&secret), 0o600);
        assert!(matches!(create_secret(&secret, b"y"), Err(SetupError::Exists(_))));
        assert_eq!(fs::read(&secret).unwrap(), b"x");
        let nowhere = create_secret(&folder.path().join("none/a.svg"), b"x").unwrap_err().to_string();
        assert!(nowhere.contains("none/a.svg") && nowhere.contains("make its folder"), "{nowhere}");
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
            matches!(writer.replace(b"new"), Err(SetupError::Write { .. })),
            "there is nothing to replace"
        );
        // what cannot be replaced by a file
        fs::create_dir(&path).unwrap();
        let error = writer.replace(b"new").unwrap_err().to_string();
        assert!(error.contains("tun0.conf"), "{error}");
        assert_eq!(folder.names(), [".tun0.conf.lock", "tun0.conf"]);
    }
}
