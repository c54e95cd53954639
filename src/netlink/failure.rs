//! Errors of netlink requests, without the attempted action.

use std::io;

use nix::errno::Errno;

/// The kernel's refusal of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) errno: Errno,
    /// The kernel's explanation, if it gave one.
    pub(super) said: Option<String>,
}

/// Error of a netlink request; the caller adds the attempted action.
#[derive(Debug)]
pub(super) enum Failure {
    /// A system call failed.
    Socket(io::Error),
    /// The kernel refused.
    Refused { errno: Errno, said: Option<String> },
    /// The acknowledgement is missing or unreadable.
    Unanswered,
}

impl Failure {
    /// Returns a one-line description, without the attempted action.
    pub(super) fn described(&self) -> String {
        match self {
            Self::Socket(error) => described(error),
            Self::Refused { errno, said } => reason(*errno, said.as_deref()),
            Self::Unanswered => "no answer".to_owned(),
        }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused { errno: refusal.errno, said: refusal.said }
    }
}

/// Returns the kernel's error message in one line.
pub(super) fn reason(errno: Errno, said: Option<&str>) -> String {
    match said {
        Some(said) => format!("{} ({said})", errno.desc()),
        None => errno.desc().to_owned(),
    }
}

/// Returns the system's error message without the number that `io::Error` adds.
pub(super) fn described(error: &io::Error) -> String {
    error.raw_os_error().map_or_else(|| error.to_string(), |code| Errno::from_raw(code).desc().to_owned())
}
