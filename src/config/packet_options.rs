//! Handling of packets.

use serde::{Deserialize, Serialize};

/// Handling of packets by the workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PacketOptions {
    /// True to lower the MSS of TCP SYNs to the tunnel's MTU.
    pub clamps_mss: bool,
    /// Order in which packets from the TUN device are sent.
    pub queue: QueueDiscipline,
}

/// Order in which packets from the TUN device are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
pub enum QueueDiscipline {
    /// Small packets of flows that are not waiting first; senders are told to slow down while the
    /// queue is long.
    Fq,
    /// In the order of arrival.
    Fifo,
}
