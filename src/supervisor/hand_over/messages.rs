//! Messages between a running process and the one that takes the tunnel over. The two may be
//! different versions of this program: a change of anything but the first variant of each enum
//! increases [`PROTOCOL`].

use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use serde::{Deserialize, Serialize};

use crate::config::TunName;
use crate::messages::{BaseSocket, ConnectedSocket, Queue};

/// Version of these messages.
pub(super) const PROTOCOL: u16 = 2;

/// A message of the process that takes the tunnel over.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum FromSuccessor {
    /// The first message: offer the tunnel.
    Hello {
        /// [`PROTOCOL`] of the sender.
        protocol: u16,
        /// Name of the device.
        tun: TunName,
    },
    /// Stop carrying packets, and send the sessions.
    Freeze,
    /// Leave the tunnel to the sender, which is ready to carry packets.
    Adopt,
}

/// A message of the running process.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum ToSuccessor {
    /// The tunnel is not handed over, for this reason. The process continues to carry packets.
    Refused(String),
    /// The tunnel, with the descriptors of its listening sockets: that for hand-overs, those that
    /// are mentioned.
    Offer(Box<Offer>),
    /// Queues of the device, one descriptor each.
    Queues(Vec<Queue>),
    /// Disconnected UDP sockets, one descriptor each.
    Sockets(Vec<BaseSocket>),
    /// The offer is complete.
    Complete,
    /// Answer to [`FromSuccessor::Freeze`]: the connected UDP sockets of the peers, with the
    /// descriptors of the sessions and of these sockets; or the reason why there are no sessions.
    Sessions(Result<Vec<ConnectedSocket>, String>),
    /// Answer to [`FromSuccessor::Adopt`]: the sender carries no more packets, and ends.
    Committed,
}

/// Description of a tunnel.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Offer {
    /// UDP port.
    pub(super) port: u16,
    /// Mark of the sockets, 0 for none.
    pub(super) mark: u32,
    /// Addresses of the device, each with its prefix length.
    pub(super) addresses: Vec<(IpAddr, u8)>,
    /// True if there is a health socket.
    pub(super) has_health: bool,
    /// Address of the socket for metrics, if there is one.
    pub(super) metrics: Option<SocketAddr>,
    /// Path of the socket for wg(8), if there is one.
    pub(super) uapi: Option<String>,
}

/// Resources of the mode, for the other process.
#[derive(Debug, Default)]
pub(crate) struct ModeOffer {
    /// UDP port.
    pub(crate) port: u16,
    /// Mark of the sockets, 0 for none.
    pub(crate) mark: u32,
    /// Addresses of the device, each with its prefix length.
    pub(crate) addresses: Vec<(IpAddr, u8)>,
    /// Disconnected UDP sockets.
    pub(crate) sockets: Vec<(BaseSocket, OwnedFd)>,
    /// Path and socket for wg(8), if there is one.
    pub(crate) uapi: Option<(String, OwnedFd)>,
}
