//! Options for what a peer may reach.

use std::str::FromStr;

use clap::Args;

use crate::config::peer_settings::{PeerSettings, Target};

/// Rules of a peer: targets that it may reach, and sources of connections to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
#[group(skip)]
pub struct RuleOptions {
    /// Targets that the client may reach, and no others: addresses, networks, clients' names,
    /// 'internet', 'lan', 'server', 'peers', 'dns' or 'any', with ':PORT' and '/tcp', '/udp' or
    /// '/icmp', separated by commas; 'none', or 'default' for what the policy allows
    #[arg(long, value_name = "TARGETS")]
    pub allow: Option<Targets>,

    /// Targets that the client may not reach, even if they are allowed; 'none' removes it
    #[arg(long, value_name = "TARGETS")]
    pub deny: Option<Targets>,

    /// Targets that may open connections to the client, and no others; 'none', or 'default' for
    /// what the policy allows
    #[arg(long, value_name = "TARGETS")]
    pub allow_from: Option<Targets>,
}

impl RuleOptions {
    /// Changes what is given; everything else stays as it is.
    pub(crate) fn apply(&self, settings: &mut PeerSettings) {
        if let Some(Targets(allow)) = &self.allow {
            settings.allow.clone_from(allow);
        }
        if let Some(Targets(deny)) = &self.deny {
            settings.deny = deny.clone().unwrap_or_default();
        }
        if let Some(Targets(allow_from)) = &self.allow_from {
            settings.allow_from.clone_from(allow_from);
        }
    }
}

/// A list of targets; `None` for the policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Targets(Option<Vec<Target>>);

impl FromStr for Targets {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.eq_ignore_ascii_case("default") {
            return Ok(Self(None));
        }
        if text.eq_ignore_ascii_case("none") {
            return Ok(Self(Some(Vec::new())));
        }
        let target = |item: &str| {
            item.trim()
                .parse()
                .map_err(|expected: &str| format!("'{}': expected {expected}", item.escape_debug()))
        };
        text.split(',').map(target).collect::<Result<_, _>>().map(|targets| Self(Some(targets)))
    }
}
