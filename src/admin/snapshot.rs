//! The peers of the server and their state, as they were a moment ago.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::time::Duration;

use serde::Serialize;

use super::messages::{PeerInFile, Principal};
use super::texts;
use crate::config::peer_settings::PeerComment;
use crate::traffic::{Bytes, Traffic};
use crate::uapi::{PeerState, TunnelPeer, TunnelStatus};
use wontun_proto::wireguard::PublicKey;

/// Number of the first letters of a key that stand for a peer without a name.
const KEY_LETTERS: usize = 12;
/// Number of peers that a page lists.
pub(super) const PAGE_SIZE: usize = 50;

/// A peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Peer {
    pub(super) file: PeerInFile,
    pub(super) live: Option<TunnelPeer>,
}

/// The peers that a page shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    /// Those of a page of the list that match what is looked for.
    List {
        /// Part of a name, a note, an address or a key.
        find: String,
        /// Number of the page, from 1.
        page: usize,
    },
    /// The one with this [`id`].
    Peer(String),
}

/// Part of the peers.
#[derive(Debug)]
pub(super) struct Listed<'a> {
    pub(super) peers: Vec<&'a Peer>,
    /// Number of the page, from 1, and the number of all pages.
    pub(super) page: usize,
    pub(super) pages: usize,
    /// Number of the peers on all pages.
    pub(super) total: usize,
}

/// All peers, and the tunnel.
#[derive(Clone, Debug, Default)]
pub(super) struct Snapshot {
    pub(super) peers: Vec<Peer>,
    /// Warnings about the host.
    pub(super) problems: Vec<String>,
    /// Packets dropped, by reason.
    pub(super) dropped: Vec<(String, u64)>,
    /// Repairs of the host's state, by what was repaired.
    pub(super) repairs: Vec<(String, u64)>,
    /// The status of the tunnel, with the peers that the file does not have; `None` if it does not
    /// answer.
    pub(super) status: Option<TunnelStatus>,
    /// The tunnel; `None` if it does not answer.
    pub(super) tunnel: Option<Tunnel>,
    /// Time since 1970 at which it was taken.
    pub(super) at: Duration,
}

/// The tunnel.
#[derive(Clone, Debug)]
pub(super) struct Tunnel {
    pub(super) version: String,
    pub(super) listen_port: u16,
    /// False if the device is down.
    pub(super) is_up: bool,
    pub(super) public_key: Option<PublicKey>,
}

/// The values of a peer that change, as the page's script reads them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Row {
    /// Name of the row.
    pub(super) id: String,
    /// Name of the state in the style sheet, and its text.
    pub(super) state: &'static str,
    pub(super) label: &'static str,
    pub(super) handshake: String,
    pub(super) endpoint: String,
    /// Bytes received from the peer, and sent to it.
    pub(super) received: u64,
    pub(super) sent: u64,
    /// The same as texts.
    pub(super) received_text: String,
    pub(super) sent_text: String,
}

impl Snapshot {
    /// Combines the peers of the file with the state of the tunnel, if that is known.
    pub(super) fn new(peers: Vec<PeerInFile>, status: Option<TunnelStatus>, at: Duration) -> Self {
        let Some(status) = status else {
            let peers = peers.into_iter().map(|file| Peer { file, live: None }).collect();
            return Self { peers, at, ..Self::default() };
        };
        let mut status = status;
        let live = std::mem::take(&mut status.peers);
        let mut live: HashMap<PublicKey, TunnelPeer> =
            live.into_iter().map(|peer| (peer.public_key, peer)).collect();
        let peers = peers.into_iter().map(|file| Peer { live: live.remove(&file.key), file }).collect();
        let TunnelStatus { problems, dropped, repairs, .. } = status.clone();
        Self {
            peers,
            problems,
            dropped: dropped.into_iter().filter(|(_, count)| *count > 0).collect(),
            repairs: repairs.into_iter().filter(|(_, count)| *count > 0).collect(),
            tunnel: Some(Tunnel {
                version: status.version.clone(),
                listen_port: status.listen_port,
                is_up: status.is_up != Some(false),
                public_key: status.public_key,
            }),
            status: Some(TunnelStatus { peers: live.into_values().collect(), ..status }),
            at,
        }
    }

    /// Returns the peers that a person may see.
    fn of<'a>(&'a self, principal: &'a Principal) -> impl Iterator<Item = &'a Peer> {
        self.peers.iter().filter(|peer| peer.is_visible_to(principal))
    }

