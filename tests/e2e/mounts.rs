//! Shell lines that prepare a program's own mount namespace (`ip netns exec` has made one for it),
//! and copies of the binary that ordinary users can reach.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::waiting::succeed;

/// Path of the program under test, as cargo built it.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_wontun");

/// Mounts a fresh /dev/net with a tun node that everybody may open, as in containers.
pub(crate) const OPEN_TUN_NODE: &str = "mount -t tmpfs none /dev/net; mknod -m 666 /dev/net/tun c 10 200;";

/// Mounts a /dev/net without a tun node.
pub(crate) const NO_TUN_NODE: &str = "mount -t tmpfs none /dev/net;";

/// Makes the root file system read-only, as with `docker run --read-only`. Only this mount in this
/// namespace: a remount without `bind` would turn the whole machine's disk read-only.
pub(crate) const READ_ONLY_ROOT: &str = "mount -o remount,bind,ro /; ! touch /must-not-be 2>/dev/null;";

/// A directory of the test's own, removed at its end, that ordinary users may enter.
#[derive(Debug)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let serial = COUNTER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("wontun-e2e-{}-{serial}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Writes `text` to the file `name`, in place if it exists: a bind mount then shows the new
    /// text.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Copies an executable here, with the file capabilities `capabilities` (as `setcap` spells
    /// them) if any.
    ///
    /// A separate process writes it: if this process had a descriptor open for writing while
    /// another test starts a child, the copy could not be executed ("text file busy").
    pub(crate) fn install(&self, executable: &Path, capabilities: Option<&str>) -> PathBuf {
        let copy = self.0.join(executable.file_name().unwrap());
        succeed(Command::new("install").args(["-m", "755"]).arg(executable).arg(&copy));
        if let Some(capabilities) = capabilities {
            succeed(Command::new("setcap").arg(capabilities).arg(&copy));
        }
        copy
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("cannot remove {}: {error}", self.0.display());
        }
    }
}
