//! The record of a peer.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use crate::traffic::{Bytes, PeriodTraffic, Traffic};
use wontun_proto::wireguard::{KEY_LEN, PublicKey, TIMESTAMP_LEN, Timestamp, Transfer};

/// Length of a record in bytes.
pub(super) const RECORD_LEN: usize = 256;

/// The saved state of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SavedPeer {
    /// Public key of the peer.
    pub public_key: PublicKey,
    /// Endpoint that the last handshake has confirmed.
    pub endpoint: Option<SavedEndpoint>,
    /// Time of the last completed handshake since 1970; zero for never.
    pub last_handshake: Duration,
    /// Latest timestamp of the peer's initiations.
    pub latest_timestamp: Option<Timestamp>,
    /// Traffic.
    pub traffic: Traffic,
}

/// An endpoint, and where the peer knows this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SavedEndpoint {
    /// Address and port of the peer.
    pub remote: SocketAddr,
    /// Address of this host that the peer sent to, if known.
    pub local: Option<IpAddr>,
    /// Port of this host.
    pub local_port: u16,
    /// True if the address was looked up, as one of the peer's host name.
    pub is_named: bool,
}

impl SavedEndpoint {
    /// Returns true if datagrams can be sent there after a restart. A link-local address is useless
    /// without its interface, whose index is another one then.
    fn is_usable(&self) -> bool {
        self.remote.port() != 0 && is_usable(self.remote.ip())
    }
}

/// Returns true if a peer can have this address.
pub(super) const fn is_usable(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            !(v4.is_unspecified() || v4.is_multicast() || v4.is_broadcast() || v4.is_link_local())
        }
        IpAddr::V6(v6) => !(v6.is_unspecified() || v6.is_multicast() || v6.is_unicast_link_local()),
    }
}

/// Bits of the flags.
const USED: u8 = 1;
const HAS_ENDPOINT: u8 = 2;
const HAS_LOCAL: u8 = 4;
const HAS_TIMESTAMP: u8 = 8;
const IS_NAMED: u8 = 16;

/// Offsets of the fields in bytes. Numbers are little-endian; addresses have sixteen bytes, those
/// of IPv4 mapped to IPv6. What follows [`PREVIOUS_MONTH`] is reserved.
const KEY: usize = 0;
const FLAGS: usize = 32;
const LOCAL_PORT: usize = 34;
const REMOTE_PORT: usize = 36;
const REMOTE: usize = 40;
const LOCAL: usize = 56;
const LAST_HANDSHAKE: usize = 72;
const TIMESTAMP: usize = 80;
const RECEIVED: usize = 96;
const SENT: usize = 104;
const PACKETS_RECEIVED: usize = 112;
const PACKETS_SENT: usize = 120;
const DAY_NUMBER: usize = 128;
const MONTH_NUMBER: usize = 132;
const DAY: usize = 136;
const MONTH: usize = 152;
const PREVIOUS_DAY: usize = 168;
const PREVIOUS_MONTH: usize = 184;

impl SavedPeer {
    /// Returns an empty record.
    pub const fn new(public_key: PublicKey) -> Self {
        Self {
            public_key,
            endpoint: None,
            last_handshake: Duration::ZERO,
            latest_timestamp: None,
            traffic: Traffic::NONE,
        }
    }

    /// Replaces the endpoint, unless it is not usable after a restart.
    pub fn set_endpoint(&mut self, endpoint: SavedEndpoint) {
        if endpoint.is_usable() {
            let remote = SocketAddr::new(endpoint.remote.ip(), endpoint.remote.port());
            let local = endpoint.local.filter(|local| is_usable(*local));
            self.endpoint = Some(SavedEndpoint { remote, local, ..endpoint });
        }
    }

