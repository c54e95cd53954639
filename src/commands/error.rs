//! Errors of commands.

use std::io;
use std::path::PathBuf;

use crate::config::TunName;
use crate::exit::{self, ExitCode};
use crate::net::random::RandomError;
use crate::netlink::LinkError;
use crate::server::SetupError;
use crate::server::import::ImportError;
use wontun_proto::wireguard::KeyError;

/// Reason why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The server's file could not be read or changed.
    #[error(transparent)]
    Setup(#[from] SetupError),
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
    #[error("standard input has something after the key: expected one key and nothing else")]
    Trailing,
    /// The input cannot be read.
    #[error("cannot read standard input: {0}")]
    Input(#[source] io::Error),
    /// The output cannot be written.
    #[error("cannot write to standard output: {0}")]
    Output(#[source] io::Error),
    /// The client's file could not be written, so the peer was removed again: nobody has its key.
    #[error("the client's file cannot be written to standard output ({0}): the peer was taken back")]
    TakenBack(#[source] io::Error),
    /// The file was changed, but the running tunnel was not.
    #[error("{} was changed, but the tunnel that runs was not: {source}; it takes the file at its next start or SIGHUP", file.display())]
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
        "the tunnel {0} runs without a kill switch, and one would cut it off: start it with --kill-switch"
    )]
    NoKillSwitch(TunName),
    /// No tunnel of this name runs.
    #[error("no tunnel {0} runs: start it, or name one that 'wontun show' lists")]
    NotRunning(TunName),
    /// No tunnel runs.
    #[error("no tunnel of wontun's runs in WireGuard mode: start one; 'wg show' tells about others")]
    NoneRunning,
    /// The tunnel does not answer in time.
    #[error("the tunnel {0} does not answer: its loop hangs; restart it")]
    Hangs(TunName),
    /// The listener does not know the request; it is another program.
    #[error("{0} is no tunnel of wontun's: ask 'wg show {0}'")]
    Foreign(TunName),
    /// This user may not connect to the socket.
    #[error("may not ask {}: run this as root or as the tunnel's user", .0.display())]
    NotPermitted(PathBuf),
    /// The listener runs as a user that is not trusted.
    #[error(
        "user {uid} answers at {}, who is neither root nor this user, or others than they can write to that folder: \
         run this as the tunnel's user",
        path.display()
    )]
    Stranger {
        /// User id of the listener.
        uid: u32,
        /// Path of the socket.
        path: PathBuf,
    },
    /// Standard output is no terminal.
    #[error(
        "wontun top draws on a terminal, and standard output is none: 'wontun show' prints the same once"
    )]
    NoTerminal,
    /// An error of the terminal.
    #[error("cannot use the terminal: {0}")]
    Terminal(#[source] io::Error),
    /// A thread panicked, which was reported already.
    #[error("wontun top has failed: this is a fault in wontun, please report it")]
    Fault,
    /// The answer cannot be parsed.
    #[error(
        "the tunnel {tun} answers what cannot be understood ({key}): is it of another version? restart it"
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
    #[error("cannot ask {}: {source}", path.display())]
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
            Self::Setup(error) => error.exit_code(),
            Self::Import(error) => error.exit_code(),
            Self::Link(error) => error.exit_code(),
            Self::NotPermitted(_) | Self::Stranger { .. } => exit::NO_PERMISSION,
            _ => exit::FAILURE,
        }
    }
}
