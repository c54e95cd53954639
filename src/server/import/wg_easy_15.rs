//! Translates the database of wg-easy 15, as `sqlite3 -json` prints its tables: a list of rows for
//! each, whose columns tell which table it is.
//!
//! ```json
//! [{"name":"wg0","port":51820,"private_key":"…","ipv4_cidr":"10.8.0.0/24","ipv6_cidr":"…","mtu":1420}]
//! [{"id":"wg0","default_dns":"[\"1.1.1.1\"]","default_allowed_ips":"[\"0.0.0.0/0\"]","host":"…","port":51820}]
//! [{"name":"phone","ipv4_address":"10.8.0.2","public_key":"…","server_allowed_ips":"[]","enabled":1}]
//! ```
//!
//! An empty table prints nothing. The clients' private keys are not imported.

use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU16;

use serde_json::{Deserializer, Value};

use super::error::ImportError;
use super::json::{Json, Location, Object, kind, syntax, text_of};
use super::options::Import;
use super::translation::Translation;
use super::wg_easy_client::{Client, check_duplicates, expiry, name, networks, peers};
use crate::config::peer_settings::{ClientSettings, PeerSettings};
use crate::config::wg_quick::{Interface, KeySource, PrivateKey, Table, WgQuick};
use crate::config::{Cidr, ClientDns, Network};
use crate::server::ClientEndpoint;
use crate::uapi::SecretText;
use wontun_proto::allowed_ips::Prefix;

/// Columns that tell the tables.
const INTERFACES: (&str, &str) = ("interfaces_table", "ipv4_cidr");
const CONFIGS: (&str, &str) = ("user_configs_table", "default_allowed_ips");
const CLIENTS: (&str, &str) = ("clients_table", "ipv4_address");

/// Returns true if the text may be such tables.
pub(super) fn is_tables(text: &[u8]) -> bool {
    let text = text.trim_ascii_start();
    text.strip_prefix(b"[").is_some_and(|rest| rest.trim_ascii_start().starts_with(b"{"))
}

