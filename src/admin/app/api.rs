//! Requests of the API: who may, what waits for the peers, and what waits for the supervisor.

use std::net::IpAddr;

use super::super::api::{self, ApiProblem, Body, Found, Route};
use super::super::http::{ConnectionId, Reply, Request, Response, Status};
use super::super::messages::{
    Answer, Change, ClientText, Event, FromAdmin, Principal, Question, Refusal, TokensText,
};
use super::super::sign_in::Attempt;
use super::super::snapshot::{Peer, Snapshot};
use super::super::tokens::{ApiToken, parse_secret};
use super::api_state::{Call, Pending};
use super::changes::MAX_CHANGES;
use super::requests::MAX_AGE;
use super::state::App;
use crate::net::timer::unix_now;
use wontun_proto::time::Instant;

/// Maximum number of requests that wait for the peers.
const MAX_WAITING: usize = 64;

impl App {
    /// Takes the tokens of the API from now on.
    pub(in crate::admin) fn set_tokens(&mut self, text: &TokensText) {
        // the editor has parsed them
        self.api.tokens = text.parse().unwrap_or_default();
        let tokens = &self.api.tokens;
        self.api.used.retain(|name, _| tokens.iter().any(|token| token.name == *name));
    }

    /// Answers a request of the API. Cookies are not looked at.
    pub(super) fn handle_api(
        &mut self,
        request: &Request,
        id: ConnectionId,
        from: IpAddr,
        now: Instant,
    ) -> Reply {
        let call = self.authenticate(request, from, now).and_then(|token| accept(request, &token, id, from));
        match call {
            Ok(call) => self.begin_call(call, now),
            Err(problem) => Reply::Now(problem.response()),
        }
    }

    /// Returns the token of a request.
    fn authenticate(
        &mut self,
        request: &Request,
        from: IpAddr,
        now: Instant,
    ) -> Result<ApiToken, ApiProblem> {
        let Some(credentials) = &request.authorization else { return Err(ApiProblem::unauthorized(false)) };
        let (scheme, secret) = credentials.trim().split_once(' ').unwrap_or_default();
        let secret = if scheme.eq_ignore_ascii_case("bearer") { parse_secret(secret.trim()) } else { None };
        let wall = unix_now();
        // 256 random bits cannot be guessed, so that a valid secret is accepted at any time: wrong
        // ones from the same address keep nobody out
        if let Some(token) = secret.and_then(|secret| self.api.tokens.find(&secret, wall)) {
            self.api.used.insert(token.name.clone(), (wall.as_secs(), from));
            return Ok(token.clone());
        }
        if let Err(wait) = self.attempts.begin(from, &Attempt::Other, now) {
            self.log(from, Event::TooMany);
            let seconds = wait.as_millis().div_ceil(1000).max(1);
            let detail = format!("too many wrong tokens: try again in {seconds} s");
            return Err(ApiProblem::new(Status::TooManyRequests, detail)
                .with_field("Retry-After", seconds.to_string()));
        }
        self.log(from, Event::Refused);
        Err(ApiProblem::unauthorized(true))
    }

    fn begin_call(&mut self, call: Call, now: Instant) -> Reply {
        let response = match call.route {
            Route::Description => Ok(Some(api::description())),
            Route::Settings => self.ask_editor(&call, Pending::Settings),
            Route::Changes => self.ask_editor(&call, Pending::Changes),
            Route::AddPeer | Route::SetSettings => self.change_by_api(&call, None),
            Route::Status
            | Route::Peers
            | Route::Peer
            | Route::SetPeer
            | Route::RemovePeer
            | Route::RenewPeer
            | Route::RenamePeer => return self.begin_with_peers(call, now),
        };
        reply(response)
    }

    /// Handles a request that needs the peers, once they are known.
    fn begin_with_peers(&mut self, call: Call, now: Instant) -> Reply {
        if let Some((snapshot, at)) = self.snapshot.take() {
            let is_recent = now.since(at) < MAX_AGE;
            let response = is_recent.then(|| self.perform(&call, &snapshot));
            self.snapshot = Some((snapshot, at));
            if let Some(response) = response {
                return reply(response);
            }
        }
        if self.api.waiting.len() >= MAX_WAITING {
            return Reply::Now(busy().response());
        }
        self.api.waiting.push(call);
        self.request_peers(now);
        Reply::Later
    }

    /// Handles the requests that wait for the peers.
    pub(super) fn handle_api_snapshot(&mut self, snapshot: &Snapshot) {
        for call in std::mem::take(&mut self.api.waiting) {
            if let Reply::Now(response) = reply(self.perform(&call, snapshot)) {
                self.responses.push_back((call.connection, response));
            }
        }
    }

    /// Returns the response, or `None` if it follows.
    fn perform(&mut self, call: &Call, snapshot: &Snapshot) -> Result<Option<Response>, ApiProblem> {
        match (call.route, &call.peer) {
            (Route::Status, _) => match api::tunnels(snapshot) {
                Some(response) => Ok(Some(response)),
                None => Err(ApiProblem::new(Status::Unavailable, "the tunnel does not answer")),
            },
            (Route::Peer, Some(wanted)) => Ok(Some(api::peer(&self.tunnel, find(snapshot, wanted)?))),
            (_, Some(wanted)) => self.change_by_api(call, Some(find(snapshot, wanted)?)),
            (_, None) => Ok(Some(api::peers(&self.tunnel, snapshot))),
        }
    }

