//! Errors of the sandbox.

use std::io;

use crate::exit::ExitCode;
use landlock::RulesetError;

/// Error of the sandbox on a kernel that supports it.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The lists cannot be compiled: a defect of wontun.
    #[error(
        "cannot compile the sandbox's seccomp filter: {0}; please report it, and start with --no-sandbox"
    )]
    Filter(#[source] seccompiler::BackendError),
    /// The kernel refuses the filter.
    #[error("cannot install the sandbox's seccomp filter: {0}; --no-sandbox disables the sandbox")]
    Seccomp(#[source] io::Error),
    /// The kernel refuses the rules for files.
    #[error("cannot apply the sandbox's Landlock rules: {0}; --no-sandbox disables the sandbox")]
    Landlock(#[from] RulesetError),
    /// The handler that reports forbidden calls cannot be installed.
    #[error("cannot install the sandbox's SIGSYS handler: {0}; --no-sandbox disables the sandbox")]
    Signal(#[source] io::Error),
    /// No descriptor is available for the rules.
    #[error("cannot engage the sandbox: {0}; free file descriptors (ulimit -n)")]
    Clone(#[source] io::Error),
}

impl ExitCode for SandboxError {}
