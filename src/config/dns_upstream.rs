//! Name servers that the peers' queries are forwarded to.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use base64ct::{Base64, Encoding as _};
use rustls::pki_types::{DnsName, ServerName};
use serde::{Deserialize, Serialize};

/// Ports of DNS, and of DNS over TLS (RFC 7858).
const PLAIN_PORT: u16 = 53;
const TLS_PORT: u16 = 853;
/// Maximum number of name servers.
const MAX_UPSTREAMS: usize = 16;
const TLS_PREFIX: &str = "tls://";
const PIN_PREFIX: &str = "pin-sha256=";

/// A name server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DnsUpstream {
    /// One that is asked without encryption, at port 53.
    Plain(IpAddr),
    /// One that is asked over TLS.
    Tls(TlsNameServer),
}

/// A name server that is asked over TLS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TlsNameServer {
    /// Its address and port.
    pub address: SocketAddr,
    /// The property by which it is authenticated.
    pub identity: TlsIdentity,
}

/// The property by which a server is authenticated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsIdentity {
    /// A certificate of a known authority, for the server's address or another name.
    Certificate(ServerName<'static>),
    /// The SHA-256 of its public key (`SubjectPublicKeyInfo`), whatever the certificate says.
    KeyHash([u8; 32]),
}

/// Error of parsing a [`DnsUpstream`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DnsUpstreamError {
    /// Not an address.
    #[error(
        "'{0}' is not a name server: expected an IPv4 or IPv6 address, or tls://ADDRESS, tls://ADDRESS:PORT and, \
         after a '#', the name in its certificate"
    )]
    Address(String),
    /// A port without TLS.
    #[error("'{0}' has a port: name servers are asked at port 53, others over TLS only: tls://{0}")]
    Port(SocketAddr),
    /// Not a name.
    #[error("'{0}' is not the name of a certificate: expected a DNS name, or pin-sha256=HASH")]
    Name(String),
    /// Not a hash.
    #[error("'{0}' is not a SHA-256 hash in base64: expected 44 characters, the last one '='")]
    Hash(String),
}

impl fmt::Display for DnsUpstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(address) => address.fmt(f),
            Self::Tls(server) => server.fmt(f),
        }
    }
}

impl FromStr for DnsUpstream {
    type Err = DnsUpstreamError;

    fn from_str(text: &str) -> Result<Self, DnsUpstreamError> {
        if text.starts_with(TLS_PREFIX) {
            return text.parse().map(Self::Tls);
        }
        if let Ok(address) = text.parse::<SocketAddr>() {
            return if address.port() == PLAIN_PORT {
                Ok(Self::Plain(address.ip()))
            } else {
                Err(DnsUpstreamError::Port(address))
            };
        }
        let address = text.parse().map_err(|_| DnsUpstreamError::Address(text.escape_debug().to_string()))?;
        Ok(Self::Plain(address))
    }
}

impl fmt::Display for TlsNameServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            _ if self.address.port() != TLS_PORT => write!(f, "{TLS_PREFIX}{}", self.address)?,
            _ => write!(f, "{TLS_PREFIX}{}", self.address.ip())?,
        }
        match &self.identity {
            TlsIdentity::Certificate(ServerName::DnsName(name)) => write!(f, "#{}", name.as_ref()),
            TlsIdentity::Certificate(_) => Ok(()),
            TlsIdentity::KeyHash(hash) => write!(f, "#{PIN_PREFIX}{}", Base64::encode_string(hash)),
        }
    }
}

impl FromStr for TlsNameServer {
    type Err = DnsUpstreamError;

    fn from_str(text: &str) -> Result<Self, DnsUpstreamError> {
        let invalid = || DnsUpstreamError::Address(text.escape_debug().to_string());
        let rest = text.strip_prefix(TLS_PREFIX).ok_or_else(invalid)?;
        let (server, name) = rest.split_once('#').map_or((rest, None), |(server, name)| (server, Some(name)));
        let in_brackets = server.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let ip = in_brackets.unwrap_or(server).parse::<IpAddr>().ok();
        let address = match ip.filter(|ip| in_brackets.is_none() || ip.is_ipv6()) {
            Some(ip) => SocketAddr::new(ip, TLS_PORT),
            None => server.parse().map_err(|_| invalid())?,
        };
        if address.port() == 0 {
            return Err(invalid());
        }
        let identity = match name.map(|name| (name, name.strip_prefix(PIN_PREFIX))) {
            None => TlsIdentity::Certificate(address.ip().into()),
            Some((_, Some(hash))) => {
                let mut bytes = [0; 32];
                let decoded = Base64::decode(hash, &mut bytes).map(<[u8]>::len);
                if decoded != Ok(bytes.len()) {
                    return Err(DnsUpstreamError::Hash(hash.escape_debug().to_string()));
                }
                TlsIdentity::KeyHash(bytes)
            }
            Some((name, None)) => {
                let invalid = |_| DnsUpstreamError::Name(name.escape_debug().to_string());
                TlsIdentity::Certificate(ServerName::DnsName(
                    DnsName::try_from(name.to_ascii_lowercase()).map_err(invalid)?,
                ))
            }
        };
        Ok(Self { address, identity })
    }
}

impl TryFrom<String> for TlsNameServer {
    type Error = DnsUpstreamError;

    fn try_from(text: String) -> Result<Self, DnsUpstreamError> {
        text.parse()
    }
}

