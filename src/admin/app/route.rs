//! The requests of people who are signed in, by method and path.

use super::super::http::Method;
use super::super::sign_in::parse_hex;
use wontun_proto::wireguard::PublicKey;

/// A request of somebody who is signed in. A path that is none of these leads nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// The list of peers.
    List,
    /// The form for a new peer.
    NewPeer,
    /// The page of the server.
    Server,
    /// The page of the person's own account.
    Account,
    /// A page for those who are not signed in, or have no password: leads to the list.
    SignIn,
    /// Live updates of an open page.
    Events,
    /// The page of the peer with this id.
    Peer(String),
    /// The page of the owners of peers.
    Owners,
    /// The page of the API's tokens.
    Tokens,
    /// Makes a token of the API.
    AddToken,
    /// Removes a token of the API.
    RemoveToken,
    /// Makes a link for an owner of peers.
    MakeLink,
    /// Removes the account of an owner of peers.
    RemoveAccount,
    /// Ends the session.
    SignOut,
    /// Sets the person's own password.
    SetPassword,
    /// Changes the person's own authenticator app.
    SetApp(AppAction),
    /// Adds a peer.
    Add,
    /// Adds an invitation.
    Invite,
    /// Changes the settings for all peers.
    SetServer,
    /// Changes a peer, or asks about it.
    PeerAction(PublicKey, PeerAction),
}

/// A change of the authenticator app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AppAction {
    /// Draws a secret.
    New,
    /// Turns the app on.
    On,
    /// Turns it off.
    Off,
}

/// A change of a peer, or a question about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PeerAction {
    /// Replaces the keys.
    Renew,
    /// Removes it.
    Remove,
    /// Evaluates a connection.
    Test,
    /// Renames it.
    Rename,
    /// Ends its access.
    Disable,
    /// Gives it access again.
    Enable,
    /// Changes settings.
    Set,
}

impl Route {
    /// Returns the route of a request; `None` if there is none.
    pub(super) fn of(method: Method, path: &str) -> Option<Self> {
        match method {
            Method::Get | Method::Head => Some(match path {
                "/" => Self::List,
                "/new" => Self::NewPeer,
                "/server" => Self::Server,
                "/owners" => Self::Owners,
                "/tokens" => Self::Tokens,
                "/account" => Self::Account,
                "/sign-in" | "/password" => Self::SignIn,
                "/events" => Self::Events,
                _ => Self::Peer(path.strip_prefix("/peers/")?.to_owned()),
            }),
            Method::Post => Some(match path {
                "/sign-out" => Self::SignOut,
                "/account/password" => Self::SetPassword,
                "/account/app-new" => Self::SetApp(AppAction::New),
                "/account/app-on" => Self::SetApp(AppAction::On),
                "/account/app-off" => Self::SetApp(AppAction::Off),
                "/new" => Self::Add,
                "/new/invitation" => Self::Invite,
                "/server" => Self::SetServer,
                "/tokens" => Self::AddToken,
                "/tokens/remove" => Self::RemoveToken,
                "/owners/link" => Self::MakeLink,
                "/owners/remove" => Self::RemoveAccount,
                _ => {
                    let (key, action) = path.strip_prefix("/peers/")?.split_once('/')?;
                    Self::PeerAction(PublicKey::from_bytes(parse_hex(key)?), PeerAction::named(action)?)
                }
            }),
            // of the API alone
            Method::Patch | Method::Delete => None,
        }
    }
}

impl PeerAction {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "renew" => Self::Renew,
            "remove" => Self::Remove,
            "test" => Self::Test,
            "rename" => Self::Rename,
            "disable" => Self::Disable,
            "enable" => Self::Enable,
            "set" => Self::Set,
            _ => return None,
        })
    }
}
