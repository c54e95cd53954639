//! Why a process is not confined.

use std::io;

use landlock::RulesetError;

/// Why there is no sandbox although the kernel has what it needs.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The lists are no program: a defect of ours.
    #[error("the sandbox's filter cannot be made: {0}; please report it, and start with --no-sandbox")]
    Filter(#[source] seccompiler::BackendError),
    /// The kernel does not take the filter.
    #[error("the sandbox's filter cannot be set (seccomp): {0}; --no-sandbox does without")]
    Seccomp(#[source] io::Error),
    /// The kernel does not take the rules about files.
    #[error("the sandbox's rules for files cannot be set (Landlock): {0}; --no-sandbox does without")]
    Landlock(#[from] RulesetError),
    /// Nothing would tell of a call that is forbidden.
    #[error("the sandbox's signal cannot be handled: {0}; --no-sandbox does without")]
    Signal(#[source] io::Error),
    /// No descriptor for the rules.
    #[error("the sandbox cannot be engaged: {0}; free file descriptors (ulimit -n)")]
    Clone(#[source] io::Error),
}
