//! Changes of the peers of a server: the same for `wontun peer` and for the admin page.

use std::net::IpAddr;

use super::taken::{Taken, check_client};
use super::{AddError, NewPeerWarning};
use crate::config::peer_settings::PeerSettings;
use crate::config::{Network, PeerName};
use crate::server::address::host;
use crate::server::error::ServerError;
use crate::server::server_file::{ServerFile, ServerPeer};
use wontun_proto::wireguard::PublicKey;

/// A change of a peer.
#[derive(Clone, Debug)]
pub(crate) struct PeerChange {
    /// The settings that the peer is to have.
    pub settings: PeerSettings,
    /// New addresses in the VPN, at most one of each family; of a family without one the present
    /// ones stay.
    pub addresses: Vec<IpAddr>,
    /// The networks that are to be behind the peer; `None` for the present ones.
    pub sites: Option<Vec<Network>>,
}

/// A server's file with a changed peer.
#[derive(Clone, Debug)]
pub(crate) struct Changed {
    /// The file.
    pub file: ServerFile,
    /// Warnings about the peer's networks.
    pub warnings: Vec<NewPeerWarning>,
}

/// A server's file without a peer that it had.
#[derive(Clone, Debug)]
pub(crate) struct Removed {
    /// The file.
    pub file: ServerFile,
    /// Key of the peer.
    pub key: PublicKey,
    /// Name of the peer, if it had one.
    pub name: Option<PeerName>,
    /// Names of the peers whose rules named it.
    pub changed: Vec<String>,
}

/// Renames the peer with this index, also in the rules of other peers.
///
/// # Errors
/// [`ServerError::NameTaken`], [`ServerError::Edit`].
pub(crate) fn rename(file: &ServerFile, number: usize, name: &PeerName) -> Result<ServerFile, ServerError> {
    match file.peers().position(|peer| peer.name.as_ref() == Some(name)) {
        Some(existing) if existing == number => return Ok(file.clone()),
        Some(_) => return Err(ServerError::NameTaken(name.clone())),
        None => {}
    }
    let old = peer(file, number)?.name;
    let renamed = file.with_name(number, name)?;
    match old {
        Some(old) => Ok(renamed.with_renamed_rules(&old, Some(name))?.0),
        None => Ok(renamed),
    }
}

/// Removes the peer with this index, also from the rules of other peers.
///
/// # Errors
/// [`ServerError::Edit`].
pub(crate) fn remove(file: &ServerFile, number: usize) -> Result<Removed, ServerError> {
    let ServerPeer { name, peer } = peer(file, number)?;
    let key = peer.public_key;
    let file = file.without_peer(number)?;
    let (file, changed) = match &name {
        Some(name) => file.with_renamed_rules(name, None)?,
        None => (file, Vec::new()),
    };
    Ok(Removed { file, key, name, changed })
}

/// Changes the peer with this index, after the same checks as for a new peer. What is not changed
/// is not checked.
///
/// # Errors
/// [`AddError`]: an address or a network is in use or cannot be used, a rule names no peer, a port
/// of the server leads elsewhere, or the file cannot be edited.
pub(crate) fn change(file: &ServerFile, number: usize, wanted: &PeerChange) -> Result<Changed, AddError> {
    let peer = peer(file, number)?;
    let networks = file.configuration().networks();
    let (addresses, sites) = (peer.peer.addresses(&networks), peer.peer.sites(&networks));
    let given = if is_same(&merged(&addresses, &wanted.addresses), &addresses) {
        &[]
    } else {
        wanted.addresses.as_slice()
    };
    let new_addresses = if given.is_empty() { addresses.clone() } else { merged(&addresses, given) };
    let new_sites = wanted.sites.as_ref().unwrap_or(&sites);
    if !given.is_empty() && peer.peer.settings().invitation.is_some() {
        return Err(ServerError::InvitationAddress(peer.name_or_key()).into());
    }
    let mut warnings = Vec::new();
    let mut errors = Vec::new();
    if !given.is_empty() || wanted.sites.is_some() {
        let owner = peer.name_or_key();
        let mut taken = Taken::new(file, &networks, Some(number));
        let new: Vec<_> = new_sites.iter().filter(|site| !sites.contains(site)).copied().collect();
        errors = taken.insert_networks(&owner, given, &new, |warning| warnings.push(warning));
    }
    let before = peer.peer.settings();
    let has_changed = new_addresses != addresses || *new_sites != sites;
    if has_changed || wanted.settings.client != before.client {
        let has_ipv6 = new_addresses.iter().any(IpAddr::is_ipv6);
        errors.extend(check_client(&wanted.settings.client, new_sites, has_ipv6));
    }
    if !errors.is_empty() {
        return Err(AddError::Peers(errors.into_iter().map(|error| (0, error)).collect()));
    }
    let mut changed = file.clone();
    if has_changed {
        let allowed_ips = new_addresses.iter().map(|&address| host(address));
        let allowed_ips: Vec<_> = allowed_ips.chain(new_sites.iter().map(|site| site.prefix())).collect();
        changed = changed.with_allowed_ips(number, &allowed_ips)?;
    }
    if wanted.settings != *before {
        file.check_settings(Some(number), &wanted.settings, &[])?;
        changed = changed.with_settings(number, &wanted.settings)?;
    }
    Ok(Changed { file: changed, warnings })
}

