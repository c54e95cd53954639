//! Changes of the files, by the functions that `wontun peer` and `wontun init` use.

use std::net::IpAddr;

use super::super::messages::{
    AccountText, Change, ClientText, Done, Field, FieldError, NewPeer, PeerEdit, Principal, Refusal,
    ServerSetting, SettingText,
};
use super::Editor;
use super::fields::{entered, listed, refusal, server_options};
use crate::config::peer_settings::{PeerComment, PeerSettings};
use crate::config::{OwnerName, PeerName};
use crate::server::peers::{self, AddedPeer, Changed, Ipv6Reach, NewPeerOptions, NewPeerWarning, PeerChange};
use crate::server::{KeptKeys, ServerError, ServerFile, ServerPeer, Writer};
use wontun_proto::wireguard::PublicKey;

/// Refusal of new keys to an owner of peers.
const NOT_OWN: &str = "ask the administrator of the server";

/// A peer of the locked file: the lock, the file, and the index and name of the peer.
struct Locked {
    writer: Writer,
    file: ServerFile,
    number: usize,
    name: String,
}

impl Editor {
    /// Makes a change for a person whose browser is at `from`, or for a token of the API, and
    /// records it.
    ///
    /// # Errors
    /// [`Refusal`]; the files are unchanged.
    pub(super) fn make(
        &mut self,
        change: Change,
        from: IpAddr,
        by: &Principal,
        reaches_ipv6: bool,
    ) -> Result<Done, Refusal> {
        // the page's process has checked it, but may have been taken over
        if !may_make(by, &change) {
            return Err(Refusal::of_all("only the administrator may do that"));
        }
        let mut done = match change {
            Change::Account { text, may_be_new } => self.set_account(by, &text, may_be_new)?,
            Change::RemoveAccount(owner) => self.remove_account(&owner)?,
            Change::Add(wanted) => self.add(*wanted, reaches_ipv6)?,
            Change::Invite(wanted, valid) => self.invite(*wanted, &valid, reaches_ipv6)?,
            Change::Enrol(enrolment) => match self.enrol_by_link(&enrolment)? {
                (done, true) => done,
                (done, false) => return Ok(done),
            },
            // errors name other peers
            Change::Renew(key) => self.renew(&key, by).map_err(|refusal| match by {
                Principal::Owner(_) => Refusal::of_all(NOT_OWN),
                _ => refusal,
            })?,
            Change::Remove(key) => self.remove(&key)?,
            Change::Rename(key, name) => self.rename(&key, &name)?,
            Change::Set(key, edit) => self.set(&key, &edit)?,
            Change::Server(values) => self.set_server(&values)?,
            Change::AddToken(wanted) => self.add_token(wanted)?,
            Change::RemoveToken(name) => self.remove_token(&name)?,
        };
        if let Err(error) = self.log.add(from, by, done.text.as_str()) {
            // in the tunnel's log, then
            done.text = SettingText::cut(format!("{}; it is not recorded: {error}", done.text.as_str()));
        }
        Ok(done)
    }

    fn set_account(
        &self,
        principal: &Principal,
        text: &AccountText,
        may_be_new: bool,
    ) -> Result<Done, Refusal> {
        // only what can be read again
        let account = text.parse().map_err(Refusal::of_all)?;
        let accounts = self.account.update(|accounts| {
            if !may_be_new && accounts.get(principal).is_none() {
                return Err("the account was removed".to_owned());
            }
            if accounts.set(principal.clone(), account) {
                Ok(())
            } else {
                Err("there are too many accounts: remove one".to_owned())
            }
        });
        let accounts = Some(accounts.map_err(Refusal::of_all)?);
        Ok(Done { accounts, ..done("change the password or the authenticator app".to_owned()) })
    }

    fn remove_account(&self, owner: &OwnerName) -> Result<Done, Refusal> {
        // without an account, there may be a link or a session
        let accounts = self.account.update(|accounts| {
            accounts.remove(owner);
            Ok(())
        });
        let accounts = Some(accounts.map_err(Refusal::of_all)?);
        Ok(Done { accounts, ..done(format!("remove the account of '{owner}'")) })
    }

