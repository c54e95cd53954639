//! Messages between a program and its resolver process. The limits are checked on both sides: a
//! message beyond them is invalid.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::messages::Address;

/// Maximum length of a DNS name in bytes, in text form.
pub const MAX_HOST: usize = 253;
/// Maximum number of addresses in an answer; further ones are dropped.
pub const MAX_ADDRESSES: usize = 16;
/// Maximum number of name servers given by the user.
pub const MAX_SERVERS: usize = 4;
/// Maximum number of name servers behind the tunnel.
pub const MAX_TUNNEL_SERVERS: usize = 32;
/// Maximum length of an error's text in bytes; the rest is cut off.
pub const MAX_TEXT: usize = 400;

/// A message to the resolver process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToResolver {
    /// The first message.
    Start {
        /// True to use seccomp and Landlock.
        is_sandboxed: bool,
    },
    /// A name to look up. Its descriptors, if any, are sockets for queries to name servers, marked
    /// if necessary, and /etc/resolv.conf.
    LookUp {
        /// The name.
        host: QueryHost,
        /// The port of the resulting addresses.
        port: u16,
        /// Name servers apart from those of the system.
        servers: Servers,
        /// Name of a tunnel whose own name servers in /etc/resolv.conf are not queried, but the
        /// previous ones: they are behind the tunnel.
        tunnel: Option<QueryHost>,
    },
}

/// A message from the resolver process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromResolver {
    /// The process is confined, and answers requests.
    Ready,
    /// The process cannot confine itself, and ends.
    NotReady(ErrorMessage),
    /// The addresses of a name; requests are answered in their order.
    Addresses(Addresses),
    /// The name could not be looked up.
    Failed(ErrorMessage),
}

/// A name, or a literal address without brackets: 1 to [`MAX_HOST`] bytes without a NUL.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct QueryHost(String);

/// At most [`MAX_SERVERS`] name servers given by the user, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<IpAddr>")]
pub struct NameServers(Vec<IpAddr>);

/// Name servers apart from those of the system.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Servers {
    /// Those that are queried first.
    pub first: NameServers,
    /// Those behind the tunnel, which may be down: they are queried last.
    pub behind: TunnelServers,
}

/// At most [`MAX_TUNNEL_SERVERS`] name servers behind the tunnel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<IpAddr>")]
pub struct TunnelServers(Vec<IpAddr>);

/// At most [`MAX_ADDRESSES`] addresses in order of preference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Address>")]
pub struct Addresses(Vec<Address>);

/// The text of an error, at most [`MAX_TEXT`] bytes long.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct ErrorMessage(String);

/// Error: a value exceeds its limit, or a host is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} of {length} bytes or addresses, where at most {limit} are allowed")]
pub struct LimitError {
    what: &'static str,
    length: usize,
    limit: usize,
}

impl TryFrom<String> for QueryHost {
    type Error = LimitError;

    fn try_from(host: String) -> Result<Self, LimitError> {
        if (1..=MAX_HOST).contains(&host.len()) && !host.contains('\0') {
            Ok(Self(host))
        } else {
            Err(LimitError { what: "a host name", length: host.len(), limit: MAX_HOST })
        }
    }
}

impl TryFrom<Vec<IpAddr>> for NameServers {
    type Error = LimitError;

    fn try_from(servers: Vec<IpAddr>) -> Result<Self, LimitError> {
        if servers.len() <= MAX_SERVERS {
            Ok(Self(servers))
        } else {
            Err(LimitError { what: "a list of name servers", length: servers.len(), limit: MAX_SERVERS })
        }
    }
}

impl TryFrom<Vec<IpAddr>> for TunnelServers {
    type Error = LimitError;

    fn try_from(servers: Vec<IpAddr>) -> Result<Self, LimitError> {
        let (what, length, limit) = ("a list of name servers", servers.len(), MAX_TUNNEL_SERVERS);
        if length <= limit { Ok(Self(servers)) } else { Err(LimitError { what, length, limit }) }
    }
}

impl TryFrom<Vec<Address>> for Addresses {
    type Error = LimitError;

    fn try_from(addresses: Vec<Address>) -> Result<Self, LimitError> {
        if addresses.len() <= MAX_ADDRESSES {
            Ok(Self(addresses))
        } else {
            Err(LimitError { what: "an answer", length: addresses.len(), limit: MAX_ADDRESSES })
        }
    }
}

impl TryFrom<String> for ErrorMessage {
    type Error = LimitError;

