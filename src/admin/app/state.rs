//! The state of the page.

use std::collections::{HashMap, VecDeque};

use super::super::http::{ConnectionId, Request, Response};
use super::super::messages::{FromAdmin, PeerInFile, Principal};
use super::super::pages::{PeerResult, ServerResult};
use super::super::sign_in::{Accounts, Attempts, Links, Session, Sessions, TotpSecret};
use super::super::snapshot::{Shown, Snapshot};
use super::api_state::Api;
use super::pending::{Caller, Enrolments, PendingChange};
use super::renewals::Renewals;
use super::route::Route;
use crate::net::random::SystemRandom;
use wontun_proto::time::Instant;

/// The state of the page.
#[derive(Debug)]
pub(in crate::admin) struct App {
    pub(super) tunnel: String,
    pub(super) cookie: String,
    pub(super) random: SystemRandom,
    pub(super) accounts: Accounts,
    pub(super) sessions: Sessions,
    pub(super) attempts: Attempts,
    pub(super) enrolments: Enrolments,
    pub(super) links: Links,
    /// The page's addresses without their path.
    pub(super) urls: Vec<String>,
    /// Secrets of authenticator apps that are not confirmed yet.
    pub(super) offered: HashMap<Principal, TotpSecret>,
    /// Steps of the apps' latest codes, which are not accepted again.
    pub(super) last_steps: HashMap<Principal, u64>,
    /// Renewals by owners of peers.
    pub(super) renewals: Renewals,
    pub(super) snapshot: Option<(Snapshot, Instant)>,
    /// The snapshot before, whose rows the streams have.
    pub(super) previous: Option<Snapshot>,
    /// Peers received so far.
    pub(super) incoming: Vec<PeerInFile>,
    /// Time of the latest request for peers, until it is answered.
    pub(super) requested: Option<Instant>,
    /// Requests for pages that wait for a snapshot.
    pub(super) views: Vec<(ConnectionId, View)>,
    /// Requests about a peer that wait for a snapshot, which tells whose the peer is.
    pub(super) undecided: Vec<Undecided>,
    pub(super) changes: HashMap<u32, PendingChange>,
    pub(super) api: Api,
    pub(super) next_change: u32,
    pub(super) streams: Vec<Stream>,
    pub(super) outbox: VecDeque<FromAdmin>,
    /// Responses to requests that waited.
    pub(super) responses: VecDeque<(ConnectionId, Response)>,
}

/// A page about peers.
#[derive(Debug)]
pub(super) struct View {
    pub(super) session: Session,
    pub(super) page: Page,
}

#[derive(Debug)]
pub(super) enum Page {
    /// Part of the list.
    List(Shown),
    /// The page of the peer with this id.
    Peer(String, Box<PeerResult>),
    /// The page of the server.
    Server(Box<ServerResult>),
    /// The page of the owners of peers.
    Owners,
}

/// A request that is made if a peer belongs to the person who made it.
#[derive(Debug)]
pub(super) struct Undecided {
    /// Id of the peer.
    pub(super) peer: String,
    pub(super) route: Route,
    pub(super) request: Request,
    pub(super) caller: Caller,
}

/// An open page that is updated.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) connection: ConnectionId,
    pub(super) session: Session,
    /// The peers on the page.
    pub(super) shown: Shown,
    /// False until it has all rows.
    pub(super) is_current: bool,
}

impl App {
    /// Creates the page of a tunnel.
    pub(in crate::admin) fn new(
        tunnel: String,
        urls: Vec<String>,
        accounts: Accounts,
        random: SystemRandom,
        now: Instant,
    ) -> Self {
        let plain: String =
            tunnel.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '-' }).collect();
        Self {
            // pages of several tunnels may be reached by one name, and cookies ignore the port
            cookie: format!("wontun-{plain}"),
            tunnel,
            random,
            accounts,
            sessions: Sessions::default(),
            attempts: Attempts::new(now),
            enrolments: Enrolments::new(now),
            links: Links::default(),
            urls,
            offered: HashMap::new(),
            last_steps: HashMap::new(),
            renewals: Renewals::default(),
            snapshot: None,
            previous: None,
            incoming: Vec::new(),
            requested: None,
            views: Vec::new(),
            undecided: Vec::new(),
            changes: HashMap::new(),
            api: Api::default(),
            next_change: 0,
            streams: Vec::new(),
            outbox: VecDeque::new(),
            responses: VecDeque::new(),
        }
    }
}
