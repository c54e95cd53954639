//! Messages between the supervisor and the tunnel process. Each side treats the other's as hostile:
//! a value that decodes is of its type, and no more is known of it.
//!
//! Nothing here is sent for a packet or a datagram.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::TunName;
use crate::control::uapi::{Changes, Report};
use crate::tunnel::wireguard::PublicKey;

pub mod address;
mod parts;

pub use address::Address;
pub use parts::parts;

/// A message from the supervisor to the tunnel process.
#[derive(Debug, Serialize, Deserialize)]
pub enum ToTunnel {
    /// The first message. Its descriptors: the health socket if `has_health`, then the socket for
    /// metrics if there are any.
    Start(Box<Start>),
    /// Queues of the TUN device, one for each worker in their order; one descriptor each. Several
    /// such messages follow each other where one does not hold as many descriptors.
    Queues(Vec<Queue>),
    /// The disconnected UDP sockets, which take the place of those before; one descriptor each.
    Sockets {
        /// UDP port of all of them.
        port: u16,
        /// Description of each.
        sockets: Vec<BaseSocket>,
    },
    /// More disconnected UDP sockets of the same port, for those that one message does not hold.
    MoreSockets(Vec<BaseSocket>),
    /// The start is complete: the process confines itself, says [`FromTunnel::Ready`] and carries
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
    /// The mark of outgoing datagrams is another, 0 for none: the disconnected sockets have it
    /// already, peers' sockets and spare ones are to be closed.
    Mark(u32),
    /// Changes to keys and peers, to be applied in order and acknowledged by
    /// [`FromTunnel::Changed`] if there is a number.
    Change {
        /// The number to acknowledge.
        number: Option<u32>,
        /// The changes. Port, mark and kill switch are `None`.
        changes: Changes,
    },
    /// The endpoint of a peer is this name from now on; `None` if it is none (any more).
    Name {
        /// The peer.
        peer: PublicKey,
        /// Host name and port.
        name: Option<(String, u16)>,
    },
    /// State of the TUN device.
    Link(Link),
    /// Name and index of the TUN device from now on.
    Device {
        /// The name.
        tun: TunName,
        /// The index.
        index: u32,
    },
    /// The socket for requests of the health, which takes the place of the one before: one
    /// descriptor.
    Health {
        /// User that may ask, besides root.
        user: u32,
    },
    /// The host does not have this address any more.
    AddressLost(IpAddr),
    /// Answer to [`FromTunnel::LookUp`].
    Addresses {
        /// The peer whose endpoint's name was looked up; `None` in plain mode.
        peer: Option<PublicKey>,
        /// Usable addresses in order of preference, or the error's text.
        result: Result<Vec<Address>, String>,
    },
    /// Answer to [`FromTunnel::Candidate`]: true if the host's routes lead to that address by
    /// another device than the tunnel's.
    CandidateChecked {
        /// The address.
        address: IpAddr,
        /// The result.
        is_usable: bool,
    },
    /// Liveness probe, to be answered by [`FromTunnel::Alive`] once every worker has turned.
    Probe(u64),
    /// Answer to [`FromTunnel::Probe`], after what is the tunnel's on the host was compared with
    /// what is wanted, and [`Self::Host`] was sent. The number is the probe's.
    Alive(u64),
    /// State of the host, for the health and the metrics.
    Host(Box<Host>),
    /// Write this answer to the connection that comes with it, then say [`FromTunnel::Answered`].
    Answer {
        /// Number of the connection.
        client: u32,
        /// The operation.
        report: Report,
    },
    /// Log a summary of the counters (SIGUSR1).
    Summary,
    /// End in good order.
    Stop,
}

/// A message from the tunnel process to the supervisor: all that it can ask for.
#[derive(Debug, Serialize, Deserialize)]
pub enum FromTunnel {
    /// The process is confined and begins to carry packets.
    Ready,
    /// Changes were applied up to this number.
    Changed(u32),
    /// Look up the name of the peer's endpoint; `None` for the server's name in plain mode.
    LookUp(Option<PublicKey>),
    /// A peer is at this address. Confirmed ones are those that a completed handshake has shown.
    Endpoint {
        /// The peer.
        peer: PublicKey,
        /// Its address.
        address: IpAddr,
        /// True if a completed handshake has shown it.
        is_confirmed: bool,
    },
    /// A handshake with a peer whose endpoint is a name was completed at this address, which is
    /// another than the last.
    Reached {
        /// The peer.
        peer: PublicKey,
        /// Its address.
        address: IpAddr,
    },
    /// Send more [`ToTunnel::SpareSockets`].
    NeedSockets {
        /// For IPv4.
        ipv4: u8,
        /// For IPv6.
        ipv6: u8,
    },
    /// Plain mode: check whether the routes to this address lead into the tunnel itself.
    Candidate(IpAddr),
    /// Plain mode: the peer is reached over this address family, and the MTU may follow.
    OuterFamily {
        /// True for IPv4.
        is_ipv4: bool,
    },
    /// Answer to [`ToTunnel::Probe`].
    Alive {
        /// The probe's number.
        probe: u64,
        /// State of the peers.
        status: Status,
    },
    /// Liveness probe, to be answered by [`ToTunnel::Alive`] with its number.
    Probe(u64),
    /// The answer was written, or its client is gone.
    Answered(u32),
    /// The process was asked to end (SIGTERM, SIGINT): it waits for [`ToTunnel::Stop`].
    StopRequested,
}

