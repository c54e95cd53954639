//! Checks the `Host` field of a request (RFC 9110 section 7.2) against DNS rebinding: a web page
//! whose name is made to resolve to this server has that name there, not an address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::config::{AdminName, AdminProxy};

/// The hosts that requests may name: the addresses of the listeners and `localhost`, with any port,
/// since `ssh -L` has a port of its own, and given names; and the proxy that may pass them on.
#[derive(Clone, Debug, Default)]
pub struct Hosts {
    addresses: Vec<IpAddr>,
    names: Vec<AdminName>,
    proxy: Option<AdminProxy>,
}

impl Hosts {
    /// Creates the list from the addresses of the listeners, of which one that is unspecified
    /// stands for all of this host.
    pub const fn new(addresses: Vec<IpAddr>) -> Self {
        Self { addresses, names: Vec::new(), proxy: None }
    }

    /// Adds names and addresses by which browsers reach this server.
    pub fn with_names(self, names: Vec<AdminName>) -> Self {
        Self { names, ..self }
    }

    /// Adds a proxy that serves these names by HTTPS.
    pub fn with_proxy(self, proxy: Option<AdminProxy>) -> Self {
        Self { proxy, ..self }
    }

    /// Returns the value of a `Host` field in lower case, if it names this server.
    pub(super) fn accept(&self, value: &[u8]) -> Option<String> {
        let value = std::str::from_utf8(value).ok()?.trim();
        let (host, port) = split(value);
        if let Some(port) = port {
            let is_number = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
            port.parse::<u16>().ok().filter(|_| is_number)?;
        }
        let is_own = match address(host) {
            // a page loaded from elsewhere has no address as its name
            Some(address) => {
                let is_any = |own: &IpAddr| *own == address || own.is_unspecified();
                address.is_loopback() || self.addresses.iter().any(is_any) || self.is_name(value)
            }
            None => host.eq_ignore_ascii_case("localhost") || self.is_name(value),
        };
        is_own.then(|| value.to_ascii_lowercase())
    }

    /// Returns true if a `Host` field has one of the given names.
    pub(super) fn is_name(&self, value: &str) -> bool {
        let (host, _) = split(value);
        let address = address(host);
        self.names.iter().any(|name| match name {
            AdminName::Dns(name) => name.eq_ignore_ascii_case(host),
            AdminName::Address(name) => Some(*name) == address,
        })
    }

    /// Returns the name of the field in which the proxy gives the browser's address.
    pub(super) fn proxy_field(&self) -> Option<&str> {
        self.proxy.as_ref().map(|proxy| proxy.field.as_str())
    }

    /// Returns true if connections from `address` are the proxy's.
    pub(super) fn is_proxy(&self, address: IpAddr) -> bool {
        self.proxy.as_ref().is_some_and(|proxy| proxy.address.to_canonical() == address)
    }
}

/// Splits a host from its port.
fn split(value: &str) -> (&str, Option<&str>) {
    match value.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (value, None),
    }
}

/// Parses the address of a host: one of IPv6 is in brackets.
fn address(host: &str) -> Option<IpAddr> {
    match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(v6) => v6.parse::<Ipv6Addr>().ok().map(IpAddr::from),
        None => host.parse::<Ipv4Addr>().ok().map(IpAddr::from),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn given_names_are_accepted_and_any_address_of_a_host_that_listens_at_all() {
        let names = ["vpn.example.com", "203.0.113.5"].map(|name| name.parse().unwrap());
        let hosts = Hosts::new(vec!["10.8.0.1".parse().unwrap()]).with_names(names.to_vec());
        for own in ["VPN.example.com", "vpn.example.com:8443", "203.0.113.5:8443", "10.8.0.1"] {
            assert_eq!(hosts.accept(own.as_bytes()), Some(own.to_ascii_lowercase()), "{own}");
        }
        for other in ["www.vpn.example.com", "vpn.example.com.", "192.0.2.1", "[::1]x"] {
            assert_eq!(hosts.accept(other.as_bytes()), None, "{other}");
        }
        let all = Hosts::new(vec!["0.0.0.0".parse().unwrap()]);
        assert!(all.accept(b"192.0.2.1:8443").is_some() && all.accept(b"evil.example").is_none());
    }

    #[test]
    fn own_addresses_and_localhost_are_accepted() {
        let hosts = Hosts::new(vec!["10.8.0.1".parse().unwrap(), "fd00::1".parse().unwrap()]);
        for own in ["10.8.0.1", "10.8.0.1:8080", "[fd00::1]", "[fd00::1]:80", "LocalHost:51821", "127.0.0.1"]
        {
            assert_eq!(hosts.accept(own.as_bytes()), Some(own.to_ascii_lowercase()), "{own}");
        }
        for other in [
            "",
            ":80",
            "evil.example",
            "10.8.0.1.evil.example",
            "10.8.0.2",
            "192.0.2.1:80",
            "fd00::1",
            "[::2]",
            "localhost.evil.example",
            "10.8.0.1:",
            "10.8.0.1:x",
            "10.8.0.1:99999",
            "a@localhost",
            "0x7f.1",
        ] {
            assert_eq!(hosts.accept(other.as_bytes()), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn no_name_but_localhost_is_accepted(name in "[a-z0-9.-]{0,20}[a-z]") {
            prop_assume!(name != "localhost");
            prop_assert_eq!(Hosts::default().accept(name.as_bytes()), None);
        }
    }
}
