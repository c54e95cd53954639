//! Requests, pages about peers, and what is sent to open pages.

use std::net::IpAddr;
use std::time::Duration;

use serde::Serialize;

use super::super::http::{ConnectionId, MediaType, Method, Reply, Request, Response, Status, is_api};
use super::super::messages::{Event, FromAdmin, PeerInFile};
use super::super::pages::{self, Form, Problem};
use super::super::sign_in::{Session, Token};
use super::super::snapshot::{Shown, Snapshot};
use super::access::{Permission, permission};
use super::pending::Caller;
use super::route::Route;
use super::state::{App, Page, Stream, Undecided, View};
use crate::uapi::TunnelStatus;
use wontun_proto::time::Instant;

/// Age up to which a snapshot is shown again.
pub(super) const MAX_AGE: Duration = Duration::from_millis(500);
/// Interval of updates on open pages; longer with many peers.
const INTERVAL: Duration = Duration::from_secs(1);
const LONG_INTERVAL: Duration = Duration::from_secs(5);
const MANY_PEERS: usize = 2000;
/// Time after which an unanswered request for peers is made again.
const SHOW_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum number of messages that wait for the supervisor. Those beyond are not sent.
const MAX_OUTBOX: usize = 64;

/// An event of a stream.
#[derive(Serialize)]
struct PeersEvent<'a> {
    /// Time in seconds since 1970.
    at: f64,
    rows: &'a [super::super::snapshot::Row],
}

impl App {
    /// Returns the next message to the supervisor.
    pub(in crate::admin) fn poll_message(&mut self) -> Option<FromAdmin> {
        self.outbox.pop_front()
    }

    /// Returns the next response to a request that waited.
    pub(in crate::admin) fn poll_response(&mut self) -> Option<(ConnectionId, Response)> {
        self.responses.pop_front()
    }

    /// Answers a request.
    pub(in crate::admin) fn handle(
        &mut self,
        request: &Request,
        id: ConnectionId,
        from: IpAddr,
        now: Instant,
    ) -> Reply {
        if is_api(&request.path) {
            return self.handle_api(request, id, from, now);
        }
        if request.method == Method::Post {
            return self.handle_post(request, id, from, now);
        }
        match request.path.as_str() {
            "/style.css" => return file("text/css; charset=utf-8", pages::STYLE),
            "/script.js" => return file("text/javascript; charset=utf-8", pages::SCRIPT),
            "/icon.svg" => return file("image/svg+xml", pages::ICON),
            "/invite.js" => return file("text/javascript; charset=utf-8", pages::INVITE_SCRIPT),
            "/link" => return Reply::Now(pages::link(&self.tunnel, None)),
            "/invite" => return Reply::Now(pages::invitation(&self.tunnel, request)),
            _ => {}
        }
        let Some(session) = self.session(request, now) else {
            return Reply::Now(match request.path.as_str() {
                "/sign-in" => pages::sign_in(&self.tunnel, &self.accounts, None),
                "/events" => Response::text(Status::Forbidden, Status::Forbidden.line()),
                _ => Response::redirect("/sign-in"),
            });
        };
        self.dispatch(request, Caller { session, connection: id, from, now })
    }

    fn handle_post(&mut self, request: &Request, id: ConnectionId, from: IpAddr, now: Instant) -> Reply {
        // without a session, the origin is what tells a page of this server from others
        if !request.is_same_origin() || request.media_type != MediaType::Form {
            return Reply::Now(pages::problem(&self.tunnel, None, &Problem::Stale));
        }
        match request.path.as_str() {
            "/sign-in" => return Reply::Now(self.sign_in(request, from, now)),
            "/link" => return Reply::Now(self.sign_in_by_link(request, from, now)),
            "/invite" => return self.enrol(request, id, from, now),
            _ => {}
        }
        let Some(session) = self.session(request, now) else {
            return Reply::Now(pages::sign_in(&self.tunnel, &self.accounts, Some(&Problem::Ended)));
        };
        if !session.is_own_form(&request.field("token")) {
            return Reply::Now(pages::problem(&self.tunnel, Some(&session), &Problem::Stale));
        }
        self.dispatch(request, Caller { session, connection: id, from, now })
    }

    /// Decides about a request of somebody who is signed in. This is the only place where that is
    /// decided.
    fn dispatch(&mut self, request: &Request, caller: Caller) -> Reply {
        let route = Route::of(request.method, &request.path);
        if self.accounts.get(caller.session.principal()).is_none() {
            return match route {
                Some(Route::SignOut) => self.sign_out(&caller.session),
                Some(Route::SetPassword) => self.set_password(request, caller),
                Some(Route::SignIn) if request.path == "/password" => {
                    Reply::Now(pages::password(&self.tunnel, &caller.session, None))
                }
                _ => Reply::Now(Response::redirect("/password")),
            };
        }
        let permission = route.as_ref().map(|route| permission(caller.session.principal(), route));
        match (route, permission) {
            (Some(route), Some(Permission::Granted)) => self.handle_granted(route, request, caller),
            (Some(route), Some(Permission::OwnPeer(peer))) => {
                let request = request.clone();
                let now = caller.now;
                self.undecided.push(Undecided { peer, route, request, caller });
                self.request_peers(now);
                Reply::Later
            }
            (None, _) | (_, None | Some(Permission::Denied)) => {
                Reply::Now(pages::problem(&self.tunnel, Some(&caller.session), &Problem::NotFound))
            }
        }
    }

