//! JSON documents about tunnels and peers, as described in docs/src/reference/json.md: one document
//! on one line. Those of the commands and of the admin page's API are the same.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::SocketAddr;

use serde::{Serialize, Serializer};

use crate::config::peer_settings::PeerComment;
use crate::config::{PeerName, TunName};
use crate::json::document;
use crate::traffic::{Bytes, Traffic};
use crate::uapi::PeerState;
use crate::uapi::{TunnelPeer, TunnelStatus};
use wontun_proto::allowed_ips::Prefix;
use wontun_proto::wireguard::PublicKey;

/// A peer of a server's file, with its state in the tunnel if it is `running` and knows the peer.
#[derive(Clone, Debug)]
pub(crate) struct ListedPeer {
    pub(crate) peer: TunnelPeer,
    pub(crate) running: bool,
    /// State of the peer, if it is known.
    pub(crate) state: Option<PeerState>,
    /// The settings that it has, as the file has them.
    pub(crate) settings: Vec<(PeerComment, String)>,
}

/// The document of `wontun show`.
#[derive(Serialize)]
struct Tunnels<'a> {
    tunnels: Vec<Tunnel<'a>>,
}

/// The document of `wontun peer`.
#[derive(Serialize)]
struct Peers<'a> {
    tunnel: &'a TunName,
    peers: Vec<Peer<'a>>,
}

#[derive(Serialize)]
struct Tunnel<'a> {
    name: &'a TunName,
    version: &'a str,
    #[serde(serialize_with = "optional_text")]
    public_key: Option<&'a PublicKey>,
    listen_port: u16,
    fwmark: u32,
    mtu: Option<u32>,
    up: Option<bool>,
    dropped: &'a BTreeMap<String, u64>,
    repairs: &'a BTreeMap<String, u64>,
    problems: &'a [String],
    peers: Vec<Peer<'a>>,
}

#[derive(Serialize)]
struct Peer<'a> {
    name: Option<&'a PeerName>,
    #[serde(serialize_with = "text")]
    public_key: &'a PublicKey,
    has_preshared_key: bool,
    has_session: bool,
    state: Option<PeerState>,
    #[serde(serialize_with = "optional_text")]
    endpoint: Option<SocketAddr>,
    #[serde(serialize_with = "texts")]
    allowed_ips: &'a [Prefix],
    /// In seconds since 1970; `None` for never.
    latest_handshake: Option<u64>,
    received_bytes: u64,
    sent_bytes: u64,
    /// `None` if it is not known.
    traffic: Option<Periods>,
    /// In seconds; `None` for off.
    persistent_keepalive: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    running: Option<bool>,
    /// The values as the file has them, by their keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    settings: Option<BTreeMap<String, &'a str>>,
}

/// Traffic of all runs and of periods.
#[derive(Serialize)]
struct Periods {
    total: ByteCounts,
    month: ByteCounts,
    previous_month: ByteCounts,
    day: ByteCounts,
    previous_day: ByteCounts,
}

#[derive(Serialize)]
struct ByteCounts {
    received_bytes: u64,
    sent_bytes: u64,
}

impl From<Bytes> for ByteCounts {
    fn from(Bytes { received, sent }: Bytes) -> Self {
        Self { received_bytes: received, sent_bytes: sent }
    }
}

impl From<Traffic> for Periods {
    fn from(Traffic { total, day, month }: Traffic) -> Self {
        let total = Bytes { received: total.received, sent: total.sent };
        Self {
            total: total.into(),
            month: month.current.into(),
            previous_month: month.previous.into(),
            day: day.current.into(),
            previous_day: day.previous.into(),
        }
    }
}

impl<'a> From<&'a TunnelStatus> for Tunnel<'a> {
    fn from(status: &'a TunnelStatus) -> Self {
        Self {
            name: &status.name,
            version: &status.version,
            public_key: status.public_key.as_ref(),
            listen_port: status.listen_port,
            fwmark: status.fwmark,
            mtu: status.mtu,
            up: status.is_up,
            dropped: &status.dropped,
            repairs: &status.repairs,
            problems: &status.problems,
            peers: status.peers.iter().map(Peer::from).collect(),
        }
    }
}

impl<'a> From<&'a TunnelPeer> for Peer<'a> {
    fn from(peer: &'a TunnelPeer) -> Self {
        Self {
            name: peer.name.as_ref(),
            public_key: &peer.public_key,
            has_preshared_key: peer.has_preshared_key,
            has_session: peer.has_session,
            state: Some(PeerState::of_live(peer)),
            endpoint: peer.endpoint,
            allowed_ips: &peer.allowed_ips,
            latest_handshake: Some(peer.latest_handshake().as_secs()).filter(|&seconds| seconds > 0),
            received_bytes: peer.received,
            sent_bytes: peer.sent,
            traffic: peer.traffic.map(Periods::from),
            persistent_keepalive: Some(peer.persistent_keepalive).filter(|&seconds| seconds > 0),
            running: None,
            settings: None,
        }
    }
}

