//! Errors that end the tunnel process.

use std::io;

use super::token::UnknownToken;
use crate::config::TunName;
use crate::io::random::NoRandomness;
use crate::metrics::MetricsError;
use crate::process::{ChannelError, HelperError};
use crate::sandbox::SandboxError;

/// Why a tunnel process does not start, or ends by itself.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// The TUN device was deleted.
    #[error("{0} was deleted while in use: start wontun again")]
    TunGone(TunName),
    /// No keys can be made.
    #[error(transparent)]
    Random(#[from] NoRandomness),
    /// There is no supervisor any more, or it is another program.
    #[error("the tunnel process ends: {0}")]
    Supervisor(#[from] ChannelError),
    /// It has rights that it should not have.
    #[error(transparent)]
    Helper(#[from] HelperError),
    /// The supervisor says nothing.
    #[error("the tunnel process ends: the supervisor does not say what to do")]
    Silence,
    /// Its supervisor ends it, or has ended, before it has begun; whatever was wrong, that one
    /// tells.
    #[error("the tunnel process ends before it has begun, as its supervisor does")]
    Stopped,
    /// A message that does not belong there, or has the wrong descriptors.
    #[error("the supervisor sent a message that is not expected here: this is a defect of wontun")]
    Message,
    /// The process cannot be confined.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// Metrics cannot be served.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// A call failed that never does on a healthy system.
    #[error("{what} failed: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// epoll gave a token that we never gave it.
    #[error(transparent)]
    Token(#[from] UnknownToken),
}

/// Turns a call's error into one that says what was tried.
pub(super) fn system(what: &'static str) -> impl Fn(io::Error) -> DeviceError {
    move |source| DeviceError::System { what, source }
}
