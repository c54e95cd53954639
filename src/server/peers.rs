//! Adds peers to a server.

use std::net::IpAddr;

use super::address::{host, next_free};
use super::client_file::ClientFile;
use super::dns::ClientDns;
use super::error::ServerError;
pub(crate) use super::new_peer::NewPeer;
use super::server_file::ServerFile;
use crate::config::PeerName;
use wontun_proto::allowed_ips::Prefix;
use wontun_proto::wireguard::{PresharedKey, PrivateKey, PublicKey, Random};

/// Options of a new peer.
#[derive(Clone, Debug)]
pub(crate) struct NewPeerOptions {
    /// Name of the peer.
    pub name: PeerName,
    /// True to route everything through the tunnel, false for the networks of the VPN only.
    pub full_tunnel: bool,
    /// Public key of the peer, if it generated its own keys.
    pub public_key: Option<PublicKey>,
    /// Name servers of the peer; `None` for those in the file, or else public ones for a full
    /// tunnel.
    pub dns: Option<ClientDns>,
}

/// A new peer, and the files of both sides.
#[derive(Clone, Debug)]
pub(crate) struct AddedPeer {
    /// The server's file with the peer.
    pub file: ServerFile,
    /// The peer.
    pub peer: NewPeer,
    /// The file of the client.
    pub client: ClientFile,
}

/// Generates the keys of a new peer, and allocates the next free address of each family.
///
/// # Errors
/// [`ServerError`] if the name or key is in use, no address is free, or the file lacks a required
/// value.
pub(crate) fn add(
    file: &ServerFile,
    wanted: NewPeerOptions,
    random: &mut dyn Random,
) -> Result<AddedPeer, ServerError> {
    let NewPeerOptions { name, full_tunnel, public_key, dns } = wanted;
    if file.peers().any(|peer| peer.name.as_ref() == Some(&name)) {
        return Err(ServerError::NameTaken(name));
    }
    let endpoint = file.endpoint()?.ok_or_else(|| ServerError::NoEndpoint(file.path().to_owned()))?;
    let stored_dns = file.dns()?;
    if let Some(key) = &public_key {
        if key == file.public_key() {
            return Err(ServerError::ServerKey);
        }
        if let Some(existing) = file.peers().find(|peer| peer.peer.public_key == *key) {
            return Err(ServerError::KeyTaken(existing.name_or_key()));
        }
    }
    let networks = networks(file);
    let addresses = free_addresses(file, &networks)?;
    let private_key = public_key.is_none().then(|| PrivateKey::generate(random));
    let public_key = private_key.as_ref().map(PrivateKey::public_key).or(public_key);
    let Some(public_key) = public_key else { return Err(ServerError::Edit(file.path().to_owned())) };
    let peer = NewPeer { name, public_key, preshared_key: PresharedKey::generate(random), addresses };
    let default_dns = || if full_tunnel { ClientDns::public() } else { ClientDns::none() };
    let client = ClientFile {
        private_key,
        public_key,
        addresses: peer.addresses.clone(),
        dns: dns.or(stored_dns).unwrap_or_else(default_dns),
        server: *file.public_key(),
        preshared_key: peer.preshared_key.clone(),
        allowed_ips: if full_tunnel { default_routes() } else { networks },
        endpoint,
    };
    Ok(AddedPeer { file: file.with_peer(&peer)?, peer, client })
}

/// Returns all of IPv4 and of IPv6. A VPN with one family only routes both, as the other one would
/// bypass the tunnel.
fn default_routes() -> Vec<Prefix> {
    let all = |address: [u8; 4]| Prefix::of(address.into(), 0);
    vec![all([0; 4]), Prefix::of(IpAddr::from([0_u8; 16]), 0)]
}

/// Returns the networks of the server's addresses, without duplicates, that have room for other
/// hosts.
pub(super) fn networks(file: &ServerFile) -> Vec<Prefix> {
    let mut networks = Vec::new();
    for cidr in &file.configuration().interface.addresses {
        let bits = if cidr.address().is_ipv4() { 32 } else { 128 };
        let network = Prefix::of(cidr.address(), cidr.prefix());
        if cidr.prefix() < bits && !networks.contains(&network) {
            networks.push(network);
        }
    }
    networks
}

/// Returns a free address of the first network of each family.
fn free_addresses(file: &ServerFile, networks: &[Prefix]) -> Result<Vec<IpAddr>, ServerError> {
    let configuration = file.configuration();
    let own = configuration.interface.addresses.iter().map(|cidr| host(cidr.address()));
    let peers = configuration.peers.iter().flat_map(|peer| peer.allowed_ips.iter().copied());
    let used: Vec<_> = own.chain(peers).collect();
    let mut addresses = Vec::new();
    for is_v4 in [true, false] {
        if let Some(&network) = networks.iter().find(|network| network.network().is_ipv4() == is_v4) {
            addresses.push(next_free(network, &used).ok_or(ServerError::SubnetFull(network))?);
        }
    }
    if addresses.is_empty() { Err(ServerError::NoSubnet(file.path().to_owned())) } else { Ok(addresses) }
}
