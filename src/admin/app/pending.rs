//! Changes and questions that are under way.

use std::collections::HashMap;
use std::net::IpAddr;

use super::super::http::ConnectionId;
use super::super::pages::{Form, Problem};
use super::super::sign_in::{Account, Attempts, Session, Token};
use wontun_proto::time::Instant;
use wontun_proto::wireguard::PublicKey;

/// The enrolments of devices by links.
#[derive(Debug)]
pub(super) struct Enrolments {
    /// Attempts, apart from those to sign in, so that neither keeps the other out.
    pub(super) attempts: Attempts,
    /// Enrolments under way, by the number of the change.
    pub(super) pending: HashMap<u32, Enrolment>,
}

/// An enrolment that is under way.
#[derive(Debug)]
pub(super) struct Enrolment {
    pub(super) connection: ConnectionId,
    /// Address of the browser.
    pub(super) from: IpAddr,
    pub(super) began: Instant,
}

impl Enrolments {
    pub(super) fn new(now: Instant) -> Self {
        Self { attempts: Attempts::new(now), pending: HashMap::new() }
    }
}

/// A person who is signed in, and the connection of a request that is answered.
#[derive(Debug)]
pub(super) struct Caller {
    pub(super) session: Session,
    pub(super) connection: ConnectionId,
    /// Address of the browser.
    pub(super) from: IpAddr,
    pub(super) now: Instant,
}

/// A change or question that is under way.
#[derive(Debug)]
pub(super) struct PendingChange {
    pub(super) caller: Caller,
    pub(super) kind: ChangeKind,
}

/// Response to its form, or the page that needs an answer.
#[derive(Debug)]
pub(super) enum ChangeKind {
    /// The file of the new peer.
    Add(Form),
    /// The link of the invitation, at this host.
    Invite { host: String, form: Form },
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
    /// The page of the owners of peers.
    RemoveAccount,
    /// The secret of the new token.
    AddToken { secret: Token, form: Form },
    /// The page of the tokens.
    RemoveToken,
    /// The page of the peer with the result of a test.
    Test(PublicKey, Form),
    /// The page of the server, with the settings and changes of the answer.
    ShowServer(Form, Option<Problem>),
}
