//! Notices changes of /etc/resolv.conf: of the file, and of the names that lead to it.

use std::ffi::{CStr, CString, OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};

use super::error::ResolvConfError;
use crate::sandbox::RESOLV_CONF_PATH;

/// Events of the file itself, through symbolic links.
const OF_FILE: AddWatchFlags = AddWatchFlags::IN_MODIFY
    .union(AddWatchFlags::IN_CLOSE_WRITE)
    .union(AddWatchFlags::IN_ATTRIB)
    .union(AddWatchFlags::IN_DELETE_SELF)
    .union(AddWatchFlags::IN_MOVE_SELF);
/// Events of a folder: its files are created, replaced and removed.
const OF_FOLDER: AddWatchFlags = AddWatchFlags::IN_CREATE
    .union(AddWatchFlags::IN_MOVED_TO)
    .union(AddWatchFlags::IN_MOVED_FROM)
    .union(AddWatchFlags::IN_DELETE)
    .union(AddWatchFlags::IN_ONLYDIR);
/// Events after which the file is as its writer wants it. After others more may follow at once.
const FINAL: AddWatchFlags =
    AddWatchFlags::IN_CLOSE_WRITE.union(AddWatchFlags::IN_MOVED_TO).union(AddWatchFlags::IN_Q_OVERFLOW);

/// A change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Change {
    /// The writer may not have finished.
    Begun,
    /// The writer has finished.
    Finished,
}

/// The watched files and folders.
#[derive(Debug)]
pub(super) struct Watch {
    inotify: Inotify,
    /// The folders, and the name of the file in each.
    folders: Vec<(WatchDescriptor, OsString)>,
}

impl Watch {
    /// Begins to watch the file. Must be called before the process is confined.
    ///
    /// # Errors
    /// [`ResolvConfError::Watch`].
    pub(super) fn open() -> Result<Self, ResolvConfError> {
        let failed = |error: Errno| ResolvConfError::Watch(error.into());
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).map_err(failed)?;
        let path = Path::new(OsStr::from_bytes(RESOLV_CONF_PATH.to_bytes()));
        let mut folders = Vec::new();
        let target = path.canonicalize().ok();
        for path in [Some(path), target.as_deref()].into_iter().flatten() {
            let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { continue };
            // a folder that cannot be watched: the file still is
            if let Ok(descriptor) = inotify.add_watch(folder, OF_FOLDER) {
                folders.push((descriptor, name.to_owned()));
            }
        }
        let watch = Self { inotify, folders };
        match watch.watch_file() {
            Ok(()) | Err(Errno::ENOENT) => Ok(watch),
            Err(error) => Err(failed(error)),
        }
    }

    /// Watches the file that has the path now.
    fn watch_file(&self) -> Result<(), Errno> {
        self.inotify.add_watch(RESOLV_CONF_PATH, OF_FILE).map(drop)
    }

    /// Reads all events. Returns the most important change.
    pub(super) fn drain(&self) -> Option<Change> {
        let mut change = None;
        while let Ok(events) = self.inotify.read_events() {
            for event in events {
                let is_other = event.name.as_ref().is_some_and(|name| {
                    !self.folders.iter().any(|(watched, own)| *watched == event.wd && own == name)
                });
                if !is_other {
                    let found = if event.mask.intersects(FINAL) { Change::Finished } else { Change::Begun };
                    change = change.max(Some(found));
                }
            }
        }
        if change.is_some() {
            // a new file has the path, perhaps
            let _ = self.watch_file();
        }
        change
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

/// Returns the target of the path if that is a symbolic link, as it is written.
pub(super) fn link_target(path: &CStr) -> Option<CString> {
    let target = nix::fcntl::readlink(path).ok()?;
    CString::new(target.into_vec()).ok()
}
