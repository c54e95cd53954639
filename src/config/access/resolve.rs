//! Resolution of targets to rules.

use std::collections::HashMap;
use std::net::IpAddr;

use super::rule::{Remote, Rule};
use crate::config::peer_settings::{Destination, PeerSettings, Ports, Protocol, RESPONDER_PORT, Target};
use crate::config::{Cidr, ClientDns, PeerName, PeerPolicy};
use wontun_proto::allowed_ips::Prefix;

/// A rule that names a peer which does not exist.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("a rule of the peer {peer} names the peer {name}, which does not exist: it matches nothing")]
pub(crate) struct UnknownPeer {
    /// The peer that has the rule.
    pub(crate) peer: String,
    /// The name in the rule.
    pub(crate) name: PeerName,
}

/// Resolves the rules of the peers of one server.
#[derive(Debug)]
pub(super) struct Resolver<'a> {
    policy: PeerPolicy,
    /// Name servers of clients without others.
    dns: &'a [IpAddr],
    /// Addresses of the peers, by their names.
    peers: HashMap<PeerName, Vec<Prefix>>,
    unknown: Vec<UnknownPeer>,
    /// The server's addresses in the tunnel.
    server: Vec<IpAddr>,
}

impl<'a> Resolver<'a> {
    pub(super) fn new(policy: PeerPolicy, dns: &'a [IpAddr], peers: HashMap<PeerName, Vec<Prefix>>) -> Self {
        Self { policy, dns, peers, unknown: Vec::new(), server: Vec::new() }
    }

    /// Sets the addresses at which the server enrols devices.
    pub(super) fn set_server(&mut self, addresses: &[Cidr]) {
        self.server = addresses.iter().map(|cidr| cidr.address()).collect();
    }

    /// Returns the rules for connections from an invitation: nothing but the responder.
    pub(super) fn invitation_from(&self) -> Vec<Rule> {
        let responder = self.server.iter().map(|address| Rule {
            protocol: Some(Protocol::Udp),
            ports: Some(Ports::single(RESPONDER_PORT)),
            ..Rule::about(Remote::Network(Prefix::of(*address, host_bits(*address))), true)
        });
        responder.chain([Rule::DENY_ALL]).collect()
    }

    /// Returns the rules for connections from a peer. `name` is its own, for warnings.
    pub(super) fn from(&mut self, settings: &PeerSettings, name: &str) -> Vec<Rule> {
        if settings.invitation.is_some() {
            return self.invitation_from();
        }
        let mut rules = self.targets(&settings.deny, false, settings, name);
        match &settings.allow {
            Some(allow) => {
                rules.extend(self.targets(allow, true, settings, name));
                rules.push(Rule::DENY_ALL);
            }
            None => rules.extend(self.policy_from(settings)),
        }
        rules
    }

    /// Returns the rules for connections to a peer.
    pub(super) fn to(&mut self, settings: &PeerSettings, name: &str) -> Vec<Rule> {
        if settings.invitation.is_some() {
            return vec![Rule::DENY_ALL];
        }
        let forwards = settings.forwards.iter().map(|forward| Rule {
            protocol: Some(forward.protocol),
            ports: Some(Ports::single(forward.to)),
            ..Rule::about(Remote::Forwarded, true)
        });
        let mut rules: Vec<_> = forwards.collect();
        if settings.has_rules() {
            let allowed = settings.allow_from.as_deref().unwrap_or_default();
            rules.extend(self.targets(allowed, true, settings, name));
            rules.push(Rule::DENY_ALL);
        } else {
            rules.extend(self.policy_to());
        }
        rules
    }

    /// Returns the rules of the policy for connections from a peer.
    pub(super) fn policy_from(&self, settings: &PeerSettings) -> Vec<Rule> {
        match self.policy {
            PeerPolicy::Open => vec![Rule::ALLOW_ALL],
            PeerPolicy::Isolate => vec![Rule::about(Remote::Tunnel, false), Rule::ALLOW_ALL],
            PeerPolicy::InternetOnly => {
                let mut rules = self.dns(settings, true);
                rules.push(Rule { protocol: Some(Protocol::Icmp), ..Rule::about(Remote::Server, true) });
                rules.push(Rule::about(Remote::Internet, true));
                rules.push(Rule::DENY_ALL);
                rules
            }
        }
    }

    /// Returns the rules for connections to a peer without rules.
    pub(super) fn policy_to(&self) -> Vec<Rule> {
        match self.policy {
            PeerPolicy::Open => vec![Rule::ALLOW_ALL],
            PeerPolicy::Isolate => vec![Rule::about(Remote::Tunnel, false), Rule::ALLOW_ALL],
            PeerPolicy::InternetOnly => vec![Rule::DENY_ALL],
        }
    }

    fn targets(
        &mut self,
        targets: &[Target],
        is_allowed: bool,
        settings: &PeerSettings,
        name: &str,
    ) -> Vec<Rule> {
        let mut rules = Vec::new();
        for target in targets {
            let resolved = self.target(target, is_allowed, settings);
            if let (Destination::Peer(wanted), true) = (&target.destination, resolved.is_none()) {
                let unknown = UnknownPeer { peer: name.to_owned(), name: wanted.clone() };
                if !self.unknown.contains(&unknown) {
                    self.unknown.push(unknown);
                }
            }
            rules.extend(resolved.unwrap_or_default());
        }
        rules
    }

    /// Returns the rules of one target of a peer with these settings, none for a peer without
    /// addresses; `None` if it names a peer that does not exist.
    pub(super) fn target(
        &self,
        target: &Target,
        is_allowed: bool,
        settings: &PeerSettings,
    ) -> Option<Vec<Rule>> {
        let about = |remote| Rule { remote, protocol: target.protocol, ports: target.ports, is_allowed };
        Some(match &target.destination {
            Destination::Any => vec![about(Remote::Any)],
            Destination::Internet => vec![about(Remote::Internet)],
            Destination::Lan => vec![about(Remote::Lan)],
            Destination::Server => vec![about(Remote::Server)],
            Destination::Peers => vec![about(Remote::Tunnel)],
            Destination::Dns => self.dns(settings, is_allowed),
            Destination::Network(network) => vec![about(Remote::Network(*network))],
            Destination::Peer(name) => {
                self.peers.get(name)?.iter().map(|prefix| about(Remote::Network(*prefix))).collect()
            }
        })
    }

    /// Returns the rules for the name servers: the server itself, and those of the client's file.
    fn dns(&self, settings: &PeerSettings, is_allowed: bool) -> Vec<Rule> {
        let own = settings.client.dns.as_ref().map(ClientDns::addresses);
        let servers = own
            .unwrap_or(self.dns)
            .iter()
            .map(|address| Remote::Network(Prefix::of(*address, host_bits(*address))));
        let remotes = [Remote::Server].into_iter().chain(servers);
        remotes.map(|remote| Rule { ports: Some(Ports::DNS), ..Rule::about(remote, is_allowed) }).collect()
    }

    /// Returns the rules that named peers which do not exist.
    pub(super) fn into_unknown(self) -> Vec<UnknownPeer> {
        self.unknown
    }
}

/// Returns the length of the prefix that has only this address.
const fn host_bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}
