//! Adds peers to a server, and changes them.

mod change;
mod error;
mod invitation;
mod options;
mod renew;
mod taken;

use std::net::IpAddr;

pub(crate) use self::change::{Changed, PeerChange, change, remove, rename};
pub(crate) use self::error::{AddError, NewPeerError, NewPeerWarning};
pub(crate) use self::invitation::{
    EnrolledByLink, Invited, enrol, enrol_by_link, invite, invited_client, without_expired_invitations,
};
pub(crate) use self::options::{Ipv6Reach, NewPeerOptions};
pub(crate) use self::renew::renew;
use self::taken::{Taken, check_client};
use super::address::{FreeAddresses, host};
use super::client_file::ClientFile;
use super::endpoint::ClientEndpoint;
use super::error::ServerError;
use super::server_file::{ServerFile, ServerPeer};
use crate::config::peer_settings::PeerSettings;
use crate::config::wg_quick::{KeySource, Peer, read_secret};
use crate::config::{ClientDns, Network};
use wontun_proto::allowed_ips::Prefix;
use wontun_proto::wireguard::{PresharedKey, PrivateKey, Random};

/// A server's file with new peers.
#[derive(Clone, Debug)]
pub(crate) struct Added {
    /// The server's file with the peers.
    pub file: ServerFile,
    /// The peers, in the order in which they were given.
    pub peers: Vec<AddedPeer>,
    /// Warnings, each with the index of its peer.
    pub warnings: Vec<(usize, NewPeerWarning)>,
}

/// A new peer.
#[derive(Clone, Debug)]
pub(crate) struct AddedPeer {
    /// The peer in the server's file.
    pub peer: Peer,
    /// The file of the client.
    pub client: ClientFile,
}

/// Generates the keys of new peers, and allocates the next free address of each family.
///
/// # Errors
/// [`AddError`] with all errors of the peers: a name, key, address or network is in use or cannot
/// be used, no address is free, or the file lacks a required value.
pub(crate) fn add(
    file: &ServerFile,
    wanted: Vec<NewPeerOptions>,
    ipv6: Ipv6Reach,
    random: &mut dyn Random,
) -> Result<Added, AddError> {
    let endpoint = file.endpoint()?.ok_or_else(|| ServerError::NoEndpoint(file.path().to_owned()))?;
    let default_dns = file.client_dns()?;
    let networks = file.configuration().networks();
    if networks.is_empty() {
        return Err(ServerError::NoSubnet(file.path().to_owned()).into());
    }
    let (addresses, warnings) = allocate(file, &networks, &wanted, ipv6)?;
    let mut peers = Vec::with_capacity(wanted.len());
    for (mut wanted, addresses) in wanted.into_iter().zip(addresses) {
        if wanted.full_tunnel {
            wanted.settings.client.routes = default_routes(ipv6, &networks);
        }
        let private_key = wanted.public_key.is_none().then(|| PrivateKey::generate(random));
        let public_key = private_key.as_ref().map(PrivateKey::public_key).or(wanted.public_key);
        let public_key = public_key.ok_or_else(|| ServerError::Edit(file.path().to_owned()))?;
        let sites = wanted.sites.iter().map(|site| site.prefix());
        let peer = Peer {
            name: Some(wanted.name),
            public_key,
            preshared_key: Some(KeySource::Inline(PresharedKey::generate(random))),
            allowed_ips: addresses.iter().map(|&address| host(address)).chain(sites).collect(),
            endpoint: None,
            persistent_keepalive: None,
            settings: (wanted.settings != PeerSettings::NONE).then(|| Box::new(wanted.settings)),
        };
        let client = client_file(file, &peer, &networks, &endpoint, default_dns.as_ref(), private_key);
        peers.push(AddedPeer { peer, client });
    }
    let file = file.with_peers(peers.iter().map(|added| &added.peer))?;
    Ok(Added { file, peers, warnings })
}

/// Checks new peers against the file and each other.
///
/// # Errors
/// [`AddError::Peers`] with all of their errors.
pub(crate) fn check(file: &ServerFile, wanted: &[NewPeerOptions]) -> Result<(), AddError> {
    allocate(file, &file.configuration().networks(), wanted, Ipv6Reach::Internet).map(drop)
}

/// Returns the file of the peer with this index, as it would be made now, with `private_key`.
///
/// # Errors
/// [`ServerError`]: the server's file lacks a required value, a key cannot be read, or the peer has
/// no address in the server's network.
pub(crate) fn client_of(
    file: &ServerFile,
    number: usize,
    private_key: Option<PrivateKey>,
) -> Result<ClientFile, ServerError> {
    let endpoint = file.endpoint()?.ok_or_else(|| ServerError::NoEndpoint(file.path().to_owned()))?;
    let default_dns = file.client_dns()?;
    let peer = file.peer(number).ok_or_else(|| ServerError::Edit(file.path().to_owned()))?;
    check_routes(&peer)?;
    let networks = file.configuration().networks();
    let mut client = client_file(file, peer.peer, &networks, &endpoint, default_dns.as_ref(), private_key);
    if client.addresses.is_empty() {
        return Err(ServerError::NoClientAddress(peer.name_or_key()));
    }
    let shared = peer.peer.preshared_key.as_ref();
    client.preshared_key = shared.map(|key| read_secret(file.path(), key)).transpose()?;
    Ok(client)
}

