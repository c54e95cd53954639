//! Errors in a file of peers.

use std::fmt;

/// An error in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ListError {
    /// Line of the error, starting at 1.
    pub line: usize,
    /// The error, and the expected value.
    pub message: String,
}

impl fmt::Display for ListError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.line, self.message)
    }
}

impl ListError {
    pub(super) fn new(line: usize, message: impl Into<String>) -> Self {
        Self { line, message: message.into() }
    }
}

/// Returns the number of the line that `before` ends in, starting at 1.
pub(super) fn line_of(before: &[u8]) -> usize {
    before.iter().filter(|byte| **byte == b'\n').count() + 1
}
