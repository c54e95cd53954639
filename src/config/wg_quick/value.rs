//! Parses the values of single keys.

use std::fmt::Write as _;
use std::num::{NonZeroU16, NonZeroU32};
use std::path::PathBuf;
use std::str::FromStr;

use zeroize::Zeroizing;

use super::error::{ErrorKind, describe_secret};
use super::field::Field;
use super::{KeySource, Table};
use crate::config::invalid_value::describe;
use crate::config::{Cidr, PeerAddress, PeerAddressError, WIREGUARD_MTU};
use wontun_proto::allowed_ips::Prefix;
use wontun_proto::wireguard::PublicKey;

/// Returns true for white space as `wg` and `wg-quick` see it, which includes the vertical tab.
pub const fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t'..='\r')
}

/// Removes all white space, as `wg` does for its own keys.
pub(super) fn without_spaces(text: &str) -> Zeroizing<String> {
    let mut compact = Zeroizing::new(String::with_capacity(text.len()));
    compact.extend(text.chars().filter(|&c| !is_space(c)));
    compact
}

fn wrong(field: Field, value: &str) -> ErrorKind {
    ErrorKind::Value { field, found: describe(value), expected: field.expected().into() }
}

/// Parses decimal digits only; Rust's own parsers accept a sign.
fn decimal<N: FromStr>(text: &str) -> Option<N> {
    text.parse().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()))
}

/// Parses a decimal number, or a hexadecimal one after `0x`.
fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(digits) if digits.bytes().all(|b| b.is_ascii_hexdigit()) => u32::from_str_radix(digits, 16).ok(),
        Some(_) => None,
        None => decimal(text),
    }
}

fn is_off(text: &str) -> bool {
    text.eq_ignore_ascii_case("off")
}

/// Parses a secret key. The error does not contain the value.
pub(super) fn secret<K: FromStr>(field: Field, text: &str) -> Result<KeySource<K>, ErrorKind> {
    let compact = without_spaces(text);
    compact.parse().map(KeySource::Inline).map_err(|_| ErrorKind::Value {
        field,
        found: describe_secret(&compact),
        expected: field.expected().into(),
    })
}

/// Parses the path of a key file. Rejects a key in its place, which would otherwise end up in the
/// error about a missing file.
pub(super) fn secret_file<K>(field: Field, text: &str) -> Result<KeySource<K>, ErrorKind> {
    let found = if text.is_empty() {
        "nothing"
    } else if without_spaces(text).parse::<PublicKey>().is_ok() {
        "the key itself"
    } else {
        return Ok(KeySource::File(PathBuf::from(text)));
    };
    Err(ErrorKind::Value { field, found: found.to_owned(), expected: field.expected().into() })
}

/// Parses a public key. The error does not contain the value, which may be a private key pasted by
/// mistake.
pub(super) fn public_key(text: &str) -> Result<PublicKey, ErrorKind> {
    let field = Field::PublicKey;
    let compact = without_spaces(text);
    compact.parse().map_err(|_| ErrorKind::Value {
        field,
        found: describe_secret(&compact),
        expected: field.expected().into(),
    })
}

pub(super) fn listen_port(text: &str) -> Result<Option<NonZeroU16>, ErrorKind> {
    decimal(&without_spaces(text)).map(NonZeroU16::new).ok_or_else(|| wrong(Field::ListenPort, text))
}

pub(super) fn fwmark(text: &str) -> Result<Option<NonZeroU32>, ErrorKind> {
    let compact = without_spaces(text);
    let mark = if is_off(&compact) { Some(0) } else { number(&compact) };
    mark.map(NonZeroU32::new).ok_or_else(|| wrong(Field::FwMark, text))
}

/// Parses an MTU. An empty value is the default, as in `wg-quick`.
pub(super) fn mtu(text: &str) -> Result<Option<u32>, ErrorKind> {
    if text.is_empty() {
        return Ok(None);
    }
    decimal(text).filter(|mtu| WIREGUARD_MTU.contains(mtu)).map(Some).ok_or_else(|| wrong(Field::Mtu, text))
}

/// Parses a routing table. An empty value is the default, as in `wg-quick`, which passes any other
/// text to `ip`; only the table names that every host has are known here.
pub(super) fn table(text: &str) -> Result<Table, ErrorKind> {
    let named = match text.to_ascii_lowercase().as_str() {
        "" | "auto" => return Ok(Table::Auto),
        "off" => return Ok(Table::Off),
        "default" => Some(253),
        "main" => Some(254),
        "local" => Some(255),
        other => number(other),
    };
    named.and_then(NonZeroU32::new).map(Table::Number).ok_or_else(|| wrong(Field::Table, text))
}

/// Splits a list as `wg-quick` does: at commas, white space or both.
pub(crate) fn items(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c| c == ',' || is_space(c)).filter(|item| !item.is_empty())
}

pub(super) fn address(item: &str) -> Result<Cidr, ErrorKind> {
    item.parse().map_err(|_| wrong(Field::Address, item))
}

/// Parses a network. Returns it as written, possibly with host bits, and without them.
pub(super) fn allowed_ip(item: &str) -> Result<(Cidr, Prefix), ErrorKind> {
    let given: Option<Cidr> = item.parse().ok();
    let both = given.and_then(|cidr| Some((cidr, Prefix::new(cidr.address(), cidr.prefix())?)));
    both.ok_or_else(|| wrong(Field::AllowedIps, item))
}

pub(super) fn persistent_keepalive(text: &str) -> Result<Option<NonZeroU16>, ErrorKind> {
    let compact = without_spaces(text);
    let seconds = if is_off(&compact) { Some(0) } else { decimal(&compact) };
    seconds.map(NonZeroU16::new).ok_or_else(|| wrong(Field::PersistentKeepalive, text))
}

/// Parses the endpoint of a peer. As in `wg`, the port is required, and an IPv6 address before it
/// needs no brackets.
pub(super) fn endpoint(text: &str) -> Result<PeerAddress, ErrorKind> {
    let field = Field::Endpoint;
    let compact = without_spaces(text);
    let (host, port) = compact.rsplit_once(':').ok_or_else(|| wrong(field, text))?;
    let bracketed = host.starts_with('[') && host.ends_with(']');
    let bare_v6 = host.parse::<std::net::Ipv6Addr>().is_ok();
    if decimal::<u16>(port).is_none() || (host.contains(':') && !bracketed && !bare_v6) {
        return Err(wrong(field, text));
    }
    let mut address = String::with_capacity(compact.len() + 2);
    let (open, close) = if bare_v6 { ("[", "]") } else { ("", "") };
    let _ = write!(address, "{open}{host}{close}:{port}");
    address.parse().map_err(|error| {
        let expected = match error {
            PeerAddressError::NoScope(ip) => {
                format!("the interface of a link-local address too, such as [{ip}%eth0]:{port}").into()
            }
            PeerAddressError::International { ascii, .. } => {
                format!("the name's ASCII form, which DNS has: {ascii}:{port}").into()
            }
            PeerAddressError::NoHost(_) => "the address of one host".into(),
            PeerAddressError::Host(_) | PeerAddressError::Port(_) => field.expected().into(),
        };
        ErrorKind::Value { field, found: describe(text), expected }
    })
}

/// Parses `SaveConfig`.
pub(super) fn save_config(text: &str) -> Result<bool, ErrorKind> {
    match text.to_ascii_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(wrong(Field::SaveConfig, text)),
    }
}
