//! The value of `--apply-dns`.

use serde::{Deserialize, Serialize};

/// Method to apply the name servers of `DNS =` to this host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
pub enum ApplyDns {
    /// By systemd-resolved if it resolves names here, else in /etc/resolv.conf.
    #[default]
    Auto,
    /// By systemd-resolved.
    Resolved,
    /// In /etc/resolv.conf.
    File,
    /// Not at all.
    Off,
}
