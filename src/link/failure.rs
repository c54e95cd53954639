//! Why a netlink request failed, without what it was for.

use std::io;

use nix::errno::Errno;

/// What the kernel said instead of doing it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) errno: Errno,
    /// The kernel's own explanation, where it gave one.
    pub(super) said: Option<String>,
}

/// Why a request failed; what it was for is the caller's to add.
#[derive(Debug)]
pub(super) enum Failure {
    /// A system call failed.
    Socket(io::Error),
    /// The kernel refused.
    Refused { errno: Errno, said: Option<String> },
    /// No acknowledgement, or one that could not be read.
    Unanswered,
}

impl Failure {
    /// In one line, without what it was for.
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

/// The kernel's words in one line.
pub(super) fn reason(errno: Errno, said: Option<&str>) -> String {
    match said {
        Some(said) => format!("{} ({said})", errno.desc()),
        None => errno.desc().to_owned(),
    }
}

/// The system's words without the number that `io::Error` adds.
pub(super) fn described(error: &io::Error) -> String {
    error.raw_os_error().map_or_else(|| error.to_string(), |code| Errno::from_raw(code).desc().to_owned())
}
