//! Errors of netlink requests, without the attempted action.

use std::io;

use nix::errno::Errno;

/// The kernel's refusal of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) errno: Errno,
    /// The kernel's explanation, if it gave one.
    pub(super) extack: Option<String>,
}

/// Error of a netlink request; the caller adds the attempted action.
#[derive(Debug)]
pub(super) enum RequestError {
    /// A system call failed.
    Socket(io::Error),
    /// The kernel refused.
    Refused { errno: Errno, extack: Option<String> },
    /// The acknowledgement is missing or unreadable.
    NoReply,
}

impl RequestError {
    /// Converts the error of opening a socket for nf_tables. A kernel without netfilter's netlink
    /// refuses the socket, which is treated as a refusal of the table.
    pub(super) fn opening(error: io::Error) -> Self {
        match error.raw_os_error().map(Errno::from_raw) {
            Some(errno @ Errno::EPROTONOSUPPORT) => Self::Refused { errno, extack: None },
            _ => Self::Socket(error),
        }
    }

    /// Returns a one-line description, without the attempted action.
    pub(super) fn description(&self) -> String {
        match self {
            Self::Socket(error) => describe_io(error),
            Self::Refused { errno, extack } => describe_errno(*errno, extack.as_deref()),
            Self::NoReply => "no answer".to_owned(),
        }
    }
}

impl From<Refusal> for RequestError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused { errno: refusal.errno, extack: refusal.extack }
    }
}

/// Returns the kernel's error message in one line.
pub(super) fn describe_errno(errno: Errno, extack: Option<&str>) -> String {
    match extack {
        Some(extack) => format!("{} ({extack})", errno.desc()),
        None => errno.desc().to_owned(),
    }
}

/// Returns the system's error message without the number that `io::Error` adds.
pub(super) fn describe_io(error: &io::Error) -> String {
    error.raw_os_error().map_or_else(|| error.to_string(), |code| Errno::from_raw(code).desc().to_owned())
}
