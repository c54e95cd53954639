//! Parses single lines of a `set=1` request.

use std::net::SocketAddr;
use std::str::FromStr;

use subtle::ConstantTimeEq;

use super::changes::{AllowedIpChange, Changes, PeerChanges};
use super::error::{RequestErrorKind, describe, describe_secret};
use super::hex;
use crate::config::{PeerAddress, PeerName};
use wontun_proto::allowed_ips::Prefix;
use wontun_proto::wireguard::{KEY_LEN, PresharedKey, PrivateKey, PublicKey};

const DEVICE_KEYS: &str = "private_key, listen_port, fwmark, replace_peers, wontun_kill_switch, public_key";
const PEER_KEYS: &str = "public_key, remove, update_only, wontun_forget_timestamp, name, preshared_key, endpoint, \
    persistent_keepalive_interval, replace_allowed_ips, allowed_ip, protocol_version";

/// Applies one line of a `set=1` to `changes`. If several lines set the same value, the last one
/// wins.
pub(super) fn apply(changes: &mut Changes, line: &[u8]) -> Result<(), RequestErrorKind> {
    let equals = line.iter().position(|&b| b == b'=').ok_or(RequestErrorKind::NoValue)?;
    let (key, value) = line.split_at(equals);
    let value = value.get(1..).unwrap_or_default();
    if key == b"public_key" {
        changes.peers.push(PeerChanges::new(public_key(value)?));
        return Ok(());
    }
    match changes.peers.last_mut() {
        Some(peer) => apply_to_peer(peer, key, value),
        None => apply_to_interface(changes, key, value),
    }
}

fn apply_to_interface(changes: &mut Changes, key: &[u8], value: &[u8]) -> Result<(), RequestErrorKind> {
    match key {
        b"private_key" => changes.private_key = Some(private_key(value)?),
        b"listen_port" => {
            changes.listen_port = Some(number("listen_port", value, "a UDP port from 0 to 65535")?);
        }
        b"fwmark" => changes.fwmark = Some(number("fwmark", value, "a number from 0 to 4294967295")?),
        b"wontun_kill_switch" => {
            changes.kill_switch = Some(match value {
                b"on" => true,
                b"off" => false,
                _ => return Err(wrong("wontun_kill_switch", value, "on or off")),
            });
        }
        b"replace_peers" => changes.replace_peers = is_true("replace_peers", value)?,
        _ => return Err(unknown(key, "of the interface", DEVICE_KEYS)),
    }
    Ok(())
}

fn apply_to_peer(peer: &mut PeerChanges, key: &[u8], value: &[u8]) -> Result<(), RequestErrorKind> {
    match key {
        b"remove" => peer.remove = is_true("remove", value)?,
        b"update_only" => peer.update_only = is_true("update_only", value)?,
        b"wontun_forget_timestamp" => peer.forget_timestamp = is_true("wontun_forget_timestamp", value)?,
        b"name" => peer.name = Some(name(value)?),
        b"preshared_key" => peer.preshared_key = Some(preshared_key(value)?),
        b"endpoint" => peer.endpoint = Some(endpoint(value)?),
        b"persistent_keepalive_interval" => {
            let seconds = "a number of seconds from 0 to 65535";
            peer.persistent_keepalive = Some(number("persistent_keepalive_interval", value, seconds)?);
        }
        b"replace_allowed_ips" => {
            peer.replace_allowed_ips = is_true("replace_allowed_ips", value)?;
            // changes of earlier lines are dropped too
            peer.allowed_ips.clear();
        }
        b"allowed_ip" => peer.allowed_ips.push(allowed_ip(value)?),
        b"protocol_version" if value == b"1" => {}
        b"protocol_version" => return Err(wrong("protocol_version", value, "1")),
        _ => return Err(unknown(key, "of a peer", PEER_KEYS)),
    }
    Ok(())
}

fn wrong(key: &'static str, value: &[u8], expected: &'static str) -> RequestErrorKind {
    RequestErrorKind::Value { key, found: describe(value), expected }
}

