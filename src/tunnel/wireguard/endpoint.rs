//! Where a peer is, and the address of ours that it talks to.

use std::net::{IpAddr, SocketAddr};

/// The two ends of a path between us and a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// The peer's address and port.
    pub remote: SocketAddr,
    /// The address of ours that it sent to, from which answers leave; `None` if the system is to choose.
    pub local: Option<IpAddr>,
}

impl Endpoint {
    /// A remote address that we answer from wherever the routes say.
    pub const fn new(remote: SocketAddr) -> Self {
        Self { remote, local: None }
    }
}