/// Returns an error if the networks that the client sends through the tunnel are not known: its file
/// would send fewer or more.
fn check_routes(peer: &ServerPeer<'_>) -> Result<(), ServerError> {
    let client = &peer.peer.settings().client;
    if client.has_unknown_routes && client.routes.is_empty() {
        return Err(ServerError::UnknownRoutes(peer.name_or_key()));
    }
    Ok(())
}

/// Returns the file of the client that is `peer` in the server's file.
fn client_file(
    file: &ServerFile,
    peer: &Peer,
    networks: &[Prefix],
    endpoint: &ClientEndpoint,
    default_dns: Option<&ClientDns>,
    private_key: Option<PrivateKey>,
) -> ClientFile {
    let settings = &peer.settings().client;
    let addresses = peer.addresses(networks);
    let has_family =
        |prefix: &Prefix| addresses.iter().any(|address| address.is_ipv4() == prefix.network().is_ipv4());
    let mut allowed_ips: Vec<_> = settings.routes.iter().map(|route| route.prefix()).collect();
    let is_full_tunnel = allowed_ips.iter().any(|route| route.length() == 0);
    let inner: Vec<_> = networks
        .iter()
        .filter(|network| {
            has_family(network)
                && !allowed_ips
                    .iter()
                    .any(|route| route.overlaps(**network) && route.length() <= network.length())
        })
        .copied()
        .collect();
    allowed_ips.splice(0..0, inner);
    let public_dns = || if is_full_tunnel { ClientDns::public() } else { ClientDns::none() };
    let has_ipv6 = allowed_ips.iter().any(|prefix| prefix.network().is_ipv6());
    let usable_dns = || {
        let dns = default_dns.cloned().unwrap_or_else(public_dns);
        // no queries outside of a full tunnel
        if is_full_tunnel && !has_ipv6 { dns.without_ipv6() } else { dns }
    };
    ClientFile {
        private_key,
        public_key: peer.public_key,
        addresses,
        dns: settings.dns.clone().unwrap_or_else(usable_dns),
        mtu: settings.mtu,
        server: *file.public_key(),
        preshared_key: peer.preshared_key.as_ref().and_then(KeySource::inline).cloned(),
        allowed_ips,
        endpoint: endpoint.clone(),
        keepalive: settings.keepalive.unwrap_or_default(),
    }
}

/// Returns all of IPv4, and all of IPv6 if it leads somewhere. A VPN with one family only routes
/// both then, as the other one would bypass the tunnel.
fn default_routes(ipv6: Ipv6Reach, networks: &[Prefix]) -> Vec<Network> {
    let all = |address: IpAddr| Network::from(Prefix::of(address, 0));
    let mut routes = vec![all([0_u8; 4].into())];
    if ipv6.has_routes(networks) {
        routes.push(all([0_u8; 16].into()));
    }
    routes
}

/// The addresses of the peers, and the warnings about them.
type Checked = (Vec<Vec<IpAddr>>, Vec<(usize, NewPeerWarning)>);

/// Checks new peers against the file and each other, and allocates their addresses.
fn allocate(
    file: &ServerFile,
    networks: &[Prefix],
    wanted: &[NewPeerOptions],
    ipv6: Ipv6Reach,
) -> Result<Checked, AddError> {
    let mut taken = Taken::new(file, networks, None);
    let mut errors: Vec<(usize, NewPeerError)> = Vec::new();
    let mut warnings = Vec::new();
    for (index, peer) in wanted.iter().enumerate() {
        let failed = taken.insert(peer, |warning| warnings.push((index, warning)));
        errors.extend(failed.into_iter().map(|error| (index, error)));
    }
    let has_ipv6_routes = ipv6.has_routes(networks);
    // after all chosen ones are known
    let mut free: Vec<_> = [true, false]
        .into_iter()
        .filter_map(|is_v4| networks.iter().find(|network| network.network().is_ipv4() == is_v4))
        .map(|&network| (network, FreeAddresses::new(network, taken.networks())))
        .collect();
    let mut addresses = Vec::with_capacity(wanted.len());
    for (index, peer) in wanted.iter().enumerate() {
        let mut own = Vec::with_capacity(2);
        for (network, free) in &mut free {
            let is_family = |address: &&IpAddr| address.is_ipv4() == network.network().is_ipv4();
            let chosen = peer.addresses.iter().find(is_family).copied();
            let is_dead = network.network().is_ipv6() && !has_ipv6_routes;
            if peer.full_tunnel && is_dead && chosen.is_none() {
                continue;
            }
            match chosen.or_else(|| free.next()) {
                Some(address) => own.push(address),
                None => errors.push((index, NewPeerError::SubnetFull(*network))),
            }
        }
        let has_v6 = own.iter().any(IpAddr::is_ipv6);
        let failed = check_client(&peer.settings.client, &peer.sites, has_v6);
        errors.extend(failed.into_iter().map(|error| (index, error)));
        addresses.push(own);
    }
    if errors.is_empty() {
        Ok((addresses, warnings))
    } else {
        errors.sort_by_key(|(index, _)| *index);
        Err(AddError::Peers(errors))
    }
}

#[cfg(test)]
mod tests;
