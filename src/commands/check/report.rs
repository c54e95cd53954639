//! The outcome of a check.

use std::path::PathBuf;

use crate::config::wg_quick::{LoadError, WgQuick};
use crate::config::{FileOptions, KillSwitchOptions, TunName};
use crate::exit::ExitCode;
use crate::supervisor::TunnelPreview;

/// An error that keeps the tunnel from starting.
#[derive(Debug)]
pub(super) struct Problem {
    /// Line number in the file; `None` if it is not in a line.
    pub(super) line: Option<usize>,
    /// The error in one line, with the name of the file.
    pub(super) message: String,
}

/// The tunnel of a file without an error.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) name: TunName,
    pub(super) configuration: WgQuick,
    pub(super) options: FileOptions,
    pub(super) kill_switch: Option<KillSwitchOptions>,
    /// State that would be set up; `None` if the kernel does not tell its present state.
    pub(super) preview: Option<TunnelPreview>,
}

/// The outcome of a check.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) file: PathBuf,
    /// By line; those that are in no line come last.
    pub(super) errors: Vec<Problem>,
    /// Number of errors that are not listed.
    pub(super) omitted: usize,
    pub(super) warnings: Vec<String>,
    /// `None` if there are errors.
    pub(super) plan: Option<Plan>,
}

impl Report {
    /// Returns the value, or adds the error.
    pub(super) fn take<T, E: ExitCode>(&mut self, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.errors.push(Problem { line: None, message: error.to_string() })).ok()
    }
}

impl From<&LoadError> for Problem {
    fn from(error: &LoadError) -> Self {
        let line = match error {
            LoadError::Content(error) => Some(error.line),
            _ => None,
        };
        Self { line, message: error.to_string() }
    }
}
