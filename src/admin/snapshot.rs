//! The peers of the server and their state, as they were a moment ago.

use std::collections::HashMap;
use std::time::Duration;

use serde::Serialize;

use super::messages::{PeerInFile, Setting};
use crate::uapi::{TunnelPeer, TunnelStatus};
use wontun_proto::wireguard::PublicKey;

/// Age of a handshake up to which a peer counts as active: a session's lifetime
/// (`REJECT_AFTER_TIME` of the WireGuard paper).
const ACTIVE: Duration = Duration::from_secs(180);
/// Number of the first letters of a key that stand for a peer without a name.
const KEY_LETTERS: usize = 12;

/// A peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Peer {
    pub(super) file: PeerInFile,
    pub(super) live: Option<TunnelPeer>,
}

/// State of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PeerState {
    Active,
    Idle,
    /// Without a handshake since the tunnel was started.
    Never,
    Disabled,
    Expired,
}

/// All peers, and the tunnel.
#[derive(Clone, Debug, Default)]
pub(super) struct Snapshot {
    pub(super) peers: Vec<Peer>,
    /// Warnings about the host.
    pub(super) problems: Vec<String>,
    /// Packets dropped, by reason.
    pub(super) dropped: Vec<(String, u64)>,
    /// Time since 1970 at which it was taken.
    pub(super) at: Duration,
}

/// The values of a peer that change, as the page's script reads them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Row {
    /// Name of the row.
    pub(super) id: String,
    /// Name of the state.
    pub(super) state: &'static str,
    pub(super) handshake: String,
    pub(super) endpoint: String,
    /// Bytes received from the peer, and sent to it.
    pub(super) received: u64,
    pub(super) sent: u64,
}

impl Snapshot {
    /// Combines the peers of the file with the state of the tunnel, if that is known.
    pub(super) fn new(peers: Vec<PeerInFile>, status: Option<TunnelStatus>, at: Duration) -> Self {
        let Some(TunnelStatus { peers: live, problems, dropped, .. }) = status else {
            let peers = peers.into_iter().map(|file| Peer { file, live: None }).collect();
            return Self { peers, at, ..Self::default() };
        };
        let mut live: HashMap<PublicKey, TunnelPeer> =
            live.into_iter().map(|peer| (peer.public_key, peer)).collect();
        let peers = peers.into_iter().map(|file| Peer { live: live.remove(&file.key), file });
        Self { peers: peers.collect(), problems, dropped: dropped.into_iter().collect(), at }
    }

    /// Returns the peer with this key, given as in [`id`].
    pub(super) fn find(&self, wanted: &str) -> Option<&Peer> {
        self.peers.iter().find(|peer| id(&peer.file.key) == wanted)
    }

    /// Returns the rows that differ from those of `previous`.
    pub(super) fn changed_rows(&self, previous: Option<&Self>) -> Vec<Row> {
        let before: HashMap<_, _> = previous
            .iter()
            .flat_map(|previous| previous.peers.iter().map(|peer| (peer.file.key, peer.row(previous.at))))
            .collect();
        let rows = self.peers.iter().map(|peer| (peer.file.key, peer.row(self.at)));
        rows.filter(|(key, row)| before.get(key) != Some(row)).map(|(_, row)| row).collect()
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

    /// Returns the value of a setting.
    pub(super) fn setting(&self, wanted: Setting) -> &str {
        let mut values = self.file.settings.iter().filter(|(setting, _)| *setting == wanted);
        values.next().map_or("", |(_, value)| value)
    }

    pub(super) fn is_disabled(&self) -> bool {
        !self.setting(Setting::Disabled).is_empty()
    }

    pub(super) fn state(&self, now: Duration) -> PeerState {
        if self.is_disabled() {
            return PeerState::Disabled;
        }
        if self.file.is_expired {
            return PeerState::Expired;
        }
        match &self.live {
            Some(live) if live.last_handshake.is_zero() => PeerState::Never,
            Some(live) if live.has_session && now.saturating_sub(live.last_handshake) < ACTIVE => {
                PeerState::Active
            }
            Some(_) => PeerState::Idle,
            None => PeerState::Never,
        }
    }

    /// Returns the values that change.
    pub(super) fn row(&self, now: Duration) -> Row {
        let live = self.live.as_ref();
        let time = live.map(|live| live.last_handshake).filter(|time| !time.is_zero());
        Row {
            id: id(&self.file.key),
            state: self.state(now).name(),
            handshake: time.map_or_else(|| "–".to_owned(), |time| age(now.saturating_sub(time))),
            endpoint: live
                .and_then(|live| live.endpoint)
                .map_or_else(|| "–".to_owned(), |endpoint| endpoint.to_string()),
            received: live.map_or(0, |live| live.received),
            sent: live.map_or(0, |live| live.sent),
        }
    }
}

impl PeerState {
    /// Returns its name in the style sheet.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Idle => "idle",
            Self::Never => "never",
            Self::Disabled => "disabled",
            Self::Expired => "expired",
        }
    }
}

