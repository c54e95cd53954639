//! Translates the `wg0.json` of wg-easy up to version 14:
//!
//! ```json
//! {"server": {"privateKey": "…", "publicKey": "…", "address": "10.8.0.1"},
//!  "clients": {"ID": {"name": "phone", "address": "10.8.0.2", "enabled": true,
//!                     "publicKey": "…", "preSharedKey": "…", "privateKey": "…"}}}
//! ```
//!
//! wg-easy treats the server's network as a /24 and runs only the enabled clients. It keeps the
//! clients' private keys to show their files again; they are not imported.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write as _;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::path::Path;
use std::str::FromStr;

use serde_json::error::Category;
use serde_json::{Map, Value};
use zeroize::Zeroize as _;

use super::error::ImportError;
use super::names::UniqueNames;
use super::options::Import;
use super::translation::Translation;
use super::wg_quick::rename_notice;
use crate::config::Cidr;
use crate::config::DEFAULT_WIREGUARD_PORT;
use crate::config::wg_quick::{
    Field, Interface, KeyError, KeySource, PresharedKey, PrivateKey, PublicKey, Section, Table, WgQuick,
};
use crate::server::ClientEndpoint;
use crate::server::address::host;
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
    "id",
    "createdAt",
    "updatedAt",
    "downloadableConfig",
    "oneTimeLink",
    "oneTimeLinkExpiresAt",
];
/// Maximum number of characters of a client's id in a message.
const MAX_SHOWN: usize = 60;

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
        found.push(Client::read(&at.object(client)?)?);
    }
    found.sort_by(|a, b| (a.address, &a.json_path).cmp(&(b.address, &b.json_path)));
    check_duplicates(&import.source, &found, &private_key.public_key(), address.address(), &mut notices)?;
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
    text.push(WgQuick { interface, peers: Vec::new() }.to_text().as_bytes());
    write_clients(&mut text, &found, &mut notices);
    Ok(Translation { text: text.into_inner(), notices })
}

/// The properties of a client that a server needs.
struct Client {
    /// Path of the client in the JSON.
    json_path: String,
    name: String,
    address: IpAddr,
    public_key: PublicKey,
    preshared_key: Option<PresharedKey>,
    is_enabled: bool,
    expires: bool,
}

impl Client {
    fn read(object: &Object<'_>) -> Result<Self, ImportError> {
        let (name, at) = object.get("name");
        let name = match name {
            None => String::new(),
            Some(name) => {
                text_of(Some(name)).ok_or_else(|| at.value(&kind(Some(name)), "a text"))?.to_owned()
            }
        };
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
        let (expires, _) = object.get("expiredAt");
        let json_path = object.at.path.clone();
        Ok(Self {
            json_path,
            name,
            address,
            public_key,
            preshared_key,
            is_enabled,
            expires: expires.is_some(),
        })
    }
}

/// Rejects duplicate keys, and reports duplicate addresses.
fn check_duplicates(
    file: &Path,
    clients: &[Client],
    server: &PublicKey,
    address: IpAddr,
    notices: &mut Vec<String>,
) -> Result<(), ImportError> {
    let mut keys = HashMap::from([(*server, "server")]);
    let mut addresses = HashMap::from([(address, "server")]);
    for client in clients {
        if let Some(other) = keys.insert(client.public_key, client.json_path.as_str()) {
            return Err(ImportError::Value {
                file: file.to_owned(),
                path: format!("{}.publicKey", client.json_path),
                found: format!("the key of {other}"),
                expected: "a key of its own",
            });
        }
        if let Some(other) =
            addresses.insert(client.address, client.json_path.as_str()).filter(|_| client.is_enabled)
        {
            notices.push(format!(
                "{}: {}.address: {} is also the address of {other}; packets to it reach only one of them",
                file.display(),
                client.json_path,
                client.address
            ));
        }
    }
    Ok(())
}

/// Reports the fields with a value that are not imported.
fn report_unknown(
    file: &Path,
    object: &Map<String, Value>,
    known: &[&str],
    whose: &str,
    notices: &mut Vec<String>,
) {
    let has_value = |value: &Value| !matches!(value, Value::Null) && value.as_str() != Some("");
    for (key, _) in object.iter().filter(|(key, value)| !known.contains(&key.as_str()) && has_value(value)) {
        let key = truncate(key);
        notices.push(format!("{}: '{key}' of {whose} is not imported: unknown to wontun", file.display()));
    }
}

