//! Translates the `wg0.json` of wg-easy up to version 14:
//!
//! ```json
//! {"server": {"privateKey": "…", "publicKey": "…", "address": "10.8.0.1"},
//!  "clients": {"ID": {"name": "phone", "address": "10.8.0.2", "enabled": true,
//!                     "publicKey": "…", "preSharedKey": "…", "privateKey": "…"}}}
//! ```
//!
//! wg-easy treats the server's network as a /24 and runs only the enabled clients, until their
//! `expiredAt`. It keeps the clients' private keys to show their files again; they are not imported.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::num::NonZeroU16;

use serde_json::Value;

use super::error::ImportError;
use super::json::{Json, Location, Object, kind, report_unknown, syntax, text_of};
use super::options::Import;
use super::translation::Translation;
use super::wg_easy_client::{Client, check_duplicates, expiry, name, networks, peers};
use crate::config::Cidr;
use crate::config::DEFAULT_WIREGUARD_PORT;
use crate::config::peer_settings::{ClientSettings, PeerSettings};
use crate::config::wg_quick::{Interface, KeySource, PrivateKey, PublicKey, Table, WgQuick};
use crate::server::ClientEndpoint;
use crate::uapi::SecretText;

/// Prefix length of every network of wg-easy.
const PREFIX: u8 = 24;
const KNOWN_OF_SERVER: &[&str] = &["privateKey", "publicKey", "address"];
/// Fields of a client that are imported, or have no meaning without wg-easy's web pages.
const KNOWN_OF_CLIENT: &[&str] = &[
    "name",
    "address",
    "enabled",
    "publicKey",
    "preSharedKey",
    "privateKey",
    "expiredAt",
    "allowedIPs",
    "id",
    "createdAt",
    "updatedAt",
    "downloadableConfig",
    "oneTimeLink",
    "oneTimeLinkExpiresAt",
];

/// Translates the JSON in `text`.
pub(super) fn translate(import: &Import, text: &[u8]) -> Result<Translation, ImportError> {
    let json = Json(serde_json::from_slice(text).map_err(|error| syntax(&import.source, &error))?);
    let root = Location { file: &import.source, path: String::new() }.object(Some(&json.0))?;
    let (server, server_at) = root.get("server");
    let (clients, clients_at) = root.get("clients");
    let server = server_at.object(server)?;
    let mut notices = Vec::new();

    let (private_key, at) = server.get("privateKey");
    let private_key: PrivateKey = at.key(private_key)?;
    let (public_key, at) = server.get("publicKey");
    if let Some(public_key) = public_key {
        let public_key: PublicKey = at.key(Some(public_key))?;
        if public_key != private_key.public_key() {
            return Err(at.value(
                "another key than the one of server.privateKey",
                "its public key, which the clients know",
            ));
        }
    }
    let (address, at) = server.get("address");
    let wrong = || at.value(&kind(address), "an IPv4 address, such as 10.8.0.1");
    let address = text_of(address).and_then(|text| text.parse::<IpAddr>().ok()).filter(IpAddr::is_ipv4);
    let address = address.and_then(|address| Cidr::new(address, PREFIX)).ok_or_else(wrong)?;
    let given = import.listen_port.map(u16::from);
    let port = given.or(import.endpoint.as_ref().map(ClientEndpoint::port)).unwrap_or(DEFAULT_WIREGUARD_PORT);
    if given.is_none() {
        notices.push(format!(
            "{}: does not contain wg-easy's port (WG_PORT): {port} is assumed; if it was another, give --listen-port",
            import.source.display()
        ));
    }

    let clients = clients_at.object(clients)?;
    let mut found = Vec::new();
    for id in clients.object.keys() {
        let (client, at) = clients.get(id);
        found.push(read_client(&at.object(client)?)?);
    }
    found.sort_by(|a, b| (&a.addresses, &a.json_path).cmp(&(&b.addresses, &b.json_path)));
    check_duplicates(&import.source, &found, &private_key.public_key(), &[address.address()], &mut notices)?;
    report_unknown(&import.source, server.object, KNOWN_OF_SERVER, "server", &mut notices);
    for client in clients.object.values().filter_map(Value::as_object) {
        report_unknown(&import.source, client, KNOWN_OF_CLIENT, "a client", &mut notices);
    }
    let mut seen = BTreeSet::new();
    notices.retain(|notice| seen.insert(notice.clone()));

    let interface = Interface {
        private_key: KeySource::Inline(private_key),
        listen_port: NonZeroU16::new(port),
        fwmark: None,
        addresses: vec![address],
        mtu: None,
        table: Table::Auto,
        dns: Vec::new(),
    };
    let mut text = SecretText::default();
    text.push(b"# Made by 'wontun import' of wg-easy's wg0.json; wg-quick reads this file too. 'wontun peer add NAME' adds a\n");
    text.push(b"# client. Edit it as you like: wontun keeps what it does not know.\n");
    text.push(WgQuick { interface, peers: peers(found, &mut notices) }.to_text().as_bytes());
    Ok(Translation { notices, ..Translation::of(text.into_inner()) })
}

fn read_client(object: &Object<'_>) -> Result<Client, ImportError> {
    let (address, at) = object.get("address");
    let parsed = text_of(address).and_then(|text| text.parse().ok());
    let address = parsed.ok_or_else(|| at.value(&kind(address), "an IP address, such as 10.8.0.2"))?;
    let (public_key, at) = object.get("publicKey");
    let public_key = at.key(public_key)?;
    let (preshared_key, at) = object.get("preSharedKey");
    let preshared_key = preshared_key.map(|key| at.key(Some(key))).transpose()?;
    let (enabled, at) = object.get("enabled");
    // wg-easy treats a client without this field as disabled
    let is_enabled = match enabled {
        None => false,
        Some(Value::Bool(enabled)) => *enabled,
        other => return Err(at.value(&kind(other), "true or false")),
    };
    let (expires, at) = object.get("expiredAt");
    let expires = expiry(expires, &at)?;
    let (allowed_ips, at) = object.get("allowedIPs");
    Ok(Client {
        json_path: object.at.path.clone(),
        name: name(object)?,
        addresses: vec![address],
        sites: networks(allowed_ips, &at)?,
        public_key,
        preshared_key,
        endpoint: None,
        settings: PeerSettings {
            is_disabled: !is_enabled,
            expires,
            // wg-easy had them in WG_ALLOWED_IPS
            client: ClientSettings { has_unknown_routes: true, ..ClientSettings::default() },
            ..PeerSettings::NONE
        },
    })
}
