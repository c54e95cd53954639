//! Bodies of responses: those about tunnels and peers are the documents of the commands.

use serde::Serialize;

use super::super::http::{Response, Status};
use super::super::messages::{ChangeRecord, ClientText, Field, Principal, ServerSetting, SettingText};
use super::super::snapshot::{Peer, Snapshot};
use crate::config::peer_settings::PeerComment;
use crate::config::{Network, TunName};
use crate::documents::{ListedPeer, peers_to_json, tunnels_to_json};
use crate::uapi::{PeerState, TunnelPeer, TunnelStatus};

/// The OpenAPI file.
pub(super) const DESCRIPTION: &str = include_str!("../../../docs/src/reference/openapi.json");
const JSON: &str = "application/json";

/// The file of a peer with new keys.
#[derive(Serialize)]
struct Client<'a> {
    name: &'a str,
    file: &'a str,
}

#[derive(Serialize)]
struct Changes<'a> {
    changes: Vec<Change<'a>>,
}

#[derive(Serialize)]
struct Change<'a> {
    at: u64,
    from: String,
    token: Option<&'a str>,
    owner: Option<&'a str>,
    text: &'a str,
}

/// Returns the tunnel, as `wontun show --json` prints it; `None` if it does not answer.
pub(in crate::admin) fn tunnels(snapshot: &Snapshot) -> Option<Response> {
    let known = snapshot.status.as_ref()?;
    let listed = snapshot.peers.iter().filter_map(|peer| peer.live.as_ref());
    let peers = listed.chain(&known.peers).cloned().collect();
    let mut status = TunnelStatus { peers, ..known.clone() };
    status.sort();
    Some(json(tunnels_to_json(&[status])))
}

/// Returns all peers, as `wontun peer list --json` prints them.
pub(in crate::admin) fn peers(tunnel: &str, snapshot: &Snapshot) -> Response {
    let peers: Vec<_> = snapshot.peers.iter().map(listed).collect();
    of_peers(tunnel, &peers)
}

/// Returns a peer, as `wontun peer show --json` prints it.
pub(in crate::admin) fn peer(tunnel: &str, peer: &Peer) -> Response {
    of_peers(tunnel, &[listed(peer)])
}

fn of_peers(tunnel: &str, peers: &[ListedPeer]) -> Response {
    // the name of a tunnel that runs
    let tunnel: TunName = tunnel.parse().unwrap_or_default();
    json(peers_to_json(&tunnel, peers))
}

/// Returns a peer as the commands show it: as the tunnel reports it, or else as the file has it.
fn listed(peer: &Peer) -> ListedPeer {
    let Peer { file, live } = peer;
    let from_file = || TunnelPeer {
        has_preshared_key: file.has_preshared_key,
        allowed_ips: file.networks.iter().filter_map(|text| text.parse().ok().map(Network::prefix)).collect(),
        persistent_keepalive: file.persistent_keepalive,
        ..TunnelPeer::new(file.key)
    };
    let known = match live {
        // the file has more of a peer without access
        Some(live) if live.exclusion.is_some() => {
            TunnelPeer { earlier_handshake: live.earlier_handshake, traffic: live.traffic, ..from_file() }
        }
        Some(live) => live.clone(),
        None => from_file(),
    };
    let of_file = file.exclusion.map(PeerState::from);
    let is_invited = file.settings.iter().any(|(key, _)| *key == PeerComment::Invitation);
    let state = of_file.or(is_invited.then_some(PeerState::Invited));
    ListedPeer {
        peer: TunnelPeer { name: file.name.clone(), ..known },
        running: live.as_ref().is_some_and(|live| live.exclusion.is_none()),
        state: state.or_else(|| live.as_ref().map(PeerState::of_live)),
        settings: file.settings.iter().map(|(key, value)| (*key, value.as_str().to_owned())).collect(),
    }
}

/// Returns the file of a peer with new keys.
pub(in crate::admin) fn client(status: Status, name: &str, file: &ClientText) -> Response {
    let file = file.as_str();
    // reserved whole: a vector that grows leaves copies of the key behind
    let mut body = Vec::with_capacity(2 * (file.len() + name.len()) + 64);
    // writing to memory does not fail
    let _ = serde_json::to_writer(&mut body, &Client { name, file });
    body.push(b'\n');
    Response::new(status, JSON, body)
}

/// Returns the values of the server's file for all clients.
pub(in crate::admin) fn settings(settings: &[(ServerSetting, SettingText)]) -> Response {
    let values = ServerSetting::ALL.into_iter().map(|setting| {
        let text = settings.iter().find(|(each, _)| *each == setting).map(|(_, text)| text.as_str());
        (Field::Server(setting).name(), text.filter(|text| !text.is_empty()))
    });
    json(crate::json::document(&values.collect::<std::collections::BTreeMap<_, _>>()))
}

/// Returns the latest changes.
pub(in crate::admin) fn changes(changes: &[ChangeRecord]) -> Response {
    let changes = changes.iter().map(|ChangeRecord { at, from, by, text }| Change {
        at: *at,
        from: from.to_string(),
        token: match by {
            Principal::Token(name) => Some(name.as_str()),
            _ => None,
        },
        owner: match by {
            Principal::Owner(name) => Some(name.as_str()),
            _ => None,
        },
        text: text.as_str(),
    });
    json(crate::json::document(&Changes { changes: changes.collect() }))
}

/// Returns the OpenAPI file.
pub(in crate::admin) fn description() -> Response {
    json(DESCRIPTION.to_owned())
}

fn json(text: String) -> Response {
    Response::new(Status::Ok, JSON, text.into_bytes())
}
