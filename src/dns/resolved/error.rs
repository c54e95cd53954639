//! Reasons why settings cannot be applied.

use std::time::Duration;

use super::connection::BusError;
use crate::process::ChannelError;

/// Time in which settings take effect.
pub(super) const EFFECT: Duration = Duration::from_secs(1);

/// Reason why settings cannot be applied by systemd-resolved.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ResolvedError {
    /// The bus or the service failed.
    #[error("systemd-resolved cannot be asked: {0}")]
    Bus(#[from] BusError),
    /// The service does not run.
    #[error(
        "systemd-resolved does not run: start it (systemctl enable --now systemd-resolved), or set --apply-dns file"
    )]
    NotRunning,
    /// The user may not do that.
    #[error(
        "systemd-resolved does not let this user set name servers ({0}): run wontun as root, or install the polkit \
         rule of the package, /usr/share/polkit-1/rules.d/50-wontun.rules"
    )]
    Denied(String),
    /// The link has other settings afterwards.
    #[error(
        "the link has not got the settings within {} s: another program may set its own; see 'resolvectl status'",
        EFFECT.as_secs()
    )]
    NoEffect,
    /// The process that has root's connection is gone.
    #[error("the process that sets the name servers has ended ({0}): restart the tunnel")]
    Setter(#[from] ChannelError),
    /// The connections cannot be opened.
    #[error("the connections to D-Bus cannot be opened: {0}")]
    Open(String),
}

impl ResolvedError {
    pub(super) fn of(error: BusError) -> Self {
        let BusError::Method { name, text } = &error else { return Self::Bus(error) };
        match name.as_str() {
            "org.freedesktop.DBus.Error.ServiceUnknown" | "org.freedesktop.DBus.Error.NameHasNoOwner" => {
                Self::NotRunning
            }
            "org.freedesktop.DBus.Error.AccessDenied"
            | "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired" => Self::Denied(text.clone()),
            _ => Self::Bus(error),
        }
    }
}
