//! State of the API: the tokens, and requests that are under way.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use super::super::api::{Body, Route};
use super::super::http::ConnectionId;
use super::super::tokens::ApiTokens;
use crate::config::TokenName;

/// State of the API.
#[derive(Debug, Default)]
pub(super) struct Api {
    pub(super) tokens: ApiTokens,
    /// Time since 1970 in seconds, and address, of each token's last use.
    pub(super) used: BTreeMap<TokenName, (u64, IpAddr)>,
    /// Requests that wait for a snapshot.
    pub(super) waiting: Vec<Call>,
    /// Changes and questions that are under way, by their numbers.
    pub(super) pending: HashMap<u32, (ConnectionId, Pending)>,
}

/// A request of a token.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) connection: ConnectionId,
    pub(super) from: IpAddr,
    pub(super) token: TokenName,
    pub(super) route: Route,
    /// The peer in the path.
    pub(super) peer: Option<String>,
    pub(super) body: Body,
}

/// Response to a change or question.
#[derive(Debug)]
pub(super) enum Pending {
    /// The file of the new peer with this name.
    Added(String),
    /// The file of the peer with this name, which has new keys.
    Renewed(String),
    /// Nothing more.
    Done,
    Settings,
    Changes,
}