impl From<TlsNameServer> for String {
    fn from(server: TlsNameServer) -> Self {
        server.to_string()
    }
}

/// The name servers of a tunnel, of one kind: a query that is to be encrypted is never sent in
/// another way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "UncheckedUpstreams")]
pub enum DnsUpstreams {
    /// Those of this host.
    #[default]
    Host,
    /// Given ones, which are asked without encryption.
    Plain(Vec<IpAddr>),
    /// Given ones, which are asked over TLS.
    Tls(Vec<TlsNameServer>),
}

#[derive(Deserialize)]
enum UncheckedUpstreams {
    Host,
    Plain(Vec<IpAddr>),
    Tls(Vec<TlsNameServer>),
}

/// Error of a list of name servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DnsUpstreamsError {
    /// Servers with and without TLS.
    #[error(
        "--dns-upstream has name servers with and without tls://: queries would be sent without encryption when \
         the former fail; give only one kind"
    )]
    Mixed,
    /// Too many.
    #[error("--dns-upstream gives {0} name servers: expected at most {MAX_UPSTREAMS}")]
    TooMany(usize),
}

impl TryFrom<Vec<DnsUpstream>> for DnsUpstreams {
    type Error = DnsUpstreamsError;

    fn try_from(servers: Vec<DnsUpstream>) -> Result<Self, DnsUpstreamsError> {
        let (mut plain, mut tls) = (Vec::new(), Vec::new());
        for server in servers {
            match server {
                DnsUpstream::Plain(address) => plain.push(address),
                DnsUpstream::Tls(server) => tls.push(server),
            }
        }
        let unchecked = match (plain.is_empty(), tls.is_empty()) {
            (true, true) => UncheckedUpstreams::Host,
            (false, true) => UncheckedUpstreams::Plain(plain),
            (true, false) => UncheckedUpstreams::Tls(tls),
            (false, false) => return Err(DnsUpstreamsError::Mixed),
        };
        unchecked.try_into()
    }
}

impl TryFrom<UncheckedUpstreams> for DnsUpstreams {
    type Error = DnsUpstreamsError;

    fn try_from(unchecked: UncheckedUpstreams) -> Result<Self, DnsUpstreamsError> {
        let (servers, count) = match unchecked {
            UncheckedUpstreams::Host => (Self::Host, 0),
            UncheckedUpstreams::Plain(servers) => {
                let count = servers.len();
                (Self::Plain(servers), count)
            }
            UncheckedUpstreams::Tls(servers) => {
                let count = servers.len();
                (Self::Tls(servers), count)
            }
        };
        if count <= MAX_UPSTREAMS { Ok(servers) } else { Err(DnsUpstreamsError::TooMany(count)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_written_as_they_are_read() {
        let hash = "mLEVlGZ0jOrpCfTHfsWHCYv1AMPSKEDcqaBXcf3DKeE=";
        let pinned = format!("tls://192.0.2.1:8853#pin-sha256={hash}");
        for text in [
            "9.9.9.9",
            "2620:fe::fe",
            "tls://9.9.9.9",
            "tls://9.9.9.9#dns.quad9.net",
            "tls://2620:fe::fe#dns.quad9.net",
            "tls://[2620:fe::fe]:8853",
            &pinned,
        ] {
            assert_eq!(text.parse::<DnsUpstream>().unwrap().to_string(), text);
        }
        for (text, same) in [
            ("9.9.9.9:53", "9.9.9.9"),
            ("tls://[2620:fe::fe]", "tls://2620:fe::fe"),
            ("tls://9.9.9.9:853#DNS.quad9.net", "tls://9.9.9.9#dns.quad9.net"),
        ] {
            assert_eq!(text.parse::<DnsUpstream>().unwrap().to_string(), same);
        }
    }

    #[test]
    fn others_are_refused() {
        for (text, reason) in [
            ("dns.quad9.net", "is not a name server"),
            ("tls://dns.quad9.net", "is not a name server"),
            ("tls://9.9.9.9:0", "is not a name server"),
            ("tls://[9.9.9.9]", "is not a name server"),
            ("https://9.9.9.9/dns-query", "is not a name server"),
            ("9.9.9.9:853", "tls://9.9.9.9:853"),
            ("tls://9.9.9.9#", "is not the name of a certificate"),
            ("tls://9.9.9.9#dns quad9", "is not the name of a certificate"),
            ("tls://9.9.9.9#pin-sha256=abc", "is not a SHA-256 hash"),
        ] {
            let error = text.parse::<DnsUpstream>().unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn lists_have_one_kind() {
        let list = |texts: &[&str]| {
            let servers: Vec<DnsUpstream> = texts.iter().map(|text| text.parse().unwrap()).collect();
            DnsUpstreams::try_from(servers)
        };
        assert_eq!(list(&[]), Ok(DnsUpstreams::Host));
        assert!(
            matches!(list(&["9.9.9.9", "1.1.1.1"]), Ok(DnsUpstreams::Plain(servers)) if servers.len() == 2)
        );
        assert!(matches!(list(&["tls://9.9.9.9"]), Ok(DnsUpstreams::Tls(servers)) if servers.len() == 1));
        assert_eq!(list(&["tls://9.9.9.9", "9.9.9.9"]), Err(DnsUpstreamsError::Mixed));
        assert_eq!(list(&["tls://9.9.9.9"; 17]), Err(DnsUpstreamsError::TooMany(17)));
    }
}
