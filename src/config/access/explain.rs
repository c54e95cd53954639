//! Explanation of a decision: the rule that decides.

use std::net::IpAddr;

use super::decide::{Connection, Host};
use super::resolve::Resolver;
use super::rule::Rule;
use super::rules::{AccessRules, named};
use crate::config::peer_settings::{PeerComment, PeerSettings, PortForward, Target};
use crate::config::wg_quick::WgQuick;
use crate::config::{PeerPolicy, display_name};

const NO_SETTINGS: &PeerSettings = &PeerSettings::NONE;

/// The decision of the rules about a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Decision {
    pub(crate) is_allowed: bool,
    /// The rule that decides.
    pub(crate) reason: Reason,
}

/// The rule that decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// The entry of a comment of the peer.
    Entry { peer: String, key: PeerComment, target: Target },
    /// No entry of the comment matches.
    NoEntry { peer: String, key: PeerComment },
    /// The peer has rules, and no `AllowFrom`.
    NoAllowFrom { peer: String },
    /// The peer is an invitation.
    Invitation { peer: String },
    /// A port forward to the peer.
    Forward { peer: String, forward: PortForward },
    /// The policy for peers without rules.
    Policy { peer: Option<String>, policy: PeerPolicy },
    /// Neither end is a peer.
    NoPeer,
}

impl AccessRules {
    /// Returns what the rules decide about the connection, and by which rule. `file` is the one
    /// that the rules are of.
    pub(crate) fn explain(&self, file: &WgQuick, dns: &[IpAddr], connection: &Connection) -> Decision {
        let mut resolver = Resolver::new(self.policy, dns, named(&file.peers, &self.owners));
        resolver.set_server(&file.interface.addresses);
        let mut decision = Decision { is_allowed: true, reason: Reason::NoPeer };
        let sides = [
            (connection.source, connection.destination, true),
            (connection.destination, connection.source, false),
        ];
        for (peer, remote, is_from) in sides {
            let Some((owner, _)) = self.peer_lists(peer) else { continue };
            let peer = owner.and_then(|number| file.peers.get(usize::try_from(number).ok()?));
            let name = peer.map(|peer| display_name(peer.name.as_ref(), &peer.public_key));
            let settings = peer.map_or(NO_SETTINGS, |peer| peer.settings());
            let side = Side { rules: self, resolver: &resolver, connection, remote, name, settings };
            let next = if is_from { side.explain_from() } else { side.explain_to() };
            if !next.is_allowed {
                return next;
            }
            // the rules of the peer say more than a policy
            if !matches!((&decision.reason, &next.reason), (Reason::Entry { .. }, Reason::Policy { .. })) {
                decision = next;
            }
        }
        decision
    }
}
/// One of the two lists that a connection has to pass.
struct Side<'a> {
    rules: &'a AccessRules,
    resolver: &'a Resolver<'a>,
    connection: &'a Connection,
    remote: Host,
    /// Name of the peer; `None` if no peer has the address.
    name: Option<String>,
    settings: &'a PeerSettings,
}

impl Side<'_> {
    fn explain_from(&self) -> Decision {
        if self.settings.invitation.is_some() {
            return self.invitation(&self.resolver.invitation_from());
        }
        if let Some(denied) = self.entry(PeerComment::Deny, &self.settings.deny, false) {
            return denied;
        }
        match &self.settings.allow {
            Some(allow) => self.entry(PeerComment::Allow, allow, true).unwrap_or_else(|| {
                self.denied(Reason::NoEntry { peer: self.peer(), key: PeerComment::Allow })
            }),
            None => self.policy(&self.resolver.policy_from(self.settings)),
        }
    }

    fn explain_to(&self) -> Decision {
        if self.settings.invitation.is_some() {
            return self.invitation(&[Rule::DENY_ALL]);
        }
        if self.connection.is_forwarded {
            let is_own = |forward: &&PortForward| {
                forward.to.get() == self.connection.port
                    && forward.protocol.number(self.remote.address.is_ipv6()) == self.connection.protocol
            };
            if let Some(forward) = self.settings.forwards.iter().find(is_own) {
                let reason = Reason::Forward { peer: self.peer(), forward: *forward };
                return Decision { is_allowed: true, reason };
            }
        }
        if !self.settings.has_rules() {
            return self.policy(&self.resolver.policy_to());
        }
        let key = PeerComment::AllowFrom;
        match &self.settings.allow_from {
            Some(allowed) => self
                .entry(key, allowed, true)
                .unwrap_or_else(|| self.denied(Reason::NoEntry { peer: self.peer(), key })),
            None => self.denied(Reason::NoAllowFrom { peer: self.peer() }),
        }
    }

    /// Returns the decision of the first target that matches.
    fn entry(&self, key: PeerComment, targets: &[Target], is_allowed: bool) -> Option<Decision> {
        let target = targets.iter().find(|target| {
            let resolved = self.resolver.target(target, is_allowed, self.settings).unwrap_or_default();
            resolved.iter().any(|rule| self.rules.matches(rule, self.connection, self.remote))
        })?;
        let reason = Reason::Entry { peer: self.peer(), key, target: target.clone() };
        Some(Decision { is_allowed, reason })
    }

    fn policy(&self, list: &[Rule]) -> Decision {
        self.first_of(list, Reason::Policy { peer: self.name.clone(), policy: self.rules.policy })
    }

    fn invitation(&self, list: &[Rule]) -> Decision {
        self.first_of(list, Reason::Invitation { peer: self.peer() })
    }

    /// Returns the decision of the first rule of the list that matches.
    fn first_of(&self, list: &[Rule], reason: Reason) -> Decision {
        let found = list.iter().find(|rule| self.rules.matches(rule, self.connection, self.remote));
        Decision { is_allowed: found.is_some_and(|rule| rule.is_allowed), reason }
    }

    fn denied(&self, reason: Reason) -> Decision {
        Decision { is_allowed: false, reason }
    }

    fn peer(&self) -> String {
        self.name.clone().unwrap_or_default()
    }
}