/// Returns the present addresses, with those of a family replaced if there is a new one.
fn merged(present: &[IpAddr], new: &[IpAddr]) -> Vec<IpAddr> {
    let is_replaced = |address: &IpAddr| new.iter().any(|new| new.is_ipv4() == address.is_ipv4());
    let kept = present.iter().copied().filter(|address| !is_replaced(address));
    let mut merged: Vec<_> = new.iter().copied().chain(kept).collect();
    merged.sort_by_key(IpAddr::is_ipv6);
    merged
}

/// Returns true if two lists have the same addresses, in any order.
fn is_same(a: &[IpAddr], b: &[IpAddr]) -> bool {
    a.len() == b.len() && a.iter().all(|address| b.contains(address))
}

/// Returns the peer with this index.
fn peer(file: &ServerFile, number: usize) -> Result<ServerPeer<'_>, ServerError> {
    file.peer(number).ok_or_else(|| ServerError::Edit(file.path().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::testing::{Counting, add_one, wanted};
    use std::path::Path;
    use zeroize::Zeroizing;

    /// A server with the peers `nas` and `phone`, whose rules name `nas`.
    fn file() -> ServerFile {
        let text = "[Interface]\n# ClientEndpoint = vpn.example.com\n\
                    PrivateKey = dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=\nAddress = 10.8.0.1/24\n";
        let file = ServerFile::parse(Path::new("x"), Zeroizing::new(text.as_bytes().to_vec())).unwrap();
        let mut random = Counting(0);
        let file = add_one(&file, wanted("nas"), &mut random).unwrap().file;
        let mut phone = wanted("phone");
        phone.settings.deny = vec!["nas:22/tcp".parse().unwrap()];
        add_one(&file, phone, &mut random).unwrap().file
    }

    fn set(file: &ServerFile, number: usize, settings: PeerSettings) -> Result<ServerFile, AddError> {
        let wanted = PeerChange { settings, addresses: Vec::new(), sites: None };
        Ok(change(file, number, &wanted)?.file)
    }

    #[test]
    fn rules_follow_the_peers_that_they_name() {
        let file = file();
        let deny =
            |file: &ServerFile| file.peer(file.find("phone").unwrap()).unwrap().peer.settings().deny.clone();
        assert!(matches!(rename(&file, 0, &"phone".parse().unwrap()), Err(ServerError::NameTaken(_))));
        assert_eq!(rename(&file, 0, &"nas".parse().unwrap()).unwrap().text(), file.text());
        let renamed = rename(&file, 0, &"disk".parse().unwrap()).unwrap();
        assert_eq!(deny(&renamed), ["disk:22/tcp".parse().unwrap()]);
        let removed = remove(&renamed, 0).unwrap();
        assert_eq!((removed.changed, deny(&removed.file)), (vec!["phone".to_owned()], vec![]));
        assert!(matches!(remove(&file, 2), Err(ServerError::Edit(_))));
        let mut settings = file.peer(0).unwrap().peer.settings().clone();
        settings.deny = vec!["tablet".parse().unwrap()];
        assert!(matches!(set(&file, 0, settings), Err(AddError::Server(ServerError::UnknownPeer { .. }))));
    }

    #[test]
    fn addresses_and_sites_are_checked_as_those_of_a_new_peer() {
        let file = file();
        let changed = |file: &ServerFile, addresses: &[&str], sites: Option<&[&str]>, mtu: Option<&str>| {
            let mut settings = file.peer(1).unwrap().peer.settings().clone();
            settings.client.mtu = mtu.map(|mtu| mtu.parse().unwrap()).or(settings.client.mtu);
            let wanted = PeerChange {
                settings,
                addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
                sites: sites.map(|sites| sites.iter().map(|site| site.parse().unwrap()).collect()),
            };
            change(file, 1, &wanted).map_err(|error| error.to_string())
        };
        let allowed = |file: &ServerFile| {
            let peer = file.peer(1).unwrap().peer;
            peer.allowed_ips.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(allowed(&file), "10.8.0.3/32");
        let moved = changed(&file, &["10.8.0.9"], Some(&["192.168.5.0/24"]), None).unwrap().file;
        assert_eq!(allowed(&moved), "10.8.0.9/32 192.168.5.0/24");
        // each alone keeps the other, and its own is no other's
        assert_eq!(allowed(&changed(&moved, &["10.8.0.9"], None, None).unwrap().file), allowed(&moved));
        assert_eq!(allowed(&changed(&moved, &[], Some(&[]), None).unwrap().file), "10.8.0.9/32");
        let two = changed(&moved, &[], Some(&["192.168.5.0/24", "192.168.6.0/24"]), None).unwrap().file;
        assert_eq!(allowed(&two), "10.8.0.9/32 192.168.5.0/24 192.168.6.0/24");
        for (addresses, sites, part) in [
            (&["10.8.0.2"][..], None, "10.8.0.2 is in use by nas"),
            (&["10.9.0.2"], None, "outside of the server's network"),
            (&[], Some(&["0.0.0.0/0"][..]), "default route"),
            (&[], Some(&["10.8.0.0/25"]), "part of the VPN's network"),
        ] {
            let error = changed(&moved, addresses, sites, None).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
        let mut settings = moved.peer(1).unwrap().peer.settings().clone();
        settings.client.routes = vec!["192.168.5.0/25".parse().unwrap()];
        let error = set(&moved, 1, settings).unwrap_err().to_string();
        assert!(error.contains("192.168.5.0/25 is within the site 192.168.5.0/24"), "{error}");
        assert!(changed(&file, &[], None, Some("576")).is_ok(), "without IPv6");
    }

    /// A form sends all of its fields, as they are in the file.
    #[test]
    fn what_is_given_as_it_is_is_no_change() {
        let text = String::from_utf8(file().text().to_vec()).unwrap();
        let two = text.replace("10.8.0.3/32", "fd00::1/128, 10.8.0.4/32, 10.8.0.3/32");
        let parse =
            |text: &str| ServerFile::parse(Path::new("x"), Zeroizing::new(text.as_bytes().to_vec())).unwrap();
        let wanted = |file: &ServerFile, addresses: &[&str], note: &str| {
            let mut settings = file.peer(1).unwrap().peer.settings().clone();
            settings.note = note.parse().ok();
            let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
            PeerChange { settings, addresses, sites: Some(vec!["fd00::1/128".parse().unwrap()]) }
        };
        let file = parse(&two);
        let same = change(&file, 1, &wanted(&file, &["10.8.0.3", "10.8.0.4"], "")).unwrap().file;
        assert_eq!(same.text(), file.text());
        let error = change(&file, 1, &wanted(&file, &["10.8.0.3", "10.8.0.9"], "")).unwrap_err();
        assert!(error.to_string().contains("same family"), "{error}");
        let one = change(&file, 1, &wanted(&file, &["10.8.0.3"], "")).unwrap().file;
        assert!(String::from_utf8_lossy(one.text()).contains("AllowedIPs = 10.8.0.3/32, fd00::1/128\n"));
        // of an invitation, addresses cannot change: its settings can
        let invited = two.replace("# Deny", "# Invitation = 2099-12-31T00:00:00Z\n# Deny");
        let file = parse(&invited);
        let noted = change(&file, 1, &wanted(&file, &["10.8.0.4", "10.8.0.3"], "x")).unwrap().file;
        assert!(String::from_utf8_lossy(noted.text()).contains("# Note = x\n"));
        let error = change(&file, 1, &wanted(&file, &["10.8.0.9"], "x")).unwrap_err();
        assert!(matches!(error, AddError::Server(ServerError::InvitationAddress(_))), "{error}");
    }

    #[test]
    fn allowed_ips_of_several_lines_become_one() {
        let text = String::from_utf8(file().text().to_vec()).unwrap();
        let text =
            text.replace("AllowedIPs = 10.8.0.3/32", "AllowedIPs = 10.8.0.3/32 # a\nallowedips=10.1.0.0/16");
        let file = ServerFile::parse(Path::new("x"), Zeroizing::new(text.clone().into_bytes())).unwrap();
        let site = PeerChange {
            settings: file.peer(1).unwrap().peer.settings().clone(),
            addresses: vec![],
            sites: None,
        };
        let site = PeerChange { sites: Some(vec!["10.2.0.0/16".parse().unwrap()]), ..site };
        let changed = change(&file, 1, &site).unwrap().file;
        let expected =
            text.replace("10.8.0.3/32 # a\nallowedips=10.1.0.0/16", "10.8.0.3/32, 10.2.0.0/16 # a");
        assert_eq!(String::from_utf8(changed.text().to_vec()).unwrap(), expected);
    }
}