    fn add(&mut self, wanted: NewPeer, reaches_ipv6: bool) -> Result<Done, Refusal> {
        let wanted = options_of(wanted)?;
        let (writer, file) = self.folder.lock().map_err(Refusal::of_all)?;
        check(&file, &wanted)?;
        let (text, settings) = (format!("add '{}'", wanted.name), wanted.settings.clone());
        let added = peers::add(&file, vec![wanted], reach(reaches_ipv6), &mut self.random);
        let peers::Added { file, peers, warnings } = added.map_err(|error| refusal(&error, &settings))?;
        let [AddedPeer { client, .. }] = &peers[..] else {
            return Err(Refusal::of_all("nothing was added"));
        };
        // before the file is changed: what cannot be shown is not added
        let client = text_of(&client.to_text())?;
        writer.replace(file.text()).map_err(Refusal::of_all)?;
        let warnings: Vec<_> = warnings.into_iter().map(|(_, warning)| warning).collect();
        Ok(Done { client: Some(client), ..done(with_warnings(text, &warnings)) })
    }

    fn renew(&mut self, key: &PublicKey, by: &Principal) -> Result<Done, Refusal> {
        let Locked { writer, file, number, name } = self.lock(key)?;
        if let Principal::Owner(owner) = by {
            let is_own = |peer: ServerPeer<'_>| peer.peer.settings().owner.as_ref() == Some(owner);
            let accounts =
                self.account.read().and_then(|text| text.parse().map_err(|error| error.to_string()));
            let has_account = accounts.is_ok_and(|accounts| accounts.get(by).is_some());
            if !has_account || !file.peer(number).is_some_and(is_own) {
                return Err(Refusal::of_all(NOT_OWN));
            }
        }
        let renewed = peers::renew(&file, number, None, &mut self.random);
        let (file, AddedPeer { client, .. }) = renewed.map_err(Refusal::of_all)?;
        let client = text_of(&client.to_text())?;
        writer.replace(file.text()).map_err(Refusal::of_all)?;
        self.delete_kept(key)?;
        Ok(Done { client: Some(client), ..done(format!("renew '{name}'")) })
    }

    fn remove(&self, key: &PublicKey) -> Result<Done, Refusal> {
        let Locked { writer, file, number, name } = self.lock(key)?;
        let removed = peers::remove(&file, number).map_err(Refusal::of_all)?;
        writer.replace(removed.file.text()).map_err(Refusal::of_all)?;
        self.delete_kept(key)?;
        Ok(done(format!("remove '{name}'")))
    }

    fn rename(&self, key: &PublicKey, new: &PeerName) -> Result<Done, Refusal> {
        let Locked { writer, file, number, name } = self.lock(key)?;
        let renamed = peers::rename(&file, number, new);
        let renamed = renamed.map_err(|error| refusal(&error.into(), &PeerSettings::NONE))?;
        replace(&writer, &file, &renamed)?;
        Ok(done(format!("rename '{name}' to '{new}'")))
    }

    fn set(&self, key: &PublicKey, edit: &PeerEdit) -> Result<Done, Refusal> {
        let Locked { writer, file, number, name } = self.lock(key)?;
        let before = file.peer(number).map(|peer| peer.peer.settings().clone()).unwrap_or_default();
        let mut settings = before.clone();
        let mut errors = entered(&mut settings, &edit.settings);
        let addresses = listed(Field::Address, &edit.addresses, &mut errors);
        let sites = edit.sites.as_ref().map(|sites| listed(Field::Site, sites, &mut errors));
        if !errors.is_empty() {
            return Err(Refusal::new(errors));
        }
        let wanted = PeerChange { settings, addresses, sites };
        let Changed { file: edited, warnings } =
            peers::change(&file, number, &wanted).map_err(|error| refusal(&error, &wanted.settings))?;
        replace(&writer, &file, &edited)?;
        let settings = &wanted.settings;
        let changed = PeerComment::ALL.into_iter().filter(|&key| before.get(key) != settings.get(key));
        let mut changed: Vec<_> = changed.map(PeerComment::name).collect();
        let networks = |file: &ServerFile| {
            let vpn = file.configuration().networks();
            file.peer(number).map(|peer| (peer.peer.addresses(&vpn), peer.peer.sites(&vpn)))
        };
        if let (Some(before), Some(after)) = (networks(&file), networks(&edited)) {
            changed.extend((before.0 != after.0).then_some("address"));
            changed.extend((before.1 != after.1).then_some("site"));
        }
        let text = format!("set {} of '{name}'", joined_or_nothing(&changed));
        Ok(done(with_warnings(text, &warnings)))
    }