    /// Sends the change that a request is for.
    fn change_by_api(&mut self, call: &Call, peer: Option<&Peer>) -> Result<Option<Response>, ApiProblem> {
        let (change, pending) = match (&call.body, call.route, peer) {
            (Body::NewPeer(peer), ..) => {
                (Change::Add(peer.clone()), Pending::Added(peer.name.as_str().to_owned()))
            }
            (Body::Server(values), ..) => (Change::Server(values.clone()), Pending::Done),
            (Body::Peer(edit), _, Some(peer)) => (Change::Set(peer.file.key, edit.clone()), Pending::Done),
            (Body::Name(name), _, Some(peer)) => (Change::Rename(peer.file.key, name.clone()), Pending::Done),
            (Body::Empty, Route::RenewPeer, Some(peer)) => {
                (Change::Renew(peer.file.key), Pending::Renewed(peer.name()))
            }
            (Body::Empty, Route::RemovePeer, Some(peer)) => (Change::Remove(peer.file.key), Pending::Done),
            // not reached: each route has its body
            _ => return Err(ApiProblem::new(Status::BadRequest, "the body is another request's")),
        };
        let number = self.insert_call(call, pending)?;
        let (from, by) = (call.from, Principal::Token(call.token.clone()));
        self.send(FromAdmin::Change { number, from, by, change });
        Ok(None)
    }

    fn ask_editor(&mut self, call: &Call, pending: Pending) -> Result<Option<Response>, ApiProblem> {
        let number = self.insert_call(call, pending)?;
        self.send(FromAdmin::Question { number, question: Question::Server });
        Ok(None)
    }

    /// Returns the number of changes and questions that are under way.
    pub(super) fn pending(&self) -> usize {
        self.changes.len() + self.api.pending.len()
    }

    fn insert_call(&mut self, call: &Call, pending: Pending) -> Result<u32, ApiProblem> {
        if self.pending() >= MAX_CHANGES {
            return Err(busy());
        }
        let number = self.next_change;
        self.next_change = number.wrapping_add(1);
        self.api.pending.insert(number, (call.connection, pending));
        Ok(number)
    }

    /// Takes the result of a change of the API, if it is one.
    pub(super) fn handle_api_changed(&mut self, number: u32, result: Result<Option<ClientText>, Refusal>) {
        let Some((connection, pending)) = self.api.pending.remove(&number) else { return };
        // the next request sees the change
        self.snapshot = None;
        let response = match (result, pending) {
            (Ok(Some(client)), Pending::Added(name)) => {
                api::client(Status::Created, &name, &client).with_field("Location", api::location(&name))
            }
            (Ok(Some(client)), Pending::Renewed(name)) => api::client(Status::Ok, &name, &client),
            (Ok(_), _) => Response::new(Status::NoContent, "", Vec::new()),
            (Err(refusal), _) => ApiProblem::refused(refusal).response(),
        };
        self.responses.push_back((connection, response));
    }

    /// Takes the answer to a question of the API, if it is one.
    pub(super) fn handle_api_answer(&mut self, number: u32, result: Result<Answer, Refusal>) {
        let Some((connection, pending)) = self.api.pending.remove(&number) else { return };
        let response = match (result, pending) {
            (Ok(Answer::Server { settings, .. }), Pending::Settings) => api::settings(&settings),
            (Ok(Answer::Server { changes, .. }), Pending::Changes) => api::changes(&changes),
            (Ok(_), _) => ApiProblem::new(Status::Unavailable, "there is another answer").response(),
            (Err(refusal), _) => ApiProblem::refused(refusal).response(),
        };
        self.responses.push_back((connection, response));
    }
}

/// Checks what a token requests, and parses it.
fn accept(
    request: &Request,
    token: &ApiToken,
    connection: ConnectionId,
    from: IpAddr,
) -> Result<Call, ApiProblem> {
    let (entry, peer) = match api::find(request.method, &request.path) {
        Found::Route(entry, peer) => (entry, peer),
        Found::OtherMethod(allowed) => {
            let detail = format!("this path has {allowed}");
            return Err(ApiProblem::new(Status::MethodNotAllowed, detail).with_field("Allow", allowed));
        }
        Found::None => return Err(ApiProblem::new(Status::NotFound, "the API has no such path")),
    };
    if !token.scopes.allow(entry.scope) {
        return Err(ApiProblem::forbidden(entry.scope));
    }
    let body = api::parse(entry.route, request)?;
    Ok(Call { connection, from, token: token.name.clone(), route: entry.route, peer, body })
}

/// Returns the peer with this name or public key.
fn find<'a>(snapshot: &'a Snapshot, wanted: &str) -> Result<&'a Peer, ApiProblem> {
    let is_meant = |peer: &&Peer| {
        peer.file.name.as_ref().is_some_and(|name| name.as_str() == wanted)
            || peer.file.key.to_string() == wanted
    };
    let mut found = snapshot.peers.iter().filter(is_meant);
    match (found.next(), found.next()) {
        (Some(peer), None) => Ok(peer),
        (None, _) => Err(ApiProblem::new(Status::NotFound, "there is no such peer")),
        _ => Err(ApiProblem::new(Status::Conflict, "several peers have this name: give the public key")),
    }
}

fn busy() -> ApiProblem {
    ApiProblem::new(Status::Unavailable, "too many requests at once")
        .with_field("Retry-After", "1".to_owned())
}

fn reply(result: Result<Option<Response>, ApiProblem>) -> Reply {
    match result {
        Ok(Some(response)) => Reply::Now(response),
        Ok(None) => Reply::Later,
        Err(problem) => Reply::Now(problem.response()),
    }
}
