//! Errors that end the tunnel process.

use std::io;

use super::token::UnknownTokenError;
use crate::config::TunName;
use crate::exit::{self, ExitCode};
use crate::metrics::MetricsError;
use crate::net::random::RandomError;
use crate::process::{ChannelError, HelperError};
use crate::sandbox::SandboxError;

/// Reason why a tunnel process does not start, or ends by itself.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The TUN device was deleted.
    #[error("{0} was deleted while in use: start wontun again")]
    TunGone(TunName),
    /// No randomness is available for keys.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// The supervisor is gone, or is another program.
    #[error("tunnel process: {0}")]
    Supervisor(#[from] ChannelError),
    /// The process has privileges that it must not have.
    #[error(transparent)]
    Helper(#[from] HelperError),
    /// The supervisor sent no message in time.
    #[error("tunnel process: no message from the supervisor for 60 s")]
    SupervisorTimeout,
    /// The supervisor ended the start, or has ended itself; it reports the reason.
    #[error("tunnel process: the supervisor stopped before the tunnel had started")]
    Stopped,
    /// An unexpected message, or one with wrong descriptors.
    #[error("unexpected message from the supervisor: this is a bug in wontun")]
    UnexpectedMessage,
    /// The sandbox cannot be set up.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// Metrics cannot be served.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// A system call failed that never does on a healthy system.
    #[error("{what} failed: {source}")]
    System {
        /// Description of the operation.
        what: &'static str,
        /// Error of the kernel.
        source: io::Error,
    },
    /// epoll returned an unknown token.
    #[error(transparent)]
    Token(#[from] UnknownTokenError),
}

impl ExitCode for DaemonError {
    fn exit_code(&self) -> u8 {
        if matches!(self, Self::TunGone(_)) { exit::UNAVAILABLE } else { exit::FAILURE }
    }
}

/// Returns a function that adds a description of the operation to an error.
pub(super) fn system(what: &'static str) -> impl Fn(io::Error) -> DaemonError {
    move |source| DaemonError::System { what, source }
}
