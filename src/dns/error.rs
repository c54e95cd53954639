//! Reasons why settings cannot be applied.

/// Error of a back end. A back end adds a transparent variant with its own error type, whose
/// message names the remedy in at most [`MAX_TEXT`](crate::resolver::messages::MAX_TEXT) bytes.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DnsError {
    /// No back end can be used.
    #[error("no back end for this host")]
    Unavailable,
    /// systemd-resolved.
    #[error(transparent)]
    Resolved(#[from] super::resolved::ResolvedError),
}
