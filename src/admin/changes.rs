//! Changes and questions that the page passes to `wontun-editor`, and their results. Values are
//! texts as they were typed: the editor parses them, so that there is one parser and each error has
//! its field.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::principal::Principal;
use super::sign_in::{AccountText, AccountsText, TokenHash};
use super::tokens::TokensText;
use crate::config::peer_settings::PeerComment;
use crate::config::{ApiScopes, OwnerName, PeerName, TokenName};
use crate::enroll::code::OneTimeSecret;
use crate::resolver::messages::ErrorMessage;
use wontun_proto::wireguard::{PresharedKey, PublicKey};

/// Maximum length of a value in bytes.
pub const MAX_VALUE: usize = 2048;
/// Maximum length of a client's file in bytes.
const MAX_CLIENT: usize = 8192;
/// Maximum number of errors of a form.
const MAX_ERRORS: usize = 20;

/// A change of the server's file, or of the account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// Adds a peer with new keys.
    Add(Box<NewPeer>),
    /// Adds an invitation, from which a device becomes this peer within the time, as it was typed.
    Invite(Box<NewPeer>, SettingText),
    /// Replaces the one-time keys of an invitation by those of a device.
    Enrol(Box<LinkEnrolment>),
    /// Removes a peer.
    Remove(PublicKey),
    /// Replaces the keys of a peer.
    Renew(PublicKey),
    /// Renames a peer.
    Rename(PublicKey, PeerName),
    /// Changes a peer.
    Set(PublicKey, Box<PeerEdit>),
    /// Changes what the file says for all clients; a value that is empty stays as it is.
    Server(Vec<(ServerSetting, SettingText)>),
    /// Sets the account of the person who makes the change.
    Account {
        /// The account.
        text: AccountText,
        /// True if there need not be one yet: the person has come by a link.
        may_be_new: bool,
    },
    /// Removes the account of an owner of peers.
    RemoveAccount(OwnerName),
    /// Adds a token of the API.
    AddToken(NewToken),
    /// Removes a token of the API.
    RemoveToken(TokenName),
}

/// A new token of the API, as it was typed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewToken {
    /// Its name.
    pub name: TokenName,
    /// Its rights.
    pub scopes: ApiScopes,
    /// Its end; empty for none.
    pub expires: SettingText,
    /// Hash of its secret.
    pub hash: TokenHash,
}

/// A new peer, as it was typed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewPeer {
    /// Its name.
    pub name: PeerName,
    /// Addresses; empty for the next free ones.
    pub addresses: SettingText,
    /// Networks behind it.
    pub sites: SettingText,
    /// True to route everything through the tunnel.
    pub full_tunnel: bool,
    /// Its settings.
    pub settings: Vec<(PeerComment, SettingText)>,
}

/// A change of a peer, as it was typed. What is not given stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerEdit {
    /// Addresses in the VPN; those of a family without one stay.
    pub addresses: SettingText,
    /// All networks behind it; empty for none.
    pub sites: Option<SettingText>,
    /// Settings; an empty value removes one.
    pub settings: Vec<(PeerComment, SettingText)>,
}

/// The enrolment of a device by a link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkEnrolment {
    /// The token of the link.
    pub token: OneTimeSecret,
    /// Public key of the device.
    pub key: PublicKey,
    /// Key that it shares with the server in addition.
    pub preshared_key: PresharedKey,
}

/// A comment of the interface, which concerns all clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ServerSetting {
    /// Address that clients connect to.
    Endpoint,
    /// Name servers of clients.
    Dns,
    /// Domain of the peers' names.
    Domain,
    /// Policy for peers without rules.
    Policy,
}

/// A question about the server's file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Question {
    /// Evaluates a connection of a peer.
    Access {
        /// The peer.
        key: PublicKey,
        /// The other end.
        target: SettingText,
        /// True if the other end opens the connection.
        from: bool,
    },
    /// The file's settings for all clients, and the latest changes.
    Server,
}

/// The answer to a question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// To [`Question::Access`].
    Access {
        /// True if the connection is allowed.
        is_allowed: bool,
        /// The rule that decides.
        text: ErrorMessage,
    },
    /// To [`Question::Server`].
    Server {
        /// The values in the file.
        settings: Vec<(ServerSetting, SettingText)>,
        /// The latest changes, the newest first.
        changes: Vec<ChangeRecord>,
    },
}

/// A change that was made by the page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeRecord {
    /// Time in seconds since 1970.
    pub at: u64,
    /// Address of the browser.
    pub from: IpAddr,
    /// Its author.
    pub by: Principal,
    /// The change, in one line.
    pub text: SettingText,
}

/// A change that the editor has made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// The change, in one line.
    pub text: SettingText,
    /// The file of the peer with new keys, or the token of an invitation, if there is one.
    pub client: Option<ClientText>,
    /// The tokens of the API, if they were changed.
    pub tokens: Option<TokensText>,
    /// The accounts, if they were changed.
    pub accounts: Option<AccountsText>,
}