    fn try_from(text: String) -> Result<Self, LimitError> {
        if text.len() <= MAX_TEXT {
            Ok(Self(text))
        } else {
            Err(LimitError { what: "a text", length: text.len(), limit: MAX_TEXT })
        }
    }
}

impl QueryHost {
    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl NameServers {
    /// Returns the addresses.
    pub fn as_slice(&self) -> &[IpAddr] {
        &self.0
    }
}

impl TunnelServers {
    /// Returns the first [`MAX_TUNNEL_SERVERS`] of the addresses.
    pub fn first_of(servers: &[IpAddr]) -> Self {
        Self(servers.iter().copied().take(MAX_TUNNEL_SERVERS).collect())
    }

    /// Returns the addresses.
    pub fn as_slice(&self) -> &[IpAddr] {
        &self.0
    }
}

impl Addresses {
    /// Returns the first [`MAX_ADDRESSES`] distinct addresses.
    pub fn first_of(addresses: impl IntoIterator<Item = SocketAddr>) -> Self {
        let mut first = Vec::new();
        for address in addresses.into_iter().map(Address::from) {
            if first.len() < MAX_ADDRESSES && !first.contains(&address) {
                first.push(address);
            }
        }
        Self(first)
    }

    /// Returns the addresses.
    pub fn into_vec(self) -> Vec<SocketAddr> {
        self.0.into_iter().map(SocketAddr::from).collect()
    }
}

impl ErrorMessage {
    /// Returns the first [`MAX_TEXT`] bytes of a text.
    pub fn cut(mut text: String) -> Self {
        let end = (0..=MAX_TEXT.min(text.len())).rev().find(|&end| text.is_char_boundary(end));
        text.truncate(end.unwrap_or(0));
        Self(text)
    }

    /// Returns the text.
    pub fn into_string(self) -> String {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::{decode, encode};

    #[test]
    fn what_is_beyond_a_limit_is_no_message() {
        let address = Address::from("[2001:db8::1%7]:9".parse::<SocketAddr>().unwrap());
        let lookup = |host: &str| ToResolver::LookUp {
            host: QueryHost(host.to_owned()),
            port: 1,
            servers: Servers::default(),
            tunnel: None,
        };
        let asking = |count| ToResolver::LookUp {
            host: QueryHost("a".to_owned()),
            port: 1,
            servers: Servers {
                first: NameServers(vec![IpAddr::from([192, 0, 2, 53]); count]),
                behind: TunnelServers(vec![IpAddr::from([10, 0, 0, 53]); MAX_TUNNEL_SERVERS]),
            },
            tunnel: None,
        };
        assert_eq!(decode::<ToResolver>(&encode(&asking(MAX_SERVERS)).unwrap()), Ok(asking(MAX_SERVERS)));
        assert!(decode::<ToResolver>(&encode(&asking(MAX_SERVERS + 1)).unwrap()).is_err());
        let answer = |count| FromResolver::Addresses(Addresses(vec![address; count]));
        let text = |count| FromResolver::Failed(ErrorMessage("x".repeat(count)));
        for host in ["a", &"a".repeat(MAX_HOST)] {
            assert_eq!(decode::<ToResolver>(&encode(&lookup(host)).unwrap()), Ok(lookup(host)));
        }
        for host in ["", "a\0b", &"a".repeat(MAX_HOST + 1)] {
            assert!(decode::<ToResolver>(&encode(&lookup(host)).unwrap()).is_err(), "{host:?}");
        }
        for (good, bad) in
            [(answer(0), answer(MAX_ADDRESSES + 1)), (answer(MAX_ADDRESSES), text(MAX_TEXT + 1))]
        {
            assert_eq!(decode::<FromResolver>(&encode(&good).unwrap()), Ok(good));
            assert!(decode::<FromResolver>(&encode(&bad).unwrap()).is_err());
        }
    }

    #[test]
    fn too_much_is_cut_off() {
        let many = (0..300).map(|port| SocketAddr::from(([192, 0, 2, 1], port / 2)));
        let kept = Addresses::first_of(many).into_vec();
        assert_eq!((kept.len(), kept[1].port()), (MAX_ADDRESSES, 1));
        assert_eq!(ErrorMessage::cut("é".repeat(1000)).into_string(), "é".repeat(MAX_TEXT / 2));
        assert_eq!(ErrorMessage::cut(format!("a{}", "é".repeat(1000))).into_string().len(), MAX_TEXT - 1);
    }
}
