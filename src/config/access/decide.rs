//! Evaluation of the rules for a connection.

use std::net::IpAddr;

use super::groups::Groups;
use super::rule::{Remote, Rule};
use super::rules::{AccessRules, ListNumber, PeerNumber, Sides};
use crate::config::peer_settings::Protocol;
use wontun_packet::transport::{TCP, UDP};

const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

/// A connection that is opened; its addresses and port are those after address translation of the
/// destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Connection {
    pub(crate) source: Host,
    pub(crate) destination: Host,
    /// The protocol's number; [`Protocol::number`].
    pub(crate) protocol: u8,
    /// Destination port; 0 for a protocol without ports.
    pub(crate) port: u16,
    /// True if this host has translated the destination.
    pub(crate) is_forwarded: bool,
}

/// An end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Host {
    pub(crate) address: IpAddr,
    /// True if it is the server itself.
    pub(crate) is_server: bool,
}

/// The way to an end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Server,
    Tunnel,
    Outside,
}

impl Protocol {
    /// Returns the protocol's number in packets of that family.
    pub(crate) const fn number(self, v6: bool) -> u8 {
        match self {
            Self::Tcp => TCP,
            Self::Udp => UDP,
            Self::Icmp => {
                if v6 {
                    ICMPV6
                } else {
                    ICMP
                }
            }
        }
    }
}

impl AccessRules {
    /// Returns true if the connection may be opened.
    pub(crate) fn decide(&self, connection: &Connection) -> bool {
        let from = self.peer_lists(connection.source).map(|(_, sides)| sides.from);
        let to = self.peer_lists(connection.destination).map(|(_, sides)| sides.to);
        from.is_none_or(|list| self.allows(list, connection, connection.destination))
            && to.is_none_or(|list| self.allows(list, connection, connection.source))
    }

    /// Returns the lists for an end that is reached through the tunnel, and the peer.
    pub(super) fn peer_lists(&self, host: Host) -> Option<(Option<PeerNumber>, Sides)> {
        if self.place(host) != Place::Tunnel {
            return None;
        }
        let owner = self.owners.lookup(host.address).flatten();
        let own = owner.and_then(|number| self.own.get(&number));
        let retired = || {
            let is_retired = self.retired.iter().any(|prefix| prefix.contains(host.address));
            (is_retired && self.owners.lookup(host.address).is_none()).then(|| self.denied_lists()).flatten()
        };
        Some((owner, own.copied().or_else(retired).unwrap_or(self.policy_lists)))
    }

    fn place(&self, host: Host) -> Place {
        let is_tunnel = || {
            self.owners.lookup(host.address).is_some()
                || self.networks.iter().any(|network| network.contains(host.address))
        };
        match host.is_server {
            true => Place::Server,
            false if is_tunnel() => Place::Tunnel,
            false => Place::Outside,
        }
    }

    fn allows(&self, list: ListNumber, connection: &Connection, remote: Host) -> bool {
        let found = self.list(list).iter().find(|rule| self.matches(rule, connection, remote));
        found.is_some_and(|rule| rule.is_allowed)
    }

    pub(super) fn matches(&self, rule: &Rule, connection: &Connection, remote: Host) -> bool {
        let is_outside = || self.place(remote) == Place::Outside;
        let is_remote = match rule.remote {
            Remote::Any => true,
            Remote::Server => remote.is_server,
            Remote::Tunnel => self.place(remote) == Place::Tunnel,
            Remote::Lan => is_outside() && Groups::contain(&self.groups.lan, remote.address),
            Remote::Internet => is_outside() && !Groups::contain(&self.groups.not_internet, remote.address),
            Remote::Network(network) => network.contains(remote.address),
            Remote::Forwarded => connection.is_forwarded,
        };
        let is_protocol = match (rule.protocol, rule.ports) {
            (Some(protocol), _) => connection.protocol == protocol.number(remote.address.is_ipv6()),
            (None, Some(_)) => matches!(connection.protocol, TCP | UDP),
            (None, None) => true,
        };
        is_remote && is_protocol && rule.ports.is_none_or(|ports| ports.range().contains(&connection.port))
    }
}
