//! Errors of the sandbox.

use std::io;

use crate::exit::ExitCode;
use landlock::RulesetError;

/// Error of the sandbox on a kernel that supports it.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The lists cannot be compiled: a defect of wontun.
    #[error("the sandbox's filter cannot be made: {0}; please report it, and start with --no-sandbox")]
    Filter(#[source] seccompiler::BackendError),
    /// The kernel refuses the filter.
    #[error("the sandbox's filter cannot be set (seccomp): {0}; --no-sandbox does without")]
    Seccomp(#[source] io::Error),
    /// The kernel refuses the rules for files.
    #[error("the sandbox's rules for files cannot be set (Landlock): {0}; --no-sandbox does without")]
    Landlock(#[from] RulesetError),
    /// The handler that reports forbidden calls cannot be installed.
    #[error("the sandbox's signal cannot be handled: {0}; --no-sandbox does without")]
    Signal(#[source] io::Error),
    /// No descriptor is available for the rules.
    #[error("the sandbox cannot be engaged: {0}; free file descriptors (ulimit -n)")]
    Clone(#[source] io::Error),
}

impl ExitCode for SandboxError {}