    /// Returns the peer with this key, given as in [`id`], if the person may see it.
    pub(super) fn find(&self, principal: &Principal, wanted: &str) -> Option<&Peer> {
        self.peers.iter().find(|peer| id(&peer.file.key) == wanted && peer.is_visible_to(principal))
    }

    /// Returns the peers that a page shows to a person.
    pub(super) fn shown<'a>(&'a self, principal: &'a Principal, shown: &Shown) -> Listed<'a> {
        let (find, page) = match shown {
            Shown::Peer(id) => {
                let peers: Vec<_> = self.find(principal, id).into_iter().collect();
                return Listed { total: peers.len(), peers, page: 1, pages: 1 };
            }
            Shown::List { find, page } => (find.trim().to_lowercase(), *page),
        };
        let all: Vec<_> = self.of(principal).filter(|peer| peer.matches(principal, &find)).collect();
        let pages = all.len().div_ceil(PAGE_SIZE).max(1);
        let page = page.clamp(1, pages);
        let total = all.len();
        let peers = all.into_iter().skip((page - 1) * PAGE_SIZE).take(PAGE_SIZE).collect();
        Listed { peers, page, pages, total }
    }

    /// Returns the rows of a person's page that differ from those of `previous`.
    pub(super) fn changed_rows(
        &self,
        principal: &Principal,
        shown: &Shown,
        previous: Option<&Self>,
    ) -> Vec<Row> {
        let peers = self.shown(principal, shown).peers;
        let keys: HashSet<_> = peers.iter().map(|peer| peer.file.key).collect();
        let before: HashMap<_, _> = previous
            .iter()
            .flat_map(|previous| previous.peers.iter().map(|peer| (previous.at, peer)))
            .filter(|(_, peer)| keys.contains(&peer.file.key))
            .map(|(at, peer)| (peer.file.key, peer.row(at)))
            .collect();
        let rows = peers.iter().map(|peer| (peer.file.key, peer.row(self.at)));
        rows.filter(|(key, row)| before.get(key) != Some(row)).map(|(_, row)| row).collect()
    }

    /// Returns the owners of peers, and the number of each one's peers.
    pub(super) fn owners(&self) -> BTreeMap<&str, usize> {
        let mut owners = BTreeMap::new();
        let names = self.peers.iter().map(|peer| peer.setting(PeerComment::Owner));
        for name in names.filter(|name| !name.is_empty()) {
            *owners.entry(name).or_default() += 1;
        }
        owners
    }

    /// Returns the traffic of all peers together; `None` if it is not kept.
    pub(super) fn traffic(&self) -> Option<Traffic> {
        let live = self.peers.iter().filter_map(|peer| peer.live.as_ref()?.traffic);
        live.reduce(|mut sum, each| {
            let add = |sum: &mut Bytes, each: Bytes| {
                sum.received = sum.received.saturating_add(each.received);
                sum.sent = sum.sent.saturating_add(each.sent);
            };
            add(&mut sum.day.current, each.day.current);
            add(&mut sum.day.previous, each.day.previous);
            add(&mut sum.month.current, each.month.current);
            add(&mut sum.month.previous, each.month.previous);
            sum.total.received = sum.total.received.saturating_add(each.total.received);
            sum.total.sent = sum.total.sent.saturating_add(each.total.sent);
            sum
        })
    }

    /// Returns the name of the peer with this address.
    pub(super) fn name_at(&self, address: IpAddr) -> Option<String> {
        let [v4, v6] = [format!("{address}/32"), format!("{address}/128")];
        let is_own = |network: &String| *network == v4 || *network == v6;
        self.peers.iter().find(|peer| peer.file.networks.iter().any(is_own)).map(Peer::name)
    }
}