/// Translates the tables in `text`.
pub(super) fn translate(import: &Import, text: &[u8]) -> Result<Translation, ImportError> {
    let mut tables = Vec::new();
    for table in Deserializer::from_slice(text).into_iter() {
        tables.push(Json(table.map_err(|error| syntax(&import.source, &error))?));
    }
    let rows = |(table, column): (&'static str, &str)| -> Result<Vec<Object<'_>>, ImportError> {
        let has_column = |row: &&Value| row.get(column).is_some();
        let all = tables.iter().filter_map(|Json(table)| table.as_array()).flatten().filter(has_column);
        let at = |index| Location { file: &import.source, path: format!("{table}[{index}]") };
        all.enumerate().map(|(index, row)| at(index).object(Some(row))).collect()
    };
    let whole = Location { file: &import.source, path: String::new() };
    let interfaces = rows(INTERFACES)?;
    let Some(interface) = interfaces.first() else {
        return Err(whole.value("no row of interfaces_table", "the tables of wg-easy 15"));
    };
    let mut notices = Vec::new();
    if let [_, _, ..] = interfaces[..] {
        return Err(whole.value("several interfaces", "those of one: add WHERE to the queries"));
    }
    let configs = rows(CONFIGS)?;
    let defaults = configs.first();
    let mut found = Vec::new();
    for client in &rows(CLIENTS)? {
        found.push(read_client(client, defaults, &mut notices)?);
    }
    found.sort_by(|a, b| (&a.addresses, &a.json_path).cmp(&(&b.addresses, &b.json_path)));

    let (private_key, at) = interface.get("private_key");
    let private_key: PrivateKey = at.key(private_key)?;
    let mut addresses = Vec::new();
    for (key, is_needed) in [("ipv4_cidr", true), ("ipv6_cidr", false)] {
        let (value, at) = interface.get(key);
        match text_of(value).and_then(|text| text.parse().ok()).and_then(first_host) {
            Some(address) => addresses.push(address),
            None if value.is_none() && !is_needed => {}
            None => return Err(at.value(&kind(value), "a network, such as 10.8.0.0/24")),
        }
    }
    let (port, at) = interface.get("port");
    let port = number(port).and_then(|port| NonZeroU16::new(u16::try_from(port).ok()?));
    let port = port.ok_or_else(|| at.value("no UDP port", "a port from 1 to 65535"))?;
    let (mtu, _) = interface.get("mtu");
    let mtu = number(mtu).and_then(|mtu| u32::try_from(mtu).ok()).filter(|mtu| *mtu >= 1280);
    let hosts: Vec<_> = addresses.iter().map(|cidr: &Cidr| cidr.address()).collect();
    check_duplicates(&import.source, &found, &private_key.public_key(), &hosts, &mut notices)?;
    let interface = Interface {
        private_key: KeySource::Inline(private_key),
        listen_port: Some(port),
        fwmark: None,
        addresses,
        mtu,
        table: Table::Auto,
        dns: Vec::new(),
    };
    let mut text = SecretText::default();
    text.push(b"# Made by 'wontun import' of wg-easy's database; wg-quick reads this file too. 'wontun peer add NAME' adds a\n");
    text.push(b"# client. Edit it as you like: wontun keeps what it does not know.\n");
    text.push(WgQuick { interface, peers: peers(found, &mut notices) }.to_text().as_bytes());
    notices.sort();
    notices.dedup();
    let endpoint = defaults.and_then(endpoint);
    let dns = defaults.and_then(|defaults| dns(defaults, "default_dns").ok().flatten());
    Ok(Translation { text: text.into_inner(), notices, endpoint, dns })
}

fn read_client(
    client: &Object<'_>,
    defaults: Option<&Object<'_>>,
    notices: &mut Vec<String>,
) -> Result<Client, ImportError> {
    let mut addresses: Vec<IpAddr> = Vec::new();
    for (key, is_needed) in [("ipv4_address", true), ("ipv6_address", false)] {
        let (value, at) = client.get(key);
        match text_of(value).and_then(|text| text.parse().ok()) {
            Some(address) => addresses.push(address),
            None if value.is_none() && !is_needed => {}
            None => return Err(at.value(&kind(value), "an IP address, such as 10.8.0.2")),
        }
    }
    let (public_key, at) = client.get("public_key");
    let public_key = at.key(public_key)?;
    let (preshared_key, at) = client.get("pre_shared_key");
    let preshared_key = preshared_key.map(|key| at.key(Some(key))).transpose()?;
    let (enabled, at) = client.get("enabled");
    let is_enabled = match enabled {
        Some(Value::Bool(enabled)) => *enabled,
        other => match number(other) {
            Some(enabled) => enabled != 0,
            None => return Err(at.value(&kind(other), "0 or 1")),
        },
    };
    let (expires, at) = client.get("expires_at");
    let expires = expiry(expires, &at)?;
    let sites = list(client, "server_allowed_ips")?;
    let (value, at) = client.get("server_endpoint");
    let address = |value| text_of(Some(value)).filter(|text| has_port(text))?.parse().ok();
    let parsed = value.map(address);
    let endpoint =
        parsed.map(|parsed| parsed.ok_or_else(|| at.value(&kind(value), "an address with a port")));
    let settings = PeerSettings {
        is_disabled: !is_enabled,
        expires,
        client: client_settings(client, defaults, notices)?,
        ..PeerSettings::NONE
    };
    if client.get("firewall_ips").0.is_some_and(|rules| text_of(Some(rules)) != Some("[]")) {
        notices.push(format!(
            "{}: firewall_ips, what the client may reach, is not imported: give it rules with 'wontun peer set'",
            client.at.path
        ));
    }
    Ok(Client {
        json_path: client.at.path.clone(),
        name: name(client)?,
        addresses,
        sites,
        public_key,
        preshared_key,
        endpoint: endpoint.transpose()?,
        settings,
    })
}

/// Returns what the client's own file is made of.
fn client_settings(
    client: &Object<'_>,
    defaults: Option<&Object<'_>>,
    notices: &mut Vec<String>,
) -> Result<ClientSettings, ImportError> {
    let own = list(client, "allowed_ips")?;
    let routes = match defaults {
        Some(defaults) if own.is_empty() => list(defaults, "default_allowed_ips")?,
        _ => own,
    };
    let mut dns_of = |client| {
        dns(client, "dns").unwrap_or_else(|()| {
            notices.push(format!(
                "{}: dns has other entries than addresses, and is not imported",
                client.at.path
            ));
            None
        })
    };
    let mtu = number(client.get("mtu").0).filter(|mtu| *mtu != DEFAULT_MTU);
    let keepalive =
        number(client.get("persistent_keepalive").0).filter(|seconds| *seconds != DEFAULT_KEEPALIVE);
    Ok(ClientSettings {
        has_unknown_routes: routes.is_empty(),
        routes: routes.into_iter().map(Network::from).collect(),
        dns: dns_of(client),
        mtu: mtu.and_then(|mtu| mtu.to_string().parse().ok()),
        keepalive: keepalive.and_then(|seconds| seconds.to_string().parse().ok()),
    })
}

/// MTU and keepalive interval that a client's file has anyway.
const DEFAULT_MTU: u64 = 1420;
const DEFAULT_KEEPALIVE: u64 = 25;

/// Returns the address that clients connect to.
fn endpoint(defaults: &Object<'_>) -> Option<ClientEndpoint> {
    let host = text_of(defaults.get("host").0)?;
    let port = number(defaults.get("port").0)?;
    let host =
        if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.to_owned() };
    format!("{host}:{port}").parse().ok()
}

