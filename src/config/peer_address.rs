//! Address of a server: `192.0.2.1:19988`, `[2001:db8::1]:19988` or `vpn.example.com:19988`. The
//! port is optional.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::str::FromStr;

use idna::AsciiDenyList;
use idna::uts46::{DnsLength, Hyphens, Uts46};

/// Default UDP port of both sides.
pub(crate) const DEFAULT_PLAIN_PORT: u16 = 19_988;
/// Usual UDP port of WireGuard.
pub(crate) const DEFAULT_WIREGUARD_PORT: u16 = 51_820;

/// Maximum length of a DNS name in its textual form (RFC 1035, section 3.1).
const MAX_NAME: usize = 253;

/// A server's address or host name, and its UDP port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerAddress {
    /// A socket address.
    Socket(SocketAddr),
    /// A host name to resolve.
    Name {
        /// Host name.
        host: String,
        /// UDP port.
        port: u16,
    },
}

/// Error of parsing a [`PeerAddress`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerAddressError {
    /// The host is missing or invalid.
    #[error(
        "'{0}' is not a host: expected a name, an IPv4 address or an IPv6 address in brackets, then ':PORT'"
    )]
    Host(String),
    /// An internationalized name that is not in its ASCII form.
    #[error("'{name}' has characters that are not valid in DNS: write its ASCII form, {ascii}")]
    International {
        /// The name as given.
        name: String,
        /// The ASCII form of the name.
        ascii: String,
    },
    /// The part after the colon is not a UDP port.
    #[error("'{0}' is not a UDP port: expected a number from 1 to 65535")]
    Port(String),
    /// A link-local address without an interface.
    #[error("{0} is link-local and needs its interface: write [{0}%eth0]")]
    NoScope(IpAddr),
    /// An unspecified, multicast or broadcast address.
    #[error("{0} is not a host address: expected the address of the server")]
    NoHost(IpAddr),
}

impl PeerAddress {
    /// Parses a text as [`FromStr`] does, with `port` as the default port.
    ///
    /// # Errors
    /// [`PeerAddressError`] with the invalid part and what was expected.
    pub fn parse_with_port(text: &str, port: u16) -> Result<Self, PeerAddressError> {
        let bare_address = text.parse::<IpAddr>().ok();
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if bare_address.is_none() && !text.ends_with(']') => (host, parse_port(port)?),
            _ => (text, port),
        };
        let bracketed = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let address = match bracketed {
            Some(inner) => parse_scoped(inner, port),
            None => host.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip.to_canonical(), port)),
        };
        if let Some(address) = address {
            let ip = address.ip();
            if let SocketAddr::V6(v6) = address
                && v6.ip().is_unicast_link_local()
                && v6.scope_id() == 0
            {
                return Err(PeerAddressError::NoScope(ip));
            }
            let broadcast = ip == IpAddr::from([255; 4]);
            return if ip.is_unspecified() || ip.is_multicast() || broadcast {
                Err(PeerAddressError::NoHost(ip))
            } else {
                Ok(Self::Socket(address))
            };
        }
        // digits and dots alone are an invalid address, not a name
        let numeric = host.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        if is_name(host) && !numeric {
            return Ok(Self::Name { host: host.to_owned(), port });
        }
        let name = host.escape_debug().to_string();
        Err(match ascii_form(host) {
            Some(ascii) => PeerAddressError::International { name, ascii },
            None => PeerAddressError::Host(name),
        })
    }
}

/// Returns true if the name is valid in DNS or a hosts file.
fn is_name(host: &str) -> bool {
    let possible = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    (1..=MAX_NAME).contains(&host.len()) && host.bytes().all(possible)
}

/// Returns the ASCII form (UTS 46) of a name with non-ASCII letters, or `None` if it has no valid
/// one.
fn ascii_form(host: &str) -> Option<String> {
    if host.is_ascii() || host.len() > MAX_NAME * 4 {
        return None;
    }
    let ascii = Uts46::new()
        .to_ascii(host.as_bytes(), AsciiDenyList::EMPTY, Hyphens::Allow, DnsLength::VerifyAllowRootDot)
        .ok()?;
    Some(ascii.into_owned()).filter(|ascii| is_name(ascii))
}

impl FromStr for PeerAddress {
    type Err = PeerAddressError;

