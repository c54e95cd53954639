//! Implements `wontun peer`: `add`, `invite`, `list`, `show`, `set`, `disable`, `enable`, `renew`,
//! `remove`, `reset` and `rename` for the clients of a server.

mod add;
mod check_access;
mod delivery;
mod file;
mod invite;
mod renew;
mod settings;
mod sites;
mod wanted;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub(crate) use self::add::add_peers;
pub(crate) use self::check_access::test_peer;
pub(crate) use self::file::deliver_file;
pub(crate) use self::invite::invite_peer;
pub(crate) use self::renew::renew_peer;
pub(crate) use self::settings::{disable_peers, set_peer};
use super::apply;
use super::error::CommandError;
use super::output::{stdout, write};
use super::peer_table::{self, Row};
use super::show::human;
use super::top::text::amount;
use crate::documents::{ListedPeer, peers_to_json};
use crate::server::{Folder, KeptKeys, PeerName, ServerFile, ServerPeer, peers};
use crate::uapi::PeerState;
use crate::uapi::{PeerChanges, TunnelPeer, TunnelStatus};
use wontun_proto::wireguard::PublicKey;

/// Removes peers, given by their names or public keys, from the server's file, also from the rules
/// of other peers, and from the running tunnel.
///
/// # Errors
/// [`CommandError`]. After any but [`CommandError::NotApplied`] the file is unchanged.
pub(crate) fn remove_peers(folder: &Folder, wanted: &[String]) -> Result<(), CommandError> {
    let (writer, before) = folder.lock()?;
    let mut file = before.clone();
    let mut keys = Vec::new();
    let mut reports = Vec::new();
    for wanted in wanted {
        let removed = peers::remove(&file, file.find(wanted)?)?;
        file = removed.file;
        keys.push(removed.key);
        let name = removed.name.filter(|_| !removed.changed.is_empty());
        reports.extend(name.map(|name| (name, removed.changed)));
    }
    writer.replace(file.text())?;
    for (name, changed) in reports {
        let _ = writeln!(io::stderr(), "wontun: removed '{name}' from the rules of {}", changed.join(", "));
    }
    let changes = keys.iter().map(|key| PeerChanges { remove: true, ..PeerChanges::new(*key) }).collect();
    let applied =
        apply::change_or_reload(folder, &before, &file, changes, Some("the peer is gone when it starts"));
    let kept = KeptKeys::of(folder);
    keys.iter().try_for_each(|key| kept.delete(key))?;
    applied
}

/// Renames a peer, given by its name or public key, in the server's file, also in the rules of
/// other peers, and in the running tunnel; its session continues.
///
/// # Errors
/// [`CommandError`]. After any but [`CommandError::NotApplied`] the file is unchanged.
pub(crate) fn rename_peer(folder: &Folder, wanted: &str, name: &PeerName) -> Result<(), CommandError> {
    let (writer, before) = folder.lock()?;
    let number = before.find(wanted)?;
    let Some(key) = before.peer(number).map(|peer| peer.peer.public_key) else { return Ok(()) };
    let file = peers::rename(&before, number, name)?;
    if file.text() == before.text() {
        return Ok(());
    }
    writer.replace(file.text())?;
    let changes = PeerChanges { update_only: true, name: Some(Some(name.clone())), ..PeerChanges::new(key) };
    apply::change_or_reload(folder, &before, &file, vec![changes], None)
}

/// Makes the running tunnel accept the next handshake of a peer, given by its name or public key,
/// whatever its clock says.
///
/// # Errors
/// [`CommandError`]. The tunnel must be running: it writes the state file.
pub(crate) fn reset_peer(folder: &Folder, wanted: &str) -> Result<(), CommandError> {
    let file = folder.read()?;
    let number = file.find(wanted)?;
    let Some(key) = file.peer(number).map(|peer| peer.peer.public_key) else { return Ok(()) };
    let changes = PeerChanges { update_only: true, forget_timestamp: true, ..PeerChanges::new(key) };
    apply::change_running(folder, &file, changes)
}

