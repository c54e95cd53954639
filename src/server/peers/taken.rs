//! The names, keys, networks and ports that peers of a server have.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use super::error::{NewPeerError, NewPeerWarning};
use super::options::NewPeerOptions;
use crate::config::peer_settings::{ClientSettings, PortForward, Protocol};
use crate::config::{Network, PeerName};
use crate::server::address::{Order, first_and_last, host, is_reserved, order};
use crate::server::server_file::ServerFile;
use wontun_proto::allowed_ips::Prefix;
use wontun_proto::wireguard::PublicKey;

/// Minimum MTU of a link with IPv6 in bytes (RFC 8200, section 5).
const MIN_MTU_V6: u32 = 1280;
/// Name of the server as an owner.
const SERVER: &str = "this server";

/// Names, keys and addresses in use, with the names of their owners.
#[derive(Debug)]
pub(super) struct Taken<'a> {
    server_key: PublicKey,
    vpn: &'a [Prefix],
    names: HashMap<PeerName, ()>,
    keys: HashMap<PublicKey, String>,
    networks: BTreeMap<Order, (Prefix, String)>,
    ports: HashMap<(Protocol, u16), String>,
}

impl<'a> Taken<'a> {
    /// Reads what the server and its peers have, without the peer with the index `except`.
    pub(super) fn new(file: &ServerFile, vpn: &'a [Prefix], except: Option<usize>) -> Self {
        let mut taken = Self {
            server_key: *file.public_key(),
            vpn,
            names: HashMap::new(),
            keys: HashMap::new(),
            networks: BTreeMap::new(),
            ports: HashMap::new(),
        };
        for (_, peer) in file.peers().enumerate().filter(|(number, _)| Some(*number) != except) {
            let owner = peer.name_or_key();
            for &network in &peer.peer.allowed_ips {
                taken.networks.insert(order(network), (network, owner.clone()));
            }
            for forward in &peer.peer.settings().forwards {
                taken.ports.insert(port(forward), owner.clone());
            }
            taken.names.extend(peer.name.map(|name| (name, ())));
            taken.keys.insert(peer.peer.public_key, owner);
        }
        let interface = &file.configuration().interface;
        for cidr in &interface.addresses {
            let own = host(cidr.address());
            taken.networks.insert(order(own), (own, SERVER.to_owned()));
        }
        if let Some(listen_port) = interface.listen_port {
            taken.ports.insert((Protocol::Udp, listen_port.get()), SERVER.to_owned());
        }
        taken
    }

    /// Returns the networks in use.
    pub(super) fn networks(&self) -> impl Iterator<Item = Prefix> {
        self.networks.values().map(|(network, _)| *network)
    }

    /// Checks a new peer, and adds what it has. Returns its errors.
    pub(super) fn insert(
        &mut self,
        peer: &NewPeerOptions,
        warn: impl FnMut(NewPeerWarning),
    ) -> Vec<NewPeerError> {
        let mut errors = Vec::new();
        let owner = peer.name.to_string();
        if self.names.insert(peer.name.clone(), ()).is_some() {
            errors.push(NewPeerError::NameTaken(peer.name.clone()));
        }
        match peer.public_key {
            Some(key) if key == self.server_key => errors.push(NewPeerError::ServerKey),
            Some(key) => match self.keys.get(&key) {
                Some(owner) => errors.push(NewPeerError::KeyTaken(owner.clone())),
                None => _ = self.keys.insert(key, owner.clone()),
            },
            None => {}
        }
        errors.extend(self.insert_networks(&owner, &peer.addresses, &peer.sites, warn));
        for forward in &peer.settings.forwards {
            match self.ports.get(&port(forward)) {
                Some(owner) => {
                    errors.push(NewPeerError::ForwardTaken { forward: *forward, owner: owner.clone() });
                }
                None => _ = self.ports.insert(port(forward), owner.clone()),
            }
        }
        errors
    }

    /// Checks addresses and sites that a peer is to have, and adds them. Returns their errors.
    pub(super) fn insert_networks(
        &mut self,
        owner: &str,
        addresses: &[IpAddr],
        sites: &[Network],
        mut warn: impl FnMut(NewPeerWarning),
    ) -> Vec<NewPeerError> {
        let mut errors = Vec::new();
        for (place, &address) in addresses.iter().enumerate() {
            let is_family = |other: &&IpAddr| other.is_ipv4() == address.is_ipv4();
            if let Some(&other) = addresses.iter().take(place).find(is_family) {
                errors.push(NewPeerError::SameFamily(other, address));
                continue;
            }
            match self.check_address(address) {
                Ok(()) => _ = self.networks.insert(order(host(address)), (host(address), owner.to_owned())),
                Err(error) => errors.push(error),
            }
        }
        for &site in sites {
            match self.check_site(site, owner) {
                Ok(warnings) => {
                    warnings.into_iter().for_each(&mut warn);
                    self.networks.insert(order(site.prefix()), (site.prefix(), owner.to_owned()));
                }
                Err(error) => errors.push(error),
            }
        }
        errors
    }