    fn from_str(text: &str) -> Result<Self, PeerAddressError> {
        Self::parse_with_port(text, DEFAULT_PLAIN_PORT)
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(address) => address.fmt(f),
            Self::Name { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

/// Parses an IPv6 address with an optional interface name or index: `fe80::1%eth0`.
fn parse_scoped(text: &str, port: u16) -> Option<SocketAddr> {
    let (address, scope) = match text.split_once('%') {
        Some((address, scope)) => {
            (address, scope.parse().ok().or_else(|| nix::net::if_::if_nametoindex(scope).ok())?)
        }
        None => (text, 0),
    };
    let address: Ipv6Addr = address.parse().ok()?;
    Some(match address.to_ipv4_mapped() {
        Some(v4) => SocketAddr::new(v4.into(), port),
        None => SocketAddrV6::new(address, port, 0, scope).into(),
    })
}

fn parse_port(text: &str) -> Result<u16, PeerAddressError> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    match text.parse() {
        Ok(port) if port > 0 && digits => Ok(port),
        _ => Err(PeerAddressError::Port(text.escape_debug().to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(text: &str) -> String {
        text.parse::<PeerAddress>().map_or_else(|error| error.to_string(), |peer| peer.to_string())
    }

    #[test]
    fn addresses_and_names_with_and_without_a_port() {
        for (text, expected) in [
            ("172.18.0.2:19988", "172.18.0.2:19988"),
            ("172.18.0.2", "172.18.0.2:19988"),
            ("[2001:db8::1]:51820", "[2001:db8::1]:51820"),
            ("[2001:db8::1]", "[2001:db8::1]:19988"),
            ("2001:db8::1", "[2001:db8::1]:19988"),
            ("[fe80::1%3]:7", "[fe80::1%3]:7"),
            ("[fe80::1%lo]:7", "[fe80::1%1]:7"),
            ("[::ffff:192.0.2.1]:7", "192.0.2.1:7"),
            ("::ffff:192.0.2.1", "192.0.2.1:19988"),
            ("vpn.example.com:443", "vpn.example.com:443"),
            ("server", "server:19988"),
        ] {
            assert_eq!(shown(text), expected);
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, part) in [
            ("", "'' is not a host"),
            (":19988", "'' is not a host"),
            ("server:", "'' is not a UDP port"),
            ("server:0", "'0' is not a UDP port"),
            ("server:+1", "'+1' is not a UDP port"),
            ("server:65536", "'65536'"),
            ("0.0.0.0:1", "not a host address"),
            ("[::]:1", "not a host address"),
            ("224.0.0.1:1", "not a host address"),
            ("255.255.255.255:1", "not a host address"),
            ("[fe80::1]:1", "[fe80::1%eth0]"),
            ("fe80::1", "[fe80::1%eth0]"),
            ("[fe80::1%no-such-link]:1", "not a host"),
            ("10.0.0.256:1", "not a host"),
            ("two words:1", "not a host"),
            ("[server]:1", "not a host"),
            ("b\u{fc}cher.example:1", "ASCII form, xn--bcher-kva.example"),
            ("B\u{dc}CHER.example", "ASCII form, xn--bcher-kva.example"),
            // the same in decomposed form
            ("bu\u{308}cher.example:1", "ASCII form, xn--bcher-kva.example"),
            (
                "\u{441}\u{435}\u{440}\u{432}\u{435}\u{440}.\u{43f}\u{440}\u{438}\u{43c}\u{435}\u{440}:1",
                "xn--b1afb6bcb.xn--e1afmkfd",
            ),
            ("vpn.\u{4f8b}\u{5b50}.\u{6d4b}\u{8bd5}:1", "vpn.xn--fsqu00a.xn--0zwm56d"),
            // a zero-width space, as copied from web pages
            ("b\u{200b}.example:1", "ASCII form, b.example"),
            ("b\u{fc} cher@.example:1", "not a host"),
            ("\u{2028}:1", "not a host"),
        ] {
            let said = shown(text);
            assert!(said.contains(part), "{text}: {said}");
        }
    }

    proptest! {
        #[test]
        fn printed_and_read_again(ip: IpAddr, port in 1u16..) {
            let address = PeerAddress::Socket(SocketAddr::new(ip, port));
            match address.to_string().parse::<PeerAddress>() {
                Ok(read) => prop_assert_eq!(read, PeerAddress::Socket(SocketAddr::new(ip.to_canonical(), port))),
                Err(PeerAddressError::NoHost(refused) | PeerAddressError::NoScope(refused)) => {
                    prop_assert_eq!(refused, ip.to_canonical());
                }
                Err(error) => prop_assert!(false, "{}", error),
            }
        }

        #[test]
        fn any_text_is_answered_in_one_line(text in "\\PC{0,40}|[\\[\\]:.0-9a-f%\n]{0,40}") {
            prop_assert!(!shown(&text).contains('\n'));
        }
    }
}
