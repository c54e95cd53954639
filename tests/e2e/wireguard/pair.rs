//! Two hosts and a tunnel between them, the basis of most scenarios.

use std::sync::Arc;

use super::implementation::Implementation;
use super::node::Node;
use super::settings::{Keys, Peer, Settings};
use super::site::Site;
use crate::lab::Lab;

/// The servers' port.
pub(crate) const PORT: u16 = 51820;

/// The inner addresses.
pub(crate) const SERVER_V4: &str = "10.9.0.1";
pub(crate) const CLIENT_V4: &str = "10.9.0.2";
pub(crate) const SERVER_V6: &str = "fd00:9::1";
pub(crate) const CLIENT_V6: &str = "fd00:9::2";

/// The protocol that carries the tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outer {
    V4,
    V6,
}

impl Outer {
    /// Returns the endpoint of a server on `site`.
    pub(crate) fn endpoint(self, site: &Site) -> String {
        match self {
            Self::V4 => format!("{}:{PORT}", site.v4),
            Self::V6 => format!("[{}]:{PORT}", site.v6),
        }
    }

    /// Returns the bytes that the tunnel adds to a packet: IP, UDP, the message's header and tag.
    pub(crate) const fn overhead(self) -> usize {
        match self {
            Self::V4 => 20 + 8 + 32,
            Self::V6 => 40 + 8 + 32,
        }
    }
}

/// The settings of the two ends, before they start.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) server_keys: Keys,
    pub(crate) client_keys: Keys,
    pub(crate) server: Settings,
    pub(crate) client: Settings,
    pub(crate) server_site: Arc<Site>,
    pub(crate) client_site: Arc<Site>,
}

impl Plan {
    /// Plans a server on host 0 of `lab` and a client on host 1 that has its endpoint.
    pub(crate) fn new(lab: &Arc<Lab>, outer: Outer) -> Self {
        Self::between(lab, [0, 1], outer)
    }

    /// Plans a server on the first of two hosts of `lab` and a client on the second.
    pub(crate) fn between(lab: &Arc<Lab>, hosts: [usize; 2], outer: Outer) -> Self {
        let [server_site, client_site] = hosts.map(|index| Arc::new(Site::new(lab, index)));
        let (server_keys, client_keys) = (Keys::new(), Keys::new());
        let server = Settings::new(&server_keys, &["10.9.0.1/24", "fd00:9::1/64"])
            .port(PORT)
            .peer(Peer::new(&client_keys.public, &["10.9.0.2/32", "fd00:9::2/128"]));
        let client = Settings::new(&client_keys, &["10.9.0.2/24", "fd00:9::2/64"]).peer(
            Peer::new(&server_keys.public, &["10.9.0.0/24", "fd00:9::/64"]).at(outer.endpoint(&server_site)),
        );
        Self { server_keys, client_keys, server, client, server_site, client_site }
    }

    /// Starts both.
    pub(crate) fn start(self, server: Implementation, client: Implementation) -> Pair {
        let server = Node::start(&self.server_site, server, &self.server);
        let client = Node::start(&self.client_site, client, &self.client);
        Pair { server, client, plan: self }
    }
}

/// Two running ends.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) server: Node,
    pub(crate) client: Node,
    pub(crate) plan: Plan,
}

impl Pair {
    pub(crate) fn new(server: Implementation, client: Implementation, outer: Outer) -> Self {
        Plan::new(&Arc::new(Lab::new(2)), outer).start(server, client)
    }

    /// Returns the server's public key.
    pub(crate) fn server_public(&self) -> &str {
        &self.plan.server_keys.public
    }

    /// Returns the client's public key.
    pub(crate) fn client_public(&self) -> &str {
        &self.plan.client_keys.public
    }
}
