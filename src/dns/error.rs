//! Reasons why settings cannot be applied.

use super::resolv_conf::ResolvConfError;

/// Error of a back end. A back end adds a transparent variant with its own error type, whose
/// message names the remedy in at most [`MAX_TEXT`](crate::resolver::messages::MAX_TEXT) bytes.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DnsError {
    /// systemd-resolved.
    #[error(transparent)]
    Resolved(#[from] super::resolved::ResolvedError),
    /// /etc/resolv.conf is not changed.
    #[error(transparent)]
    ResolvConf(#[from] ResolvConfError),
}
