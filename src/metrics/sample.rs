//! What is known of a tunnel at one moment.

use std::time::Duration;

use super::ProcessSample;
use crate::config::PeerName;
use crate::counters::Totals;
use crate::messages::Host;
use crate::tunnel::wireguard::PublicKey;

/// A tunnel at one moment, or nearly: peers are looked at some at a time, and what is counted goes on meanwhile.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// `plain` or `wireguard`.
    pub mode: &'static str,
    /// The device's name.
    pub tun: String,
    /// Whether the device is up.
    pub is_up: bool,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// State of the host.
    pub host: Host,
    /// What was carried and dropped.
    pub totals: Totals,
    /// What the workers' sockets hold.
    pub workers: Vec<WorkerSample>,
    /// Packets that waited for a handshake in vain, of peers that are gone.
    pub lost: u64,
    /// How many peers there are.
    pub peer_count: usize,
    /// In plain mode, once there is a peer: time since it was last heard.
    pub silence: Option<Duration>,
    /// What waits in the engine, in WireGuard mode.
    pub queues: Option<QueueSample>,
    /// Each peer, in WireGuard mode.
    pub peers: Vec<PeerSample>,
    /// This process.
    pub process: ProcessSample,
}

/// Handshake messages that wait.
#[derive(Clone, Copy, Debug, Default)]
pub struct QueueSample {
    /// Those whose turn it is.
    pub handshakes: usize,
    /// Those beyond their source's share, which come later.
    pub backlog: usize,
}

/// The UDP sockets of one worker together, as the kernel accounts for them (`SO_MEMINFO`), in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct WorkerSample {
    /// What waits to be read.
    pub receive_queue: u64,
    /// Room for that.
    pub receive_buffer: u64,
    /// What was sent and has not left yet.
    pub send_queue: u64,
    /// Room for that.
    pub send_buffer: u64,
    /// Datagrams that found no room, since the start.
    pub receive_drops: u64,
}

/// A peer at one moment.
#[derive(Clone, Debug)]
pub struct PeerSample {
    /// Who it is.
    pub public_key: PublicKey,
    /// The name of the peer, if it has one.
    pub name: Option<PeerName>,
    /// Bytes from it, all messages whole, as `wg` counts them.
    pub rx_bytes: u64,
    /// Bytes to it.
    pub tx_bytes: u64,
    /// Packets from it.
    pub rx_packets: u64,
    /// Packets to it.
    pub tx_packets: u64,
    /// Time since a handshake with it was last completed, if one ever was.
    pub handshake_age: Option<Duration>,
    /// Whether packets can go to it now.
    pub has_session: bool,
    /// Packets that wait for a handshake with it.
    pub staged: usize,
    /// Packets that did so in vain.
    pub lost: u64,
}