fn wrong_key(key: &'static str, value: &[u8]) -> RequestErrorKind {
    RequestErrorKind::Value { key, found: describe_secret(value), expected: "64 hexadecimal digits" }
}

fn unknown(key: &[u8], place: &'static str, expected: &'static str) -> RequestErrorKind {
    RequestErrorKind::UnknownKey { found: describe(key), place, expected }
}

fn private_key(value: &[u8]) -> Result<Option<PrivateKey>, RequestErrorKind> {
    let bytes = hex::decode(value).ok_or_else(|| wrong_key("private_key", value))?;
    let is_none: bool = bytes.ct_eq(&[0; KEY_LEN]).into();
    Ok((!is_none).then(|| PrivateKey::from_bytes(&bytes)))
}

fn preshared_key(value: &[u8]) -> Result<PresharedKey, RequestErrorKind> {
    let bytes = hex::decode(value).ok_or_else(|| wrong_key("preshared_key", value))?;
    Ok(PresharedKey::from_bytes(*bytes))
}

/// Parses `name`, an extension used by `wontun peer` to announce changes of the file. An empty
/// value removes the name.
fn name(value: &[u8]) -> Result<Option<PeerName>, RequestErrorKind> {
    if value.is_empty() {
        return Ok(None);
    }
    let parsed = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
    parsed.map(Some).ok_or_else(|| wrong("name", value, "1 to 64 visible characters"))
}

/// Parses a public key. A wrong value is not shown: it may be a private key pasted by mistake.
fn public_key(value: &[u8]) -> Result<PublicKey, RequestErrorKind> {
    let bytes = hex::decode(value).ok_or_else(|| wrong_key("public_key", value))?;
    Ok(PublicKey::from_bytes(*bytes))
}

/// Parses decimal digits only: Rust's own parsers accept a sign.
fn number<N: FromStr>(
    key: &'static str,
    value: &[u8],
    expected: &'static str,
) -> Result<N, RequestErrorKind> {
    decimal(value).ok_or_else(|| wrong(key, value, expected))
}

fn decimal<N: FromStr>(value: &[u8]) -> Option<N> {
    let text = std::str::from_utf8(value).ok()?;
    text.parse().ok().filter(|_| value.iter().all(u8::is_ascii_digit))
}

fn is_true(key: &'static str, value: &[u8]) -> Result<bool, RequestErrorKind> {
    if value == b"true" { Ok(true) } else { Err(wrong(key, value, "true")) }
}

/// Parses an address with its port. Host names are not resolved here: `wg` has done so.
fn endpoint(value: &[u8]) -> Result<SocketAddr, RequestErrorKind> {
    let expected = "the address and port of one host, such as 192.0.2.1:51820 or [fe80::1%eth0]:51820";
    let parsed = std::str::from_utf8(value).ok().and_then(|text| {
        // an IPv6 address needs brackets, and every address a port
        let has_port = match text.strip_prefix('[') {
            Some(rest) => rest.contains("]:"),
            None => text.split(':').count() == 2,
        };
        if !has_port {
            return None;
        }
        match text.parse() {
            Ok(PeerAddress::Socket(address)) => Some(address),
            _ => None,
        }
    });
    parsed.ok_or_else(|| wrong("endpoint", value, expected))
}

/// Parses a network; a leading `-` removes it. Host bits are cleared.
fn allowed_ip(value: &[u8]) -> Result<AllowedIpChange, RequestErrorKind> {
    let (remove, network) = match value.strip_prefix(b"-") {
        Some(network) => (true, network),
        None => (false, value),
    };
    let parsed = std::str::from_utf8(network).ok().and_then(|text| {
        let (address, length) = text.split_once('/')?;
        Prefix::new(address.parse().ok()?, decimal(length.as_bytes())?)
    });
    parsed
        .map(|prefix| AllowedIpChange { prefix, remove })
        .ok_or_else(|| wrong("allowed_ip", value, "a network such as 10.0.0.0/8 or fd00::/8"))
}
