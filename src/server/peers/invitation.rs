//! Invitations: peers with a one-time key, which a device replaces by its own.

use std::time::Duration;

use super::change::remove;
use super::{
    AddError, Added, AddedPeer, ClientFile, Ipv6Reach, NewPeerError, NewPeerOptions, add, client_of,
};
use crate::config::peer_settings::{Expiry, PeerSettings, RESPONDER_PORT};
use crate::config::wg_quick::KeySource;
use crate::enroll::code::{InvitationCode, OneTimeSecret};
use crate::server::error::ServerError;
use crate::server::server_file::ServerFile;
use wontun_proto::wireguard::{PresharedKey, PublicKey, Random};

/// A server's file with an invitation.
#[derive(Debug)]
pub(crate) struct Invited {
    /// The server's file.
    pub file: ServerFile,
    /// The peer, with the device's file as it will be, and warnings.
    pub added: AddedPeer,
    /// Warnings about the peer.
    pub warnings: Vec<super::NewPeerWarning>,
    /// The code of the invitation.
    pub code: InvitationCode,
}

/// Adds an invitation until `end`, from which a device becomes the peer `wanted`.
///
/// # Errors
/// [`AddError`].
pub(crate) fn invite(
    file: &ServerFile,
    wanted: NewPeerOptions,
    end: Expiry,
    ipv6: Ipv6Reach,
    random: &mut dyn Random,
) -> Result<Invited, AddError> {
    let edit_error = || ServerError::Edit(file.path().to_owned());
    let secret = OneTimeSecret::generate(random);
    let (key, preshared_key) = (secret.public_key(), secret.preshared_key());
    let settings = PeerSettings { invitation: Some(end), ..wanted.settings };
    let wanted = NewPeerOptions { public_key: Some(key), settings, ..wanted };
    let Added { file: with_peer, mut peers, warnings } = add(file, vec![wanted], ipv6, random)?;
    let mut added = peers.pop().ok_or_else(edit_error)?;
    let number = with_peer.peers().count().checked_sub(1).ok_or_else(edit_error)?;
    let file = with_peer.with_keys(number, key, &preshared_key)?;
    added.peer.preshared_key = Some(KeySource::Inline(preshared_key.clone()));
    added.client.preshared_key = Some(preshared_key);
    let endpoint = added.client.endpoint.to_string();
    let servers = || file.configuration().interface.addresses.iter().map(|cidr| cidr.address());
    let same_family = |own: &std::net::IpAddr| servers().find(|server| server.is_ipv4() == own.is_ipv4());
    let ends = added.client.addresses.iter().find_map(|own| Some((*own, same_family(own)?)));
    let (address, server) = ends.ok_or_else(|| ServerError::NoClientAddress(String::new()))?;
    let code = InvitationCode {
        server: *file.public_key(),
        secret,
        expires: end.since_epoch(),
        address,
        responder: (server, RESPONDER_PORT.get()).into(),
        endpoint: endpoint.parse().map_err(|_| edit_error())?,
    };
    let warnings = warnings.into_iter().map(|(_, warning)| warning).collect();
    Ok(Invited { file, added, warnings, code })
}

/// Returns the file of the device that an invitation is for, without keys.
///
/// # Errors
/// [`ServerError::NoInvitation`]; the file lacks a required value.
pub(crate) fn invited_client(
    file: &ServerFile,
    invitation: &PublicKey,
    now: Duration,
) -> Result<ClientFile, ServerError> {
    let client = client_of(file, find(file, invitation, now)?, None)?;
    Ok(ClientFile { preshared_key: None, ..client })
}

/// Replaces the one-time keys of an invitation by those of a device. Name, addresses and settings
/// are kept.
///
/// # Errors
/// [`AddError`]: there is no such invitation any more, or the key is in use.
pub(crate) fn enrol(
    file: &ServerFile,
    invitation: &PublicKey,
    key: PublicKey,
    preshared_key: &PresharedKey,
    now: Duration,
) -> Result<ServerFile, AddError> {
    let number = find(file, invitation, now)?;
    if key == *file.public_key() {
        return Err(AddError::Peers(vec![(0, NewPeerError::ServerKey)]));
    }
    if let Some(existing) = file.peers().find(|peer| peer.peer.public_key == key) {
        return Err(AddError::Peers(vec![(0, NewPeerError::KeyTaken(existing.name_or_key()))]));
    }
    Ok(accepted(&file.with_keys(number, key, preshared_key)?, number)?)
}

/// A device that a link has enrolled.
#[derive(Debug)]
pub(crate) struct EnrolledByLink {
    /// The server's file, unchanged if the device was enrolled before.
    pub file: ServerFile,
    /// Name of the peer, or its key.
    pub name: String,
    /// The device's file, without its private key.
    pub client: ClientFile,
}

