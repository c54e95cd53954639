//! Changes of the peers of a server: the same for `wontun peer` and for the admin page.

use super::AddError;
use crate::config::PeerName;
use crate::config::peer_settings::PeerSettings;
use crate::server::error::ServerError;
use crate::server::server_file::{ServerFile, ServerPeer};
use wontun_proto::wireguard::PublicKey;

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

/// Replaces the settings of the peer with this index, after checking them against those of the
/// other peers.
///
/// # Errors
/// [`AddError`]: a rule names no peer, a port of the server leads elsewhere, or the file cannot be
/// edited.
pub(crate) fn set(file: &ServerFile, number: usize, settings: &PeerSettings) -> Result<ServerFile, AddError> {
    if peer(file, number)?.peer.settings() == settings {
        return Ok(file.clone());
    }
    file.check_settings(Some(number), settings, &[])?;
    Ok(file.with_settings(number, settings)?)
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
        assert!(matches!(set(&file, 0, &settings), Err(AddError::Server(ServerError::UnknownPeer { .. }))));
    }
}