impl<'a> From<&'a ListedPeer> for Peer<'a> {
    fn from(listed: &'a ListedPeer) -> Self {
        let settings = listed.settings.iter().map(|(key, value)| (words(*key, '_'), value.as_str()));
        Self {
            state: listed.state,
            running: Some(listed.running),
            settings: Some(settings.collect()),
            ..Self::from(&listed.peer)
        }
    }
}

/// Returns the words of a comment's key: `allow`, `separator` and `from` for `AllowFrom`.
pub(crate) fn words(key: PeerComment, separator: char) -> String {
    let mut text = String::new();
    let mut is_inside = false;
    for letter in key.name().chars() {
        if letter.is_ascii_uppercase() && is_inside {
            text.push(separator);
        }
        // not within an abbreviation
        is_inside = letter.is_ascii_lowercase();
        text.push(letter.to_ascii_lowercase());
    }
    text
}

/// Formats one document with all tunnels.
pub(crate) fn tunnels_to_json(statuses: &[TunnelStatus]) -> String {
    document(&Tunnels { tunnels: statuses.iter().map(Tunnel::from).collect() })
}

/// Formats one document with the peers of a server's file.
pub(crate) fn peers_to_json(tun: &TunName, peers: &[ListedPeer]) -> String {
    document(&Peers { tunnel: tun, peers: peers.iter().map(Peer::from).collect() })
}

fn text<S: Serializer>(value: &impl Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

fn optional_text<S: Serializer>(value: &Option<impl Display>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => serializer.collect_str(value),
        None => serializer.serialize_none(),
    }
}

fn texts<S: Serializer>(values: &[impl Display], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(values.iter().map(ToString::to_string))
}

/// Panics unless the fields of `documents`, one on each line, are exactly those that
/// docs/src/reference/json.md describes below the `headings`.
#[cfg(test)]
pub(crate) fn assert_documented(documents: &str, headings: &[&str]) {
    use std::collections::BTreeSet;

    use serde_json::Value;

    fn fields(value: &Value) -> Vec<String> {
        match value {
            Value::Object(object) => {
                object.iter().flat_map(|(key, value)| [vec![key.clone()], fields(value)].concat()).collect()
            }
            Value::Array(items) => items.iter().flat_map(fields).collect(),
            _ => Vec::new(),
        }
    }
    let written: BTreeSet<_> =
        documents.lines().flat_map(|line| fields(&serde_json::from_str(line).unwrap())).collect();
    let page = include_str!("../docs/src/reference/json.md");
    let sections =
        page.split("\n## ").filter(|section| headings.contains(&section.lines().next().unwrap_or_default()));
    let rows = sections.flat_map(str::lines).filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    assert_eq!(written, rows.map(str::to_owned).collect());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::peer_settings::PeerSettings;

    /// Every field is documented in docs/src/reference/json.md, and no other is.
    #[test]
    fn the_fields_are_those_that_are_documented() {
        let peer = TunnelPeer {
            traffic: Some(Traffic::NONE),
            ..TunnelPeer::new(wontun_proto::wireguard::PublicKey::from_bytes([1; 32]))
        };
        let mut settings = PeerSettings::NONE;
        for key in PeerComment::ALL {
            let values = [
                "yes",
                "2026-12-31",
                "dns",
                "8443/tcp=443",
                "text",
                "10.0.0.0/8",
                "9.9.9.9",
                "1400",
                "25",
                "20Mbit",
                "1GB/month",
            ];
            let is_set = values.into_iter().any(|value| settings.set(key, value).is_ok());
            assert!(is_set && settings.get(key).is_some(), "{key}: a value of it is missing here");
        }
        let settings = settings.entries();
        let listed = ListedPeer { peer: peer.clone(), running: true, state: None, settings };
        let status = TunnelStatus { peers: vec![peer.clone()], ..TunnelStatus::new(&TunName::default()) };
        let documents = tunnels_to_json(&[status]) + &peers_to_json(&TunName::default(), &[listed]);
        assert!(documents.contains("latest_handshake") && documents.contains("running"), "{documents}");
        assert_documented(
            &documents,
            &["Document", "Tunnel", "Peer", "Traffic of a peer", "Settings of a peer"],
        );
    }

    #[test]
    fn nothing_runs() {
        assert_eq!(tunnels_to_json(&[]), "{\"tunnels\":[]}\n");
        assert_eq!(peers_to_json(&TunName::default(), &[]), "{\"tunnel\":\"tun0\",\"peers\":[]}\n");
    }
}
