//! Messages between the supervisor and the processes of the admin page. The limits are checked on
//! both sides: a message beyond them is invalid.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

pub use super::sign_in::{AccountText, Token};
use crate::config::PeerName;
use crate::config::peer_settings::PeerComment;
use crate::messages::Address;
use crate::resolver::messages::ErrorMessage;
use wontun_proto::wireguard::PublicKey;

/// Maximum number of peers in a message.
pub const MAX_PEERS: usize = 50;
/// Maximum length of a setting's value in bytes.
const MAX_VALUE: usize = 2048;
/// Maximum length of a client's file in bytes.
const MAX_CLIENT: usize = 8192;

/// A message to `wontun-admin`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToAdmin {
    /// The first message. Its descriptors are the listening sockets.
    Start {
        /// Name of the tunnel.
        tunnel: String,
        /// Addresses of the listening sockets, in their order.
        addresses: Vec<Address>,
        /// The account, if a password was set.
        account: Option<AccountText>,
        /// True to use seccomp and Landlock.
        is_sandboxed: bool,
    },
    /// Peers in the file, in its order; answer to [`FromAdmin::Show`].
    Peers {
        /// At most [`MAX_PEERS`].
        peers: Vec<PeerInFile>,
        /// True if no more follow.
        is_last: bool,
    },
    /// The state of the tunnel follows on the stream socket that is the descriptor, as
    /// `status=1` of the control socket; answer to [`FromAdmin::Show`].
    Status,
    /// Answer to [`FromAdmin::Change`].
    Changed {
        /// Number of the request.
        number: u32,
        /// The file of the peer with new keys, if there is one, or the error.
        result: Result<Option<ClientText>, ErrorMessage>,
    },
    /// Request for a link, answered by [`FromAdmin::Link`].
    MakeLink,
}

/// A message from `wontun-admin`, which may have been taken over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromAdmin {
    /// The process is confined, and serves the page.
    Ready,
    /// The process cannot confine itself, and ends.
    NotReady(ErrorMessage),
    /// Request for the peers and their state.
    Show,
    /// A change.
    Change {
        /// Number of the request.
        number: u32,
        /// Address of the browser.
        from: IpAddr,
        /// The change.
        change: Change,
    },
    /// The token of a link that can be used once.
    Link(Token),
    /// For the log.
    Event {
        /// Address of the browser.
        from: IpAddr,
        /// The event.
        event: Event,
    },
}

/// Events of the page for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// Somebody signed in with the password.
    SignedIn,
    /// Somebody signed in with a link.
    UsedLink,
    /// The password or code was wrong.
    Refused,
    /// Too many attempts.
    TooMany,
}

/// A peer as the file describes it, without secrets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerInFile {
    /// Public key.
    pub key: PublicKey,
    /// Name.
    pub name: Option<PeerName>,
    /// Allowed IPs.
    pub networks: Vec<String>,
    /// Comments of the peer and their values.
    pub settings: Vec<(Setting, String)>,
    /// True if its access has ended.
    pub is_expired: bool,
}

/// A setting of a peer: a comment of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Setting {
    /// `Note`.
    Note,
    /// `Disabled`.
    Disabled,
    /// `Expires`.
    Expires,
}

/// A change of the server's file, or of the account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// Adds a peer with new keys.
    Add {
        /// Its name.
        name: PeerName,
        /// True to route everything through the tunnel.
        full_tunnel: bool,
    },
    /// Removes a peer.
    Remove(PublicKey),
    /// Replaces the keys of a peer.
    Renew(PublicKey),
    /// Renames a peer.
    Rename(PublicKey, PeerName),
    /// Changes a setting of a peer; an empty value removes it.
    Set(PublicKey, Setting, SettingText),
    /// Replaces the account.
    Account(AccountText),
}

/// The value of a setting, at most 2,048 bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct SettingText(String);

/// The file of a client, with its private key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct ClientText(Zeroizing<String>);

/// A message to `wontun-editor`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToEditor {
    /// The first message: the configuration file.
    Start {
        /// Path of its folder.
        folder: String,
        /// Name of the tunnel.
        tunnel: String,
        /// Files of keys outside of the folder.
        key_files: Vec<String>,
        /// True to use seccomp and Landlock.
        is_sandboxed: bool,
    },
    /// A change, answered by [`FromEditor::Done`].
    Change {
        /// The change.
        change: Change,
        /// True if IPv6 packets of clients get further than the VPN.
        reaches_ipv6: bool,
    },
}

/// A message from `wontun-editor`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromEditor {
    /// The process is confined, and waits for changes. The account, if its file is there.
    Ready(Option<AccountText>),
    /// The process cannot confine itself, or read the account, and ends.
    NotReady(ErrorMessage),
    /// The result of a change: the file of a peer with new keys, or the error. Changes are made in
    /// their order.
    Done(Result<Option<ClientText>, ErrorMessage>),
}

impl Setting {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Note, Self::Disabled, Self::Expires];

    /// Returns the comment of the file.
    pub const fn comment(self) -> PeerComment {
        match self {
            Self::Note => PeerComment::Note,
            Self::Disabled => PeerComment::Disabled,
            Self::Expires => PeerComment::Expires,
        }
    }
}

impl TryFrom<String> for SettingText {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        if text.len() <= MAX_VALUE { Ok(Self(text)) } else { Err("the text is too long") }
    }
}

impl SettingText {
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
    use crate::process::{decode, encode};

    #[test]
    fn texts_beyond_their_limits_are_no_messages() {
        let key = PublicKey::from_bytes([7; 32]);
        let set = |length| Change::Set(key, Setting::Note, SettingText("x".repeat(length)));
        let change =
            |length| FromAdmin::Change { number: 1, from: [10, 8, 0, 2].into(), change: set(length) };
        assert_eq!(decode(&encode(&change(MAX_VALUE)).unwrap()), Ok(change(MAX_VALUE)));
        assert!(decode::<FromAdmin>(&encode(&change(MAX_VALUE + 1)).unwrap()).is_err());
        let done = |length| FromEditor::Done(Ok(Some(ClientText(Zeroizing::new("x".repeat(length))))));
        assert_eq!(decode(&encode(&done(MAX_CLIENT)).unwrap()), Ok(done(MAX_CLIENT)));
        assert!(decode::<FromEditor>(&encode(&done(MAX_CLIENT + 1)).unwrap()).is_err());
        assert!(!format!("{:?}", done(3)).contains("xxx"));
    }

    #[test]
    fn a_page_of_the_longest_peers_fits_a_message() {
        let peer = PeerInFile {
            key: PublicKey::from_bytes([7; 32]),
            name: Some("ü".repeat(64).parse().unwrap()),
            networks: vec!["fd00:1111:2222:3333:4444:5555:6666:7777/128".to_owned(); 8],
            settings: vec![(Setting::Note, "ü".repeat(200))],
            is_expired: true,
        };
        let message = ToAdmin::Peers { peers: vec![peer; MAX_PEERS], is_last: true };
        assert_eq!(decode(&encode(&message).unwrap()), Ok(message));
    }
}
