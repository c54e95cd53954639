//! Status of a tunnel, parsed from its answer.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use super::hex::decode as key_from_hex;
use super::response::{ACCESS, ACCESS_DISABLED, ACCESS_EXPIRED, ACCESS_UNANSWERED};
use crate::config::peer_settings::Exclusion;
use crate::config::{PeerName, TunName};
use crate::traffic::Traffic;
use wontun_proto::allowed_ips::Prefix;
use wontun_proto::wireguard::PublicKey;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TunnelStatus {
    pub(crate) name: TunName,
    pub(crate) version: String,
    pub(crate) public_key: Option<PublicKey>,
    pub(crate) listen_port: u16,
    pub(crate) fwmark: u32,
    pub(crate) mtu: Option<u32>,
    pub(crate) is_up: Option<bool>,
    pub(crate) repairs: BTreeMap<String, u64>,
    /// Problems of the host, one line each.
    pub(crate) problems: Vec<String>,
    pub(crate) dropped: BTreeMap<String, u64>,
    pub(crate) peers: Vec<TunnelPeer>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TunnelPeer {
    pub(crate) name: Option<PeerName>,
    pub(crate) public_key: PublicKey,
    pub(crate) has_preshared_key: bool,
    pub(crate) has_session: bool,
    pub(crate) endpoint: Option<SocketAddr>,
    /// Time since 1970; zero for never.
    pub(crate) last_handshake: Duration,
    /// Time of the last handshake of an earlier run since 1970; zero if not known.
    pub(crate) earlier_handshake: Duration,
    pub(crate) received: u64,
    pub(crate) sent: u64,
    /// Traffic of all runs and of the present periods, without packets and the numbers of the
    /// periods; `None` if it is not known.
    pub(crate) traffic: Option<Traffic>,
    /// True if the peer has used up its quota.
    pub(crate) is_over_quota: bool,
    /// In seconds; 0 for off.
    pub(crate) persistent_keepalive: u16,
    pub(crate) allowed_ips: Vec<Prefix>,
    /// Reason why it has no access; the other values are unknown then, except for the name, the
    /// last handshake and the traffic.
    pub(crate) exclusion: Option<Exclusion>,
}

impl TunnelStatus {
    pub(crate) fn new(name: &TunName) -> Self {
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
    pub(crate) fn handle_line(&mut self, key: &str, value: &str) -> Option<()> {
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
    pub(crate) fn sort(&mut self) {
        self.peers.sort_by_key(|peer| std::cmp::Reverse(peer.last_handshake));
    }
}

impl TunnelPeer {
    pub(crate) const fn new(public_key: PublicKey) -> Self {
        Self {
            name: None,
            public_key,
            has_preshared_key: false,
            has_session: false,
            endpoint: None,
            last_handshake: Duration::ZERO,
            earlier_handshake: Duration::ZERO,
            received: 0,
            sent: 0,
            traffic: None,
            is_over_quota: false,
            persistent_keepalive: 0,
            allowed_ips: Vec::new(),
            exclusion: None,
        }
    }

    /// Returns the time of the latest handshake since 1970, which may be one of an earlier run;
    /// zero for never.
    pub(crate) fn latest_handshake(&self) -> Duration {
        self.last_handshake.max(self.earlier_handshake)
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
            "earlier_handshake_time_sec" => self.earlier_handshake = Duration::from_secs(value.parse().ok()?),
            "over_quota" => self.is_over_quota = value.parse().ok()?,
            "rx_bytes" => self.received = value.parse().ok()?,
            "tx_bytes" => self.sent = value.parse().ok()?,
            "persistent_keepalive_interval" => self.persistent_keepalive = value.parse().ok()?,
            ACCESS => {
                self.exclusion = match value {
                    ACCESS_DISABLED => Some(Exclusion::Disabled),
                    ACCESS_EXPIRED => Some(Exclusion::Expired),
                    ACCESS_UNANSWERED => Some(Exclusion::Unanswered),
                    _ => None,
                }
            }
            "allowed_ip" => {
                let (address, length) = value.split_once('/')?;
                self.allowed_ips.push(Prefix::new(address.parse().ok()?, length.parse().ok()?)?);
            }
            _ => return self.handle_traffic(key, value),
        }
        Some(())
    }

    /// Parses the bytes of a period; ignores other keys.
    fn handle_traffic(&mut self, key: &str, value: &str) -> Option<()> {
        let field = key.strip_suffix("_bytes").and_then(|field| field.rsplit_once('_'));
        let mut traffic = self.traffic.unwrap_or(Traffic::NONE);
        let bytes = match field {
            Some((period, "rx")) => bytes_of(&mut traffic, period, true),
            Some((period, "tx")) => bytes_of(&mut traffic, period, false),
            _ => None,
        };
        if let Some(bytes) = bytes {
            *bytes = value.parse().ok()?;
            self.traffic = Some(traffic);
        }
        Some(())
    }
}

/// Returns the number of bytes of a period, or of all runs.
fn bytes_of<'a>(traffic: &'a mut Traffic, period: &str, is_received: bool) -> Option<&'a mut u64> {
    let Traffic { total, day, month } = traffic;
    let bytes = match period {
        "total" => return Some(if is_received { &mut total.received } else { &mut total.sent }),
        "day" => &mut day.current,
        "previous_day" => &mut day.previous,
        "month" => &mut month.current,
        "previous_month" => &mut month.previous,
        _ => return None,
    };
    Some(if is_received { &mut bytes.received } else { &mut bytes.sent })
}

/// Returns true if the text has the form of a drop reason; any other text may be unsafe for a
/// terminal.
fn is_word(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

fn public_key(text: &str) -> Option<PublicKey> {
    key_from_hex(text.as_bytes()).map(|bytes| PublicKey::from_bytes(*bytes))
}
