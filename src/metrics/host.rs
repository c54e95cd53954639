//! Checks the `Host` field of a request (RFC 9110 section 7.2) against DNS rebinding: a web page
//! whose host name is made to resolve to this server could read the metrics through its visitor's
//! browser, which sends that name.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

/// Maximum length of a host name in characters.
const MAX_LENGTH: usize = 253;

/// A host name accepted in requests, in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostName(String);

impl HostName {
    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Error: the text is no valid host name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a host name: expected letters, digits, '-', '_' and '.', without a port")]
pub struct HostNameError(String);

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for HostName {
    type Err = HostNameError;

    fn from_str(text: &str) -> Result<Self, HostNameError> {
        let name = text.strip_suffix('.').unwrap_or(text);
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if name.is_empty() || name.len() > MAX_LENGTH || !name.bytes().all(is_plain) {
            return Err(HostNameError(text.to_owned()));
        }
        Ok(Self(name.to_ascii_lowercase()))
    }
}

/// Classification of a request's host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HostCheck {
    /// This server.
    Accepted,
    /// A name that is not accepted.
    Foreign,
    /// The header is malformed.
    Malformed,
}

/// Host names accepted in requests, besides addresses and `localhost`.
#[derive(Clone, Debug, Default)]
pub(super) struct HostNames(Vec<HostName>);

impl HostNames {
    pub(super) const fn new(names: Vec<HostName>) -> Self {
        Self(names)
    }

    /// Classifies the value of a `Host` field. Any address is accepted, even one translated by NAT:
    /// a page loaded from elsewhere cannot have an address as its name.
    pub(super) fn classify(&self, value: &[u8]) -> HostCheck {
        let Ok(value) = std::str::from_utf8(value) else { return HostCheck::Malformed };
        let (host, port) = match value.trim().rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, port),
            _ => (value.trim(), ""),
        };
        if !port.bytes().all(|byte| byte.is_ascii_digit()) {
            return HostCheck::Malformed;
        }
        if let Some(address) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            return if address.parse::<Ipv6Addr>().is_ok() {
                HostCheck::Accepted
            } else {
                HostCheck::Malformed
            };
        }
        let Ok(name) = host.parse::<HostName>() else { return HostCheck::Malformed };
        let is_address = host.parse::<std::net::Ipv4Addr>().is_ok();
        if is_address || name.0 == "localhost" || self.0.contains(&name) {
            HostCheck::Accepted
        } else {
            HostCheck::Foreign
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn addresses_localhost_and_the_names_that_are_allowed_are_this_server() {
        let names = HostNames::new(vec!["VPN.example.".parse().unwrap()]);
        for own in [
            "127.0.0.1",
            "127.0.0.1:9586",
            "10.8.0.1:1",
            "[::1]",
            "[2001:db8::1]:9586",
            "localhost",
            "LocalHost:9586",
            "vpn.example:9586",
            "Vpn.Example.",
        ] {
            assert_eq!(names.classify(own.as_bytes()), HostCheck::Accepted, "{own}");
        }
        for foreign in [
            "evil.example",
            "vpn.example.evil.example:9586",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "1.2.3",
            "0x7f.1",
            "wontun",
        ] {
            assert_eq!(names.classify(foreign.as_bytes()), HostCheck::Foreign, "{foreign}");
        }
        for malformed in [
            "",
            ":80",
            "a b",
            "[::1",
            "[127.0.0.1]",
            "::1",
            "a:b",
            "a@b",
            "http://a/",
            "a,b",
            "[::1]x",
            "a:80:80",
        ] {
            assert_eq!(names.classify(malformed.as_bytes()), HostCheck::Malformed, "{malformed}");
        }
        assert_eq!(names.classify(b"\xff"), HostCheck::Malformed);
    }

    proptest! {
        #[test]
        fn no_other_name_is_this_server(name in "[a-z0-9.-]{0,20}[a-z]") {
            prop_assume!(name != "localhost");
            prop_assert!(HostNames::default().classify(name.as_bytes()) != HostCheck::Accepted);
        }
    }
}
