//! Changes of the files, by the functions that `wontun peer` uses.

use std::time::SystemTime;

use super::super::messages::{Change, ClientText, Setting};
use super::Editor;
use crate::config::PeerName;
use crate::config::peer_settings::{Expiry, PeerSettings};
use crate::server::peers::{self, AddedPeer, Ipv6Reach, NewPeerOptions};
use crate::server::{ServerError, ServerFile};
use wontun_proto::wireguard::PublicKey;

impl Editor {
    /// Makes a change. Returns the file of a new peer.
    ///
    /// # Errors
    /// A text for the page; the files are unchanged.
    pub(super) fn make(&mut self, change: Change, reaches_ipv6: bool) -> Result<Option<ClientText>, String> {
        match change {
            Change::Account(text) => {
                // only what can be read again
                text.parse().map_err(|error| error.to_string())?;
                self.account.write(&text).map(|()| None)
            }
            Change::Add { name, full_tunnel } => self.add(name, full_tunnel, reaches_ipv6).map(Some),
            Change::Renew(key) => self.renew(&key).map(Some),
            Change::Remove(key) => self.edit(&key, ServerFile::without_peer).map(|()| None),
            Change::Rename(key, name) => {
                let renamed = self.edit(&key, |file, number| {
                    let existing = file.peers().position(|peer| peer.name.as_ref() == Some(&name));
                    match existing.filter(|existing| *existing != number) {
                        Some(_) => Err(ServerError::NameTaken(name.clone())),
                        None => file.with_name(number, &name),
                    }
                });
                renamed.map(|()| None)
            }
            Change::Set(key, setting, value) => self.set(&key, setting, value.as_str()).map(|()| None),
        }
    }

    fn add(&mut self, name: PeerName, full_tunnel: bool, reaches_ipv6: bool) -> Result<ClientText, String> {
        let text = |error: ServerError| error.to_string();
        let (writer, file) = self.folder.lock().map_err(text)?;
        let wanted = NewPeerOptions {
            name,
            full_tunnel,
            public_key: None,
            addresses: Vec::new(),
            sites: Vec::new(),
            settings: PeerSettings::NONE,
        };
        let reach = if reaches_ipv6 { Ipv6Reach::Internet } else { Ipv6Reach::Vpn };
        let added = peers::add(&file, vec![wanted], reach, &mut self.random);
        let peers::Added { file, peers, .. } = added.map_err(|error| error.to_string())?;
        let [AddedPeer { client, .. }] = &peers[..] else {
            return Err("nothing was added".to_owned());
        };
        // before the file is changed: what cannot be shown is not added
        let client = text_of(&client.to_text())?;
        writer.replace(file.text()).map_err(text)?;
        Ok(client)
    }

    fn renew(&mut self, key: &PublicKey) -> Result<ClientText, String> {
        let text = |error: ServerError| error.to_string();
        let (writer, file) = self.folder.lock().map_err(text)?;
        let number = file.find(&key.to_string()).map_err(text)?;
        let renewed = peers::renew(&file, number, None, &mut self.random);
        let (file, AddedPeer { client, .. }) = renewed.map_err(|error| error.to_string())?;
        let client = text_of(&client.to_text())?;
        writer.replace(file.text()).map_err(text)?;
        Ok(client)
    }

    fn set(&mut self, key: &PublicKey, setting: Setting, value: &str) -> Result<(), String> {
        let value = value.trim();
        let expires = match setting {
            Setting::Expires if !value.is_empty() => Some(Expiry::parse_from(value, SystemTime::now())?),
            _ => None,
        };
        let mut invalid = None;
        let result = self.edit(key, |file, number| {
            let found = file.configuration().peers.get(number);
            let mut settings = found.and_then(|peer| peer.settings.as_deref()).cloned().unwrap_or_default();
            match setting {
                Setting::Note => settings.note = None,
                Setting::Disabled => settings.is_disabled = false,
                Setting::Expires => settings.expires = expires,
            }
            if !value.is_empty() && setting != Setting::Expires {
                invalid = settings.set(setting.comment(), value).err();
            }
            if invalid.is_some() { Ok(file.clone()) } else { file.with_settings(number, &settings) }
        });
        invalid.map_or(result, |error| Err(error.to_string()))
    }

    /// Replaces the file by the result of `edit` for the peer with this key.
    fn edit(
        &self,
        key: &PublicKey,
        edit: impl FnOnce(&ServerFile, usize) -> Result<ServerFile, ServerError>,
    ) -> Result<(), String> {
        let edited = self.folder.lock().and_then(|(writer, file)| {
            let number = file.find(&key.to_string())?;
            writer.replace(edit(&file, number)?.text())
        });
        edited.map_err(|error| error.to_string())
    }
}

/// Returns the file of a client for a message.
fn text_of(text: &[u8]) -> Result<ClientText, String> {
    let text = String::from_utf8(text.to_vec()).map_err(|error| error.to_string())?;
    ClientText::try_from(text).map_err(str::to_owned)
}