/// Everything that the tunnel process needs to know from its start on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Start {
    /// Name of the TUN device.
    pub tun: TunName,
    /// Its interface index.
    pub index: u32,
    /// Its state.
    pub link: Link,
    /// Worker threads.
    pub workers: u16,
    /// The MSS of TCP's SYNs is lowered to what crosses the tunnel.
    pub clamps_mss: bool,
    /// Many datagrams may be one for the kernel.
    pub offload: bool,
    /// Seccomp and Landlock are engaged.
    pub is_sandboxed: bool,
    /// Effective user of the supervisor: it and root may ask for the health.
    pub user: u32,
    /// Settings of its log.
    pub log: Log,
    /// The health socket comes with this message.
    pub has_health: bool,
    /// The socket for metrics comes with this message.
    pub metrics: Option<MetricsStart>,
    /// Settings of the mode.
    pub mode: ModeStart,
}

/// Settings of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Log {
    /// To journald; otherwise to standard error.
    pub to_journald: bool,
    /// Whoever reads standard error reads the log too.
    pub covers_stderr: bool,
    /// The most verbose level: 0 off, 1 error, 2 warn, 3 info, 4 debug, 5 trace.
    pub level: u8,
}

/// Settings of the metrics.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetricsStart {
    /// Address that the socket listens on.
    pub address: SocketAddr,
    /// Names of this host that requests may have (`--metrics-host`).
    pub hosts: Vec<String>,
}

/// Settings of the mode.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ModeStart {
    /// WireGuard.
    WireGuard {
        /// The host's routes are the supervisor's to set: it is told of endpoints.
        reports_endpoints: bool,
    },
    /// Plain mode.
    Plain {
        /// True for a client, whose server is `server` or known by a name.
        is_client: bool,
        /// The server's address.
        server: Option<Address>,
        /// The server's name, for the log.
        name: Option<String>,
        /// Time between two `hello?` of an answered client; zero for none.
        keepalive: Duration,
    },
}

/// State of the TUN device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// MTU in bytes.
    pub mtu: u32,
    /// It is up.
    pub is_up: bool,
    /// It was moved to another network namespace.
    pub is_away: bool,
}

/// A queue of the TUN device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queue {
    /// Packets have virtio-net headers, and may be super-packets.
    pub is_offloaded: bool,
    /// This worker, and no other, reads from it.
    pub is_own: bool,
    /// Super-packets of UDP may be written.
    pub takes_udp: bool,
}

/// A disconnected UDP socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaseSocket {
    /// Worker that reads it.
    pub worker: u16,
    /// It receives the handshake messages of all peers, and nothing is sent by it.
    pub is_for_handshakes: bool,
    /// Address that it is bound to.
    pub address: IpAddr,
    /// Several datagrams may be sent as one message (UDP_SEGMENT).
    pub sends_segments: bool,
}

/// Numbers of repairs since the start: of what other programs had removed from the host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repairs {
    /// Addresses of the device.
    pub addresses: u64,
    /// Routes.
    pub routes: u64,
    /// Policy rules.
    pub rules: u64,
    /// Tables of nf_tables.
    pub tables: u64,
    /// The device: down, or with another MTU.
    pub device: u64,
    /// Settings, such as forwarding.
    pub settings: u64,
}

impl Repairs {
    /// Returns the name of each piece, as metrics and `wontun show` have it, and the number of its
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

/// State of the host, as far as the tunnel needs it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Repairs so far.
    pub repairs: Repairs,
    /// State that is missing and cannot be put back: the tunnel is not healthy.
    pub trouble: Option<String>,
    /// Conditions that others do not meet, a line each.
    pub warnings: Vec<String>,
    /// Error of the last reload.
    pub reload_error: Option<String>,
}

impl Host {
    /// Returns a line for each problem.
    pub fn problems(&self) -> Vec<String> {
        let reload = self.reload_error.iter().map(|error| format!("the last reload failed: {error}"));
        self.trouble.iter().cloned().chain(reload).chain(self.warnings.iter().cloned()).collect()
    }
}

/// State of the peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Status {
    /// WireGuard mode.
    WireGuard {
        /// Peers with a session.
        connected: u32,
        /// All peers.
        peers: u32,
        /// Age of the youngest handshake.
        handshake: Option<Duration>,
    },
    /// Plain mode, server: whether it has a client.
    PlainServer {
        /// There is a client.
        has_client: bool,
    },
    /// Plain mode, client: whether its server is heard.
    PlainClient {
        /// The server is heard.
        is_heard: bool,
    },
}

#[cfg(test)]
mod tests;
