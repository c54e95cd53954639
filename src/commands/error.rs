//! Errors of commands.

use std::io;
use std::path::PathBuf;

use super::down::DownError;
use crate::config::{OwnerName, TunName};
use crate::dns::resolv_conf::ResolvConfError;
use crate::enroll::client::EnrollError;
use crate::enroll::code::CodeError;
use crate::exit::{self, ExitCode};
use crate::net::random::RandomError;
use crate::netlink::LinkError;
use crate::server::ServerError;
use crate::server::access::AccessError;
use crate::server::import::ImportError;
use crate::uapi::ClientError;
use wontun_proto::wireguard::KeyError;

/// Reason why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandError {
    /// The server's file could not be read or changed.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The file of another program could not be imported.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// A connection cannot be evaluated.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// No randomness is available for a key.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// The tokens of the API cannot be read or changed.
    #[error("{0}")]
    Tokens(String),
    /// An option is for one client, and several are to be added.
    #[error("{0} belongs to one client: give one NAME, or add the others by another command")]
    OneClient(&'static str),
    /// Somebody to whom no client belongs.
    #[error("no client belongs to '{0}': give one by 'wontun peer set NAME --owner {0}' first")]
    NoClientOf(OwnerName),
    /// An account of the admin page cannot be removed.
    #[error("the account was not removed: {0}")]
    Account(String),
    /// No setting is to be changed.
    #[error("no setting is given: give at least one option, such as --note TEXT; see wontun peer set --help")]
    NothingToSet,
    /// A client cannot be added.
    #[error("{0}")]
    NewPeer(String),
    /// Clients cannot be added; the errors were printed.
    #[error("{0} errors: nothing was changed")]
    NewPeers(usize),
    /// The time at which an invitation would end is past.
    #[error("the invitation would have expired: --valid is {0}, give a time in the future, such as 1h")]
    PastInvitation(String),
    /// The running server does not answer invitations.
    #[error(
        "the running server enrols no devices: start it with 'wontun serve --invitations', and see its log; the invitation \
         was removed again"
    )]
    NoInvitations,
    /// The running server does not have the invitation.
    #[error(
        "the running server does not admit the invitation, whose rules it cannot enforce without nf_tables: see its log; \
         the invitation was removed again"
    )]
    UnenforcedInvitation,
    /// The code of an invitation is invalid.
    #[error(transparent)]
    Code(#[from] CodeError),
    /// The invitation has expired.
    #[error("the code has expired ({0}, by the clock of this device): ask for a new one")]
    CodeExpired(String),
    /// The device was not enrolled.
    #[error(transparent)]
    Enroll(#[from] EnrollError),
    /// It is unknown whether the device was enrolled.
    #[error(
        "{source}: {} is kept, since it may work: try it; if it does not, delete it, have the peer removed, and ask for a new \
         code", path.display()
    )]
    Unconfirmed {
        /// The device's file.
        path: PathBuf,
        /// Reason.
        source: EnrollError,
    },
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
    /// The client's file could not be written, so the old keys were restored: nobody has the new
    /// ones.
    #[error("the client's file cannot be written to standard output ({0}): the peer has its old keys again")]
    NotRenewed(#[source] io::Error),
    /// A QR code of a client whose private key is not known.
    #[error(
        "the private key of '{0}' is not kept here, and a QR code without it is of no use: 'wontun peer renew {0} --qr' makes \
         new keys"
    )]
    CodeWithoutKey(String),
    /// The file was changed, but the running tunnel was not.
    #[error("{} was changed, but the running tunnel was not: {source}; it reads the file at its next start or SIGHUP", file.display())]
    NotApplied {
        /// The server's file.
        file: PathBuf,
        /// Reason why the tunnel was not changed.
        source: Box<ClientError>,
    },
    /// The host's network state could not be read or changed.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The previous name servers could not be restored.
    #[error(transparent)]
    ResolvConf(#[from] ResolvConfError),
    /// The tunnel runs without a kill switch, and one would cut it off.
    #[error(
        "the tunnel {0} runs without a kill switch, and one set from outside would cut it off: start it with --kill-switch"
    )]
    NoKillSwitch(TunName),
    /// A running tunnel could not be queried or changed.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A tunnel was not ended.
    #[error(transparent)]
    Down(#[from] DownError),
    /// No tunnel runs.
    #[error(
        "no wontun tunnel is running in WireGuard mode: start one; 'wg show' lists those of other programs"
    )]
    NoneRunning,
    /// No tunnel runs, or not the one that was asked for, which standard output says.
    #[error("no tunnel is shown")]
    NotShown,
    /// Standard output is no terminal.
    #[error("wontun top needs a terminal as standard output: use 'wontun show' to print the status once")]
    NoTerminal,
    /// An error of the terminal.
    #[error("cannot use the terminal: {0}")]
    Terminal(#[source] io::Error),
    /// A thread panicked, which was reported already.
    #[error("wontun top has failed: this is a bug in wontun, please report it")]
    Panic,
}

impl ExitCode for CommandError {
    fn is_reported(&self) -> bool {
        matches!(self, Self::NotShown)
    }

    fn exit_code(&self) -> u8 {
        match self {
            Self::Server(error) => error.exit_code(),
            Self::Import(error) => error.exit_code(),
            Self::Link(error) => error.exit_code(),
            Self::Client(error) => error.exit_code(),
            Self::Down(error) => error.exit_code(),
            Self::OneClient(_) | Self::NothingToSet | Self::PastInvitation(_) | Self::Code(_) => exit::USAGE,
            Self::Access(AccessError::Server(error)) => error.exit_code(),
            Self::Access(_) => exit::USAGE,
            _ => exit::FAILURE,
        }
    }
}