/// Enrols a device by the token of a link. A device that was enrolled and repeats its request,
/// since the answer was lost, gets its file again: its preshared key tells that it is the same one.
///
/// # Errors
/// [`AddError`]: there is no such invitation any more, or the key is in use.
pub(crate) fn enrol_by_link(
    file: &ServerFile,
    token: &OneTimeSecret,
    key: PublicKey,
    preshared_key: &PresharedKey,
    now: Duration,
) -> Result<EnrolledByLink, AddError> {
    let enrolled = |file: &ServerFile| {
        file.peers().position(|peer| {
            let shared = peer.peer.preshared_key.as_ref().and_then(KeySource::inline);
            let settings = peer.peer.settings();
            peer.peer.public_key == key
                && shared == Some(preshared_key)
                && settings.invitation.is_none()
                && settings.exclusion(now).is_none()
        })
    };
    if preshared_key.is_none() {
        return Err(ServerError::NoInvitation.into());
    }
    let file = match enrolled(file) {
        Some(_) => file.clone(),
        None => enrol(file, &token.public_key(), key, preshared_key, now)?,
    };
    let number = enrolled(&file).ok_or(ServerError::NoInvitation)?;
    let name = file.peer(number).map(|peer| peer.name_or_key()).unwrap_or_default();
    let client = client_of(&file, number, None)?;
    Ok(EnrolledByLink { file, name, client })
}

/// Returns the file in which the peer with this index is no invitation any more.
///
/// # Errors
/// `ServerError::Edit`.
pub(super) fn accepted(file: &ServerFile, number: usize) -> Result<ServerFile, ServerError> {
    let Some(peer) = file.peer(number) else { return Ok(file.clone()) };
    let settings = peer.peer.settings();
    if settings.invitation.is_none() {
        return Ok(file.clone());
    }
    file.with_settings(number, &PeerSettings { invitation: None, ..settings.clone() })
}

/// Removes the invitations that have expired.
///
/// # Errors
/// `ServerError::Edit`.
pub(crate) fn without_expired_invitations(
    file: &ServerFile,
    now: Duration,
) -> Result<ServerFile, ServerError> {
    let mut file = file.clone();
    let first =
        |file: &ServerFile| file.peers().position(|peer| peer.peer.settings().is_expired_invitation(now));
    while let Some(number) = first(&file) {
        file = remove(&file, number)?.file;
    }
    Ok(file)
}

