//! Settings of a client's own file.

use std::fmt;
use std::str::FromStr;

use crate::config::{ClientDns, Network, WIREGUARD_MTU};

/// The values of a client's file besides the keys, the addresses and the server's networks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientSettings {
    /// Networks that the client sends through the tunnel, besides those of the server.
    pub routes: Vec<Network>,
    /// True if the routes are not known here: the client was imported, and its file was made
    /// elsewhere.
    pub has_unknown_routes: bool,
    /// Name servers of the client; `None` for those of the server's file.
    pub dns: Option<ClientDns>,
    /// MTU of the client's device; `None` for the default.
    pub mtu: Option<ClientMtu>,
    /// Interval of the client's keepalives; `None` for the default.
    pub keepalive: Option<ClientKeepalive>,
}

impl ClientSettings {
    /// Settings of a file with nothing special.
    pub(super) const NONE: Self =
        Self { routes: Vec::new(), has_unknown_routes: false, dns: None, mtu: None, keepalive: None };
}

/// An MTU in bytes that WireGuard's packets have room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientMtu(u32);

impl ClientMtu {
    /// Returns the number of bytes.
    pub const fn bytes(self) -> u32 {
        self.0
    }
}

impl FromStr for ClientMtu {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        decimal(text)
            .filter(|mtu| WIREGUARD_MTU.contains(mtu))
            .map(Self)
            .ok_or("a number of bytes from 68 to 65475, for IPv6 at least 1280")
    }
}

impl fmt::Display for ClientMtu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An interval of keepalives in seconds; 0 for none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientKeepalive(u16);

impl Default for ClientKeepalive {
    /// Returns the usual interval. It keeps the NAT mapping of the client open, so that others can
    /// reach it.
    fn default() -> Self {
        Self(25)
    }
}

impl ClientKeepalive {
    /// Returns the number of seconds; 0 for no keepalives.
    pub const fn seconds(self) -> u16 {
        self.0
    }
}

impl FromStr for ClientKeepalive {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let seconds = if text.eq_ignore_ascii_case("off") { Some(0) } else { decimal(text) };
        seconds.map(Self).ok_or("'off' or a number of seconds from 0 to 65535")
    }
}

impl fmt::Display for ClientKeepalive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 { f.write_str("off") } else { self.0.fmt(f) }
    }
}

/// Parses decimal digits only; Rust's own parsers accept a sign.
fn decimal<N: FromStr>(text: &str) -> Option<N> {
    text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
}
