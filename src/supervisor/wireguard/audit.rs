//! The audit line of each change of a running tunnel: what differs from before, and which peers, by
//! their names.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU32;

use super::excluded::Excluded;
use super::peers::PeerRecord;
use super::state::WireGuard;
use crate::config::peer_settings::{Exclusion, PeerComment, PeerSettings};
use crate::config::wg_quick::Table;
use crate::config::{Cidr, PeerPolicy, display_name};
use crate::uapi::{Changes, PeerChanges};
use wontun_proto::wireguard::PublicKey;

/// Maximum number of items in a line.
const MAX_ITEMS: usize = 20;

/// Settings of the peers that have some.
type SettingsByKey = BTreeMap<PublicKey, Box<PeerSettings>>;

/// The state before a change, as far as the change may concern it.
#[derive(Debug)]
pub(super) struct Audit {
    interface: InterfaceRecord,
    /// True if the change may concern any peer.
    concerns_all: bool,
    /// The existing peers that it may concern.
    peers: BTreeMap<PublicKey, PeerRecord>,
    /// The other peers that it may concern, if it does not concern all.
    new: BTreeSet<PublicKey>,
    /// Peers whose latest timestamp is forgotten, if they exist.
    reset: Vec<PublicKey>,
    /// Peers of the file without access.
    excluded: Excluded,
    /// Settings of peers that only a file has; `None` if the change concerns none.
    settings: Option<SettingsByKey>,
}

/// The interface, without secrets.
#[derive(Debug, PartialEq, Eq)]
struct InterfaceRecord {
    key: Option<PublicKey>,
    port: u16,
    fwmark: Option<NonZeroU32>,
    is_kill_switch_engaged: bool,
    /// Settings that only a file has.
    file: Option<FileRecord>,
}

#[derive(Debug, PartialEq, Eq)]
struct FileRecord {
    addresses: Vec<Cidr>,
    mtu: Option<u32>,
    table: Table,
    dns: Vec<String>,
    /// Policy for peers without rules.
    policy: PeerPolicy,
    /// Name servers of clients, which rules may name.
    client_dns: Vec<IpAddr>,
}

/// The differences. There may be as many as peers, so that only those that fit a line are kept.
#[derive(Debug, Default)]
pub(super) struct Differences {
    /// Those in the line, in its order.
    items: BTreeSet<(Kind, String)>,
    /// Number of the others.
    others: usize,
}

/// The kinds of differences, in the order of the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Added,
    Removed,
    Renamed,
    Access,
    Changed,
    Settings,
    Reset,
    Interface,
}

impl Audit {
    /// Records the state before `changes`, or before any change if that is `None`.
    pub(super) fn new(tunnel: &WireGuard, changes: Option<&Changes>) -> Self {
        let concerns_all =
            changes.is_none_or(|changes| changes.replace_peers || changes.private_key.is_some());
        let mut audit = Self {
            interface: InterfaceRecord::new(tunnel),
            concerns_all,
            peers: BTreeMap::new(),
            new: BTreeSet::new(),
            reset: Vec::new(),
            excluded: tunnel.access.excluded.clone(),
            // a client of the socket changes none of them
            settings: changes.is_none().then(|| settings(tunnel)),
        };
        if concerns_all {
            let present = tunnel.peers.keys().filter_map(|key| Some((*key, tunnel.peers.record(key)?)));
            audit.peers.extend(present);
            return audit;
        }
        for PeerChanges { public_key, forget_timestamp, .. } in
            changes.into_iter().flat_map(|changes| &changes.peers)
        {
            if *forget_timestamp {
                audit.reset.push(*public_key);
            }
            match tunnel.peers.record(public_key) {
                Some(record) => drop(audit.peers.insert(*public_key, record)),
                None => drop(audit.new.insert(*public_key)),
            }
        }
        audit
    }

