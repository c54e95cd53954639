//! Checks the `Host` field of a request (RFC 9110 section 7.2) against DNS rebinding: a web page
//! whose name is made to resolve to this server has that name there, not an address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The hosts that requests may name: the addresses of the listeners and `localhost`, with any port,
/// since `ssh -L` has a port of its own.
#[derive(Clone, Debug, Default)]
pub struct Hosts(Vec<IpAddr>);

impl Hosts {
    /// Creates the list from the addresses of the listeners.
    pub const fn new(addresses: Vec<IpAddr>) -> Self {
        Self(addresses)
    }

    /// Returns the value of a `Host` field in lower case, if it names this server.
    pub(super) fn accept(&self, value: &[u8]) -> Option<String> {
        let value = std::str::from_utf8(value).ok()?.trim();
        let (host, port) = match value.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, Some(port)),
            _ => (value, None),
        };
        if let Some(port) = port {
            let is_number = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
            port.parse::<u16>().ok().filter(|_| is_number)?;
        }
        let address = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(v6) => v6.parse::<Ipv6Addr>().ok().map(IpAddr::from),
            None => host.parse::<Ipv4Addr>().ok().map(IpAddr::from),
        };
        let is_own = match address {
            Some(address) => address.is_loopback() || self.0.contains(&address),
            None => host.eq_ignore_ascii_case("localhost"),
        };
        is_own.then(|| value.to_ascii_lowercase())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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