/// Prints the peers in the server's file, one per line or in the format of
/// docs/src/reference/json.md, with their state if the tunnel runs.
///
/// # Errors
/// [`CommandError`]: the file cannot be read, or the output cannot be written.
pub(crate) fn list_peers(folder: &Folder, as_json: bool) -> Result<(), CommandError> {
    let file = folder.read()?;
    let live = LivePeers::new(live_status(folder, &file));
    let peers: Vec<_> = file.peers().map(|peer| live.listed(&peer, now())).collect();
    if as_json {
        return print(&peers_to_json(folder.tun(), &peers));
    }
    let rows: Vec<_> = file.peers().zip(&peers).map(|(peer, listed)| row(&peer, listed, now())).collect();
    if rows.is_empty() {
        // not on standard output, which scripts read
        let _ = writeln!(io::stderr(), "wontun: no clients yet: 'wontun peer add NAME' adds one");
        return Ok(());
    }
    print(&peer_table::format(&rows))
}

/// Prints the state of a peer, given by its name or public key, without secrets: as text, or in the
/// format of docs/src/reference/json.md.
///
/// # Errors
/// [`CommandError`]: there is no such peer, the file cannot be read, or the output cannot be
/// written.
pub(crate) fn show_peer(folder: &Folder, wanted: &str, as_json: bool) -> Result<(), CommandError> {
    let file = folder.read()?;
    let number = file.find(wanted)?;
    let Some(peer) = file.peer(number) else { return Ok(()) };
    let listed = LivePeers::new(live_status(folder, &file)).listed(&peer, now());
    if as_json {
        return print(&peers_to_json(folder.tun(), &[listed]));
    }
    let mut text = human::format_peer(&listed, now(), human::wants_colours());
    if !listed.running {
        text.push_str("  (the tunnel is not running, or does not have the peer)\n");
    }
    print(&text)
}

/// The peers of the running tunnel, if there is one, by their keys.
struct LivePeers(BTreeMap<PublicKey, TunnelPeer>);

impl LivePeers {
    fn new(live: Option<TunnelStatus>) -> Self {
        let peers = live.into_iter().flat_map(|live| live.peers);
        Self(peers.map(|peer| (peer.public_key, peer)).collect())
    }

    /// Returns the state of a peer as the tunnel reports it, or else as configured in the file. The
    /// name always comes from the file.
    fn listed(&self, peer: &ServerPeer<'_>, now: Duration) -> ListedPeer {
        let live = self.0.get(&peer.peer.public_key);
        let from_file = || TunnelPeer {
            has_preshared_key: peer.peer.preshared_key.is_some(),
            allowed_ips: peer.peer.allowed_ips.clone(),
            persistent_keepalive: peer.peer.persistent_keepalive.map_or(0, u16::from),
            ..TunnelPeer::new(peer.peer.public_key)
        };
        let known = match live {
            // the file has more of a peer without access
            Some(live) if live.exclusion.is_some() => {
                TunnelPeer { earlier_handshake: live.earlier_handshake, traffic: live.traffic, ..from_file() }
            }
            Some(live) => live.clone(),
            None => from_file(),
        };
        let settings = peer.peer.settings();
        ListedPeer {
            peer: TunnelPeer { name: peer.name.clone(), ..known },
            running: live.is_some_and(|live| live.exclusion.is_none()),
            state: PeerState::of(settings, live, now),
            settings: settings.entries(),
        }
    }
}

/// Returns the line of a peer in the table; `-` for what is not known.
fn row(peer: &ServerPeer<'_>, listed: &ListedPeer, now: Duration) -> Row {
    let unknown = || "-".to_owned();
    let handshake = match listed.peer.latest_handshake() {
        time if !time.is_zero() => human::about(time, now),
        _ if listed.running => "never".to_owned(),
        _ => unknown(),
    };
    Row {
        name: peer.name_or_key(),
        networks: peer.peer.allowed_ips.clone(),
        handshake,
        month: listed.peer.traffic.map_or_else(unknown, |traffic| amount(traffic.month.current.both())),
        state: listed.state.map_or_else(unknown, |state| state.text().to_owned()),
    }
}

/// Returns the status of the running tunnel. If that fails, reports the error on standard error and
/// returns `None`: the file can be shown without it.
fn live_status(folder: &Folder, file: &ServerFile) -> Option<TunnelStatus> {
    apply::status(folder, file).unwrap_or_else(|error| {
        let _ = writeln!(io::stderr(), "wontun: {error}");
        None
    })
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Prints a text without secrets; it is no error if the reader is gone.
fn print(text: &str) -> Result<(), CommandError> {
    match write(&mut stdout()?, text.as_bytes()) {
        Err(CommandError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}