fn write_clients(text: &mut SecretText, clients: &[Client], notices: &mut Vec<String>) {
    let mut names = UniqueNames::default();
    for client in clients {
        let name = names.unique(&client.name);
        let name = name.as_ref().map(ToString::to_string);
        match &name {
            Some(name) if *name != client.name => notices.push(rename_notice(&client.name, name)),
            Some(_) => {}
            None => notices.push(format!(
                "{} has no name that can be used: 'wontun peer rename KEY NAME' gives one",
                client.json_path
            )),
        }
        let label = name.as_deref().unwrap_or(&client.json_path);
        let comment = if client.is_enabled {
            text.push(b"\n");
            if client.expires {
                notices.push(format!(
                    "'{label}' has an expiry date, which wontun does not support: remove the peer with 'wontun peer remove'"
                ));
            }
            ""
        } else {
            notices.push(format!(
                "'{label}' was disabled in wg-easy: it is in the file as a comment, and cannot connect"
            ));
            text.push(b"\n# Disabled in wg-easy. To let this client in, take the first \"# \" of the lines below away.\n");
            "# "
        };
        // writing to memory does not fail
        let _ = writeln!(text, "{comment}{}", Section::Peer);
        if let Some(name) = name {
            let _ = writeln!(text, "{comment}# Name = {name}");
        }
        let _ = writeln!(text, "{comment}{} = {}", Field::PublicKey, client.public_key);
        if let Some(key) = &client.preshared_key {
            let _ = writeln!(text, "{comment}{} = {}", Field::PresharedKey, *key.to_base64());
        }
        let _ = writeln!(text, "{comment}{} = {}", Field::AllowedIps, host(client.address));
    }
}

/// A JSON value whose strings are wiped on drop.
struct Json(Value);

impl Drop for Json {
    fn drop(&mut self) {
        wipe(&mut self.0);
    }
}

/// Wipes all strings. The recursion is limited to 128 levels by the parser.
fn wipe(value: &mut Value) {
    match value {
        Value::String(text) => text.zeroize(),
        Value::Array(items) => items.iter_mut().for_each(wipe),
        Value::Object(object) => object.values_mut().for_each(wipe),
        _ => {}
    }
}

fn syntax(file: &Path, error: &serde_json::Error) -> ImportError {
    let what = match error.classify() {
        Category::Eof => "it ends too early".to_owned(),
        _ => error.to_string(),
    };
    ImportError::Json { file: file.to_owned(), line: error.line(), what }
}

/// A position in the JSON.
#[derive(Clone, Debug)]
struct Location<'a> {
    file: &'a Path,
    path: String,
}

/// An object and its position.
struct Object<'a> {
    at: Location<'a>,
    object: &'a Map<String, Value>,
}

impl<'a> Object<'a> {
    /// Returns the value of `key`, or `None` if it is missing, null or empty, and its position.
    fn get(&self, key: &str) -> (Option<&'a Value>, Location<'a>) {
        let has_value = |value: &&Value| !matches!(value, Value::Null) && value.as_str() != Some("");
        let (dot, key_shown) = (if self.at.path.is_empty() { "" } else { "." }, truncate(key));
        let at = Location { file: self.at.file, path: format!("{}{dot}{key_shown}", self.at.path) };
        (self.object.get(key).filter(has_value), at)
    }
}

impl<'a> Location<'a> {
    fn object(self, value: Option<&'a Value>) -> Result<Object<'a>, ImportError> {
        match value {
            Some(Value::Object(object)) => Ok(Object { at: self, object }),
            other => Err(self.value(&kind(other), "an object, as wg-easy's wg0.json has one there")),
        }
    }

    fn key<K: FromStr<Err = KeyError>>(&self, value: Option<&Value>) -> Result<K, ImportError> {
        let Some(text) = text_of(value) else {
            return Err(self.value(&kind(value), "a key in base64"));
        };
        let key = |source| ImportError::Key { file: self.file.to_owned(), path: self.path.clone(), source };
        text.parse().map_err(key)
    }

    fn value(&self, found: &str, expected: &'static str) -> ImportError {
        let path = if self.path.is_empty() { "the whole" } else { &self.path };
        ImportError::Value {
            file: self.file.to_owned(),
            path: path.to_owned(),
            found: found.to_owned(),
            expected,
        }
    }
}

fn text_of(value: Option<&Value>) -> Option<&str> {
    value.and_then(Value::as_str)
}

/// Returns a description of a value, which may be a misplaced secret.
fn kind(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "nothing".to_owned(),
        Some(Value::Bool(value)) => value.to_string(),
        Some(Value::Number(_)) => "a number".to_owned(),
        Some(Value::String(text)) => format!("a text of {} characters", text.chars().count()),
        Some(Value::Array(_)) => "a list".to_owned(),
        Some(Value::Object(_)) => "an object".to_owned(),
    }
}

fn truncate(key: &str) -> String {
    let start: String = key.chars().take(MAX_SHOWN).collect();
    start.escape_debug().to_string()
}
