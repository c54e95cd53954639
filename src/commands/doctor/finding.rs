//! A finding of `wontun doctor`.

use serde::Serialize;

/// The result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verdict {
    Ok,
    /// It works, but not as well as it could.
    Warning,
    /// It keeps the tunnel from working.
    Problem,
    /// This user may not check it, or the kernel does not tell.
    Unknown,
}

/// A finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    pub(super) verdict: Verdict,
    /// Subject of the check.
    pub(super) subject: &'static str,
    /// The result and the remedy, in one line.
    pub(super) text: String,
}

impl Finding {
    pub(super) fn new(verdict: Verdict, subject: &'static str, text: impl ToString) -> Self {
        let text = text.to_string().replace(|letter: char| letter.is_control(), " ");
        Self { verdict, subject, text }
    }

    pub(super) fn ok(subject: &'static str, text: impl ToString) -> Self {
        Self::new(Verdict::Ok, subject, text)
    }

    pub(super) fn problem(subject: &'static str, text: impl ToString) -> Self {
        Self::new(Verdict::Problem, subject, text)
    }

    pub(super) fn warning(subject: &'static str, text: impl ToString) -> Self {
        Self::new(Verdict::Warning, subject, text)
    }

    pub(super) fn unknown(subject: &'static str, text: impl ToString) -> Self {
        Self::new(Verdict::Unknown, subject, text)
    }

    /// Creates the finding about what only CAP_NET_ADMIN can read.
    pub(super) fn unprivileged(subject: &'static str) -> Self {
        Self::unknown(subject, "needs CAP_NET_ADMIN: run this as root (sudo wontun doctor)")
    }
}
