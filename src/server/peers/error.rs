//! Errors of new peers, and warnings about them.

use std::fmt;
use std::net::IpAddr;

use crate::config::peer_settings::{ClientMtu, PortForward};
use crate::config::{Network, PeerName};
use crate::server::error::ServerError;
use wontun_proto::allowed_ips::Prefix;

/// Error of adding peers. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AddError {
    /// The server's file lacks something, or cannot be edited.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// Errors of the peers, each with the index of its peer, in ascending order.
    #[error("{}", .0.first().map(|(_, error)| error.to_string()).unwrap_or_default())]
    Peers(Vec<(usize, NewPeerError)>),
}

/// Error of one new peer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NewPeerError {
    /// Another peer has this name.
    #[error(
        "there is a peer '{0}' already: choose another name, or remove it first with 'wontun peer remove'"
    )]
    NameTaken(PeerName),
    /// Another peer has this public key.
    #[error("the peer {0} has that public key already: a client has a key of its own")]
    KeyTaken(String),
    /// The public key of a client is the server's.
    #[error("that is the public key of this server: give the client's")]
    ServerKey,
    /// All addresses of the network are in use.
    #[error("all addresses of {0} are in use: remove a peer, or change Address to a larger network by hand")]
    SubnetFull(Prefix),
    /// An address is in none of the server's networks.
    #[error("the address {address} is outside of the server's network: choose one in {}", Prefixes(networks))]
    AddressOutside {
        /// The address.
        address: IpAddr,
        /// The networks of the server.
        networks: Vec<Prefix>,
    },
    /// An address that no host may have.
    #[error("the address {0} is that of the network itself or its broadcast address: choose another")]
    AddressReserved(IpAddr),
    /// Another host has this address.
    #[error("the address {address} is in use by {owner}: choose another, or omit --address for a free one")]
    AddressTaken {
        /// The address.
        address: IpAddr,
        /// Name of the peer, or `this server`.
        owner: String,
    },
    /// Several addresses of one family.
    #[error(
        "the addresses {0} and {1} are of the same family: give one of IPv4, one of IPv6, or one of each"
    )]
    SameFamily(IpAddr, IpAddr),
    /// A network behind the peer is the default route.
    #[error(
        "the site {0} is the default route: this server would send its own traffic to the peer; give the networks that are \
         behind it, such as 192.168.5.0/24"
    )]
    SiteDefaultRoute(Network),
    /// A network behind the peer that is not routed.
    #[error("the site {0} is a loopback, link-local or multicast network, which is not routed: give another")]
    SiteUnusable(Network),
    /// A network behind the peer is part of the VPN's.
    #[error(
        "the site {site} is part of the VPN's network {network}: give a network behind the peer; --address chooses the \
         peer's own address"
    )]
    SiteInVpn {
        /// The site.
        site: Network,
        /// Network of the server.
        network: Prefix,
    },
    /// Another peer has exactly this network.
    #[error("the site {site} belongs to the peer {owner} already: a network is behind one peer")]
    SiteTaken {
        /// The site.
        site: Network,
        /// Name of the other peer.
        owner: String,
    },
    /// The peer's file would send a network behind it through the tunnel.
    #[error("the route {route} is within the site {site}, which is behind this very peer: omit it")]
    RouteToSite {
        /// The route.
        route: Network,
        /// The site.
        site: Network,
    },
    /// A port of the server leads elsewhere.
    #[error("the port of --forward {forward} leads to {owner} already: choose another port of the server")]
    ForwardTaken {
        /// The port forward.
        forward: PortForward,
        /// Name of the other peer, or `this server`.
        owner: String,
    },
    /// The MTU has no room for IPv6.
    #[error("the MTU {0} is too small for IPv6, which the client has an address of: give at least 1280")]
    Mtu(ClientMtu),
}

/// Warning about a new peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NewPeerWarning {
    /// A site contains a network of the server.
    AroundVpn {
        /// The site.
        site: Network,
        /// Network of the server.
        network: Prefix,
    },
    /// A site contains a network of another peer, or is part of one.
    OtherPeer {
        /// The site.
        site: Network,
        /// Network of the other peer.
        network: Prefix,
        /// Name of the other peer.
        owner: String,
    },
}

impl fmt::Display for NewPeerWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AroundVpn { site, network } => {
                write!(f, "the site {site} contains the VPN's network {network}, which stays that of the VPN")
            }
            Self::OtherPeer { site, network, owner } => write!(
                f,
                "the site {site} overlaps {network} of the peer {owner}: packets go to the smaller of the two networks"
            ),
        }
    }
}

struct Prefixes<'a>(&'a [Prefix]);

impl fmt::Display for Prefixes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for prefix in self.0 {
            write!(f, "{separator}{prefix}")?;
            separator = " or ";
        }
        Ok(())
    }
}
