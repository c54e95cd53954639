//! Changes of the files, by the functions that `wontun peer` uses.

use std::time::SystemTime;

use super::super::messages::{Change, ClientText, Setting};
use super::Editor;
use crate::config::PeerName;
use crate::config::peer_settings::{Expiry, PeerSettings};
use crate::server::peers::{self, AddedPeer, Ipv6Reach, NewPeerOptions};
use crate::server::{KeptKeys, ServerError, ServerFile};
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
            Change::Remove(key) => {
                let remove =
                    |file: &ServerFile, number| peers::remove(file, number).map(|removed| removed.file);
                self.edit(&key, remove)?;
                self.delete_kept(&key).map(|()| None)
            }
            Change::Rename(key, name) => {
                self.edit(&key, |file, number| peers::rename(file, number, &name)).map(|()| None)
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
        self.delete_kept(key)?;
        Ok(client)
    }

    /// Deletes a private key that was kept for a key that is gone.
    fn delete_kept(&self, key: &PublicKey) -> Result<(), String> {
        KeptKeys::of(&self.folder).delete(key).map_err(|error| error.to_string())
    }

    fn set(&mut self, key: &PublicKey, setting: Setting, value: &str) -> Result<(), String> {
        let value = value.trim();
        let expires = match setting {
            Setting::Expires if !value.is_empty() => Some(Expiry::parse_from(value, SystemTime::now())?),
            _ => None,
        };
        self.edit(key, |file, number| {
            let found = file.configuration().peers.get(number);
            let mut settings = found.map(|peer| peer.settings().clone()).unwrap_or_default();
            match setting {
                Setting::Note => settings.note = None,
                Setting::Disabled => settings.is_disabled = false,
                Setting::Expires => settings.expires = expires,
            }
            if !value.is_empty() && setting != Setting::Expires {
                settings.set(setting.comment(), value).map_err(|error| error.to_string())?;
            }
            peers::set(file, number, &settings).map_err(|error| error.to_string())
        })
    }

    /// Replaces the file by the result of `edit` for the peer with this key.
    fn edit<E: ToString>(
        &self,
        key: &PublicKey,
        edit: impl FnOnce(&ServerFile, usize) -> Result<ServerFile, E>,
    ) -> Result<(), String> {
        let text = |error: ServerError| error.to_string();
        let (writer, file) = self.folder.lock().map_err(text)?;
        let number = file.find(&key.to_string()).map_err(text)?;
        let edited = edit(&file, number).map_err(|error| error.to_string())?;
        if edited.text() == file.text() {
            return Ok(());
        }
        writer.replace(edited.text()).map_err(text)
    }
}

/// Returns the file of a client for a message.
fn text_of(text: &[u8]) -> Result<ClientText, String> {
    let text = String::from_utf8(text.to_vec()).map_err(|error| error.to_string())?;
    ClientText::try_from(text).map_err(str::to_owned)
}
