//! State of a tunnel at one time.

use std::time::Duration;

use super::ProcessSample;
use crate::config::PeerName;
use crate::counters::Totals;
use crate::messages::HostState;
use crate::traffic::Traffic;
use wontun_proto::wireguard::PublicKey;

/// State of a tunnel at one time, approximately: peers are read some at a time, while counters
/// continue.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// Name of the mode, `plain` or `wireguard`.
    pub mode: &'static str,
    /// Name of the device.
    pub tun: String,
    /// True if the device is up.
    pub is_up: bool,
    /// MTU of the device in bytes.
    pub mtu: u32,
    /// State of the host.
    pub host: HostState,
    /// Counters of traffic and drops.
    pub totals: Totals,
    /// State of each worker's sockets.
    pub workers: Vec<WorkerSample>,
    /// Packets of removed peers that waited for a handshake and were never sent.
    pub lost: u64,
    /// Number of peers.
    pub peer_count: usize,
    /// In plain mode, once there is a peer: time since its last datagram.
    pub silence: Option<Duration>,
    /// Queues of the engine, in WireGuard mode.
    pub queues: Option<QueueSample>,
    /// State of each peer, in WireGuard mode.
    pub peers: Vec<PeerSample>,
    /// State of this process.
    pub process: ProcessSample,
}

/// Number of queued handshake messages.
#[derive(Clone, Copy, Debug, Default)]
pub struct QueueSample {
    /// Messages that are processed next.
    pub handshakes: usize,
    /// Messages beyond their source's limit, which are processed later.
    pub backlog: usize,
}

/// Sum over the UDP sockets of one worker, as the kernel accounts for them (`SO_MEMINFO`), in
/// bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct WorkerSample {
    /// Data in the receive queues.
    pub receive_queue: u64,
    /// Size of the receive buffers.
    pub receive_buffer: u64,
    /// Data in the send queues.
    pub send_queue: u64,
    /// Size of the send buffers.
    pub send_buffer: u64,
    /// Number of datagrams dropped because a receive buffer was full, since the start.
    pub receive_drops: u64,
}

/// State of a peer at one time.
#[derive(Clone, Debug)]
pub struct PeerSample {
    /// Public key of the peer.
    pub public_key: PublicKey,
    /// Name of the peer, if it has one.
    pub name: Option<PeerName>,
    /// Bytes received from it, in whole messages, as `wg` counts them.
    pub rx_bytes: u64,
    /// Bytes sent to it.
    pub tx_bytes: u64,
    /// Packets received from it.
    pub rx_packets: u64,
    /// Packets sent to it.
    pub tx_packets: u64,
    /// Traffic of all runs and of the present periods; `None` without a configuration file.
    pub traffic: Option<Traffic>,
    /// Time since the last completed handshake, if there was one.
    pub handshake_age: Option<Duration>,
    /// True if it has a session, so that packets can be sent now.
    pub has_session: bool,
    /// True if the peer's quota is used up; `None` if it has none.
    pub is_over_quota: Option<bool>,
    /// Number of packets that wait for a handshake.
    pub staged: usize,
    /// Number of packets that waited for a handshake and were never sent.
    pub lost: u64,
}