/// Returns the name of a peer in the page's addresses: its key in hexadecimal digits.
pub(super) fn id(key: &PublicKey) -> String {
    key.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Peer {
    /// Returns the name, or the beginning of the key.
    pub(super) fn name(&self) -> String {
        match &self.file.name {
            Some(name) => name.as_str().to_owned(),
            None => format!("{}…", self.file.key.to_string().chars().take(KEY_LETTERS).collect::<String>()),
        }
    }

    /// Returns its addresses in the VPN, and the networks behind it, as their fields have them;
    /// `None` if there are too many.
    pub(super) fn addresses_and_sites(&self) -> Option<(String, String)> {
        let PeerInFile { networks, sites, more_networks, .. } = &self.file;
        let own = networks.iter().filter(|network| !sites.contains(network));
        let own: Vec<_> = own.map(|network| network.split('/').next().unwrap_or_default()).collect();
        (*more_networks == 0).then(|| (own.join(", "), sites.join(", ")))
    }

    /// Returns its allowed IPs, the first of them if there are many.
    pub(super) fn networks(&self) -> String {
        let more = self.file.more_networks;
        let more = if more == 0 { String::new() } else { format!(" … (+{more})") };
        format!("{}{more}", self.file.networks.join(", "))
    }

    /// Returns the value of a setting; empty if it has none.
    pub(super) fn setting(&self, wanted: PeerComment) -> &str {
        let mut values = self.file.settings.iter().filter(|(setting, _)| *setting == wanted);
        values.next().map_or("", |(_, value)| value.as_str())
    }

    pub(super) fn is_disabled(&self) -> bool {
        !self.setting(PeerComment::Disabled).is_empty()
    }

    /// Returns the state: what the file says counts before what the tunnel reports.
    pub(super) fn state(&self) -> PeerState {
        let excluded = self.file.exclusion.map(PeerState::from);
        let is_invited = !self.setting(PeerComment::Invitation).is_empty();
        let live = || self.live.as_ref().map_or(PeerState::Never, PeerState::of_live);
        excluded.or(is_invited.then_some(PeerState::Invited)).unwrap_or_else(live)
    }

    /// Returns true if the person may see the peer: an owner those that the file says are theirs.
    pub(super) fn is_visible_to(&self, principal: &Principal) -> bool {
        match principal {
            Principal::Admin => true,
            Principal::Owner(owner) => self.setting(PeerComment::Owner) == owner.as_str(),
            Principal::Token(_) | Principal::Invitation => false,
        }
    }

    /// Returns true if a part of its name, addresses or key is `text`, in lower case, or of its
    /// note, which is the administrator's.
    fn matches(&self, principal: &Principal, text: &str) -> bool {
        let has = |value: &str| value.to_lowercase().contains(text);
        text.is_empty()
            || has(&self.name())
            || (*principal == Principal::Admin && has(self.setting(PeerComment::Note)))
            || self.file.networks.iter().any(|network| has(network))
            || has(&self.file.key.to_string())
    }

    /// Returns the values that change.
    pub(super) fn row(&self, now: Duration) -> Row {
        let live = self.live.as_ref();
        let time = live.map(TunnelPeer::latest_handshake).filter(|time| !time.is_zero());
        let endpoint = live.and_then(|live| live.endpoint);
        let (received, sent) = live.map_or((0, 0), |live| (live.received, live.sent));
        let state = self.state();
        let none = || texts::NEVER.to_owned();
        Row {
            id: id(&self.file.key),
            state: state.text(),
            label: texts::state(state),
            handshake: time.map_or_else(none, |time| texts::age(now.saturating_sub(time))),
            endpoint: endpoint.map_or_else(none, |endpoint| endpoint.to_string()),
            received,
            sent,
            received_text: texts::bytes(received),
            sent_text: texts::bytes(sent),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::admin::messages::SettingText;
    use crate::config::TunName;
    use crate::config::peer_settings::Exclusion;

    const ADMIN: Principal = Principal::Admin;

    /// Returns a peer of the file.
    pub(in crate::admin) fn in_file(number: u8, name: &str) -> PeerInFile {
        PeerInFile {
            key: PublicKey::from_bytes([number; 32]),
            name: name.parse().ok(),
            networks: vec![format!("10.8.0.{number}/32")],
            more_networks: 0,
            sites: Vec::new(),
            has_preshared_key: true,
            persistent_keepalive: 0,
            settings: Vec::new(),
            long_settings: Vec::new(),
            exclusion: None,
        }
    }

    /// Returns the state of a tunnel with one peer.
    pub(in crate::admin) fn status(number: u8, handshake: u64, received: u64) -> TunnelStatus {
        let mut status = TunnelStatus::new(&TunName::default());
        let mut peer = TunnelPeer::new(PublicKey::from_bytes([number; 32]));
        peer.last_handshake = Duration::from_secs(handshake);
        peer.has_session = true;
        peer.received = received;
        peer.traffic = Some(Traffic::NONE);
        status.peers.push(peer);
        status.dropped.insert("no_route".to_owned(), 5);
        status
    }

    #[test]
    fn states_are_told_apart() {
        let now = Duration::from_secs(10_000);
        let mut files: Vec<_> = (1..=5).map(|number| in_file(number, "x")).collect();
        files[1].exclusion = Some(Exclusion::Disabled);
        files[2].exclusion = Some(Exclusion::Expired);
        let mut status = status(1, 9_900, 5);
        let mut over = TunnelPeer::new(files[4].key);
        over.is_over_quota = true;
        status.peers.push(over);
        let snapshot = Snapshot::new(files, Some(status), now);
        let states: Vec<_> = snapshot.peers.iter().map(|peer| peer.row(now).state).collect();
        assert_eq!(states, ["active", "disabled", "expired", "never", "over quota"]);
    }

    #[test]
    fn only_what_changes_is_sent() {
        let at = Duration::from_secs(10_000);
        let files = vec![in_file(1, "a"), in_file(2, "b")];
        let all = Shown::List { find: String::new(), page: 1 };
        let first = Snapshot::new(files.clone(), Some(status(1, 9_990, 5)), at);
        assert_eq!(first.changed_rows(&ADMIN, &all, None).len(), 2);
        let second = Snapshot::new(files.clone(), Some(status(1, 9_990, 6)), at + Duration::from_secs(1));
        let rows = second.changed_rows(&ADMIN, &all, Some(&first));
        assert_eq!(rows.iter().map(|row| row.received).collect::<Vec<_>>(), [6]);
        assert!(second.changed_rows(&ADMIN, &all, Some(&second)).is_empty());
        assert_eq!(second.find(&ADMIN, &rows[0].id), Some(&second.peers[0]));
        let other = Shown::Peer(id(&files[1].key));
        assert!(second.changed_rows(&ADMIN, &other, Some(&first)).is_empty());
        assert_eq!(second.changed_rows(&ADMIN, &other, None).len(), 1);
    }

    #[test]
    fn peers_are_found_and_listed_by_pages() {
        let mut files: Vec<_> = (0..120).map(|number| in_file(number, &format!("Phone {number}"))).collect();
        files[7].settings.push((PeerComment::Note, SettingText::cut("room <5>".to_owned())));
        let snapshot = Snapshot::new(files, None, Duration::ZERO);
        let listed = |find: &str, page| {
            let shown = snapshot.shown(&ADMIN, &Shown::List { find: find.to_owned(), page });
            let first = shown.peers.first().map(|peer| peer.name());
            (first.unwrap_or_default(), shown.peers.len(), shown.page, shown.pages, shown.total)
        };
        assert_eq!(listed("", 1), ("Phone 0".to_owned(), 50, 1, 3, 120));
        assert_eq!(listed("", 3), ("Phone 100".to_owned(), 20, 3, 3, 120));
        assert_eq!(listed(" phone 11", 9), ("Phone 11".to_owned(), 11, 1, 1, 11));
        assert_eq!(listed("ROOM <", 1), ("Phone 7".to_owned(), 1, 1, 1, 1));
        assert_eq!(listed("10.8.0.99/", 1).0, "Phone 99");
        assert_eq!(listed("nobody", 1), (String::new(), 0, 1, 1, 0));
        assert_eq!(snapshot.name_at("10.8.0.9".parse().unwrap()), Some("Phone 9".to_owned()));
    }

    #[test]
    fn an_owner_sees_and_finds_their_own_peers_only() {
        let mut files: Vec<_> = (1..=4).map(|number| in_file(number, &format!("Phone {number}"))).collect();
        for (file, owner) in files.iter_mut().zip(["anna", "", "anna.b", "anna"]) {
            file.settings.push((PeerComment::Owner, SettingText::cut(owner.to_owned())));
            file.settings.push((PeerComment::Note, SettingText::cut("room 5".to_owned())));
        }
        let now = Duration::from_secs(1000);
        let snapshot = Snapshot::new(files.clone(), Some(status(2, 900, 5)), now);
        let anna = Principal::Owner("anna".parse().unwrap());
        let names = |principal, find: &str| {
            let shown = Shown::List { find: find.to_owned(), page: 1 };
            let Listed { peers, total, .. } = snapshot.shown(principal, &shown);
            assert_eq!(peers.len(), total);
            peers.iter().map(|peer| peer.name()).collect::<Vec<_>>()
        };
        assert_eq!(names(&anna, ""), ["Phone 1", "Phone 4"]);
        assert_eq!((names(&anna, "phone 2"), names(&anna, "room")), (vec![], vec![]));
        assert_eq!(names(&ADMIN, "room").len(), 4);
        for (file, is_own) in files.iter().zip([true, false, false, true]) {
            let id = id(&file.key);
            assert_eq!(snapshot.find(&anna, &id).is_some(), is_own);
            assert_eq!(snapshot.changed_rows(&anna, &Shown::Peer(id), None).len(), usize::from(is_own));
        }
        let all = Shown::List { find: String::new(), page: 1 };
        assert_eq!(snapshot.changed_rows(&anna, &all, None).len(), 2);
        assert_eq!(snapshot.owners().into_iter().collect::<Vec<_>>(), [("anna", 2), ("anna.b", 1)]);
    }
}