    fn check_address(&self, address: IpAddr) -> Result<(), NewPeerError> {
        let Some(network) = self.vpn.iter().find(|network| network.contains(address)) else {
            return Err(NewPeerError::AddressOutside { address, networks: self.vpn.to_vec() });
        };
        if is_reserved(*network, address) {
            return Err(NewPeerError::AddressReserved(address));
        }
        // a network as large as the VPN's is no use of a single address
        match self.around(host(address)).find(|(taken, _)| taken.length() > network.length()) {
            Some((_, owner)) => Err(NewPeerError::AddressTaken { address, owner: owner.clone() }),
            None => Ok(()),
        }
    }

    fn check_site(&self, site: Network, new: &str) -> Result<Vec<NewPeerWarning>, NewPeerError> {
        let prefix = site.prefix();
        if prefix.length() == 0 {
            return Err(NewPeerError::SiteDefaultRoute(site));
        }
        let address = prefix.network();
        let is_unusable = match address {
            IpAddr::V4(v4) => {
                v4.is_loopback() || v4.is_multicast() || v4.is_link_local() || v4.octets().starts_with(&[0])
            }
            IpAddr::V6(v6) => {
                v6.is_loopback() || v6.is_unspecified() || v6.is_multicast() || v6.is_unicast_link_local()
            }
        };
        if is_unusable {
            return Err(NewPeerError::SiteUnusable(site));
        }
        if let Some(&network) = self.vpn.iter().find(|network| is_within(prefix, **network)) {
            return Err(NewPeerError::SiteInVpn { site, network });
        }
        let around = self.vpn.iter().filter(|network| is_within(**network, prefix));
        let mut warnings: Vec<_> =
            around.map(|&network| NewPeerWarning::AroundVpn { site, network }).collect();
        if let Some((_, owner)) = self.networks.get(&order(prefix)) {
            return Err(NewPeerError::SiteTaken { site, owner: owner.clone() });
        }
        // the peers' addresses in the VPN are reported as its network
        let is_foreign = |(network, owner): &(Prefix, String)| {
            owner != new
                && owner != SERVER
                && network.length() > 0
                && !self.vpn.iter().any(|vpn| is_within(*network, *vpn))
        };
        let mut others = self.around(prefix).chain(self.within(prefix));
        if let Some((network, owner)) = others.find(|other| is_foreign(other)) {
            warnings.push(NewPeerWarning::OtherPeer { site, network: *network, owner: owner.clone() });
        }
        Ok(warnings)
    }

    /// Returns the networks in use that contain `prefix`, the smallest first.
    fn around(&self, prefix: Prefix) -> impl Iterator<Item = &(Prefix, String)> {
        (0..=prefix.length())
            .rev()
            .filter_map(move |length| self.networks.get(&order(Prefix::of(prefix.network(), length))))
    }

    /// Returns the networks in use that are part of `prefix`.
    fn within(&self, prefix: Prefix) -> impl Iterator<Item = &(Prefix, String)> {
        self.networks.range(first_and_last(prefix)).map(|(_, network)| network)
    }
}

/// Checks the values of a client's file against the networks behind the client, and against its
/// addresses in the VPN.
pub(super) fn check_client(client: &ClientSettings, sites: &[Network], has_ipv6: bool) -> Vec<NewPeerError> {
    let mut errors = Vec::new();
    for route in &client.routes {
        let is_around = |site: &&Network| is_within(route.prefix(), site.prefix());
        if let Some(site) = sites.iter().find(is_around) {
            errors.push(NewPeerError::RouteToSite { route: *route, site: *site });
        }
    }
    if let Some(mtu) = client.mtu.filter(|mtu| has_ipv6 && mtu.bytes() < MIN_MTU_V6) {
        errors.push(NewPeerError::Mtu(mtu));
    }
    errors
}

/// Returns true if `inner` is part of `outer`, or the same.
fn is_within(inner: Prefix, outer: Prefix) -> bool {
    outer.contains(inner.network()) && outer.length() <= inner.length()
}

fn port(forward: &PortForward) -> (Protocol, u16) {
    (forward.protocol, forward.port.get())
}
