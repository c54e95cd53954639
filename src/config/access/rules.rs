//! The rules of all peers of a server.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use super::groups::Groups;
use super::owners::{OwnedRange, disjoint};
use super::resolve::{Resolver, UnknownPeer};
use super::rule::Rule;
use crate::config::peer_settings::{PeerSettings, PortForward};
use crate::config::wg_quick::{Peer, WgQuick};
use crate::config::{PeerName, PeerPolicy, display_name};
use wontun_proto::allowed_ips::{AllowedIps, Prefix};
use wontun_proto::wireguard::PublicKey;

/// Number of a list in [`AccessRules::lists`].
pub(crate) type ListNumber = u32;
/// Number of a peer of the file, in its order.
pub(super) type PeerNumber = u32;

/// The rules of a server.
#[derive(Clone, Debug)]
pub(crate) struct AccessRules {
    pub(super) policy: PeerPolicy,
    /// All lists, each once.
    lists: Vec<Vec<Rule>>,
    /// The lists for sources and destinations that are no peer with rules.
    pub(super) policy_lists: Sides,
    /// The lists of the peers that have some of their own.
    pub(super) own: HashMap<PeerNumber, Sides>,
    /// The prefixes with the peer that owns each; `None` for a peer that the file does not have.
    pub(super) owners: AllowedIps<Option<PeerNumber>>,
    /// Prefixes of peers with rules that are gone: nobody uses them.
    pub(super) retired: BTreeSet<Prefix>,
    /// Networks of the tunnel's own addresses.
    pub(super) networks: Vec<Prefix>,
    pub(super) groups: Groups,
    forwards: Vec<Forwarding>,
    /// Peers with an `AllowFrom` that is not empty.
    reachable: BTreeSet<PeerNumber>,
    unknown: Vec<UnknownPeer>,
}

/// The list for connections from a peer, and the one for connections to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sides {
    pub(crate) from: ListNumber,
    pub(crate) to: ListNumber,
}

/// A port forward with the addresses that it leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Forwarding {
    pub(crate) forward: PortForward,
    /// Addresses of the peer, at most one of each family.
    pub(crate) addresses: Vec<IpAddr>,
}

impl AccessRules {
    /// Returns the rules of the peers in a server's file. `dns` are the name servers of its
    /// clients.
    pub(crate) fn of_file(file: &WgQuick, policy: PeerPolicy, dns: &[IpAddr]) -> Self {
        let mut last = HashMap::new();
        for peer in &file.peers {
            last.extend(peer.allowed_ips.iter().map(|prefix| (*prefix, peer.public_key)));
        }
        Self::new(file, policy, dns, last, None)
    }

    /// Returns the rules of the peers in a server's file, whose allowed IPs are those of the
    /// running tunnel. Those of a peer that `before` has rules for, and that is gone, are denied
    /// everything: the tunnel may carry a last packet of it.
    pub(crate) fn new(
        file: &WgQuick,
        policy: PeerPolicy,
        dns: &[IpAddr],
        allowed_ips: impl IntoIterator<Item = (Prefix, PublicKey)>,
        before: Option<&Self>,
    ) -> Self {
        let numbers: HashMap<_, _> =
            (0..).zip(&file.peers).map(|(number, peer)| (peer.public_key, number)).collect();
        let mut rules = Self {
            policy,
            lists: Vec::new(),
            policy_lists: Sides { from: 0, to: 0 },
            own: HashMap::new(),
            owners: AllowedIps::new(),
            retired: BTreeSet::new(),
            networks: file
                .interface
                .addresses
                .iter()
                .map(|cidr| Prefix::of(cidr.address(), cidr.prefix()))
                .collect(),
            groups: Groups::new(),
            forwards: Vec::new(),
            reachable: BTreeSet::new(),
            unknown: Vec::new(),
        };
        let mut present = BTreeSet::new();
        for (prefix, key) in allowed_ips {
            rules.owners.insert(prefix, numbers.get(&key).copied());
            present.insert(prefix);
        }
        if let Some(before) = before {
            let gone = before.own_prefixes().filter(|prefix| !present.contains(prefix));
            rules.retired = gone.collect();
        }
        rules.build(file, dns);
        rules
    }

    fn build(&mut self, file: &WgQuick, dns: &[IpAddr]) {
        let mut lists = Lists::default();
        let mut resolver = Resolver::new(self.policy, dns, named(&file.peers, &self.owners));
        resolver.set_server(&file.interface.addresses);
        let (from, to) = (resolver.policy_from(&PeerSettings::NONE), resolver.policy_to());
        self.policy_lists = Sides { from: lists.number(from), to: lists.number(to) };
        for (number, peer) in (0..).zip(&file.peers) {
            let settings = peer.settings();
            let follows_policy = !settings.is_restricted() && settings.forwards.is_empty();
            let has_dns = self.policy == PeerPolicy::InternetOnly && settings.client.dns.is_some();
            if follows_policy && !has_dns {
                continue;
            }
            let is_reachable = settings.allow_from.as_ref().is_some_and(|targets| !targets.is_empty());
            if is_reachable && settings.invitation.is_none() {
                self.reachable.insert(number);
            }
            let name = display_name(peer.name.as_ref(), &peer.public_key);
            let (from, to) = (resolver.from(settings, &name), resolver.to(settings, &name));
            self.own.insert(number, Sides { from: lists.number(from), to: lists.number(to) });
            if settings.invitation.is_some() {
                continue;
            }
            let addresses = addresses(&peer.allowed_ips);
            self.forwards.extend(
                settings
                    .forwards
                    .iter()
                    .map(|forward| Forwarding { forward: *forward, addresses: addresses.clone() }),
            );
        }
        self.unknown = resolver.into_unknown();
        if !self.retired.is_empty() {
            lists.number(vec![Rule::DENY_ALL]);
        }
        self.lists = lists.lists;
    }

