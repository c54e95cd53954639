//! The address that clients connect to.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use crate::config::{DEFAULT_WIREGUARD_PORT, PeerAddress, PeerAddressError};

/// The server's public name or address, and its UDP port; the default port is 51820.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientEndpoint(PeerAddress);

/// Error of parsing a [`ClientEndpoint`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientEndpointError {
    /// Not a name or an address.
    #[error(transparent)]
    Address(#[from] PeerAddressError),
    /// A link-local address: its interface has another name on each host.
    #[error("'{0}' is link-local, which is only valid on one link: give a name or another address")]
    LinkLocal(String),
}

impl ClientEndpoint {
    /// Returns the UDP port.
    pub const fn port(&self) -> u16 {
        match &self.0 {
            PeerAddress::Socket(address) => address.port(),
            PeerAddress::Name { port, .. } => *port,
        }
    }
}

impl fmt::Display for ClientEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for ClientEndpoint {
    type Err = ClientEndpointError;

    fn from_str(text: &str) -> Result<Self, ClientEndpointError> {
        match PeerAddress::parse_with_port(text, DEFAULT_WIREGUARD_PORT) {
            Ok(PeerAddress::Socket(SocketAddr::V6(v6))) if v6.ip().is_unicast_link_local() => {
                Err(ClientEndpointError::LinkLocal(text.escape_debug().to_string()))
            }
            Err(PeerAddressError::NoScope(ip)) => Err(ClientEndpointError::LinkLocal(ip.to_string())),
            other => Ok(Self(other?)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_port_it_is_51820() {
        for (text, expected) in [
            ("vpn.example.com", "vpn.example.com:51820"),
            ("vpn.example.com:443", "vpn.example.com:443"),
            ("192.0.2.1", "192.0.2.1:51820"),
            ("192.0.2.1:1", "192.0.2.1:1"),
            ("2001:db8::1", "[2001:db8::1]:51820"),
            ("[2001:db8::1]", "[2001:db8::1]:51820"),
            ("[2001:db8::1]:443", "[2001:db8::1]:443"),
        ] {
            let endpoint: ClientEndpoint = text.parse().unwrap();
            assert_eq!(endpoint.to_string(), expected);
            assert_eq!(endpoint.to_string().parse(), Ok(endpoint));
        }
    }

    #[test]
    fn what_no_client_can_use_is_refused() {
        for text in ["", "fe80::1", "[fe80::1%lo]:1", "0.0.0.0", "vpn.example.com:0", "two words", "a\nb"] {
            let error = text.parse::<ClientEndpoint>().unwrap_err().to_string();
            assert!(!error.contains('\n'), "{error}");
        }
    }
}
