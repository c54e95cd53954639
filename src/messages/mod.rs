//! Messages between the supervisor and the tunnel process. Each side treats the other as hostile: a
//! decoded value has the right type, but nothing else is known about it.
//!
//! No message is sent per packet or datagram.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::TunName;
use crate::config::peer_settings::ExcludedPeer;
use crate::traffic::Traffic;
use crate::uapi::{Changes, ResponseFormat};
use wontun_proto::wireguard::{PublicKey, TIMESTAMP_LEN};

pub(crate) mod address;
mod split;

pub use address::Address;
pub(crate) use split::split_changes;

/// A message from the supervisor to the tunnel process.
#[derive(Debug, Serialize, Deserialize)]
pub enum ToTunnel {
    /// The first message. Its descriptors: the health socket if `has_health`, then the socket for
    /// metrics if there are any.
    Start(Box<TunnelConfig>),
    /// Queues of the TUN device, one for each worker in their order; one descriptor each. Split
    /// into several messages if one cannot hold as many descriptors.
    Queues(Vec<Queue>),
    /// The disconnected UDP sockets, which replace the previous ones; one descriptor each.
    Sockets {
        /// UDP port of all sockets.
        port: u16,
        /// Descriptions of the sockets.
        sockets: Vec<BaseSocket>,
    },
    /// More disconnected UDP sockets of the same port, if one message cannot hold all.
    MoreSockets(Vec<BaseSocket>),
    /// The start is complete: the process confines itself, sends [`FromTunnel::Ready`] and carries
    /// packets.
    Run,
    /// UDP sockets for peers, neither bound nor connected; one descriptor each, those for IPv4
    /// first. They are marked and share the port with the disconnected ones.
    SpareSockets {
        /// Sockets for IPv4.
        ipv4: u8,
        /// Sockets for IPv6.
        ipv6: u8,
    },
    /// New mark of outgoing datagrams, 0 for none: the disconnected sockets have it already, peers'
    /// sockets and spare ones must be closed.
    Mark(u32),
    /// Changes to keys and peers, to be applied in order and acknowledged by
    /// [`FromTunnel::Changed`] if there is a number.
    Change {
        /// Number to acknowledge.
        number: Option<u32>,
        /// The changes. Port, mark and kill switch are `None`.
        changes: Changes,
    },
    /// Peers that have no access, and are not among those of [`Self::Change`]: for the log and for
    /// `status=1`. Split into several messages if one cannot hold all.
    Excluded {
        /// True for the first of these messages, which replaces the peers of earlier ones.
        is_first: bool,
        /// The peers.
        peers: Vec<ExcludedPeer>,
    },
    /// New host name of a peer's endpoint; `None` if it has no name any more.
    Name {
        /// Public key of the peer.
        peer: PublicKey,
        /// Host name and port.
        name: Option<(String, u16)>,
    },
    /// State kept from an earlier run, sent after the peers. Split into several messages if one
    /// cannot hold all peers.
    Restore {
        /// TAI64N that no initiation of the earlier run exceeds.
        sent: Option<[u8; TIMESTAMP_LEN]>,
        /// State of peers.
        peers: Vec<RestoredPeer>,
    },
    /// State of the TUN device.
    DeviceState(DeviceState),
    /// New name and index of the TUN device.
    DeviceRenamed {
        /// Name of the device.
        tun: TunName,
        /// Interface index.
        index: u32,
    },
    /// New socket for health requests, which replaces the previous one: one descriptor.
    Health {
        /// User that may connect, besides root.
        user: u32,
    },
    /// The host has lost this address.
    AddressLost(IpAddr),
    /// The path to the peer has changed: the routes lead elsewhere, or from another source address.
    PathChanged {
        /// Public key of the peer; `None` in plain mode.
        peer: Option<PublicKey>,
        /// False if there is no route to the peer.
        is_reachable: bool,
    },
    /// Answer to [`FromTunnel::LookUp`], or other addresses of a peer's endpoint, which replace the
    /// current ones.
    Addresses {
        /// Public key of the peer; `None` in plain mode.
        peer: Option<PublicKey>,
        /// Usable addresses in order of preference, or the error's text.
        result: Result<Vec<Address>, String>,
    },
    /// Answer to [`FromTunnel::CheckCandidate`]: true if the host's routes to that address use
    /// another device than the tunnel's.
    CandidateChecked {
        /// Address that was checked.
        address: IpAddr,
        /// True if the address is usable.
        is_usable: bool,
    },
    /// Liveness probe, to be answered by [`FromTunnel::Alive`] once every worker has run a turn.
    Probe(u64),
    /// Answer to [`FromTunnel::Probe`], sent after the tunnel's state on the host was compared with
    /// the configuration and [`Self::HostState`] was sent. The number is the probe's.
    Alive(u64),
    /// State of the host, for health and metrics.
    HostState(Box<HostState>),
    /// Answer to [`FromTunnel::CountDenied`], sent after [`Self::HostState`] with what the kernel
    /// has counted. The number is the request's.
    DeniedCounted(u64),
    /// Write this answer to the connection passed with the message, then send
    /// [`FromTunnel::Answered`].
    Answer {
        /// Number of the connection.
        client: u32,
        /// Operation to answer.
        report: ResponseFormat,
    },
    /// Stop all workers, write the sessions to the file passed with the message, seal it, and send
    /// [`FromTunnel::Exported`]. Nothing is read, encrypted or sent until [`Self::Resume`].
    Export,
    /// Continue after [`Self::Export`]: no other process has the sessions.
    Resume,
    /// Continue the sessions in the first descriptor, then send [`FromTunnel::Imported`]. The
    /// others are the connected UDP sockets of peers. Only for a process that was started with
    /// [`TunnelConfig::awaits_sessions`], after [`FromTunnel::Ready`].
    Import(Vec<ConnectedSocket>),
    /// Carry packets: no other process does any more. For the same process.
    Proceed,
    /// Log a summary of the counters (SIGUSR1).
    LogSummary,
    /// End in an orderly way.
    Stop,
}