    /// Answers requests about a peer, now that it is known whose the peer is.
    fn decide(&mut self, now: Instant) {
        for undecided in std::mem::take(&mut self.undecided) {
            let Undecided { peer, route, request, caller } = undecided;
            let (caller, connection) = (Caller { now, ..caller }, caller.connection);
            let own = self.snapshot.as_ref().and_then(|(all, _)| all.find(caller.session.principal(), &peer));
            let is_own = own.is_some();
            let reply = if !self.sessions.has(&caller.session, now) {
                Reply::Now(pages::sign_in(&self.tunnel, &self.accounts, Some(&Problem::Ended)))
            } else if is_own {
                self.handle_granted(route, &request, caller)
            } else {
                Reply::Now(pages::problem(&self.tunnel, Some(&caller.session), &Problem::NoPeer))
            };
            if let Reply::Now(response) = reply {
                self.responses.push_back((connection, response));
            }
        }
    }

    /// Answers a request that the person may make.
    fn handle_granted(&mut self, route: Route, request: &Request, caller: Caller) -> Reply {
        let session = &caller.session;
        match route {
            Route::List => self.show(Page::List(shown(request)), caller),
            Route::NewPeer => Reply::Now(pages::new(&self.tunnel, session, &Form::empty(request), None)),
            Route::Server => self.show_server(Form::default(), None, caller),
            Route::Account => {
                let Some(account) = self.accounts.get(session.principal()) else {
                    return Reply::Now(Response::redirect("/password"));
                };
                let offered = self.offered.get(session.principal());
                Reply::Now(pages::account(&self.tunnel, session, account, offered, None))
            }
            Route::SignIn => Reply::Now(Response::redirect("/")),
            Route::Events => {
                // a page of another site may not see who is signed in, not even by the time
                if request.fetch_site.as_deref().is_some_and(|site| site != "same-origin") {
                    return Reply::Now(Response::text(Status::Forbidden, Status::Forbidden.line()));
                }
                let shown = shown(request);
                let Caller { session, connection, now, .. } = caller;
                self.streams.push(Stream { connection, session, shown, is_current: false });
                self.request_peers(now);
                Reply::Stream
            }
            Route::Peer(peer) => self.show(Page::Peer(peer, Box::default()), caller),
            Route::Tokens => Reply::Now(self.show_tokens(session, &Form::default(), None)),
            Route::AddToken => self.add_token(request, caller),
            Route::RemoveToken => self.remove_token(request, caller),
            Route::Owners => self.show(Page::Owners, caller),
            Route::MakeLink => self.show_link(request, &caller),
            Route::RemoveAccount => self.remove_account(request, caller),
            Route::SignOut => self.sign_out(session),
            Route::SetPassword => self.set_password(request, caller),
            Route::SetApp(action) => self.set_app(action, request, caller),
            Route::Add => self.add(request, caller),
            Route::Invite => self.invite(request, caller),
            Route::SetServer => self.set_server(request, caller),
            Route::PeerAction(key, action) => self.handle_peer_action((key, action), request, caller),
        }
    }

    fn sign_out(&mut self, session: &Session) -> Reply {
        self.sessions.end(session);
        Reply::Now(Response::redirect("/sign-in").with_cookie(&self.cookie, None))
    }

    /// Returns the session of a request.
    pub(super) fn session(&mut self, request: &Request, now: Instant) -> Option<Session> {
        let token = Token::parse(request.cookie(&self.cookie)?)?;
        self.sessions.use_of(&token, now).cloned()
    }

    /// Shows a page about peers, once they are known.
    fn show(&mut self, page: Page, caller: Caller) -> Reply {
        let Caller { session, connection, now, .. } = caller;
        let view = View { session, page };
        match &self.snapshot {
            Some((snapshot, at)) if now.since(*at) < MAX_AGE => Reply::Now(self.render(&view, snapshot)),
            _ => {
                self.views.push((connection, view));
                self.request_peers(now);
                Reply::Later
            }
        }
    }

