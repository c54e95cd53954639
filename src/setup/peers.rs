//! What adding a peer to a server means.

use std::net::IpAddr;

use super::address::{host, next_free};
use super::client_file::ClientFile;
use super::dns::ClientDns;
use super::error::SetupError;
pub use super::new_peer::NewPeer;
use super::server_file::ServerFile;
use crate::config::PeerName;
use crate::routing::Prefix;
use crate::tunnel::wireguard::{PresharedKey, PrivateKey, PublicKey, Random};

/// The peer that is wanted.
#[derive(Clone, Debug)]
pub struct AddPeer {
    /// What it is to be called.
    pub name: PeerName,
    /// Whether it sends everything through the tunnel, instead of what is for the VPN.
    pub full_tunnel: bool,
    /// Its public key, if it keeps its private key to itself.
    pub public_key: Option<PublicKey>,
    /// Its name servers; `None` for what the file says, else for a full tunnel public ones.
    pub dns: Option<ClientDns>,
}

/// A peer, and what comes of it on both sides.
#[derive(Clone, Debug)]
pub struct Added {
    /// The server's file with it.
    pub file: ServerFile,
    /// The peer.
    pub peer: NewPeer,
    /// What the client gets.
    pub client: ClientFile,
}

/// Makes the keys of a new peer, and gives it the next free address of each family.
///
/// # Errors
/// [`SetupError`]: its name or key is taken, there is no address left, or the file lacks something.
pub fn add(file: &ServerFile, wanted: AddPeer, random: &mut dyn Random) -> Result<Added, SetupError> {
    let AddPeer { name, full_tunnel, public_key, dns } = wanted;
    if file.peers().any(|peer| peer.name.as_ref() == Some(&name)) {
        return Err(SetupError::NameTaken(name));
    }
    let endpoint = file.endpoint()?.ok_or_else(|| SetupError::NoEndpoint(file.path().to_owned()))?;
    let stored_dns = file.dns()?;
    if let Some(key) = &public_key {
        if key == file.public_key() {
            return Err(SetupError::OwnKey);
        }
        if let Some(twin) = file.peers().find(|peer| peer.peer.public_key == *key) {
            return Err(SetupError::KeyTaken(twin.label()));
        }
    }
    let networks = networks(file);
    let addresses = free_addresses(file, &networks)?;
    let private_key = public_key.is_none().then(|| PrivateKey::generate(random));
    let public_key = private_key.as_ref().map(PrivateKey::public_key).or(public_key);
    let Some(public_key) = public_key else { return Err(SetupError::Edit(file.path().to_owned())) };
    let peer = NewPeer { name, public_key, preshared_key: PresharedKey::generate(random), addresses };
    let default_dns = || if full_tunnel { ClientDns::public() } else { ClientDns::none() };
    let client = ClientFile {
        private_key,
        public_key,
        addresses: peer.addresses.clone(),
        dns: dns.or(stored_dns).unwrap_or_else(default_dns),
        server: *file.public_key(),
        preshared_key: peer.preshared_key.clone(),
        allowed_ips: if full_tunnel { everything() } else { networks },
        endpoint,
    };
    Ok(Added { file: file.with_peer(&peer)?, peer, client })
}

/// All of IPv4 and of IPv6: also where the VPN has only one of them, since the other would go past it.
fn everything() -> Vec<Prefix> {
    let all = |address: [u8; 4]| Prefix::of(address.into(), 0);
    vec![all([0; 4]), Prefix::of(IpAddr::from([0_u8; 16]), 0)]
}

/// The networks that the server's own addresses lie in, each once and with room for somebody else.
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

/// A free address of the first network of each family.
fn free_addresses(file: &ServerFile, networks: &[Prefix]) -> Result<Vec<IpAddr>, SetupError> {
    let configuration = file.configuration();
    let own = configuration.interface.addresses.iter().map(|cidr| host(cidr.address()));
    let peers = configuration.peers.iter().flat_map(|peer| peer.allowed_ips.iter().copied());
    let used: Vec<_> = own.chain(peers).collect();
    let mut addresses = Vec::new();
    for is_v4 in [true, false] {
        if let Some(&network) = networks.iter().find(|network| network.network().is_ipv4() == is_v4) {
            addresses.push(next_free(network, &used).ok_or(SetupError::Full(network))?);
        }
    }
    if addresses.is_empty() { Err(SetupError::NoSubnet(file.path().to_owned())) } else { Ok(addresses) }
}