    /// Returns the differences between the recorded state and the present one.
    pub(super) fn finish(self, tunnel: &WireGuard) -> Differences {
        let mut differences = Differences::default();
        let excluded = &tunnel.access.excluded;
        let readmitted = |key: &PublicKey| self.excluded.reason(key).filter(|_| tunnel.peers.contains(key));
        let is_excluded = |key: &PublicKey| self.peers.contains_key(key) && excluded.contains(key);
        for (key, before) in self.peers.iter().filter(|(key, _)| !is_excluded(key)) {
            differences.compare_peer(key, Some(before), tunnel.peers.record(key).as_ref());
        }
        let added = tunnel.peers.keys().filter(|key| self.concerns_all && !self.peers.contains_key(key));
        for key in added.chain(&self.new).filter(|key| readmitted(key).is_none()) {
            differences.compare_peer(key, None, tunnel.peers.record(key).as_ref());
        }
        for key in self.excluded.iter().map(|(key, _)| key) {
            if let Some(reason) = readmitted(key) {
                differences.add(Kind::Access, format!("{} {}", admitted(reason), tunnel.name_of(key)));
            }
        }
        for (key, peer) in excluded.iter() {
            if self.excluded.reason(key) != Some(peer.exclusion) {
                let name = display_name(peer.name.as_ref(), key);
                differences.add(Kind::Access, format!("{} {name}", cut_off(peer.exclusion)));
            }
        }
        if let Some(before) = &self.settings {
            let existed = |key: &PublicKey| self.peers.contains_key(key) || self.excluded.contains(key);
            differences.compare_all_settings(tunnel, before, existed);
        }
        for key in &self.reset {
            if let Some(peer) = tunnel.peers.record(key) {
                differences.add(Kind::Reset, format!("reset {}", display_name(peer.name.as_ref(), key)));
            }
        }
        for name in self.interface.differences(&InterfaceRecord::new(tunnel)) {
            differences.add(Kind::Interface, name.to_owned());
        }
        differences
    }
}

impl Differences {
    fn compare_peer(&mut self, key: &PublicKey, before: Option<&PeerRecord>, after: Option<&PeerRecord>) {
        let name = |record: &PeerRecord| display_name(record.name.as_ref(), key);
        match (before, after) {
            (None, Some(after)) => self.add(Kind::Added, format!("added {}", name(after))),
            (Some(before), None) => self.add(Kind::Removed, format!("removed {}", name(before))),
            (Some(before), Some(after)) => {
                if before.name != after.name {
                    self.add(Kind::Renamed, format!("renamed {} to {}", name(before), name(after)));
                }
                let settings: Vec<_> = before.differences(after).collect();
                if !settings.is_empty() {
                    self.add(Kind::Changed, format!("{} of {}", join(&settings), name(after)));
                }
            }
            (None, None) => {}
        }
    }

    /// Compares the settings of the peers that `existed` before and do now.
    fn compare_all_settings(
        &mut self,
        tunnel: &WireGuard,
        before: &SettingsByKey,
        existed: impl Fn(&PublicKey) -> bool,
    ) {
        let after = settings(tunnel);
        let exists = |key: &PublicKey| tunnel.peers.contains(key) || tunnel.access.excluded.contains(key);
        let new = after.keys().filter(|key| !before.contains_key(key));
        for key in before.keys().chain(new).filter(|key| existed(key) && exists(key)) {
            let of = |settings: &SettingsByKey| settings.get(key).cloned().unwrap_or_default();
            self.compare_settings(&tunnel.name_of(key), &of(before), &of(&after));
        }
    }

    /// Compares the comments of a peer's section; a change of its access is an item of its own.
    fn compare_settings(&mut self, name: &str, before: &PeerSettings, after: &PeerSettings) {
        let is_changed = |key: &PeerComment| before.get(*key) != after.get(*key);
        let keys: Vec<_> = PeerComment::ALL.into_iter().filter(is_changed).collect();
        let names: Vec<_> =
            keys.into_iter().filter(|key| *key != PeerComment::Disabled).map(PeerComment::name).collect();
        if !names.is_empty() {
            self.add(Kind::Settings, format!("{} of {name}", join(&names)));
        }
    }

    fn add(&mut self, kind: Kind, item: String) {
        self.items.insert((kind, item));
        if self.items.len() > MAX_ITEMS {
            self.items.pop_last();
            self.others += 1;
        }
    }
}

/// Returns the settings of the peers of the file that have some.
fn settings(tunnel: &WireGuard) -> SettingsByKey {
    let peers = tunnel.source.configuration().into_iter().flat_map(|file| &file.peers);
    peers.filter_map(|peer| Some((peer.public_key, peer.settings.clone()?))).collect()
}

/// Returns the word for the end of a peer's access.
const fn cut_off(reason: Exclusion) -> &'static str {
    match reason {
        Exclusion::Disabled => "disabled",
        Exclusion::Expired => "expired",
        Exclusion::Unanswered => "withheld the invitation of",
    }
}