/// Returns the name servers in a column; an error if other entries are among them.
fn dns(row: &Object<'_>, key: &str) -> Result<Option<ClientDns>, ()> {
    let value = decoded(row.get(key).0);
    let Some(items) = value.as_ref().and_then(|Json(value)| value.as_array()) else { return Ok(None) };
    let texts: Option<Vec<_>> = items.iter().map(|item| text_of(Some(item))).collect();
    let texts = texts.ok_or(())?;
    if texts.is_empty() { Ok(None) } else { texts.join(",").parse().map(Some).map_err(drop) }
}

/// Returns the networks in a column.
fn list(row: &Object<'_>, key: &str) -> Result<Vec<Prefix>, ImportError> {
    let (value, at) = row.get(key);
    let value = decoded(value);
    networks(value.as_ref().map(|Json(value)| value).filter(|value| !value.is_null()), &at)
}

/// Returns the value of a column with JSON, which is a text in the table.
fn decoded(value: Option<&Value>) -> Option<Json> {
    let value = value?;
    let parsed = text_of(Some(value)).and_then(|text| serde_json::from_str(text).ok());
    Some(Json(parsed.unwrap_or_else(|| value.clone())))
}

/// Returns true if an address has a port: without one it would get that of plain tunnels.
fn has_port(text: &str) -> bool {
    let port = text.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
    matches!(port, Some(Ok(_))) && text.parse::<Ipv6Addr>().is_err()
}

fn number(value: Option<&Value>) -> Option<u64> {
    value.and_then(Value::as_u64)
}

/// Returns the server's address in its network: the first one, as wg-easy has it.
fn first_host(network: Cidr) -> Option<Cidr> {
    let prefix = Prefix::of(network.address(), network.prefix());
    let address = match prefix.network() {
        IpAddr::V4(first) => IpAddr::from(first.to_bits().checked_add(1)?.to_be_bytes()),
        IpAddr::V6(first) => IpAddr::from(first.to_bits().checked_add(1)?.to_be_bytes()),
    };
    prefix.contains(address).then(|| Cidr::new(address, network.prefix())).flatten()
}