/// A message from the tunnel process to the supervisor: these are all possible requests.
#[derive(Debug, Serialize, Deserialize)]
pub enum FromTunnel {
    /// The process is confined and starts carrying packets.
    Ready,
    /// Changes up to this number were applied.
    Changed(u32),
    /// Look up the endpoint name of the peer; `None` for the server's name in plain mode.
    LookUp(Option<PublicKey>),
    /// A peer is at this address.
    Endpoint {
        /// Public key of the peer.
        peer: PublicKey,
        /// Address of the peer.
        address: IpAddr,
        /// True if a completed handshake has shown it.
        is_confirmed: bool,
    },
    /// State to be kept over a restart, of the peers for which it has changed.
    State {
        /// TAI64N that no initiation sent so far exceeds.
        sent: Option<[u8; TIMESTAMP_LEN]>,
        /// State of peers.
        peers: Vec<PeerReport>,
    },
    /// A handshake with a peer was completed by this path, which differs from the last; in plain
    /// mode, this path is used.
    Path {
        /// Public key of the peer; `None` in plain mode.
        peer: Option<PublicKey>,
        /// Address of the peer.
        remote: IpAddr,
        /// Source address of datagrams to the peer; `None` if the system chooses it.
        local: Option<IpAddr>,
    },
    /// Send more [`ToTunnel::SpareSockets`].
    NeedSockets {
        /// Number for IPv4.
        ipv4: u8,
        /// Number for IPv6.
        ipv6: u8,
    },
    /// Plain mode: check whether the routes to this address lead into the tunnel itself.
    CheckCandidate(IpAddr),
    /// Plain mode: the address family over which the peer is reached, to which the MTU may be
    /// adapted.
    OuterFamily {
        /// True for IPv4.
        is_ipv4: bool,
    },
    /// Answer to [`ToTunnel::Probe`].
    Alive {
        /// Number of the probe.
        probe: u64,
        /// State of the peers.
        status: Status,
    },
    /// Liveness probe, to be answered by [`ToTunnel::Alive`] with its number.
    Probe(u64),
    /// Count the packets that the rules of peers have denied, and send [`ToTunnel::DeniedCounted`]
    /// with this number.
    CountDenied(u64),
    /// The answer was written, or its client is gone.
    Answered(u32),
    /// The process was asked to end (SIGTERM, SIGINT) and waits for [`ToTunnel::Stop`].
    StopRequested,
    /// Answer to [`ToTunnel::Export`]: the connected UDP sockets of peers, one descriptor each; or
    /// the reason why there are no sessions in the file.
    Exported(Result<Vec<ConnectedSocket>, String>),
    /// Answer to [`ToTunnel::Import`]: the number of peers whose sessions continue, or the reason
    /// why none does.
    Imported(Result<u32, String>),
}

