//! Status of a tunnel, parsed from its answer.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use crate::config::{PeerName, TunName};
use crate::uapi::key_from_hex;
use wontun_proto::allowed_ips::Prefix;
use wontun_proto::wireguard::PublicKey;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::commands) struct TunnelStatus {
    pub(in crate::commands) name: TunName,
    pub(in crate::commands) version: String,
    pub(in crate::commands) public_key: Option<PublicKey>,
    pub(in crate::commands) listen_port: u16,
    pub(in crate::commands) fwmark: u32,
    pub(in crate::commands) mtu: Option<u32>,
    pub(in crate::commands) is_up: Option<bool>,
    pub(in crate::commands) repairs: BTreeMap<String, u64>,
    /// Problems of the host, one line each.
    pub(in crate::commands) problems: Vec<String>,
    pub(in crate::commands) dropped: BTreeMap<String, u64>,
    pub(in crate::commands) peers: Vec<TunnelPeer>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::commands) struct TunnelPeer {
    pub(in crate::commands) name: Option<PeerName>,
    pub(in crate::commands) public_key: PublicKey,
    pub(in crate::commands) has_preshared_key: bool,
    pub(in crate::commands) has_session: bool,
    pub(in crate::commands) endpoint: Option<SocketAddr>,
    /// Time since 1970; zero for never.
    pub(in crate::commands) last_handshake: Duration,
    pub(in crate::commands) received: u64,
    pub(in crate::commands) sent: u64,
    /// In seconds; 0 for off.
    pub(in crate::commands) persistent_keepalive: u16,
    pub(in crate::commands) allowed_ips: Vec<Prefix>,
}

impl TunnelStatus {
    pub(in crate::commands) fn new(name: &TunName) -> Self {
        Self {
            name: name.clone(),
            version: String::new(),
            public_key: None,
            listen_port: 0,
            fwmark: 0,
            mtu: None,
            is_up: None,
            repairs: BTreeMap::new(),
            problems: Vec::new(),
            dropped: BTreeMap::new(),
            peers: Vec::new(),
        }
    }

    /// Parses a line. Returns `None` if its value is invalid. Ignores unknown keys, which a newer
    /// version may send.
    pub(in crate::commands) fn handle_line(&mut self, key: &str, value: &str) -> Option<()> {
        if key == "public_key" {
            self.peers.push(TunnelPeer::new(public_key(value)?));
            return Some(());
        }
        if let Some(peer) = self.peers.last_mut() {
            return peer.handle_line(key, value);
        }
        match key {
            "version" => value.clone_into(&mut self.version),
            "own_public_key" => self.public_key = Some(public_key(value)?),
            "listen_port" => self.listen_port = value.parse().ok()?,
            "fwmark" => self.fwmark = value.parse().ok()?,
            "mtu" => self.mtu = Some(value.parse().ok()?),
            "device_up" => self.is_up = Some(value.parse().ok()?),
            // without control characters, which could move the cursor of a terminal
            "problem" => self.problems.push(value.chars().filter(|letter| !letter.is_control()).collect()),
            _ => {
                if let Some(piece) = key.strip_prefix("repair_").filter(|piece| is_word(piece)) {
                    self.repairs.insert(piece.to_owned(), value.parse().ok()?);
                }
                if let Some(reason) = key.strip_prefix("drop_").filter(|reason| is_word(reason)) {
                    self.dropped.insert(reason.to_owned(), value.parse().ok()?);
                }
            }
        }
        Some(())
    }

    /// Sorts the peers by their latest handshake, the newest first.
    pub(in crate::commands) fn sort(&mut self) {
        self.peers.sort_by_key(|peer| std::cmp::Reverse(peer.last_handshake));
    }
}

impl TunnelPeer {
    pub(in crate::commands) const fn new(public_key: PublicKey) -> Self {
        Self {
            name: None,
            public_key,
            has_preshared_key: false,
            has_session: false,
            endpoint: None,
            last_handshake: Duration::ZERO,
            received: 0,
            sent: 0,
            persistent_keepalive: 0,
            allowed_ips: Vec::new(),
        }
    }

    fn handle_line(&mut self, key: &str, value: &str) -> Option<()> {
        match key {
            // a name that must not be shown on a terminal is dropped
            "name" => self.name = value.parse().ok(),
            "has_preshared_key" => self.has_preshared_key = value.parse().ok()?,
            "has_session" => self.has_session = value.parse().ok()?,
            "endpoint" => self.endpoint = Some(value.parse().ok()?),
            "last_handshake_time_sec" => {
                let nanos = self.last_handshake.subsec_nanos();
                self.last_handshake = Duration::new(value.parse().ok()?, nanos);
            }
            "last_handshake_time_nsec" => {
                let nanos = value.parse().ok().filter(|nanos| *nanos < 1_000_000_000)?;
                self.last_handshake = Duration::new(self.last_handshake.as_secs(), nanos);
            }
            "rx_bytes" => self.received = value.parse().ok()?,
            "tx_bytes" => self.sent = value.parse().ok()?,
            "persistent_keepalive_interval" => self.persistent_keepalive = value.parse().ok()?,
            "allowed_ip" => {
                let (address, length) = value.split_once('/')?;
                self.allowed_ips.push(Prefix::new(address.parse().ok()?, length.parse().ok()?)?);
            }
            _ => {}
        }
        Some(())
    }
}

/// Returns true if the text has the form of a drop reason; any other text may be unsafe for a
/// terminal.
fn is_word(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

fn public_key(text: &str) -> Option<PublicKey> {
    key_from_hex(text.as_bytes()).map(|bytes| PublicKey::from_bytes(*bytes))
}
