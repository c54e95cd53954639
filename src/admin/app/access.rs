//! The rights of those who are signed in. Each request passes [`permission`] before anything else,
//! and nothing else decides about it. What a person sees of the peers is limited by
//! [`Peer::is_visible_to`](super::super::snapshot::Peer::is_visible_to).

use super::super::messages::Principal;
use super::super::snapshot::id as peer_id;
use super::route::{PeerAction, Route};

/// The decision about a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Permission {
    /// It is answered as if its route did not exist.
    Denied,
    /// It is made.
    Granted,
    /// It is made if the peer with this id belongs to the person. A peer of somebody else does not
    /// exist for them.
    OwnPeer(String),
}

/// Decides about a request of `principal`. What is not granted here is denied.
pub(super) fn permission(principal: &Principal, route: &Route) -> Permission {
    match (principal, route) {
        (Principal::Admin, _)
        | (
            Principal::Owner(_),
            // the person's own account and session; lists, which have the person's own peers only
            Route::List
            | Route::Events
            | Route::SignIn
            | Route::SignOut
            | Route::Account
            | Route::SetPassword
            | Route::SetApp(_),
        ) => Permission::Granted,
        (Principal::Owner(_), Route::Peer(id)) => Permission::OwnPeer(id.clone()),
        (Principal::Owner(_), Route::PeerAction(key, PeerAction::Renew)) => Permission::OwnPeer(peer_id(key)),
        (
            Principal::Owner(_),
            Route::NewPeer
            | Route::Add
            | Route::Invite
            | Route::Server
            | Route::SetServer
            | Route::Tokens
            | Route::AddToken
            | Route::RemoveToken
            | Route::Owners
            | Route::MakeLink
            | Route::RemoveAccount
            | Route::PeerAction(
                _,
                PeerAction::Remove
                | PeerAction::Test
                | PeerAction::Rename
                | PeerAction::Disable
                | PeerAction::Enable
                | PeerAction::Set,
            ),
        )
        // they have no session
        | (Principal::Token(_) | Principal::Invitation, _) => Permission::Denied,
    }
}
