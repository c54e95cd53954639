//! The columns of a file of peers.

use std::fmt;

use crate::config::peer_settings::PeerComment;

/// A column of CSV, or a key of JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Column {
    /// Name of the peer.
    Name,
    /// Chosen addresses.
    Address,
    /// Networks behind the peer.
    Site,
    /// Networks that the client sends through the tunnel.
    Route,
    /// `yes` to send everything through the tunnel.
    FullTunnel,
    /// Name servers of the client.
    Dns,
    /// MTU of the client.
    Mtu,
    /// Interval of the client's keepalives.
    Keepalive,
    /// Public key of a client that keeps its private key.
    PublicKey,
    /// A setting of the peer on the server.
    Setting(PeerComment),
}

/// The columns that are no settings on the server.
const OWN: [Column; 9] = [
    Column::Name,
    Column::Address,
    Column::Site,
    Column::Route,
    Column::FullTunnel,
    Column::Dns,
    Column::Mtu,
    Column::Keepalive,
    Column::PublicKey,
];

/// Minimum similarity of a misspelled name, from 0 to 1.
const MIN_SIMILARITY: f64 = 0.8;

impl Column {
    /// Returns all columns.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        // what the client's own file is made of has columns of its own; nobody invites by a file
        let is_other = |comment: &PeerComment| {
            matches!(
                comment,
                PeerComment::ClientRoutes
                    | PeerComment::ClientDns
                    | PeerComment::ClientMtu
                    | PeerComment::ClientKeepalive
                    | PeerComment::Invitation
            )
        };
        let settings = PeerComment::ALL.into_iter().filter(move |comment| !is_other(comment));
        OWN.into_iter().chain(settings.map(Self::Setting))
    }

    /// Returns the column with this name, in any case, with `-`, `_` and spaces or without.
    pub(super) fn named(name: &str) -> Option<Self> {
        let wanted = plain(name);
        Self::all().find(|column| plain(&column.to_string()) == wanted)
    }

    /// Returns the message for a name that no column has.
    pub(super) fn unknown(name: &str) -> String {
        let wanted = plain(name);
        let similarity = |column: &Self| strsim::jaro_winkler(&plain(&column.to_string()), &wanted);
        let nearest = Self::all().max_by(|a, b| similarity(a).total_cmp(&similarity(b)));
        let nearest = nearest.filter(|column| similarity(column) >= MIN_SIMILARITY);
        let nearest = nearest.map(|column| format!(" (did you mean {column}?)")).unwrap_or_default();
        let all: Vec<_> = Self::all().map(|column| column.to_string()).collect();
        let shown: String = name.escape_debug().take(40).collect();
        format!("unknown column '{shown}'{nearest}: expected some of {}", all.join(", "))
    }

    /// Returns true if the value is a list.
    pub(super) const fn is_list(self) -> bool {
        match self {
            Self::Address | Self::Site | Self::Route | Self::Dns => true,
            Self::Setting(comment) => comment.is_list(),
            Self::Name | Self::FullTunnel | Self::Mtu | Self::Keepalive | Self::PublicKey => false,
        }
    }
}

impl fmt::Display for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Name => "name",
            Self::Address => "address",
            Self::Site => "site",
            Self::Route => "route",
            Self::FullTunnel => "full_tunnel",
            Self::Dns => "dns",
            Self::Mtu => "mtu",
            Self::Keepalive => "keepalive",
            Self::PublicKey => "public_key",
            Self::Setting(comment) => return write_snake_case(comment.name(), f),
        })
    }
}

/// Writes `AllowFrom` as `allow_from`.
fn write_snake_case(name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (index, letter) in name.char_indices() {
        let gap = if index > 0 && letter.is_ascii_uppercase() { "_" } else { "" };
        write!(f, "{gap}{}", letter.to_ascii_lowercase())?;
    }
    Ok(())
}

fn plain(name: &str) -> String {
    name.chars().filter(|c| !matches!(c, '_' | '-' | ' ')).map(|c| c.to_ascii_lowercase()).collect()
}
