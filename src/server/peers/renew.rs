//! New keys of a peer.

use super::invitation::accepted;
use super::{AddError, AddedPeer, NewPeerError, check_routes, client_file};
use crate::config::wg_quick::KeySource;
use crate::server::error::ServerError;
use crate::server::server_file::ServerFile;
use wontun_proto::wireguard::{PresharedKey, PrivateKey, PublicKey, Random};

/// Replaces the keys of the peer with this index: by `public_key` if the client generated its own.
/// Returns the edited file, and the peer with the file of its client.
///
/// # Errors
/// [`AddError`]: the peer has no name or no address, its routes are not known, the key is in use, or
/// the file lacks a required value.
pub(crate) fn renew(
    file: &ServerFile,
    number: usize,
    public_key: Option<PublicKey>,
    random: &mut dyn Random,
) -> Result<(ServerFile, AddedPeer), AddError> {
    let edit_error = || ServerError::Edit(file.path().to_owned());
    let endpoint = file.endpoint()?.ok_or_else(|| ServerError::NoEndpoint(file.path().to_owned()))?;
    let default_dns = file.client_dns()?;
    let found = file.peer(number).ok_or_else(edit_error)?;
    check_routes(&found)?;
    let mut peer = found.peer.clone();
    if peer.name.is_none() {
        return Err(ServerError::Unnamed(peer.public_key).into());
    }
    if let Some(key) = &public_key {
        if key == file.public_key() {
            return Err(AddError::Peers(vec![(0, NewPeerError::ServerKey)]));
        }
        if let Some(existing) = file.peers().find(|peer| peer.peer.public_key == *key) {
            return Err(AddError::Peers(vec![(0, NewPeerError::KeyTaken(existing.name_or_key()))]));
        }
    }
    let private_key = public_key.is_none().then(|| PrivateKey::generate(random));
    peer.public_key =
        private_key.as_ref().map(PrivateKey::public_key).or(public_key).ok_or_else(edit_error)?;
    let preshared_key = PresharedKey::generate(random);
    peer.preshared_key = Some(KeySource::Inline(preshared_key.clone()));
    let networks = file.configuration().networks();
    let client = client_file(file, &peer, &networks, &endpoint, default_dns.as_ref(), private_key);
    if client.addresses.is_empty() {
        return Err(ServerError::NoClientAddress(peer.name.map(String::from).unwrap_or_default()).into());
    }
    // whoever has the new file needs no invitation
    let file = accepted(&file.with_keys(number, peer.public_key, &preshared_key)?, number)?;
    Ok((file, AddedPeer { peer, client }))
}