    fn set_server(&self, values: &[(ServerSetting, SettingText)]) -> Result<Done, Refusal> {
        let options = server_options(values)?;
        let (before, after) = self.folder.update(&options).map_err(|error| {
            let field = match &error {
                ServerError::OtherPort { .. } => Some(Field::Server(ServerSetting::Endpoint)),
                _ => None,
            };
            Refusal::new(vec![FieldError::new(field, error)])
        })?;
        let value = |file: &ServerFile, setting| super::questions::value(file, setting).unwrap_or_default();
        let changed =
            ServerSetting::ALL.into_iter().filter(|&each| value(&before, each) != value(&after, each));
        let changed: Vec<_> = changed.map(|setting| Field::Server(setting).name()).collect();
        Ok(done(format!("set {} of the server", joined_or_nothing(&changed))))
    }

    /// Locks the file for a change of the peer with this key.
    fn lock(&self, key: &PublicKey) -> Result<Locked, Refusal> {
        let (writer, file) = self.folder.lock().map_err(Refusal::of_all)?;
        let number = file.find(&key.to_string()).map_err(Refusal::of_all)?;
        let name = file.peer(number).map(|peer| peer.name_or_key()).unwrap_or_default();
        Ok(Locked { writer, file, number, name })
    }

    /// Deletes a private key that was kept for a key that is gone.
    fn delete_kept(&self, key: &PublicKey) -> Result<(), Refusal> {
        KeptKeys::of(&self.folder).delete(key).map_err(Refusal::of_all)
    }
}

/// Returns the peer that a form describes.
pub(super) fn options_of(wanted: NewPeer) -> Result<NewPeerOptions, Refusal> {
    let NewPeer { name, addresses, sites, full_tunnel, settings: values } = wanted;
    let mut settings = PeerSettings::NONE;
    let mut errors = entered(&mut settings, &values);
    let addresses = listed(Field::Address, &addresses, &mut errors);
    let sites = listed(Field::Site, &sites, &mut errors);
    if full_tunnel && !settings.client.routes.is_empty() {
        let field = Some(Field::Setting(PeerComment::ClientRoutes));
        errors
            .push(FieldError::new(field, "a device that sends everything needs no routes: leave them empty"));
    }
    if errors.is_empty() {
        Ok(NewPeerOptions { name, full_tunnel, public_key: None, addresses, sites, settings })
    } else {
        Err(Refusal::new(errors))
    }
}

/// Checks the settings of a new peer against the file.
pub(super) fn check(file: &ServerFile, wanted: &NewPeerOptions) -> Result<(), Refusal> {
    let checked = file.check_settings(None, &wanted.settings, std::slice::from_ref(&wanted.name));
    checked.map_err(|error| refusal(&error.into(), &wanted.settings))
}

/// Returns how far IPv6 packets of clients get.
pub(super) const fn reach(reaches_ipv6: bool) -> Ipv6Reach {
    if reaches_ipv6 { Ipv6Reach::Internet } else { Ipv6Reach::Vpn }
}

/// Returns true if somebody may make a change. An owner of peers renews these, as the file says
/// when it is locked. A token changes peers and the server's settings, as its scopes allow, which
/// the page's process knows; accounts and tokens are the administrator's. A link of an invitation
/// enrols its device.
const fn may_make(by: &Principal, change: &Change) -> bool {
    match (by, change) {
        (Principal::Admin, _)
        | (Principal::Owner(_), Change::Account { .. } | Change::Renew(_))
        | (
            Principal::Token(_),
            Change::Add(_)
            | Change::Remove(_)
            | Change::Renew(_)
            | Change::Rename(..)
            | Change::Set(..)
            | Change::Server(_),
        )
        | (Principal::Invitation, Change::Enrol(_)) => true,
        (
            Principal::Owner(_),
            Change::Add(_)
            | Change::Invite(..)
            | Change::Enrol(_)
            | Change::Remove(_)
            | Change::Rename(..)
            | Change::Set(..)
            | Change::Server(_)
            | Change::RemoveAccount(_)
            | Change::AddToken(_)
            | Change::RemoveToken(_),
        )
        | (
            Principal::Token(_),
            Change::Invite(..)
            | Change::Enrol(_)
            | Change::Account { .. }
            | Change::RemoveAccount(_)
            | Change::AddToken(_)
            | Change::RemoveToken(_),
        )
        | (
            Principal::Invitation,
            Change::Add(_)
            | Change::Invite(..)
            | Change::Remove(_)
            | Change::Renew(_)
            | Change::Rename(..)
            | Change::Set(..)
            | Change::Server(_)
            | Change::Account { .. }
            | Change::RemoveAccount(_)
            | Change::AddToken(_)
            | Change::RemoveToken(_),
        ) => false,
    }
}

