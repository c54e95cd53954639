//! Errors of commands.

use std::io;
use std::path::PathBuf;

use crate::config::TunName;
use crate::exit::{self, ExitCode};
use crate::net::random::RandomError;
use crate::netlink::LinkError;
use crate::server::ServerError;
use crate::server::import::ImportError;
use wontun_proto::wireguard::KeyError;

/// Reason why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The server's file could not be read or changed.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The file of another program could not be imported.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// No randomness is available for a key.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// The input is no key.
    #[error("standard input has no key: {0}")]
    Key(#[from] KeyError),
    /// The input continues after the key.
    #[error("standard input continues after the key: expected one key and nothing else")]
    Trailing,
    /// The input cannot be read.
    #[error("cannot read standard input: {0}")]
    Input(#[source] io::Error),
    /// The output cannot be written.
    #[error("cannot write to standard output: {0}")]
    Output(#[source] io::Error),
    /// The client's file could not be written, so the peer was removed again: nobody has its key.
    #[error("the client's file cannot be written to standard output ({0}): the peer was removed again")]
    RolledBack(#[source] io::Error),
    /// The file was changed, but the running tunnel was not.
    #[error("{} was changed, but the running tunnel was not: {source}; it reads the file at its next start or SIGHUP", file.display())]
    NotApplied {
        /// The server's file.
        file: PathBuf,
        /// Reason why the tunnel was not changed.
        source: Box<CommandError>,
    },
    /// The host's network state could not be read or changed.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The tunnel runs without a kill switch, and one would cut it off.
    #[error(
        "the tunnel {0} runs without a kill switch, and one set from outside would cut it off: start it with --kill-switch"
    )]
    NoKillSwitch(TunName),
    /// No tunnel of this name runs.
    #[error("tunnel {0} is not running: start it, or name one that 'wontun show' lists")]
    NotRunning(TunName),
    /// No tunnel runs.
    #[error(
        "no wontun tunnel is running in WireGuard mode: start one; 'wg show' lists those of other programs"
    )]
    NoneRunning,
    /// The tunnel does not answer in time.
    #[error("the tunnel {0} does not respond: its event loop hangs; restart it")]
    Timeout(TunName),
    /// The listener does not know the request; it is another program.
    #[error("{0} is not a wontun tunnel: use 'wg show {0}'")]
    Foreign(TunName),
    /// This user may not connect to the socket.
    #[error("permission denied: {}: run this as root or as the tunnel's user", .0.display())]
    NotPermitted(PathBuf),
    /// The listener runs as a user that is not trusted.
    #[error(
        "the listener at {} runs as user {uid}, which is not trusted (neither root nor this user, or its folder is writable by \
         others): run this as the tunnel's user",
        path.display()
    )]
    UntrustedListener {
        /// User id of the listener.
        uid: u32,
        /// Path of the socket.
        path: PathBuf,
    },
    /// Standard output is no terminal.
    #[error("wontun top needs a terminal as standard output: use 'wontun show' to print the status once")]
    NoTerminal,
    /// An error of the terminal.
    #[error("cannot use the terminal: {0}")]
    Terminal(#[source] io::Error),
    /// A thread panicked, which was reported already.
    #[error("wontun top has failed: this is a bug in wontun, please report it")]
    Panic,
    /// The answer cannot be parsed.
    #[error(
        "the tunnel {tun} sent an invalid status ({key}): it may be another version of wontun; restart it"
    )]
    Answer {
        /// Name of the tunnel.
        tun: TunName,
        /// Key of the line.
        key: String,
    },
    /// The tunnel answered with an error.
    #[error("the tunnel {tun} reports error {errno}: see its log")]
    Reported {
        /// Name of the tunnel.
        tun: TunName,
        /// Error number of the answer.
        errno: i64,
    },
    /// Any other error.
    #[error("cannot query {}: {source}", path.display())]
    Other {
        /// Path of the socket.
        path: PathBuf,
        /// Error of the kernel.
        source: io::Error,
    },
}

impl ExitCode for CommandError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Server(error) => error.exit_code(),
            Self::Import(error) => error.exit_code(),
            Self::Link(error) => error.exit_code(),
            Self::NotPermitted(_) | Self::UntrustedListener { .. } => exit::NO_PERMISSION,
            _ => exit::FAILURE,
        }
    }
}
