//! The name servers that queries are forwarded to.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::resolver;
use wontun_proto::time::Instant;

/// Port of DNS.
const PORT: u16 = 53;
/// Minimum interval between two reads of this host's name servers.
const INTERVAL: Duration = Duration::from_secs(5);

/// The name servers: given ones, or those of this host, which change with its networks.
#[derive(Debug, Default)]
pub(super) struct Upstream {
    given: Vec<IpAddr>,
    /// Addresses of this server itself, which it must not ask.
    own: Vec<IpAddr>,
    servers: Vec<SocketAddr>,
    /// Time of the next read.
    due: Instant,
}

impl Upstream {
    pub(super) fn new(given: Vec<IpAddr>, own: &[IpAddr]) -> Self {
        let servers = given.iter().filter(|server| !own.contains(server));
        let servers = servers.map(|server| SocketAddr::new(*server, PORT)).collect();
        Self { given, own: own.to_vec(), servers, due: Instant::default() }
    }

    /// Returns true if both were made of the same addresses.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.given == other.given && self.own == other.own
    }

    /// Reads the name servers of this host again, if they are used and that is due. Returns true if
    /// they have changed.
    pub(super) fn refresh(&mut self, now: Instant) -> bool {
        if !self.given.is_empty() || now < self.due {
            return false;
        }
        self.due = now + INTERVAL;
        let found = resolver::system_servers().into_iter().filter(|server| !self.own.contains(&server.ip()));
        let found: Vec<_> = found.collect();
        let has_changed = found != self.servers;
        self.servers = found;
        has_changed
    }

    /// Returns the name servers in order of preference.
    pub(super) fn servers(&self) -> &[SocketAddr] {
        &self.servers
    }
}