/// Replaces the file, if the edit changed it.
fn replace(writer: &Writer, before: &ServerFile, after: &ServerFile) -> Result<(), Refusal> {
    if after.text() == before.text() {
        return Ok(());
    }
    writer.replace(after.text()).map_err(Refusal::of_all)
}

pub(super) fn done(text: String) -> Done {
    Done { text: SettingText::cut(text), client: None, accounts: None, tokens: None }
}

/// Returns the text of a change, with the warnings that a command would print.
fn with_warnings(mut text: String, warnings: &[NewPeerWarning]) -> String {
    for warning in warnings {
        text.push_str(&format!("; warning: {warning}"));
    }
    text
}

fn joined_or_nothing(names: &[&str]) -> String {
    if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
}

/// Returns the file of a client for a message.
pub(super) fn text_of(text: &[u8]) -> Result<ClientText, Refusal> {
    let text = String::from_utf8(text.to_vec()).map_err(Refusal::of_all)?;
    ClientText::try_from(text).map_err(Refusal::of_all)
}

#[cfg(test)]
mod tests {
    use super::super::super::messages::{LinkEnrolment, NewToken, Token};
    use super::*;
    use crate::enroll::code::OneTimeSecret;
    use crate::net::random::SystemRandom;
    use wontun_proto::wireguard::PresharedKey;

    #[test]
    fn everybody_makes_the_changes_that_are_theirs_alone() {
        let mut random = SystemRandom::open().unwrap();
        let key = PublicKey::from_bytes([1; 32]);
        let peer = || {
            let (addresses, sites) = (SettingText::default(), SettingText::default());
            let name = "phone".parse().unwrap();
            Box::new(NewPeer { name, addresses, sites, full_tunnel: true, settings: Vec::new() })
        };
        let token = NewToken {
            name: "deploy".parse().unwrap(),
            scopes: "read".parse().unwrap(),
            expires: SettingText::default(),
            hash: Token::random(&mut random).hash(),
        };
        let enrolment = LinkEnrolment {
            token: OneTimeSecret::generate(&mut random),
            key,
            preshared_key: PresharedKey::from_bytes([2; 32]),
        };
        let account = || AccountText::try_from(String::new()).unwrap();
        // by an owner, a token, and the link of an invitation
        let changes = [
            (Change::Add(peer()), [false, true, false]),
            (Change::Invite(peer(), SettingText::default()), [false, false, false]),
            (Change::Enrol(Box::new(enrolment)), [false, false, true]),
            (Change::Remove(key), [false, true, false]),
            (Change::Renew(key), [true, true, false]),
            (Change::Rename(key, "tablet".parse().unwrap()), [false, true, false]),
            (Change::Set(key, Box::default()), [false, true, false]),
            (Change::Server(Vec::new()), [false, true, false]),
            (Change::Account { text: account(), may_be_new: true }, [true, false, false]),
            (Change::RemoveAccount("anna".parse().unwrap()), [false, false, false]),
            (Change::AddToken(token), [false, false, false]),
            (Change::RemoveToken("deploy".parse().unwrap()), [false, false, false]),
        ];
        let owner = Principal::Owner("anna".parse().unwrap());
        let token = Principal::Token("deploy".parse().unwrap());
        for (change, expected) in changes {
            let found = [&owner, &token, &Principal::Invitation].map(|by| may_make(by, &change));
            assert_eq!(found, expected, "{change:?}");
            assert!(may_make(&Principal::Admin, &change));
        }
    }
}
