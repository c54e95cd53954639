//! Where the socket of a tunnel is.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::config::TunName;

/// Where `wg(8)` looks.
const STANDARD: &str = "/var/run/wireguard";
/// The last resort.
const OWN: &str = "/run/wontun";

/// The folders that a socket can be in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UapiFolders {
    /// Where `wg(8)` looks; made if missing.
    pub standard: PathBuf,
    /// The folder of the tunnel's configuration, if it has one.
    pub config: Option<PathBuf>,
    /// Our own; made if missing.
    pub own: PathBuf,
}

impl UapiFolders {
    /// The usual ones, and the folder of the configuration.
    pub fn new(config: Option<&Path>) -> Self {
        // the folder of a file without one is the current one
        let config = config.map(|folder| if folder.as_os_str().is_empty() { Path::new(".") } else { folder });
        Self { standard: STANDARD.into(), config: config.map(Path::to_owned), own: OWN.into() }
    }

    /// All of them, the best first.
    pub fn iter(&self) -> impl Iterator<Item = &Path> {
        [Some(&self.standard), self.config.as_ref(), Some(&self.own)]
            .into_iter()
            .flatten()
            .map(PathBuf::as_path)
    }
}

/// The name of a tunnel's socket in its folder.
pub fn socket_name(tun: &TunName) -> String {
    format!("{tun}.sock")
}

/// There can be no socket.
#[derive(Debug, thiserror::Error)]
pub enum UapiError {
    /// Another process listens there.
    #[error("{} is in use by {}: stop it, or choose another name", path.display(), Owner(*pid))]
    InUse {
        /// The socket.
        path: PathBuf,
        /// The process; `None` if it is in another PID namespace, or cannot be told.
        pid: Option<i32>,
    },
    /// Something else has the name.
    #[error("{} exists and is no socket: remove it, or choose another name", .0.display())]
    NoSocket(PathBuf),
    /// Another process does not get done with taking the name.
    #[error("another process has been taking {} for seconds: stop the one that holds {}", path.display(), lock.display())]
    Locked {
        /// The socket.
        path: PathBuf,
        /// The file that is locked.
        lock: PathBuf,
    },
    /// A socket in use cannot get this name.
    #[error("the control socket cannot be called {}: {source}", path.display())]
    Rename {
        /// Its new name.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// No folder takes a socket.
    #[error("no folder takes the control socket ({}): make one of them writable", Tried(.0))]
    Nowhere(Vec<(PathBuf, io::Error)>),
}

/// Something about the socket that works, but perhaps not as was meant.
#[derive(Debug)]
pub enum UapiWarning {
    /// It is where `wg(8)` does not look.
    Elsewhere {
        /// Where it would have been.
        wanted: PathBuf,
        /// Why it is not there.
        source: io::Error,
        /// Where it is.
        path: PathBuf,
    },
    /// Nobody tells when it is removed.
    Unwatched {
        /// The socket.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl fmt::Display for UapiWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Elsewhere { wanted, source, path } => write!(
                f,
                "cannot make {} ({source}), so wg(8) will not find this tunnel: the control socket is {}",
                wanted.display(),
                path.display()
            ),
            Self::Unwatched { path, source } => write!(
                f,
                "cannot watch {} ({source}): removing it will not stop the tunnel, a signal will",
                path.display()
            ),
        }
    }
}

struct Owner(Option<i32>);

impl fmt::Display for Owner {
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