/// Returns an age in its largest unit, seconds in tens.
fn age(age: Duration) -> String {
    let seconds = age.as_secs();
    match seconds {
        0..10 => "now".to_owned(),
        10..60 => format!("{} s ago", seconds / 10 * 10),
        60..3600 => format!("{} min ago", seconds / 60),
        3600..86_400 => format!("{} h ago", seconds / 3600),
        _ => format!("{} d ago", seconds / 86_400),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::config::TunName;

    /// Returns a peer of the file.
    pub(in crate::admin) fn in_file(number: u8, name: &str) -> PeerInFile {
        PeerInFile {
            key: PublicKey::from_bytes([number; 32]),
            name: name.parse().ok(),
            networks: vec![format!("10.8.0.{number}/32")],
            settings: Vec::new(),
            is_expired: false,
        }
    }

    /// Returns the state of a tunnel with one peer.
    pub(in crate::admin) fn status(number: u8, handshake: u64, received: u64) -> TunnelStatus {
        let mut status = TunnelStatus::new(&TunName::default());
        let mut peer = TunnelPeer::new(PublicKey::from_bytes([number; 32]));
        peer.last_handshake = Duration::from_secs(handshake);
        peer.has_session = true;
        peer.received = received;
        status.peers.push(peer);
        status
    }

    #[test]
    fn states_are_told_apart() {
        let now = Duration::from_secs(10_000);
        let mut files: Vec<_> = (1..=4).map(|number| in_file(number, "x")).collect();
        files[1].settings.push((Setting::Disabled, "yes".to_owned()));
        files[2].is_expired = true;
        let snapshot = Snapshot::new(files, Some(status(1, 9_900, 5)), now);
        let states: Vec<_> = snapshot.peers.iter().map(|peer| peer.state(now).name()).collect();
        assert_eq!(states, ["active", "disabled", "expired", "never"]);
        assert_eq!(snapshot.peers[0].state(now + Duration::from_secs(100)), PeerState::Idle);
    }

    #[test]
    fn only_what_changes_is_sent() {
        let at = Duration::from_secs(10_000);
        let files = vec![in_file(1, "a"), in_file(2, "b")];
        let first = Snapshot::new(files.clone(), Some(status(1, 9_990, 5)), at);
        assert_eq!(first.changed_rows(None).len(), 2);
        let second = Snapshot::new(files.clone(), Some(status(1, 9_990, 6)), at + Duration::from_secs(1));
        let rows = second.changed_rows(Some(&first));
        assert_eq!(rows.iter().map(|row| row.received).collect::<Vec<_>>(), [6]);
        assert!(second.changed_rows(Some(&second)).is_empty());
        assert_eq!(second.find(&rows[0].id), Some(&second.peers[0]));
    }
}