/// Returns the index of an invitation that a device may still use.
fn find(file: &ServerFile, invitation: &PublicKey, now: Duration) -> Result<usize, ServerError> {
    let is_open =
        |settings: &PeerSettings| settings.invitation.is_some() && settings.exclusion(now).is_none();
    let found =
        file.peers().position(|peer| peer.peer.public_key == *invitation && is_open(peer.peer.settings()));
    found.ok_or(ServerError::NoInvitation)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::net::random::SystemRandom;
    use crate::server::testing::wanted;
    use zeroize::Zeroizing;

    const NOW: Duration = Duration::from_secs(1_800_000_000);

    fn server() -> ServerFile {
        let text = "[Interface]\n# ClientEndpoint = vpn.example.com\nAddress = 10.8.0.1/24, fd12::1/64\nListenPort = 51820\n\
                    PrivateKey = dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=\n\n\
                    [Peer]\n# Name = bob\n# Allow = phone, lan\nAllowedIPs = 10.8.0.2/32\n\
                    PublicKey = 3p7bfXt9wbTTW2HC7OQ1Nz+DQ8hbeGdNrfx+FG+IK08=\n";
        ServerFile::parse(Path::new("tun0.conf"), Zeroizing::new(text.as_bytes().to_vec())).unwrap()
    }

    fn invited() -> Invited {
        let mut wanted = wanted("phone");
        wanted.settings.allow = Some(vec!["lan".parse().unwrap()]);
        let end = Expiry::from_epoch(NOW + Duration::from_secs(60)).unwrap();
        let random = &mut SystemRandom::open().unwrap();
        invite(&server(), wanted, end, Ipv6Reach::Internet, random).unwrap()
    }

    #[test]
    fn a_device_takes_the_place_of_an_invitation_once() {
        let Invited { file, code, .. } = invited();
        let peer = file.peers().find(|peer| peer.name.as_ref().is_some_and(|name| name.as_str() == "phone"));
        let peer = peer.unwrap().peer.clone();
        assert_eq!(peer.public_key, code.secret.private_key().public_key());
        assert_eq!(peer.preshared_key, Some(KeySource::Inline(code.secret.preshared_key())));
        assert!(peer.settings().is_restricted() && peer.settings().exclusion(NOW).is_none());
        let client = invited_client(&file, &peer.public_key, NOW).unwrap();
        assert_eq!((client.preshared_key.is_none(), client.addresses[0]), (true, code.address));

        let key = PublicKey::from_bytes([5; 32]);
        let preshared_key = PresharedKey::from_bytes([6; 32]);
        let enrolled = enrol(&file, &peer.public_key, key, &preshared_key, NOW).unwrap();
        let after = enrolled.peers().nth(1).unwrap().peer.clone();
        let expected = PeerSettings { invitation: None, ..peer.settings().clone() };
        assert_eq!((after.public_key, after.settings()), (key, &expected));
        assert_eq!((after.allowed_ips, after.name), (peer.allowed_ips, peer.name));
        assert_eq!(after.preshared_key, Some(KeySource::Inline(preshared_key.clone())));
        // neither the same code, nor that of somebody who is no invitation
        for used in [peer.public_key, key] {
            let again = enrol(&enrolled, &used, PublicKey::from_bytes([7; 32]), &preshared_key, NOW);
            assert!(matches!(again, Err(AddError::Server(ServerError::NoInvitation))), "{again:?}");
            assert!(invited_client(&enrolled, &used, NOW).is_err());
        }
    }

    #[test]
    fn a_link_enrols_one_device_which_may_ask_again() {
        let Invited { file, code, .. } = invited();
        let by_link = |file: &ServerFile, token: &OneTimeSecret, key: u8, shared: u8, now| {
            let (key, shared) = (PublicKey::from_bytes([key; 32]), PresharedKey::from_bytes([shared; 32]));
            enrol_by_link(file, token, key, &shared, now)
        };
        let is_refused = |result: Result<EnrolledByLink, AddError>| {
            assert!(matches!(result, Err(AddError::Server(ServerError::NoInvitation))), "{result:?}");
        };
        let other = OneTimeSecret::generate(&mut SystemRandom::open().unwrap());
        is_refused(by_link(&file, &other, 5, 6, NOW));
        is_refused(by_link(&file, &code.secret, 5, 0, NOW));
        is_refused(by_link(&file, &code.secret, 5, 6, code.expires));
        let once = by_link(&file, &code.secret, 5, 6, NOW).unwrap();
        let text = once.client.to_text();
        let text = str::from_utf8(&text).unwrap();
        assert!(once.name == "phone" && text.starts_with("[Interface]\n# PrivateKey = the one"), "{text}");
        let shared = PresharedKey::from_bytes([6; 32]);
        assert!(text.contains(&format!("PresharedKey = {}\n", *shared.to_base64())), "{text}");
        assert!(!text.contains(&*code.secret.private_key().to_base64()), "{text}");
        // the answer was lost; by then the code has expired, and the token does not matter any more
        for (token, now) in [(&code.secret, NOW), (&other, code.expires)] {
            let again = by_link(&once.file, token, 5, 6, now).unwrap();
            assert_eq!((again.file.text(), again.client), (once.file.text(), once.client.clone()));
        }
        // another device, or who knows the public key only
        for (key, shared) in [(7, 8), (7, 6), (5, 7)] {
            is_refused(by_link(&once.file, &code.secret, key, shared, NOW));
        }
        let disabled = PeerSettings { is_disabled: true, ..PeerSettings::NONE };
        let disabled = once.file.with_settings(1, &disabled).unwrap();
        is_refused(by_link(&disabled, &code.secret, 5, 6, NOW));
        let disabled = PeerSettings { is_disabled: true, ..file.peer(1).unwrap().peer.settings().clone() };
        is_refused(by_link(&file.with_settings(1, &disabled).unwrap(), &code.secret, 5, 6, NOW));
    }

    #[test]
    fn neither_late_nor_with_a_key_that_others_have() {
        let Invited { file, code, .. } = invited();
        let one_time = code.secret.private_key().public_key();
        let preshared_key = PresharedKey::from_bytes([6; 32]);
        let new = PublicKey::from_bytes([5; 32]);
        let late = enrol(&file, &one_time, new, &preshared_key, code.expires);
        assert!(matches!(late, Err(AddError::Server(ServerError::NoInvitation))));
        let bob = file.peers().next().unwrap().peer.public_key;
        for taken in [bob, *file.public_key(), one_time] {
            assert!(matches!(enrol(&file, &one_time, taken, &preshared_key, NOW), Err(AddError::Peers(_))));
        }
        let kept = without_expired_invitations(&file, NOW).unwrap();
        assert_eq!(kept.text(), file.text());
        let without = without_expired_invitations(&file, code.expires).unwrap();
        assert_eq!(without.peers().count(), 1);
        assert!(!str::from_utf8(without.text()).unwrap().contains("phone"), "also in rules of others");
    }
}
