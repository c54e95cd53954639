//! The name servers for clients.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// Addresses of name servers; may be empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientDns(Vec<IpAddr>);

/// Error of parsing a list of name servers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a name server: expected {expected}", expected = ClientDns::EXPECTED)]
pub struct ClientDnsError(String);

impl ClientDns {
    /// Description of a list of name servers.
    pub(super) const EXPECTED: &str = "IP addresses separated by commas, or 'none'";

    /// Returns the default name servers of clients with a full tunnel: those of Quad9, whose
    /// foundation stores no addresses. The name server of the client's own network is seldom
    /// reachable through the tunnel.
    pub fn public() -> Self {
        let v6 = Ipv6Addr::new(0x2620, 0xfe, 0, 0, 0, 0, 0, 0xfe);
        Self(vec![Ipv4Addr::new(9, 9, 9, 9).into(), v6.into()])
    }

    /// Returns an empty list.
    pub const fn none() -> Self {
        Self(Vec::new())
    }

    /// Returns those with IPv4 addresses, or all if none has one.
    pub fn without_ipv6(self) -> Self {
        let ipv4: Vec<_> = self.0.iter().copied().filter(IpAddr::is_ipv4).collect();
        if ipv4.is_empty() { self } else { Self(ipv4) }
    }

    /// Returns the addresses, the preferred one first.
    pub fn addresses(&self) -> &[IpAddr] {
        &self.0
    }
}

impl FromIterator<IpAddr> for ClientDns {
    fn from_iter<I: IntoIterator<Item = IpAddr>>(addresses: I) -> Self {
        Self(addresses.into_iter().collect())
    }
}

impl fmt::Display for ClientDns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((first, rest)) = self.0.split_first() else { return f.write_str("none") };
        write!(f, "{first}")?;
        rest.iter().try_for_each(|address| write!(f, ", {address}"))
    }
}

impl FromStr for ClientDns {
    type Err = ClientDnsError;

    fn from_str(text: &str) -> Result<Self, ClientDnsError> {
        if text == "none" {
            return Ok(Self::none());
        }
        let address = |item: &str| {
            let item = item.trim();
            item.parse().map_err(|_| ClientDnsError(item.escape_debug().to_string()))
        };
        text.split(',').map(address).collect::<Result<_, _>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lists_and_none() {
        assert_eq!("none".parse(), Ok(ClientDns::none()));
        assert_eq!("9.9.9.9,2620:fe::fe".parse(), Ok(ClientDns::public()));
        assert_eq!(ClientDns::public().to_string(), "9.9.9.9, 2620:fe::fe");
        for text in ["", "9.9.9.9,", "dns.example.com", "9.9.9.9 1.1.1.1", "9.9.9.9\n1.1.1.1"] {
            let error = text.parse::<ClientDns>().unwrap_err().to_string();
            assert!(error.contains("not a name server") && !error.contains('\n'), "{text:?}: {error:?}");
        }
    }

    proptest! {
        #[test]
        fn printed_and_read_again(addresses in proptest::collection::vec(any::<IpAddr>(), 0..4)) {
            let dns = ClientDns(addresses);
            prop_assert_eq!(dns.to_string().parse(), Ok(dns));
        }
    }
}