    /// Writes the record.
    pub(super) fn write(&self, out: &mut [u8; RECORD_LEN]) {
        *out = [0; RECORD_LEN];
        let mut flags = USED;
        set(out, KEY, *self.public_key.as_bytes());
        if let Some(endpoint) = self.endpoint {
            flags |= HAS_ENDPOINT | if endpoint.is_named { IS_NAMED } else { 0 };
            set(out, REMOTE_PORT, endpoint.remote.port().to_le_bytes());
            set(out, REMOTE, octets(endpoint.remote.ip()));
            set(out, LOCAL_PORT, endpoint.local_port.to_le_bytes());
            if let Some(local) = endpoint.local {
                flags |= HAS_LOCAL;
                set(out, LOCAL, octets(local));
            }
        }
        if let Some(timestamp) = self.latest_timestamp {
            flags |= HAS_TIMESTAMP;
            set(out, TIMESTAMP, *timestamp.as_bytes());
        }
        set(out, FLAGS, [flags]);
        set(out, LAST_HANDSHAKE, self.last_handshake.as_secs().to_le_bytes());
        let Traffic { total, day, month } = self.traffic;
        set(out, RECEIVED, total.received.to_le_bytes());
        set(out, SENT, total.sent.to_le_bytes());
        set(out, PACKETS_RECEIVED, total.packets_received.to_le_bytes());
        set(out, PACKETS_SENT, total.packets_sent.to_le_bytes());
        set(out, DAY_NUMBER, day.number.to_le_bytes());
        set(out, MONTH_NUMBER, month.number.to_le_bytes());
        for (at, bytes) in [
            (DAY, day.current),
            (MONTH, month.current),
            (PREVIOUS_DAY, day.previous),
            (PREVIOUS_MONTH, month.previous),
        ] {
            set(out, at, bytes.received.to_le_bytes());
            set(out, at + 8, bytes.sent.to_le_bytes());
        }
    }

    /// Reads a record; `None` if the slot is empty.
    pub(super) fn read(bytes: &[u8; RECORD_LEN]) -> Option<Self> {
        let [flags] = get(bytes, FLAGS);
        let has = |flag: u8| flags & flag != 0;
        if !has(USED) {
            return None;
        }
        let number = |at| u64::from_le_bytes(get(bytes, at));
        let both = |at| Bytes { received: number(at), sent: number(at + 8) };
        let period = |at, current, previous| PeriodTraffic {
            number: u32::from_le_bytes(get(bytes, at)),
            current: both(current),
            previous: both(previous),
        };
        let mut record = Self {
            last_handshake: Duration::from_secs(number(LAST_HANDSHAKE)),
            latest_timestamp: has(HAS_TIMESTAMP)
                .then(|| Timestamp::from_bytes(get::<TIMESTAMP_LEN>(bytes, TIMESTAMP))),
            traffic: Traffic {
                total: Transfer {
                    received: number(RECEIVED),
                    sent: number(SENT),
                    packets_received: number(PACKETS_RECEIVED),
                    packets_sent: number(PACKETS_SENT),
                },
                day: period(DAY_NUMBER, DAY, PREVIOUS_DAY),
                month: period(MONTH_NUMBER, MONTH, PREVIOUS_MONTH),
            },
            ..Self::new(PublicKey::from_bytes(get::<KEY_LEN>(bytes, KEY)))
        };
        if has(HAS_ENDPOINT) {
            let port = |at| u16::from_le_bytes(get(bytes, at));
            record.set_endpoint(SavedEndpoint {
                remote: SocketAddr::new(address(get(bytes, REMOTE)), port(REMOTE_PORT)),
                local: has(HAS_LOCAL).then(|| address(get(bytes, LOCAL))),
                local_port: port(LOCAL_PORT),
                is_named: has(IS_NAMED),
            });
        }
        Some(record)
    }
}

fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

fn address(octets: [u8; 16]) -> IpAddr {
    IpAddr::V6(Ipv6Addr::from(octets)).to_canonical()
}

/// Writes `value` at the offset `at`, which leaves room for it.
pub(super) fn set<const LENGTH: usize>(out: &mut [u8], at: usize, value: [u8; LENGTH]) {
    if let Some(field) = out.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
        *field = value;
    }
}

/// Returns the bytes at the offset `at`; zeroes past the end.
pub(super) fn get<const LENGTH: usize>(bytes: &[u8], at: usize) -> [u8; LENGTH] {
    bytes.get(at..).and_then(<[u8]>::first_chunk).copied().unwrap_or([0; LENGTH])
}