/// State of a peer kept from an earlier run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoredPeer {
    /// Public key of the peer.
    pub public_key: PublicKey,
    /// Address and port of the peer; used unless they are configured.
    pub remote: Option<Address>,
    /// Local address that the peer communicates with.
    pub local: Option<IpAddr>,
    /// Latest TAI64N of the peer's initiations.
    pub latest: Option<[u8; TIMESTAMP_LEN]>,
    /// Time of the last completed handshake since 1970; zero for never.
    pub last_handshake: Duration,
    /// Traffic.
    pub traffic: Traffic,
    /// True to send the peer an initiation, since it may still use a session of the earlier run.
    pub is_greeted: bool,
}

/// State of a peer that has to be known after a restart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerReport {
    /// Public key of the peer.
    pub public_key: PublicKey,
    /// Address and port that the last handshake has confirmed.
    pub remote: Option<Address>,
    /// Local address that the peer communicates with.
    pub local: Option<IpAddr>,
    /// Age of the last handshake.
    pub handshake_age: Option<Duration>,
    /// Latest TAI64N of the peer's initiations.
    pub latest: Option<[u8; TIMESTAMP_LEN]>,
    /// Traffic, that of earlier runs included.
    pub traffic: Traffic,
}

/// Maximum number of peers in a message about their state; each takes at most some 300 bytes.
pub(crate) const MAX_PEERS_PER_MESSAGE: usize = 256;

/// Initial configuration of the tunnel process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TunnelConfig {
    /// Name of the TUN device.
    pub tun: TunName,
    /// Interface index of the device.
    pub index: u32,
    /// State of the device.
    pub link: DeviceState,
    /// Number of worker threads.
    pub workers: u16,
    /// True to lower the MSS of TCP SYNs to the tunnel's MTU.
    pub clamps_mss: bool,
    /// True to use segmentation offload for datagrams.
    pub offload: bool,
    /// True if the process waits for the sessions of its predecessor before it carries packets.
    pub awaits_sessions: bool,
    /// True to use seccomp and Landlock.
    pub is_sandboxed: bool,
    /// Effective user of the supervisor, which may request the health besides root.
    pub user: u32,
    /// Log settings.
    pub log: LogConfig,
    /// True if the health socket is passed with this message.
    pub has_health: bool,
    /// Settings of the metrics, whose socket is passed with this message.
    pub metrics: Option<MetricsConfig>,
    /// Settings of the mode.
    pub mode: ModeConfig,
}

/// Log settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogConfig {
    /// True to log to journald, false for standard error.
    pub to_journald: bool,
    /// True to write JSON to standard error, false for text.
    pub is_json: bool,
    /// True if readers of standard error read the log too.
    pub covers_stderr: bool,
    /// Most verbose level: 0 off, 1 error, 2 warn, 3 info, 4 debug, 5 trace.
    pub level: u8,
}

impl LogConfig {
    /// Returns true if the log has the addresses of clients: in a JSON log, and at level debug.
    pub(crate) const fn shows_addresses(&self) -> bool {
        self.is_json || self.level >= 4
    }
}

/// Settings of the metrics.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetricsConfig {
    /// Address that the socket is bound to.
    pub address: SocketAddr,
    /// Additional host names accepted in requests (`--metrics-host`).
    pub hosts: Vec<String>,
}

/// Settings of the mode.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ModeConfig {
    /// WireGuard mode.
    WireGuard {
        /// True if the supervisor sets the host's routes and needs reports of endpoints.
        reports_endpoints: bool,
    },
    /// Plain mode.
    Plain {
        /// True for a client, whose server has the address `server` or a name.
        is_client: bool,
        /// Address of the server.
        server: Option<Address>,
        /// Host name of the server, for the log.
        name: Option<String>,
        /// Time between two `hello?` of a client whose server has answered; zero for none.
        keepalive: Duration,
    },
}

