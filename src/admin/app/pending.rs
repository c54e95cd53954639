//! Changes that are under way.

use super::super::http::ConnectionId;
use super::super::sign_in::{Account, Session};
use wontun_proto::wireguard::PublicKey;

/// A change that is under way.
#[derive(Debug)]
pub(super) struct PendingChange {
    pub(super) connection: ConnectionId,
    pub(super) session: Session,
    pub(super) kind: ChangeKind,
}

/// Response to its form.
#[derive(Debug)]
pub(super) enum ChangeKind {
    /// The file of the new peer with this name.
    Add(String),
    /// The file of the peer with this key and name, which has new keys.
    Renew(PublicKey, String),
    /// The list.
    Remove,
    /// The page of the peer.
    Peer(PublicKey),
    /// A new session.
    Account { account: Account, ends_sessions: bool },
}
