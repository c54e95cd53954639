//! Changes and questions that are under way.

use super::super::http::ConnectionId;
use super::super::pages::{Form, Problem};
use super::super::sign_in::{Account, Session};
use wontun_proto::wireguard::PublicKey;

/// A change or question that is under way.
#[derive(Debug)]
pub(super) struct PendingChange {
    pub(super) connection: ConnectionId,
    pub(super) session: Session,
    pub(super) kind: ChangeKind,
}

/// Response to its form, or the page that needs an answer.
#[derive(Debug)]
pub(super) enum ChangeKind {
    /// The file of the new peer with this name.
    Add(String, Form),
    /// The file of the peer with this key and name, which has new keys.
    Renew(PublicKey, String),
    /// The list.
    Remove,
    /// The page of the peer.
    Peer(PublicKey, Form),
    /// The page of the server.
    Server(Form),
    /// A new session.
    Account { account: Account, ends_sessions: bool },
    /// The page of the peer with the result of a test.
    Test(PublicKey, Form),
    /// The page of the server, with the settings and changes of the answer.
    ShowServer(Form, Option<Problem>),
}
