//! The endpoint of a peer, and the local address that it communicates with.

use std::net::{IpAddr, SocketAddr};

/// The two ends of the path to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// Address and port of the peer.
    pub remote: SocketAddr,
    /// Local address that the peer sent to and answers are sent from; `None` if the system chooses
    /// it.
    pub local: Option<IpAddr>,
}

impl Endpoint {
    /// Returns an endpoint whose local address the system chooses.
    pub const fn new(remote: SocketAddr) -> Self {
        Self { remote, local: None }
    }
}