    fn render(&self, view: &View, snapshot: &Snapshot) -> Response {
        match &view.page {
            Page::List(shown) => pages::list(&self.tunnel, &view.session, snapshot, shown),
            Page::Peer(peer, result) => match snapshot.find(view.session.principal(), peer) {
                Some(peer) => pages::peer(&self.tunnel, &view.session, peer, snapshot.at, result),
                None => pages::problem(&self.tunnel, Some(&view.session), &Problem::NoPeer),
            },
            Page::Server(result) => pages::server(&self.tunnel, &view.session, snapshot, result),
            Page::Owners => pages::owners(&self.tunnel, &view.session, snapshot, &self.accounts),
        }
    }

    pub(super) fn request_peers(&mut self, now: Instant) {
        if self.requested.is_none_or(|at| now.since(at) >= SHOW_TIMEOUT) {
            self.requested = Some(now);
            self.incoming.clear();
            self.send(FromAdmin::Show);
        }
    }

    pub(super) fn send(&mut self, message: FromAdmin) {
        if self.outbox.len() < MAX_OUTBOX {
            self.outbox.push_back(message);
        }
    }

    pub(super) fn log(&mut self, from: IpAddr, event: Event) {
        self.send(FromAdmin::Event { from, event });
    }

    /// Takes peers of the file.
    pub(in crate::admin) fn handle_peers(&mut self, peers: Vec<PeerInFile>) {
        if self.requested.is_some() {
            self.incoming.extend(peers);
        }
    }

    /// Takes the state of the tunnel, if it answered: the snapshot is complete.
    pub(in crate::admin) fn handle_status(
        &mut self,
        status: Option<TunnelStatus>,
        wall: Duration,
        now: Instant,
    ) {
        if self.requested.take().is_none() {
            return;
        }
        let peers = std::mem::take(&mut self.incoming);
        let snapshot = Snapshot::new(peers, status, wall);
        self.handle_api_snapshot(&snapshot);
        for (id, view) in std::mem::take(&mut self.views) {
            // the session may have ended meanwhile
            let response = if self.sessions.has(&view.session, now) {
                self.render(&view, &snapshot)
            } else {
                pages::sign_in(&self.tunnel, &self.accounts, Some(&Problem::Ended))
            };
            self.responses.push_back((id, response));
        }
        self.previous = self.snapshot.replace((snapshot, now)).map(|(previous, _)| previous);
        self.decide(now);
    }

    /// Returns the events of the latest snapshot, one for each stream, and the streams to be closed
    /// since their session has ended. `is_open` tells which streams still are.
    pub(in crate::admin) fn poll_events(
        &mut self,
        now: Instant,
        is_open: impl Fn(ConnectionId) -> bool,
    ) -> Vec<(ConnectionId, Vec<u8>)> {
        self.streams.retain(|stream| is_open(stream.connection));
        let mut events = Vec::new();
        self.streams.retain(|stream| {
            let is_valid = self.sessions.has(&stream.session, now);
            if !is_valid {
                events.push((stream.connection, b"event: end\ndata:\n\n".to_vec()));
            }
            is_valid
        });
        let Some((snapshot, _)) = &self.snapshot else { return events };
        let at = snapshot.at.as_secs_f64();
        let make = |stream: &Stream, previous| {
            let rows = snapshot.changed_rows(stream.session.principal(), &stream.shown, previous);
            // a plain structure, which can be written
            let json = serde_json::to_string(&PeersEvent { at, rows: &rows }).unwrap_or_default();
            format!("event: peers\ndata: {json}\n\n").into_bytes()
        };
        for stream in &mut self.streams {
            let previous = self.previous.as_ref().filter(|_| stream.is_current);
            events.push((stream.connection, make(stream, previous)));
            stream.is_current = true;
        }
        events
    }

    /// Returns the time at which [`Self::handle_timeout`] must be called.
    pub(in crate::admin) fn deadline(&self) -> Option<Instant> {
        if self.streams.is_empty() {
            return None;
        }
        let many = self.snapshot.as_ref().is_some_and(|(snapshot, _)| snapshot.peers.len() > MANY_PEERS);
        let interval = if many { LONG_INTERVAL } else { INTERVAL };
        match (self.requested, &self.snapshot) {
            (Some(at), _) => Some(at + SHOW_TIMEOUT),
            (None, Some((_, at))) => Some(*at + interval),
            (None, None) => Some(Instant::default()),
        }
    }

    /// Requests the peers again, if that is due.
    pub(in crate::admin) fn handle_timeout(&mut self, now: Instant) {
        if self.deadline().is_some_and(|deadline| deadline <= now) {
            self.request_peers(now);
        }
    }
}

/// Returns the peers that a request asks for.
fn shown(request: &Request) -> Shown {
    if let Some(peer) = request.query_field("peer") {
        return Shown::Peer(peer);
    }
    let page = request.query_field("page").and_then(|page| page.parse().ok()).unwrap_or(1);
    Shown::List { find: request.query_field("find").unwrap_or_default(), page }
}

/// Returns a file of the page.
fn file(content_type: &'static str, text: &str) -> Reply {
    Reply::Now(Response::new(Status::Ok, content_type, text.as_bytes().to_vec()))
}
