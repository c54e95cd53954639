//! Exit codes, and the failure that a program ends with.

use std::error::Error;
use std::fmt;
use std::io::{self, Write as _};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// Maximum time for writing the message: a stopped reader of standard error must not delay the
/// exit.
const PRINT_TIMEOUT: Duration = Duration::from_millis(50);

/// Any failure without a code of its own.
pub const FAILURE: u8 = 1;
/// The command line has an error.
pub const USAGE: u8 = 2;
/// A device or address is unavailable (`EX_UNAVAILABLE` of sysexits.h).
pub const UNAVAILABLE: u8 = 69;
/// A privilege is missing (`EX_NOPERM`).
pub const NO_PERMISSION: u8 = 77;
/// The configuration has an error (`EX_CONFIG`).
pub const CONFIG: u8 = 78;

/// An error that a program can end with.
pub trait ExitCode: Error {
    /// Returns the exit code: [`FAILURE`] unless the error has a code of its own.
    fn exit_code(&self) -> u8 {
        FAILURE
    }

    /// Returns true if another process has reported the error already, on the same standard error.
    fn is_reported(&self) -> bool {
        false
    }
}

/// A failure that ends the program. It implements no [`Error`], so that any [`ExitCode`] converts
/// to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Exit code.
    pub code: u8,
    /// Message in one line.
    pub message: String,
    /// True if the message was printed already.
    pub is_reported: bool,
}

impl Failure {
    /// Creates a failure with a message of its own.
    pub fn new(code: u8, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), is_reported: false }
    }

    /// Prints the message on standard error, unless it is reported already. It uses a thread that
    /// is abandoned if standard error blocks.
    pub fn print(&self) {
        if self.is_reported {
            return;
        }
        let line = format!("wontun: {self}\n");
        let (done, written) = mpsc::channel();
        let writer = thread::Builder::new().spawn(move || {
            let _ = io::stderr().write_all(line.as_bytes());
            let _ = done.send(());
        });
        if writer.is_ok() {
            let _ = written.recv_timeout(PRINT_TIMEOUT);
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl<E: ExitCode> From<E> for Failure {
    fn from(error: E) -> Self {
        Self { code: error.exit_code(), message: one_line(&error), is_reported: error.is_reported() }
    }
}

/// Returns the message of the error, followed by those causes that it does not contain.
fn one_line(error: &dyn Error) -> String {
    let mut message = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        if !message.contains(&text) {
            message = format!("{message}: {text}");
        }
        source = cause.source();
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    #[derive(Debug, thiserror::Error)]
    enum TestError {
        #[error("cannot open it")]
        Open(#[source] io::Error),
        #[error("cannot read it: {0}")]
        Read(#[source] io::Error),
    }

    impl ExitCode for TestError {
        fn exit_code(&self) -> u8 {
            if matches!(self, Self::Open(_)) { UNAVAILABLE } else { FAILURE }
        }
    }

    #[test]
    fn a_failure_has_code_and_message_with_each_cause_once() {
        let opened = Failure::from(TestError::Open(io::Error::other("no door")));
        assert_eq!((opened.code, opened.message.as_str()), (UNAVAILABLE, "cannot open it: no door"));
        let read = Failure::from(TestError::Read(io::Error::other("too dark")));
        assert_eq!((read.code, read.message.as_str()), (FAILURE, "cannot read it: too dark"));
        assert!(!read.is_reported);
    }
}
