//! What can be wrong with a request, said in one line and without ever repeating a secret.

use std::fmt;

use nix::errno::Errno;

use super::limits::{MAX_LINE, MAX_REQUEST};

/// As many letters and digits in a row may be a part of a key, in whatever place it was pasted.
const MAYBE_SECRET: usize = 20;
/// Bytes of a wrong value that are shown.
const SHOWN: usize = 60;

/// A request that cannot be understood. None of it was applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the request: {fault}")]
pub struct RequestError {
    /// The line, the first being 1.
    pub line: usize,
    /// What is wrong there.
    pub fault: RequestFault,
}

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestFault {
    /// A value that the key cannot have.
    #[error("{key}: found {found}, expected {expected}")]
    Value {
        /// The key.
        key: &'static str,
        /// The value, or what can be said of it.
        found: String,
        /// What it must be.
        expected: &'static str,
    },
    /// A key that there is none of, or that does not belong there.
    #[error("found {found} as a key {place}, expected one of {expected}")]
    UnknownKey {
        /// What is written, or what can be said of it.
        found: String,
        /// Where it is.
        place: &'static str,
        /// What it could be.
        expected: &'static str,
    },
    /// A first line that is no operation.
    #[error("found {0}, expected get=1, set=1 or status=1")]
    Operation(String),
    /// A line without a value.
    #[error("expected KEY=VALUE, found a line without '='")]
    NoValue,
    /// Something after an operation that takes nothing.
    #[error("expected an empty line after {0}")]
    Trailing(&'static str),
    /// A line longer than any that has a meaning.
    #[error("expected at most {max} bytes in a line", max = MAX_LINE)]
    LongLine,
    /// Too long a request.
    #[error("the request is longer than {max} bytes: make several of it", max = MAX_REQUEST)]
    TooLong,
    /// No empty line at the end.
    #[error("expected an empty line at the end, found the end of the connection")]
    Unfinished,
}

impl RequestError {
    /// The number for the answer.
    pub const fn errno(&self) -> i32 {
        let errno = match self.fault {
            RequestFault::Value { .. } | RequestFault::UnknownKey { .. } | RequestFault::Trailing(_) => {
                Errno::EINVAL
            }
            RequestFault::Operation(_)
            | RequestFault::NoValue
            | RequestFault::LongLine
            | RequestFault::Unfinished => Errno::EPROTO,
            RequestFault::TooLong => Errno::E2BIG,
        };
        -(errno as i32)
    }

    /// Whether the connection is of no more use: where the next request would begin is not known.
    pub const fn is_fatal(&self) -> bool {
        matches!(self.fault, RequestFault::TooLong | RequestFault::Unfinished)
    }
}

/// What may be said of bytes in a message.
pub(super) fn shown(value: &[u8]) -> String {
    // of base64 as well as of hexadecimal
    let is_digit = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/');
    let is_run = |run: &[u8]| run.len() >= MAYBE_SECRET;
    if value.is_empty() {
        "nothing".to_owned()
    } else if value.split(|b| !is_digit(b)).any(is_run) {
        format!("{} bytes, not shown since they may be a secret", value.len())
    } else {
        let start = value.get(..SHOWN).unwrap_or(value);
        let more = if start.len() < value.len() { "…" } else { "" };
        format!("'{}{more}'", Escaped(start))
    }
}

/// What may be said of a key's text in a message.
pub(super) fn hidden(value: &[u8]) -> String {
    match value.len() {
        super::hex::HEX_LEN => format!("{} characters that are not all hexadecimal", value.len()),
        1 => "1 character".to_owned(),
        length => format!("{length} characters"),
    }
}

struct Escaped<'a>(&'a [u8]);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.utf8_chunks().try_for_each(|chunk| {
            chunk.valid().escape_debug().fmt(f)?;
            chunk.invalid().iter().try_for_each(|byte| write!(f, "\\x{byte:02x}"))
        })
    }
}
