//! A row of a file of peers.

use std::fmt::Display;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::SystemTime;

use super::column::Column;
use crate::config::peer_settings::{Expiry, PeerComment, PeerSettings, SettingError};
use crate::config::{Network, PeerName};
use crate::server::peers::NewPeerOptions;
use wontun_proto::wireguard::{KeyError, PublicKey};

/// Maximum number of characters of a value in an error.
const MAX_SHOWN: usize = 60;

/// A peer as its row describes it.
#[derive(Debug)]
pub(super) struct Row {
    /// Line at which it begins.
    pub(super) line: usize,
    /// The values that are not empty; no column is there twice.
    pub(super) values: Vec<(Column, String)>,
}

/// Options that a file says nothing else about.
#[derive(Clone, Debug)]
pub(crate) struct ListDefaults {
    /// As [`NewPeerOptions::full_tunnel`].
    pub full_tunnel: bool,
    /// As [`NewPeerOptions::settings`].
    pub settings: PeerSettings,
}

/// The options of a peer, whose name may be missing or invalid.
#[derive(Debug)]
struct Draft {
    name: Option<PeerName>,
    public_key: Option<PublicKey>,
    addresses: Vec<IpAddr>,
    sites: Vec<Network>,
    full_tunnel: bool,
    settings: PeerSettings,
}

/// Returns the options that a row describes, or all of its errors.
pub(super) fn options(
    values: &[(Column, String)],
    defaults: &ListDefaults,
    now: SystemTime,
) -> Result<NewPeerOptions, Vec<String>> {
    let ListDefaults { full_tunnel, settings } = defaults.clone();
    let mut draft = Draft {
        name: None,
        public_key: None,
        addresses: Vec::new(),
        sites: Vec::new(),
        full_tunnel,
        settings,
    };
    let mut errors = Vec::new();
    let has = |wanted: Column| values.iter().any(|(column, _)| *column == wanted);
    if !has(Column::Name) {
        errors.push("the name is missing".to_owned());
    }
    // a route of the row replaces a full tunnel of the command line
    if has(Column::Route) && !has(Column::FullTunnel) {
        draft.full_tunnel = false;
    }
    for (column, value) in values {
        errors.extend(set(&mut draft, *column, value, now).err());
    }
    if draft.full_tunnel && has(Column::Route) {
        errors.push("route: a full tunnel sends everything already: leave one of the two out".to_owned());
    }
    let Draft { name, public_key, addresses, sites, full_tunnel, settings } = draft;
    match name {
        Some(name) if errors.is_empty() => {
            Ok(NewPeerOptions { name, public_key, addresses, sites, full_tunnel, settings })
        }
        _ => Err(errors),
    }
}

fn set(options: &mut Draft, column: Column, value: &str, now: SystemTime) -> Result<(), String> {
    let client = &mut options.settings.client;
    match column {
        Column::Name => options.name = Some(parsed(column, value)?),
        Column::Address => options.addresses = list(column, value)?,
        Column::Site => options.sites = list(column, value)?,
        Column::Route => client.routes = list(column, value)?,
        Column::FullTunnel => {
            options.full_tunnel = match value {
                _ if value.eq_ignore_ascii_case("yes") => true,
                _ if value.eq_ignore_ascii_case("no") => false,
                _ => return Err(format!("{column}: found '{}', expected yes or no", shown(value))),
            }
        }
        Column::Dns => client.dns = Some(parsed(column, value)?),
        Column::Mtu => client.mtu = Some(parsed(column, value)?),
        Column::Keepalive => client.keepalive = Some(parsed(column, value)?),
        // the value may be a private key
        Column::PublicKey => {
            options.public_key = Some(value.parse().map_err(|error: KeyError| format!("{column}: {error}"))?);
        }
        Column::Setting(PeerComment::Expires) => {
            let expiry = Expiry::parse_from(value, now);
            options.settings.expires =
                Some(expiry.map_err(|expected| {
                    format!("{column}: found '{}', expected {expected}", shown(value))
                })?);
        }
        Column::Setting(comment) => {
            // a list replaces that of the command line
            let error = |error: SettingError| {
                format!("{column}: found '{}', expected {}", error.found, error.expected)
            };
            options.settings.replace(comment, value).map_err(error)?;
        }
    }
    Ok(())
}

fn parsed<T: FromStr<Err: Display>>(column: Column, value: &str) -> Result<T, String> {
    value.parse().map_err(|error| format!("{column}: found '{}': {error}", shown(value)))
}

fn list<T: FromStr<Err: Display>>(column: Column, value: &str) -> Result<Vec<T>, String> {
    let items = value.split(',').map(str::trim).filter(|item| !item.is_empty());
    items.map(|item| parsed(column, item)).collect()
}

fn shown(value: &str) -> String {
    value.escape_debug().take(MAX_SHOWN).collect()
}
