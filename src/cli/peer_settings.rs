//! Options for the settings of a peer, of `wontun peer add` and `set`.

use std::str::FromStr;

use clap::Args;

use super::access::AccessOptions;
use super::limits::LimitOptions;
use super::rules::RuleOptions;
use crate::config::peer_settings::{
    ClientKeepalive, ClientMtu, ClientSettings, Note, PeerSettings, PortForward,
};
use crate::config::{ClientDns, Network, NetworkError, OwnerName};

/// Settings of a peer on the server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
#[group(skip)]
pub struct PeerSettingsOptions {
    /// The rules of the client.
    #[command(flatten)]
    pub rules: RuleOptions,

    /// Port of the server that leads to the client, to its port PORT after '=', or 'none';
    /// repeatable
    #[arg(long, value_name = "PORT/PROTOCOL[=PORT]")]
    pub forward: Vec<PortForwards>,

    /// The time of the client's access.
    #[command(flatten)]
    pub access: AccessOptions,

    /// Limits of the client's traffic.
    #[command(flatten)]
    pub limits: LimitOptions,

    /// Person to whom the client belongs, who sees and renews it on the admin page after 'wontun
    /// admin link --owner'; '' removes it
    #[arg(long, value_name = "OWNER")]
    pub owner: Option<OwnerOption>,

    /// Text for people; '' removes it
    #[arg(long, value_name = "TEXT")]
    pub note: Option<NoteOption>,
}

impl PeerSettingsOptions {
    /// Changes what is given; everything else stays as it is.
    pub(crate) fn apply(&self, settings: &mut PeerSettings) {
        self.rules.apply(settings);
        self.access.apply(settings);
        self.limits.apply(&mut settings.limits);
        if !self.forward.is_empty() {
            settings.forwards = self.forward.iter().flat_map(|forwards| forwards.0.clone()).collect();
        }
        if let Some(OwnerOption(owner)) = &self.owner {
            settings.owner.clone_from(owner);
        }
        if let Some(NoteOption(note)) = &self.note {
            settings.note.clone_from(note);
        }
    }
}

/// Values of the client's own file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
#[group(skip)]
pub struct ClientOptions {
    /// Network that the client sends through the tunnel, besides the server's, or 'none';
    /// repeatable
    #[arg(long, value_name = "CIDR")]
    pub route: Vec<Networks>,

    /// Name servers of this client, separated by commas, or 'none' [default: those of the server's
    /// file]
    #[arg(long, value_name = "ADDRESSES")]
    pub dns: Option<ClientDns>,

    /// MTU of the client's device [default: the client's own choice]
    #[arg(long, value_name = "BYTES")]
    pub mtu: Option<ClientMtu>,

    /// Interval of the client's keepalives in seconds, or 'off' [default: 25]
    #[arg(long, value_name = "SECONDS")]
    pub keepalive: Option<ClientKeepalive>,
}

impl ClientOptions {
    /// Changes what is given; everything else stays as it is.
    pub(crate) fn apply(&self, settings: &mut ClientSettings) {
        if !self.route.is_empty() {
            settings.routes = Networks::joined(&self.route);
            settings.has_unknown_routes = false;
        }
        if self.dns.is_some() {
            settings.dns.clone_from(&self.dns);
        }
        settings.mtu = self.mtu.or(settings.mtu);
        settings.keepalive = self.keepalive.or(settings.keepalive);
    }
}

/// A list of networks, or 'none'.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Networks(Vec<Network>);

impl Networks {
    /// Returns the networks of all lists.
    pub(super) fn joined(lists: &[Self]) -> Vec<Network> {
        lists.iter().flat_map(|list| list.0.clone()).collect()
    }
}

impl FromStr for Networks {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        if text.eq_ignore_ascii_case("none") {
            return Ok(Self(Vec::new()));
        }
        text.split(',').map(|item| item.trim().parse()).collect::<Result<_, _>>().map(Self)
    }
}

/// A list of port forwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortForwards(Vec<PortForward>);

impl FromStr for PortForwards {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        if text.eq_ignore_ascii_case("none") {
            return Ok(Self(Vec::new()));
        }
        text.split(',').map(|item| item.trim().parse()).collect::<Result<_, _>>().map(Self)
    }
}

/// The value of `--owner`: a name, or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnerOption(pub Option<OwnerName>);

impl FromStr for OwnerOption {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self(None));
        }
        text.parse().map(|owner| Self(Some(owner))).map_err(|expected: &str| format!("expected {expected}"))
    }
}

/// The value of `--note`: a note, or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoteOption(pub Option<Note>);

impl FromStr for NoteOption {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self(None));
        }
        text.parse().map(|note| Self(Some(note))).map_err(|expected: String| format!("expected {expected}"))
    }
}
