//! Errors of a request, described in one line that never repeats a secret.

use std::fmt;

use nix::errno::Errno;

use super::limits::{MAX_LINE, MAX_REQUEST};

/// Length of a run of letters and digits that may be part of a key, wherever it was pasted.
const MIN_SECRET_RUN: usize = 20;
/// Maximum number of bytes of a wrong value that are shown.
const MAX_SHOWN: usize = 60;

/// A request that cannot be parsed. None of it was applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the request: {kind}")]
pub struct RequestError {
    /// Number of the line, starting at 1.
    pub line: usize,
    /// Fault of the line.
    pub kind: RequestErrorKind,
}

/// Fault of a line or of the whole request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestErrorKind {
    /// An invalid value of a key.
    #[error("{key}: found {found}, expected {expected}")]
    Value {
        /// The key.
        key: &'static str,
        /// The value, or a description that reveals no secret.
        found: String,
        /// Description of valid values.
        expected: &'static str,
    },
    /// A key that is unknown or not allowed at this place.
    #[error("found {found} as a key {place}, expected one of {expected}")]
    UnknownKey {
        /// The key found, or a description that reveals no secret.
        found: String,
        /// The context of the key.
        place: &'static str,
        /// The keys that are allowed there.
        expected: &'static str,
    },
    /// The first line names no known operation.
    #[error("found {0}, expected get=1, set=1, status=1, file=1, reload=1, admin=1 or admin_tokens=1")]
    Operation(String),
    /// A line without `=`.
    #[error("expected KEY=VALUE, found a line without '='")]
    NoValue,
    /// Lines after an operation that takes none.
    #[error("expected an empty line after {0}")]
    Trailing(&'static str),
    /// A line longer than any valid one.
    #[error("expected at most {max} bytes in a line", max = MAX_LINE)]
    LongLine,
    /// The request is too long.
    #[error("the request is longer than {max} bytes: split it", max = MAX_REQUEST)]
    TooLong,
    /// The connection ended before the empty line.
    #[error("expected an empty line at the end, found the end of the connection")]
    Unfinished,
}

impl RequestError {
    /// Returns the errno of the answer.
    pub const fn errno(&self) -> i32 {
        let errno = match self.kind {
            RequestErrorKind::Value { .. }
            | RequestErrorKind::UnknownKey { .. }
            | RequestErrorKind::Trailing(_) => Errno::EINVAL,
            RequestErrorKind::Operation(_)
            | RequestErrorKind::NoValue
            | RequestErrorKind::LongLine
            | RequestErrorKind::Unfinished => Errno::EPROTO,
            RequestErrorKind::TooLong => Errno::E2BIG,
        };
        -(errno as i32)
    }

    /// Returns true if the connection must be closed, because the start of the next request is
    /// unknown.
    pub const fn is_fatal(&self) -> bool {
        matches!(self.kind, RequestErrorKind::TooLong | RequestErrorKind::Unfinished)
    }
}

/// Returns a description of `value` for a message that reveals no secret.
pub(super) fn describe(value: &[u8]) -> String {
    // digits of base64 as well as of hexadecimal
    let is_digit = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/');
    let is_run = |run: &[u8]| run.len() >= MIN_SECRET_RUN;
    if value.is_empty() {
        "nothing".to_owned()
    } else if value.split(|b| !is_digit(b)).any(is_run) {
        format!("{} bytes, not shown since they may be a secret", value.len())
    } else {
        let start = value.get(..MAX_SHOWN).unwrap_or(value);
        let more = if start.len() < value.len() { "…" } else { "" };
        format!("'{}{more}'", Escaped(start))
    }
}

/// Returns a description of a wrong key for a message, by its length only.
pub(super) fn describe_secret(value: &[u8]) -> String {
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