/// Returns the word for its return after `reason`.
const fn admitted(reason: Exclusion) -> &'static str {
    match reason {
        Exclusion::Disabled => "enabled",
        Exclusion::Expired => "extended",
        Exclusion::Unanswered => "admitted the invitation of",
    }
}

/// Joins words as in a sentence.
fn join(words: &[&str]) -> String {
    match words.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        _ => words.concat(),
    }
}

impl InterfaceRecord {
    fn new(tunnel: &WireGuard) -> Self {
        let file = tunnel.source.file().map(|file| {
            let interface = &file.configuration.interface;
            FileRecord {
                addresses: interface.addresses.clone(),
                mtu: interface.mtu,
                table: interface.table,
                dns: interface.dns.clone(),
                policy: file.policy(),
                client_dns: file.server.dns.clone(),
            }
        });
        Self {
            key: tunnel.peers.interface_key(),
            port: tunnel.sockets.port(),
            fwmark: tunnel.fwmark,
            is_kill_switch_engaged: tunnel.firewall.is_kill_switch_engaged(),
            file,
        }
    }

    fn differences(&self, after: &Self) -> impl Iterator<Item = &'static str> {
        fn differs<T: PartialEq>(
            files: Option<(&FileRecord, &FileRecord)>,
            field: impl Fn(&FileRecord) -> &T,
        ) -> bool {
            files.is_some_and(|(before, after)| field(before) != field(after))
        }
        let files = self.file.as_ref().zip(after.file.as_ref());
        let fields = [
            (self.key != after.key, "private key"),
            (self.port != after.port, "listen port"),
            (self.fwmark != after.fwmark, "firewall mark"),
            (self.is_kill_switch_engaged != after.is_kill_switch_engaged, "kill switch"),
            (differs(files, |file| &file.addresses), "addresses"),
            (differs(files, |file| &file.mtu), "MTU"),
            (differs(files, |file| &file.table), "routing table"),
            (differs(files, |file| &file.dns), "DNS"),
            (differs(files, |file| &file.policy), "policy"),
            (differs(files, |file| &file.client_dns), "name servers of clients"),
        ];
        fields.into_iter().filter(|(differs, _)| *differs).map(|(_, name)| name)
    }
}

impl fmt::Display for Differences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.items.is_empty() {
            return f.write_str("nothing changed");
        }
        for (number, (_, item)) in self.items.iter().enumerate() {
            write!(f, "{}{item}", if number == 0 { "" } else { ", " })?;
        }
        if self.others > 0 {
            write!(f, " and {} more", self.others)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(name: &str) -> PeerRecord {
        PeerRecord { name: name.parse().ok(), ..PeerRecord::default() }
    }

    #[test]
    fn additions_come_first_and_settings_last() {
        let (alice, bob, carol) = (record("alice"), record("bob"), record("carol"));
        let moved = PeerRecord { endpoint: 1, keepalive: 25, ..record("carol") };
        let other = PeerRecord { preshared: 5, endpoint: 7, ..record("dan") };
        let mut differences = Differences::default();
        for (before, after) in [
            (Some(&carol), Some(&moved)),
            (Some(&bob), None),
            (None, Some(&record("zoe"))),
            (None, Some(&alice)),
            (Some(&alice), Some(&alice)),
            (Some(&alice), Some(&other)),
        ] {
            differences.compare_peer(&PublicKey::from_bytes([1; 32]), before, after);
        }
        assert_eq!(
            differences.to_string(),
            "added alice, added zoe, removed bob, renamed alice to dan, endpoint and keepalive of carol, \
             preshared key and endpoint of dan"
        );
    }

    #[test]
    fn a_long_list_is_cut_and_an_empty_one_says_so() {
        let mut differences = Differences::default();
        assert_eq!(differences.to_string(), "nothing changed");
        for number in 100..200_u8 {
            let key = PublicKey::from_bytes([number; 32]);
            differences.compare_peer(&key, None, Some(&record(&number.to_string())));
        }
        let text = differences.to_string();
        assert!(
            text.starts_with("added 100, added 101,") && text.ends_with("added 119 and 80 more"),
            "{text}"
        );
        assert_eq!(join(&["a", "b", "c"]), "a, b and c");
    }
}
