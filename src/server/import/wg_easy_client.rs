//! A client of wg-easy, as its versions store it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;

use serde_json::Value;

use super::error::ImportError;
use super::json::{Location, Object, kind, text_of};
use super::names::UniqueNames;
use super::wg_quick::rename_notice;
use crate::config::peer_settings::{Expiry, PeerSettings};
use crate::config::wg_quick::{KeySource, Peer, PresharedKey, PublicKey};
use crate::config::{Network, PeerAddress};
use crate::server::address::host;
use wontun_proto::allowed_ips::Prefix;

/// The properties of a client that a server needs.
pub(super) struct Client {
    /// Path of the client in the JSON.
    pub(super) json_path: String,
    pub(super) name: String,
    pub(super) addresses: Vec<IpAddr>,
    /// Networks behind the client.
    pub(super) sites: Vec<Prefix>,
    pub(super) public_key: PublicKey,
    pub(super) preshared_key: Option<PresharedKey>,
    pub(super) endpoint: Option<PeerAddress>,
    pub(super) settings: PeerSettings,
}

impl Client {
    /// Returns the peer of the server's file that is called `name`.
    fn peer(self, name: Option<crate::server::PeerName>) -> Peer {
        let Self { addresses, sites, public_key, preshared_key, endpoint, settings, .. } = self;
        let mut allowed_ips: Vec<_> = addresses.into_iter().map(host).collect();
        for site in sites {
            if !allowed_ips.contains(&site) {
                allowed_ips.push(site);
            }
        }
        Peer {
            name,
            public_key,
            preshared_key: preshared_key.map(KeySource::Inline),
            allowed_ips,
            endpoint,
            persistent_keepalive: None,
            settings: (settings != PeerSettings::NONE).then(|| Box::new(settings)),
        }
    }
}

/// Returns the client's name; empty if it has none.
pub(super) fn name(object: &Object<'_>) -> Result<String, ImportError> {
    match object.get("name") {
        (None, _) => Ok(String::new()),
        (Some(name), at) => {
            Ok(text_of(Some(name)).ok_or_else(|| at.value(&kind(Some(name)), "a text"))?.to_owned())
        }
    }
}

/// Returns the end of a client's access; `None` if there is none.
pub(super) fn expiry(value: Option<&Value>, at: &Location<'_>) -> Result<Option<Expiry>, ImportError> {
    let Some(value) = value else { return Ok(None) };
    let parsed = text_of(Some(value)).and_then(|text| text.parse().ok());
    parsed.map(Some).ok_or_else(|| at.value(&kind(Some(value)), "a time, such as 2026-12-31T23:59:59.000Z"))
}

/// Returns networks, given as a list or as a text with commas; host bits are cleared.
pub(super) fn networks(value: Option<&Value>, at: &Location<'_>) -> Result<Vec<Prefix>, ImportError> {
    let wrong = |value: &Value| at.value(&kind(Some(value)), "a list of networks, such as 192.168.5.0/24");
    let texts: Vec<&str> = match value {
        None => Vec::new(),
        Some(Value::Array(items)) => items
            .iter()
            .map(|item| text_of(Some(item)).ok_or_else(|| wrong(item)))
            .collect::<Result<_, _>>()?,
        Some(Value::String(text)) => text.split(',').map(str::trim).filter(|text| !text.is_empty()).collect(),
        Some(other) => return Err(wrong(other)),
    };
    let network = |text: &str| {
        let lenient =
            text.parse::<crate::config::Cidr>().ok().map(|cidr| Prefix::of(cidr.address(), cidr.prefix()));
        lenient.or_else(|| text.parse::<Network>().ok().map(Network::prefix))
    };
    let invalid = || at.value("a text that is no network", "a list of networks, such as 192.168.5.0/24");
    texts.into_iter().map(|text| network(text).ok_or_else(invalid)).collect()
}

/// Returns the peers of the server's file, whose names are made unique and valid, and reports what
/// became of them.
pub(super) fn peers(clients: Vec<Client>, notices: &mut Vec<String>) -> Vec<Peer> {
    let mut names = UniqueNames::default();
    let mut peers = Vec::with_capacity(clients.len());
    for client in clients {
        let name = names.unique(&client.name);
        match &name {
            Some(name) if name.as_str() != client.name => {
                notices.push(rename_notice(&client.name, name.as_str()));
            }
            Some(_) => {}
            None => notices.push(format!(
                "{} has no name that can be used: 'wontun peer rename KEY NAME' gives one",
                client.json_path
            )),
        }
        if client.settings.is_disabled {
            let label = name.as_ref().map_or(client.json_path.as_str(), |name| name.as_str());
            notices.push(format!(
                "'{label}' was disabled in wg-easy, and stays so: 'wontun peer enable' admits it"
            ));
        }
        peers.push(client.peer(name));
    }
    peers
}

/// Rejects duplicate keys, and reports duplicate addresses of clients with access.
pub(super) fn check_duplicates(
    file: &Path,
    clients: &[Client],
    server: &PublicKey,
    addresses: &[IpAddr],
    notices: &mut Vec<String>,
) -> Result<(), ImportError> {
    let mut keys = HashMap::from([(*server, "server")]);
    let mut owners: HashMap<_, _> = addresses.iter().map(|address| (*address, "server")).collect();
    for client in clients {
        if let Some(other) = keys.insert(client.public_key, client.json_path.as_str()) {
            return Err(ImportError::Value {
                file: file.to_owned(),
                path: format!("{}.publicKey", client.json_path),
                found: format!("the key of {other}"),
                expected: "a key of its own",
            });
        }
        for address in &client.addresses {
            let other = owners.insert(*address, client.json_path.as_str());
            if let Some(other) = other.filter(|_| !client.settings.is_disabled) {
                notices.push(format!(
                    "{}: {}.address: {address} is also the address of {other}; packets to it reach only one of them",
                    file.display(),
                    client.json_path
                ));
            }
        }
    }
    Ok(())
}
