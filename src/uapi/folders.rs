//! Locations of the sockets of tunnels.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::config::TunName;
use crate::exit::{self, ExitCode};

/// Folder where `wg(8)` looks for sockets.
const STANDARD: &str = "/var/run/wireguard";
/// Folder used if no other can be.
const FALLBACK: &str = "/run/wontun";

/// Folders that may hold the socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UapiFolders {
    /// Folder where `wg(8)` looks; created if missing.
    pub standard: PathBuf,
    /// The folder of the tunnel's configuration, if it has one; for a client those in which it may
    /// be.
    pub config: Vec<PathBuf>,
    /// Folder of this program; created if missing.
    pub fallback: PathBuf,
}

impl UapiFolders {
    /// Returns the default folders and the folders of the configuration.
    pub fn new<'a>(config: impl IntoIterator<Item = &'a Path>) -> Self {
        // the parent of a bare file name is empty: it means the current folder
        let named = |folder: &'a Path| if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let config = config.into_iter().map(|folder| named(folder).to_owned()).collect();
        Self { standard: STANDARD.into(), config, fallback: FALLBACK.into() }
    }

    /// Iterates over all folders, in order of preference.
    pub fn iter(&self) -> impl Iterator<Item = &Path> {
        let folders = [&self.standard].into_iter().chain(&self.config).chain([&self.fallback]);
        folders.map(PathBuf::as_path)
    }
}

/// Returns the file name of a tunnel's socket.
pub(crate) fn socket_name(tun: &TunName) -> String {
    format!("{tun}.sock")
}

/// Reason why the socket cannot be created.
#[derive(Debug, thiserror::Error)]
pub enum UapiError {
    /// Another process listens on the socket.
    #[error("{} is in use by {}: stop it, or choose another name", path.display(), Holder(*pid))]
    InUse {
        /// Path of the socket.
        path: PathBuf,
        /// Process id; `None` if it is in another PID namespace, or unknown.
        pid: Option<i32>,
    },
    /// The name belongs to a file that is no socket.
    #[error("{} exists and is not a socket: remove it, or choose another name", .0.display())]
    NotASocket(PathBuf),
    /// Another process holds the lock for too long.
    #[error("another process has been creating {} for seconds: stop the one that holds {}", path.display(), lock.display())]
    Locked {
        /// Path of the socket.
        path: PathBuf,
        /// Path of the lock file.
        lock: PathBuf,
    },
    /// The socket cannot be renamed.
    #[error("the control socket cannot be renamed to {}: {source}", path.display())]
    Rename {
        /// New path.
        path: PathBuf,
        /// Error of the kernel.
        source: io::Error,
    },
    /// No folder can be used.
    #[error("no folder can hold the control socket ({}): make one of them writable", Tried(.0))]
    NoFolder(Vec<(PathBuf, io::Error)>),
}

impl ExitCode for UapiError {
    fn exit_code(&self) -> u8 {
        exit::UNAVAILABLE
    }
}

/// Warning about a socket that works with a limitation.
#[derive(Debug)]
pub enum UapiWarning {
    /// The socket is in a folder where `wg(8)` does not look.
    FallbackFolder {
        /// Preferred path.
        wanted: PathBuf,
        /// Reason why it is not there.
        source: io::Error,
        /// Actual path.
        path: PathBuf,
    },
    /// Removal of the socket is not noticed.
    NotWatched {
        /// Path of the socket.
        path: PathBuf,
        /// Error of the kernel.
        source: io::Error,
    },
}

impl fmt::Display for UapiWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FallbackFolder { wanted, source, path } => write!(
                f,
                "cannot create {} ({source}), so wg(8) does not find this tunnel: the control socket is {}",
                wanted.display(),
                path.display()
            ),
            Self::NotWatched { path, source } => write!(
                f,
                "cannot watch {} ({source}): removing it will not stop the tunnel, a signal will",
                path.display()
            ),
        }
    }
}

struct Holder(Option<i32>);

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(pid) => write!(f, "process {pid}"),
            None => f.write_str("a process that cannot be seen from here, such as one in another container"),
        }
    }
}

struct Tried<'a>(&'a [(PathBuf, io::Error)]);

impl fmt::Display for Tried<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (folder, error) in self.0 {
            write!(f, "{separator}{}: {error}", folder.display())?;
            separator = "; ";
        }
        Ok(())
    }
}