/// The reasons why a change was not made: at least one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal(Vec<FieldError>);

/// The reason why a change was not made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldError {
    /// The field with the wrong value; `None` if it is none of them.
    pub field: Option<Field>,
    /// The error, and its remedy.
    pub text: ErrorMessage,
}

/// A field of a form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Field {
    /// The name of a peer.
    Name,
    /// The addresses of a peer.
    Address,
    /// The networks behind a peer.
    Site,
    /// The validity of an invitation.
    Valid,
    /// The token of an invitation's link.
    Token,
    /// The other end of a connection to be evaluated.
    Target,
    /// A setting of a peer.
    Setting(PeerComment),
    /// A setting of the server.
    Server(ServerSetting),
}

/// A value as it was typed, at most 2,048 bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct SettingText(String);

/// The file of a client, with its private key, or the token of an invitation.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct ClientText(Zeroizing<String>);

impl ServerSetting {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Endpoint, Self::Dns, Self::Domain, Self::Policy];
}

impl PeerEdit {
    /// Creates a change of settings.
    pub fn of_settings(settings: Vec<(PeerComment, SettingText)>) -> Self {
        Self { settings, ..Self::default() }
    }
}

impl Field {
    /// Returns the name of the field in a form.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Address => "address",
            Self::Site => "site",
            Self::Valid => "valid",
            Self::Token => "link",
            Self::Target => "target",
            Self::Setting(comment) => comment.name(),
            Self::Server(ServerSetting::Endpoint) => "endpoint",
            Self::Server(ServerSetting::Dns) => "dns",
            Self::Server(ServerSetting::Domain) => "domain",
            Self::Server(ServerSetting::Policy) => "policy",
        }
    }
}

impl Refusal {
    /// Creates the reasons why a form was refused. `errors` must not be empty.
    pub fn new(mut errors: Vec<FieldError>) -> Self {
        errors.truncate(MAX_ERRORS);
        Self(errors)
    }

    /// Creates a reason that no field has.
    pub fn of_all(text: impl ToString) -> Self {
        Self::new(vec![FieldError::new(None, text)])
    }

    /// Returns true if one of the errors is about this field.
    pub fn has_error_of(&self, field: Field) -> bool {
        self.0.iter().any(|error| error.field == Some(field))
    }

    /// Returns the errors.
    pub fn into_errors(self) -> Vec<FieldError> {
        self.0
    }
}

impl fmt::Display for Refusal {
    /// Writes the errors one after the other.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<_> = self.0.iter().map(|error| error.text.clone().into_string()).collect();
        f.write_str(&texts.join("; "))
    }
}

impl FieldError {
    /// Creates an error of a field.
    pub fn new(field: Option<Field>, text: impl ToString) -> Self {
        Self { field, text: ErrorMessage::cut(text.to_string()) }
    }
}

impl TryFrom<String> for SettingText {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        if text.len() <= MAX_VALUE { Ok(Self(text)) } else { Err("the text is too long") }
    }
}

impl SettingText {
    /// Returns the first 2,048 bytes of a text.
    pub fn cut(mut text: String) -> Self {
        let end = (0..=MAX_VALUE.min(text.len())).rev().find(|&end| text.is_char_boundary(end));
        text.truncate(end.unwrap_or_default());
        Self(text)
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ClientText {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        let text = Zeroizing::new(text);
        if text.len() <= MAX_CLIENT { Ok(Self(text)) } else { Err("the client's file is too long") }
    }
}

impl ClientText {
    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ClientText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientText(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::messages::{FromAdmin, FromEditor};
    use crate::process::{decode, encode};

    #[test]
    fn texts_beyond_their_limits_are_no_messages() {
        let key = PublicKey::from_bytes([7; 32]);
        let set = |length| {
            let settings = vec![(PeerComment::Note, SettingText("x".repeat(length)))];
            Change::Set(key, Box::new(PeerEdit::of_settings(settings)))
        };
        let change = |length| FromAdmin::Change {
            number: 1,
            from: [10, 8, 0, 2].into(),
            by: Principal::Admin,
            change: set(length),
        };
        assert_eq!(decode(&encode(&change(MAX_VALUE)).unwrap()), Ok(change(MAX_VALUE)));
        assert!(decode::<FromAdmin>(&encode(&change(MAX_VALUE + 1)).unwrap()).is_err());
        let done = |length| {
            let client = Some(ClientText(Zeroizing::new("x".repeat(length))));
            FromEditor::Done(Ok(Done { text: SettingText::default(), client, accounts: None, tokens: None }))
        };
        assert_eq!(decode(&encode(&done(MAX_CLIENT)).unwrap()), Ok(done(MAX_CLIENT)));
        assert!(decode::<FromEditor>(&encode(&done(MAX_CLIENT + 1)).unwrap()).is_err());
        assert!(!format!("{:?}", done(3)).contains("xxx"));
        assert_eq!(SettingText::cut("é".repeat(2000)).as_str().len(), MAX_VALUE);
    }
}
