//! Port forwards.

use std::fmt;
use std::num::NonZeroU16;
use std::str::FromStr;

use super::Protocol;

const EXPECTED: &str =
    "PORT/tcp or PORT/udp of the server, with '=PORT' for another port of the peer: 8443/tcp=443";

/// A port of the server whose connections lead to a port of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PortForward {
    /// [`Protocol::Tcp`] or [`Protocol::Udp`].
    pub protocol: Protocol,
    /// Port of the server.
    pub port: NonZeroU16,
    /// Port of the peer.
    pub to: NonZeroU16,
}

impl PortForward {
    /// Returns true if both are of the same port of the server.
    pub fn is_same_port(&self, other: &Self) -> bool {
        (self.protocol, self.port) == (other.protocol, other.port)
    }
}

impl FromStr for PortForward {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let (from, to) = match text.split_once('=') {
            Some((from, to)) => (from.trim(), Some(to.trim())),
            None => (text, None),
        };
        let (port, protocol) = from.split_once('/').ok_or(EXPECTED)?;
        let protocol = Protocol::named(protocol).filter(|protocol| *protocol != Protocol::Icmp);
        let port: NonZeroU16 = port.parse().map_err(|_| EXPECTED)?;
        let to = to.map_or(Ok(port), str::parse).map_err(|_| EXPECTED)?;
        Ok(Self { protocol: protocol.ok_or(EXPECTED)?, port, to })
    }
}

impl fmt::Display for PortForward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.port, self.protocol)?;
        if self.to == self.port { Ok(()) } else { write!(f, "={}", self.to) }
    }
}
