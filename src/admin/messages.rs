//! Messages between the supervisor and the processes of the admin page, and the one that edits the
//! file for invitations. The limits are checked on
//! both sides: a message beyond them is invalid.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

pub use super::certificate::{CertificateText, Fingerprint};
pub use super::changes::{
    Answer, Change, ChangeRecord, ClientText, Done, Field, FieldError, LinkEnrolment, MAX_VALUE, NewPeer,
    NewToken, PeerEdit, Question, Refusal, ServerSetting, SettingText,
};
pub use super::principal::Principal;
pub use super::sign_in::{AccountText, AccountsText, Token, TokenHash};
pub use super::tokens::TokensText;
use crate::config::peer_settings::{Exclusion, PeerComment};
use crate::config::{AdminName, AdminProxy, PeerName, PeerPolicy};
use crate::messages::Address;
use crate::resolver::messages::ErrorMessage;
use wontun_proto::wireguard::{PresharedKey, PublicKey};

/// Maximum size in bytes of the peers of a message, so that it stays below the limit of all
/// messages with any of them.
pub const MAX_PEERS_SIZE: usize = 24 * 1024;

/// A message to `wontun-admin`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToAdmin {
    /// The first message. Its descriptors are the listening sockets.
    Start {
        /// Name of the tunnel.
        tunnel: String,
        /// Addresses of the listening sockets, in their order, and who is served there.
        listeners: Vec<(Address, Exposure)>,
        /// Names and addresses by which browsers reach the page.
        names: Vec<AdminName>,
        /// The proxy in front of the page.
        proxy: Option<AdminProxy>,
        /// The certificate for connections over TLS.
        certificate: Option<CertificateText>,
        /// The accounts.
        accounts: AccountsText,
        /// The page's addresses without their path, as browsers reach it.
        urls: Vec<String>,
        /// True to use seccomp and Landlock.
        is_sandboxed: bool,
    },
    /// The tokens of the API from now on.
    Tokens(TokensText),
    /// Peers in the file, in its order; answer to [`FromAdmin::Show`].
    Peers {
        /// At most [`MAX_PEERS_SIZE`] bytes, or one peer.
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
        /// The file of the peer with new keys or the token of an invitation, if there is one, or
        /// the reasons why not.
        result: Result<Option<ClientText>, Refusal>,
    },
    /// Answer to [`FromAdmin::Question`].
    Answer {
        /// Number of the request.
        number: u32,
        /// The answer, or the reasons why there is none.
        result: Result<Answer, Refusal>,
    },
    /// Another certificate for connections from now on.
    Certificate(CertificateText),
    /// The accounts, of which some were changed by a command.
    Accounts(AccountsText),
    /// Request for a link of this person, answered by [`FromAdmin::Link`].
    MakeLink(Principal),
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
        /// Its author.
        by: Principal,
        /// The change.
        change: Change,
    },
    /// A question.
    Question {
        /// Number of the request.
        number: u32,
        /// The question.
        question: Question,
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

/// The clients that a listener serves, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exposure {
    /// The peers, inside of the tunnel, and this host.
    Inside,
    /// Everybody, over TLS.
    Tls,
    /// The proxy alone, without TLS.
    Proxy,
}

/// Events of the page for the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// Somebody signed in with the password.
    SignedIn(Principal),
    /// Somebody signed in with a link.
    UsedLink(Principal),
    /// The administrator made a link for somebody.
    MadeLink(Principal),
    /// The password or code was wrong.
    Refused,
    /// Too many attempts.
    TooMany,
    /// Too many attempts to enrol a device by a link.
    TooManyLinks,
}

/// A peer as the file describes it, without secrets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerInFile {
    /// Public key.
    pub key: PublicKey,
    /// Name.
    pub name: Option<PeerName>,
    /// Allowed IPs, the first of them.
    pub networks: Vec<String>,
    /// Number of the allowed IPs that are not among them.
    pub more_networks: u32,
    /// Networks behind it, among `networks`: the others are its addresses in the VPN.
    pub sites: Vec<String>,
    /// True if it has a preshared key.
    pub has_preshared_key: bool,
    /// Interval of keepalives in seconds; 0 for off.
    pub persistent_keepalive: u16,
    /// Its settings, those whose value is not too long.
    pub settings: Vec<(PeerComment, SettingText)>,
    /// Settings whose value is longer than [`MAX_VALUE`], so that the page does not change them.
    pub long_settings: Vec<PeerComment>,
    /// Reason why it has no access.
    pub exclusion: Option<Exclusion>,
}

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
        /// The certificate, if one is needed.
        certificate: Option<CertificateSource>,
        /// True to use seccomp and Landlock.
        is_sandboxed: bool,
    },
    /// A change, answered by [`FromEditor::Done`].
    Change {
        /// The change.
        change: Change,
        /// Address of the browser.
        from: IpAddr,
        /// Its author.
        by: Principal,
        /// True if IPv6 packets of clients get further than the VPN.
        reaches_ipv6: bool,
    },
    /// A question, answered by [`FromEditor::Answer`].
    Question {
        /// The question.
        question: Question,
        /// The policy that is in force.
        policy: PeerPolicy,
        /// Addresses of this host.
        own: Vec<IpAddr>,
    },
    /// A request about an invitation, answered by [`FromEditor::Invitation`].
    Invitation(InvitationRequest),
    /// Request for the certificate as it is now.
    ReadCertificate,
    /// Request for the tokens of the API as they are now, answered by [`FromEditor::Tokens`].
    ReadTokens,
    /// Request for the accounts as they are now.
    ReadAccounts,
}

