//! Opens, reads and writes the file.

use std::fs::{DirBuilder, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::geteuid;
use tracing::warn;

use super::page::{MAX_PAGES, PAGE_LEN};
use super::sync::SyncThread;
use super::table::{Defects, StateTable};

/// Permission to write for users other than the owner.
const WRITABLE_BY_OTHERS: u32 = 0o022;
/// Maximum length of the file in bytes.
const MAX_LEN: usize = 2 * MAX_PAGES * PAGE_LEN;

/// Reason why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another user could have written it, or it is no state file.
    #[error("{0}")]
    Refused(String),
    /// Another process uses it.
    #[error("another process uses it")]
    InUse,
    /// An error of the system.
    #[error(transparent)]
    System(#[from] io::Error),
}

impl From<Errno> for OpenError {
    fn from(error: Errno) -> Self {
        Self::System(error.into())
    }
}

/// An open state file. No other process uses it meanwhile.
#[derive(Debug)]
pub struct StateFile {
    file: File,
    path: PathBuf,
    access: Access,
    sync: SyncThread,
}

/// Use of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// It is read now and written later, and created if missing.
    ReadWrite,
    /// It is only read.
    ReadOnly,
    /// Another process uses it, which hands it over later: it is read now and again then, and
    /// written after that.
    HandedOver,
}

impl StateFile {
    /// Opens the file at `path`, and returns its contents. The file may belong to root, to this
    /// process's user, or to `owner`.
    ///
    /// # Errors
    /// [`OpenError`].
    pub(crate) fn open(
        path: &Path,
        owner: Option<u32>,
        access: Access,
    ) -> Result<(Self, StateTable), OpenError> {
        let flags = match access {
            Access::ReadWrite | Access::HandedOver => OFlag::O_RDWR | OFlag::O_CREAT,
            Access::ReadOnly => OFlag::O_RDONLY,
        };
        let flags = flags | OFlag::O_CLOEXEC | OFlag::O_NOCTTY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
        let file = match open(path, flags, Mode::S_IRUSR | Mode::S_IWUSR) {
            Ok(file) => File::from(file),
            Err(Errno::ELOOP) => return Err(OpenError::Refused("it is a symbolic link".to_owned())),
            Err(error) => return Err(error.into()),
        };
        let metadata = file.metadata()?;
        if !metadata.is_file() || metadata.nlink() != 1 {
            return Err(OpenError::Refused("it is not a regular file with a single link".to_owned()));
        }
        check_owner(&file, owner)?;
        let opened = Self { file, path: path.to_owned(), access, sync: SyncThread::default() };
        if access == Access::ReadWrite {
            opened.lock()?;
        }
        let table = opened.read()?;
        Ok((opened, table))
    }

    /// Uses the file of a process that has handed it over and ended, and returns its contents.
    ///
    /// # Errors
    /// [`OpenError`]: the file is not written.
    pub(crate) fn take_over(&mut self) -> Result<StateTable, OpenError> {
        self.lock()?;
        let table = self.read()?;
        self.access = Access::ReadWrite;
        Ok(table)
    }

    fn lock(&self) -> Result<(), OpenError> {
        match flock(&self.file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(()),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(OpenError::InUse),
            Err(error) => Err(io::Error::from(error).into()),
        }
    }

    fn read(&self) -> Result<StateTable, OpenError> {
        let len = usize::try_from(self.file.metadata()?.len()).unwrap_or(usize::MAX);
        if len > MAX_LEN {
            return Err(OpenError::Refused(format!("it has more than {MAX_LEN} bytes")));
        }
        let mut bytes = vec![0; len];
        self.file.read_exact_at(&mut bytes, 0)?;
        let (table, defects) = StateTable::parse(&bytes);
        self.warn_of_defects(defects);
        Ok(table)
    }

    fn warn_of_defects(&self, Defects { damaged, version }: Defects) {
        let path = self.path.display();
        if damaged > 0 {
            warn!(damaged, "parts of the state file {path} are damaged, and are replaced");
        }
        if let Some(version) = version {
            warn!(
                version,
                "the state file {path} has the format of another version of wontun: starting with an empty one"
            );
        }
    }

    /// Returns the path of the file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns true if the file is written.
    pub(crate) fn is_writable(&self) -> bool {
        self.access == Access::ReadWrite
    }

    /// Writes the changed pages of `table`. They are safe from the end of this process then, and
    /// after [`Self::request_sync`] from that of the host.
    ///
    /// # Errors
    /// An error of the system; the remaining pages have to be written later.
    pub(crate) fn write(&self, table: &mut StateTable) -> io::Result<()> {
        if !self.is_writable() {
            return Ok(());
        }
        while let Some(page) = table.poll_write() {
            let written = self.file.write_at(&page.bytes, page.offset)?;
            if written != page.bytes.len() {
                return Err(ErrorKind::WriteZero.into());
            }
            table.handle_written(page.number);
        }
        Ok(())
    }

    /// Requests that what was written reaches the disk soon.
    ///
    /// # Errors
    /// An error of the system.
    pub(crate) fn request_sync(&mut self) -> io::Result<()> {
        self.sync.request(&self.file)
    }

    /// Waits until what was written has reached the disk.
    ///
    /// # Errors
    /// An error of the system.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

/// Creates `folder` if missing, for a file without a folder of the configuration's.
///
/// # Errors
/// It cannot be created, or a user other than root or this process's could change its contents.
pub(crate) fn prepare_folder(folder: &Path) -> Result<(), OpenError> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error.into()),
        _ => {}
    }
    // the folder may be a symbolic link, as systemd's with DynamicUser
    let flags = OFlag::O_CLOEXEC | OFlag::O_NOCTTY | OFlag::O_PATH | OFlag::O_DIRECTORY;
    check_owner(&File::from(open(folder, flags, Mode::empty())?), None)
}

/// Rejects a file or folder that a user other than root, this process's or `owner` could have
/// written.
fn check_owner(file: &File, owner: Option<u32>) -> Result<(), OpenError> {
    let metadata = file.metadata()?;
    let uid = metadata.uid();
    if uid != 0 && uid != geteuid().as_raw() && Some(uid) != owner {
        return Err(OpenError::Refused(format!("it belongs to user {uid}")));
    }
    if metadata.mode() & WRITABLE_BY_OTHERS != 0 {
        return Err(OpenError::Refused("other users may write it: chmod go-w".to_owned()));
    }
    Ok(())
}
