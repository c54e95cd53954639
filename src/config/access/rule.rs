//! Rules with resolved targets.

use crate::config::peer_settings::{Ports, Protocol};
use wontun_proto::allowed_ips::Prefix;

/// A rule of a list: what it matches, and its verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Rule {
    /// The other end of the connection: the destination in a list for connections from a peer, the
    /// source in one for connections to it.
    pub(crate) remote: Remote,
    /// The protocol; `None` for all, or, with ports, for TCP and UDP.
    pub(crate) protocol: Option<Protocol>,
    /// The destination ports; `None` for all.
    pub(crate) ports: Option<Ports>,
    pub(crate) is_allowed: bool,
}

/// The other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Remote {
    Any,
    /// The server itself, by any of its addresses.
    Server,
    /// Addresses that are reached through the tunnel.
    Tunnel,
    /// Private addresses that are not reached through the tunnel.
    Lan,
    /// Global addresses that are not reached through the tunnel.
    Internet,
    Network(Prefix),
    /// Anybody, by a port forward of this server.
    Forwarded,
}

impl Rule {
    pub(crate) const DENY_ALL: Self = Self::all(false);
    pub(crate) const ALLOW_ALL: Self = Self::all(true);

    const fn all(is_allowed: bool) -> Self {
        Self::about(Remote::Any, is_allowed)
    }

    /// Returns a rule for all protocols and ports.
    pub(crate) const fn about(remote: Remote, is_allowed: bool) -> Self {
        Self { remote, protocol: None, ports: None, is_allowed }
    }

    /// Returns true if the rule can match packets of that family.
    pub(crate) fn is_of_family(&self, v6: bool) -> bool {
        match self.remote {
            Remote::Network(network) => network.network().is_ipv6() == v6,
            _ => true,
        }
    }
}