/// A request about the invitations in the server's file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum InvitationRequest {
    /// Returns the file of the device that the invitation with this key is for, without keys.
    Settings(PublicKey),
    /// Replaces the one-time keys of an invitation by those of a device.
    Enrol {
        /// Key of the invitation.
        invitation: PublicKey,
        /// Public key of the device.
        key: PublicKey,
        /// Key that it shares with the server in addition.
        preshared_key: PresharedKey,
    },
    /// Removes the invitations that have expired.
    RemoveExpired,
}

/// The place of the page's certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CertificateSource {
    /// Files that the administrator keeps.
    Files {
        /// Path of the certificate with its chain.
        certificate: String,
        /// Path of the key.
        key: String,
    },
    /// A file beside the configuration, with a self-signed one for these names.
    SelfSigned {
        /// The names.
        names: Vec<AdminName>,
    },
}

/// A certificate that can be used, or the reason why there is none.
pub type CertificateResult = Result<(CertificateText, Fingerprint), ErrorMessage>;

/// A message from `wontun-editor`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromEditor {
    /// The process is confined, and waits for changes.
    Ready {
        /// The accounts; none if their file is not there.
        accounts: AccountsText,
        /// The certificate, if one is needed.
        certificate: Option<CertificateResult>,
    },
    /// The process cannot confine itself, or read the account, and ends.
    NotReady(ErrorMessage),
    /// The result of a change. Changes are made, and questions are answered, in their order.
    Done(Result<Done, Refusal>),
    /// The answer to a question.
    Answer(Result<Answer, Refusal>),
    /// The answer to a request about an invitation: the file of a device, if that was requested.
    Invitation(Result<Option<ClientText>, ErrorMessage>),
    /// Answer to [`ToEditor::ReadCertificate`].
    Certificate(CertificateResult),
    /// Answer to [`ToEditor::ReadTokens`].
    Tokens(Result<TokensText, ErrorMessage>),
    /// Answer to [`ToEditor::ReadAccounts`].
    Accounts(Result<AccountsText, ErrorMessage>),
}

impl PeerInFile {
    /// Returns an upper bound of its size in a message in bytes.
    pub fn size(&self) -> usize {
        let networks = self.networks.iter().chain(&self.sites);
        let networks = networks.map(|network| network.len() + 4).sum::<usize>();
        let settings = self.settings.iter().map(|(_, value)| value.as_str().len() + 8).sum::<usize>();
        let name = self.name.as_ref().map_or(0, |name| name.as_str().len());
        80 + name + networks + settings + 2 * self.long_settings.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::{decode, encode};

    #[test]
    fn the_longest_peer_fits_a_message_with_others() {
        let peer = PeerInFile {
            key: PublicKey::from_bytes([7; 32]),
            name: Some("ü".repeat(64).parse().unwrap()),
            networks: vec!["fd00:1111:2222:3333:4444:5555:6666:7777/128".to_owned(); 8],
            more_networks: u32::MAX,
            sites: vec!["fd00:1111:2222:3333:4444:5555:6666:7777/128".to_owned(); 8],
            has_preshared_key: true,
            persistent_keepalive: 25,
            settings: PeerComment::ALL.map(|key| (key, SettingText::cut("ü".repeat(2000)))).to_vec(),
            long_settings: vec![PeerComment::Allow],
            exclusion: Some(Exclusion::Expired),
        };
        assert!(encode(&peer).unwrap().len() <= peer.size() + 16, "{}", peer.size());
        let short = PeerInFile { settings: Vec::new(), ..peer.clone() };
        let mut peers = vec![short.clone(); MAX_PEERS_SIZE / short.size()];
        peers.push(peer);
        let message = ToAdmin::Peers { peers, is_last: true };
        assert_eq!(decode(&encode(&message).unwrap()), Ok(message));
    }
}
