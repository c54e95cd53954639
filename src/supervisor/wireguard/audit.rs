//! The audit line of each change of a running tunnel: what differs from before, and which peers, by
//! their names.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU32;

use super::peers::PeerRecord;
use super::state::WireGuard;
use crate::config::Cidr;
use crate::config::wg_quick::Table;
use crate::uapi::Changes;
use wontun_proto::wireguard::PublicKey;

/// Maximum number of items in a line.
const MAX_ITEMS: usize = 20;

/// The state before a change, as far as the change may concern it.
#[derive(Debug)]
pub(super) struct Audit {
    interface: InterfaceRecord,
    /// True if the change may concern any peer.
    concerns_all: bool,
    /// The peers that it may concern, if they exist.
    peers: BTreeMap<PublicKey, Option<PeerRecord>>,
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
}

/// The differences, as a list of words; `nothing changed` if there are none.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Differences(Vec<String>);

impl Audit {
    /// Records the state before `changes`, or before any change if that is `None`.
    pub(super) fn new(tunnel: &WireGuard, changes: Option<&Changes>) -> Self {
        let concerns_all =
            changes.is_none_or(|changes| changes.replace_peers || changes.private_key.is_some());
        let changed = changes.into_iter().flat_map(|changes| &changes.peers).map(|peer| peer.public_key);
        let present = tunnel.peers.keys().filter(|_| concerns_all).copied();
        let peers = present.chain(changed).map(|key| (key, tunnel.peers.record(&key))).collect();
        Self { interface: InterfaceRecord::new(tunnel), concerns_all, peers }
    }

    /// Returns the differences between the recorded state and the present one.
    pub(super) fn finish(mut self, tunnel: &WireGuard) -> Differences {
        if self.concerns_all {
            for key in tunnel.peers.keys() {
                self.peers.entry(*key).or_default();
            }
        }
        let peers = self.peers.iter().map(|(key, before)| (before.as_ref(), tunnel.peers.record(key)));
        let mut items = peer_differences(peers);
        items.extend(self.interface.differences(&InterfaceRecord::new(tunnel)).map(str::to_owned));
        Differences(items)
    }
}

/// Returns the differences of peers, as they were and as they are: additions first, then removals,
/// new names and other settings, each in the order of the names.
fn peer_differences<'a>(
    peers: impl Iterator<Item = (Option<&'a PeerRecord>, Option<PeerRecord>)>,
) -> Vec<String> {
    let [mut added, mut removed, mut renamed] = [const { Vec::new() }; 3];
    let mut changed = Vec::new();
    for pair in peers {
        match pair {
            (None, Some(after)) => added.push(format!("added {}", after.name)),
            (Some(before), None) => removed.push(format!("removed {}", before.name)),
            (Some(before), Some(after)) => {
                if before.name != after.name {
                    renamed.push(format!("renamed {} to {}", before.name, after.name));
                }
                let settings: Vec<_> = before.differences(&after).collect();
                if !settings.is_empty() {
                    changed.push((after.name, settings));
                }
            }
            (None, None) => {}
        }
    }
    let sorted = |mut items: Vec<String>| {
        items.sort();
        items
    };
    changed.sort();
    let changed = changed.iter().map(|(name, settings)| format!("{} of {name}", join(settings)));
    [sorted(added), sorted(removed), sorted(renamed)].concat().into_iter().chain(changed).collect()
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
        let file = tunnel.source.configuration().map(|configuration| {
            let interface = &configuration.interface;
            FileRecord {
                addresses: interface.addresses.clone(),
                mtu: interface.mtu,
                table: interface.table,
                dns: interface.dns.clone(),
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
        ];
        fields.into_iter().filter(|(differs, _)| *differs).map(|(_, name)| name)
    }
}

impl fmt::Display for Differences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("nothing changed");
        }
        for (number, item) in self.0.iter().take(MAX_ITEMS).enumerate() {
            write!(f, "{}{item}", if number == 0 { "" } else { ", " })?;
        }
        match self.0.len().saturating_sub(MAX_ITEMS) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(name: &str) -> PeerRecord {
        PeerRecord { name: name.to_owned(), ..PeerRecord::default() }
    }

    #[test]
    fn additions_come_first_and_settings_last() {
        let (alice, bob, carol) = (record("alice"), record("bob"), record("carol"));
        let moved = PeerRecord { endpoint: "192.0.2.1:1".parse().ok(), keepalive: 25, ..record("carol") };
        let other = PeerRecord { preshared: 5, host: Some(("vpn.example".to_owned(), 1)), ..record("dan") };
        let peers = [
            (Some(&carol), Some(moved)),
            (Some(&bob), None),
            (None, Some(record("zoe"))),
            (None, Some(record("alice"))),
            (Some(&alice), Some(record("alice"))),
            (Some(&alice), Some(other)),
        ];
        let differences = Differences(peer_differences(peers.into_iter()));
        assert_eq!(
            differences.to_string(),
            "added alice, added zoe, removed bob, renamed alice to dan, endpoint and keepalive of carol, \
             preshared key and endpoint of dan"
        );
    }

    #[test]
    fn a_long_list_is_cut_and_an_empty_one_says_so() {
        assert_eq!(Differences(Vec::new()).to_string(), "nothing changed");
        let peers = (100..200).map(|number| (None, Some(record(&number.to_string()))));
        let text = Differences(peer_differences(peers)).to_string();
        assert!(
            text.starts_with("added 100, added 101,") && text.ends_with("added 119 and 80 more"),
            "{text}"
        );
        assert_eq!(join(&["a", "b", "c"]), "a, b and c");
    }
}
