//! The policy for peers without rules of their own.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The policy for peers without rules of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
pub enum PeerPolicy {
    /// Everything that their allowed IPs allow
    #[default]
    Open,
    /// Everything but other peers
    Isolate,
    /// The Internet, name servers, and pings to this host; nobody opens connections to the peers
    InternetOnly,
}

impl PeerPolicy {
    const NAMES: [(Self, &'static str); 3] =
        [(Self::Open, "open"), (Self::Isolate, "isolate"), (Self::InternetOnly, "internet-only")];
}

impl FromStr for PeerPolicy {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let found = Self::NAMES.into_iter().find(|(_, name)| name.eq_ignore_ascii_case(text));
        found.map(|(policy, _)| policy).ok_or("expected open, isolate or internet-only")
    }
}

impl fmt::Display for PeerPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::NAMES.into_iter().find(|(policy, _)| policy == self);
        f.write_str(name.map_or("", |(_, name)| name))
    }
}
