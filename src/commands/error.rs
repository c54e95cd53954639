//! Why a command failed.

use std::io;
use std::path::PathBuf;

use crate::config::TunName;
use crate::io::random::NoRandomness;
use crate::link::LinkError;
use crate::setup::SetupError;
use crate::setup::import::ImportError;
use crate::tunnel::wireguard::KeyError;

/// A command that did not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The server's file was not read, or not changed.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// Another program's file was not taken over.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// There is nothing to make a key of.
    #[error(transparent)]
    Random(#[from] NoRandomness),
    /// What came in is no key.
    #[error("standard input has no key: {0}")]
    Key(#[from] KeyError),
    /// Something is behind the key.
    #[error("standard input has something after the key: expected one key and nothing else")]
    Trailing,
    /// The input cannot be read.
    #[error("cannot read standard input: {0}")]
    Input(#[source] io::Error),
    /// The output cannot be written.
    #[error("cannot write to standard output: {0}")]
    Output(#[source] io::Error),
    /// The client's file did not get out, so that nobody has its key.
    #[error("the client's file cannot be written to standard output ({0}): the peer was taken back")]
    TakenBack(#[source] io::Error),
    /// The file says it, and the tunnel that runs does not do it.
    #[error("{} was changed, but the tunnel that runs was not: {source}; it takes the file at its next start or SIGHUP", file.display())]
    NotApplied {
        /// The server's file.
        file: PathBuf,
        /// Why the tunnel was not changed.
        source: Box<CommandError>,
    },
    /// The kernel does not do it.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The tunnel would be cut off.
    #[error(
        "the tunnel {0} runs without a kill switch, and one would cut it off: start it with --kill-switch"
    )]
    NoKillSwitch(TunName),
    /// Nobody listens for that name.
    #[error("no tunnel {0} runs: start it, or name one that 'wontun show' lists")]
    NotRunning(TunName),
    /// Nobody listens at all.
    #[error("no tunnel of wontun's runs in WireGuard mode: start one; 'wg show' tells about others")]
    NoneRunning,
    /// Someone listens, and does not answer.
    #[error("the tunnel {0} does not answer: its loop hangs; restart it")]
    Hangs(TunName),
    /// Someone listens who does not know what is asked.
    #[error("{0} is no tunnel of wontun's: ask 'wg show {0}'")]
    Foreign(TunName),
    /// We may not ask.
    #[error("may not ask {}: run this as root or as the tunnel's user", .0.display())]
    NotPermitted(PathBuf),
    /// Whoever answers is not to be believed.
    #[error(
        "user {uid} answers at {}, who is neither root nor this user, or others than they can write to that folder: \
         run this as the tunnel's user",
        path.display()
    )]
    Stranger {
        /// User id of the listener.
        uid: u32,
        /// The socket.
        path: PathBuf,
    },
    /// There is nothing to draw on.
    #[error(
        "wontun top draws on a terminal, and standard output is none: 'wontun show' prints the same once"
    )]
    NoTerminal,
    /// The terminal does not do what it should.
    #[error("cannot use the terminal: {0}")]
    Terminal(#[source] io::Error),
    /// A part of the program failed; it has said how.
    #[error("wontun top has failed: this is a fault in wontun, please report it")]
    Fault,
    /// The answer is no answer.
    #[error(
        "the tunnel {tun} answers what cannot be understood ({key}): is it of another version? restart it"
    )]
    Answer {
        /// The tunnel.
        tun: TunName,
        /// The key of the line.
        key: String,
    },
    /// The tunnel cannot answer.
    #[error("the tunnel {tun} reports error {errno}: see its log")]
    Reported {
        /// The tunnel.
        tun: TunName,
        /// The number that it gave.
        errno: i64,
    },
    /// Anything else.
    #[error("cannot ask {}: {source}", path.display())]
    Other {
        /// The socket.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
}