/// State of the TUN device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceState {
    /// MTU in bytes.
    pub mtu: u32,
    /// True if the device is up.
    pub is_up: bool,
    /// True if it was moved to another network namespace.
    pub is_in_other_netns: bool,
}

/// A queue of the TUN device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queue {
    /// True if packets have virtio-net headers, and may be super-packets.
    pub is_offloaded: bool,
    /// True if this worker alone reads from it.
    pub is_exclusive: bool,
    /// True if UDP super-packets may be written.
    pub has_uso: bool,
    /// True if super-packets in a UDP tunnel may be read. The virtio-net header is longer then.
    pub has_tunnels: bool,
    /// True if it is the worker's second queue, for the flows that are not bulk.
    pub is_sparse: bool,
}

#[cfg(test)]
impl Queue {
    /// A datagram socket in place of a device's queue.
    pub(crate) const SOCKET: Self = Self {
        is_offloaded: false,
        is_exclusive: true,
        has_uso: false,
        has_tunnels: false,
        is_sparse: false,
    };
}

/// A disconnected UDP socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaseSocket {
    /// Worker that reads it.
    pub worker: u16,
    /// Messages that it receives.
    pub role: SocketRole,
    /// Address that it is bound to.
    pub address: IpAddr,
    /// True if several datagrams may be sent as one message (UDP_SEGMENT).
    pub has_gso: bool,
}

/// The messages that a disconnected UDP socket receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SocketRole {
    /// Data messages, or everything if there are no other sockets; also used for sending.
    Data,
    /// Data messages that are small.
    SmallData,
    /// The handshake messages of all peers.
    Handshakes,
}

/// A UDP socket that is connected to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectedSocket {
    /// Public key of the peer.
    pub peer: PublicKey,
    /// Worker that reads it.
    pub worker: u16,
    /// Address that it is connected to.
    pub remote: Address,
    /// Local address of its datagrams.
    pub local: Option<IpAddr>,
    /// True if several datagrams may be sent as one message (UDP_SEGMENT).
    pub has_gso: bool,
}

/// Number of repairs since the start, by kind: state that other programs had removed or changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repairs {
    /// Addresses of the device.
    pub addresses: u64,
    /// Routes.
    pub routes: u64,
    /// Policy rules.
    pub rules: u64,
    /// nf_tables tables.
    pub tables: u64,
    /// The device, which was down or had another MTU.
    pub device: u64,
    /// Settings, such as forwarding.
    pub settings: u64,
}

impl Repairs {
    /// Returns the name of each kind, as used in metrics and `wontun show`, and the number of its
    /// repairs.
    pub const fn counts(self) -> [(&'static str, u64); 6] {
        [
            ("address", self.addresses),
            ("route", self.routes),
            ("rule", self.rules),
            ("table", self.tables),
            ("device", self.device),
            ("setting", self.settings),
        ]
    }
}

/// State of the host that the tunnel depends on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostState {
    /// Repairs so far.
    pub repairs: Repairs,
    /// State that is missing and cannot be restored: the tunnel is not healthy.
    pub failure: Option<String>,
    /// Conditions outside the tunnel's control that are not met, one line each.
    pub warnings: Vec<String>,
    /// Error of the last reload.
    pub reload_error: Option<String>,
    /// Packets that the rules of peers have denied, as last counted; `None` without rules.
    pub denied: Option<u64>,
}

impl HostState {
    /// Returns the problems, one line each.
    pub fn problems(&self) -> Vec<String> {
        let reload = self.reload_error.iter().map(|error| format!("the last reload failed: {error}"));
        self.failure.iter().cloned().chain(reload).chain(self.warnings.iter().cloned()).collect()
    }
}

/// State of the peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Status {
    /// WireGuard mode.
    WireGuard {
        /// Number of peers with a session.
        connected: u32,
        /// Number of all peers.
        peers: u32,
        /// Age of the latest handshake.
        handshake: Option<Duration>,
    },
    /// Plain mode, server.
    PlainServer {
        /// True if it has a client.
        has_client: bool,
    },
    /// Plain mode, client.
    PlainClient {
        /// True if the server answers.
        is_reachable: bool,
    },
}

#[cfg(test)]
mod tests;