    /// Returns the policy for peers without rules.
    pub(crate) const fn policy(&self) -> PeerPolicy {
        self.policy
    }

    /// Returns true if there is nothing but a policy that needs no table of its own.
    pub(crate) fn needs_no_table(&self) -> bool {
        self.policy != PeerPolicy::InternetOnly && self.own.is_empty() && self.retired.is_empty()
    }

    /// Returns the lists for peers that have none of their own.
    pub(crate) const fn policy_lists(&self) -> Sides {
        self.policy_lists
    }

    /// Returns all addresses of one family with their lists, in ascending order without overlaps;
    /// none if no address has lists of its own.
    pub(crate) fn ranges(&self, v6: bool) -> Vec<OwnedRange<Sides>> {
        let denied = self.denied_lists().unwrap_or(self.policy_lists);
        let own = |owner: Option<PeerNumber>| owner.and_then(|number| self.own.get(&number).copied());
        let owned = self.owners.iter().map(|(prefix, owner)| (prefix, own(owner)));
        let retired = self.retired.iter().map(|prefix| (*prefix, Some(denied)));
        let of_family = |(prefix, _): &(Prefix, Option<Sides>)| prefix.network().is_ipv6() == v6;
        let found: Vec<_> = owned.chain(retired).filter(of_family).collect();
        if found.iter().all(|(_, sides)| sides.is_none()) {
            return Vec::new();
        }
        let all = Prefix::of(if v6 { [0_u16; 8].into() } else { [0_u8; 4].into() }, 0);
        let others = (!found.iter().any(|(prefix, _)| *prefix == all)).then_some((all, None));
        let sides =
            |(prefix, sides): (Prefix, Option<Sides>)| (prefix, Some(sides.unwrap_or(self.policy_lists)));
        disjoint(found.into_iter().chain(others).map(sides))
    }

    /// Returns the lists for addresses that nobody uses.
    pub(super) fn denied_lists(&self) -> Option<Sides> {
        let number = self.lists.iter().position(|list| list == &[Rule::DENY_ALL])?;
        let number = ListNumber::try_from(number).ok()?;
        Some(Sides { from: number, to: number })
    }

    /// Returns the port forwards.
    pub(crate) fn forwards(&self) -> &[Forwarding] {
        &self.forwards
    }

    /// Returns the peers that rules name and that do not exist.
    pub(crate) fn unknown_peers(&self) -> &[UnknownPeer] {
        &self.unknown
    }

    /// Returns the networks of the peers to which others may open connections by a rule. The
    /// address translation of the server lets such connections pass.
    pub(crate) fn reachable(&self) -> Vec<Prefix> {
        let owned = self.owners.iter();
        let reachable = owned.filter(|(_, owner)| owner.is_some_and(|peer| self.reachable.contains(&peer)));
        let mut prefixes: Vec<_> = reachable.map(|(prefix, _)| prefix).collect();
        prefixes.sort_unstable();
        prefixes
    }

    /// Returns the prefixes of the peers that have lists of their own.
    fn own_prefixes(&self) -> impl Iterator<Item = Prefix> + '_ {
        let is_own = |owner: &Option<PeerNumber>| owner.is_some_and(|number| self.own.contains_key(&number));
        self.owners.iter().filter(move |(_, owner)| is_own(owner)).map(|(prefix, _)| prefix)
    }

    /// Returns the rules of a list; empty, which denies everything, if there is none.
    pub(crate) fn list(&self, number: ListNumber) -> &[Rule] {
        usize::try_from(number)
            .ok()
            .and_then(|number| self.lists.get(number))
            .map(Vec::as_slice)
            .unwrap_or_default()
    }
}

/// Returns the addresses of the peers, by their names.
pub(super) fn named(
    peers: &[Peer],
    owners: &AllowedIps<Option<PeerNumber>>,
) -> HashMap<PeerName, Vec<Prefix>> {
    let mut named: HashMap<_, Vec<_>> = HashMap::new();
    for (number, peer) in (0..).zip(peers) {
        if let Some(name) = &peer.name {
            named.entry(name.clone()).or_default().extend(owners.prefixes_of(Some(number)));
        }
    }
    named
}

/// Returns the first host address of each family.
fn addresses(allowed_ips: &[Prefix]) -> Vec<IpAddr> {
    let first = |v6: bool| {
        let bits = if v6 { 128 } else { 32 };
        let host = |prefix: &&Prefix| prefix.network().is_ipv6() == v6 && prefix.length() == bits;
        allowed_ips.iter().find(host).map(|prefix| prefix.network())
    };
    [false, true].into_iter().filter_map(first).collect()
}

/// Lists of rules, each once.
#[derive(Debug, Default)]
struct Lists {
    lists: Vec<Vec<Rule>>,
    numbers: HashMap<Vec<Rule>, ListNumber>,
}

impl Lists {
    fn number(&mut self, list: Vec<Rule>) -> ListNumber {
        let next = ListNumber::try_from(self.lists.len()).unwrap_or(ListNumber::MAX);
        let lists = &mut self.lists;
        *self.numbers.entry(list).or_insert_with_key(|list| {
            lists.push(list.clone());
            next
        })
    }
}
