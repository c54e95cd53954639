//! Changes: each is sent to the supervisor, and its form is answered by the result.

use std::net::IpAddr;

use super::super::http::{ConnectionId, Reply, Request, Response};
use super::super::messages::{Change, ClientText, FromAdmin, Setting, SettingText};
use super::super::pages::{self, Problem};
use super::super::sign_in::{Session, Token, parse_hex};
use super::super::snapshot::{Peer, id as peer_id};
use super::pending::{ChangeKind, PendingChange};
use super::state::{App, Page, View};
use crate::config::PeerName;
use wontun_proto::time::Instant;
use wontun_proto::wireguard::PublicKey;

/// Maximum number of changes that are under way.
const MAX_CHANGES: usize = 16;

impl App {
    /// Makes the change that a form at `path` is for.
    pub(super) fn handle_change(
        &mut self,
        path: &str,
        request: &Request,
        session: Session,
        id: ConnectionId,
        from: IpAddr,
    ) -> Reply {
        if path == "/new" {
            return self.add(request, session, id, from);
        }
        let peer = path.strip_prefix("/peers/").and_then(|rest| rest.split_once('/'));
        let Some((key, action)) = peer.and_then(|(key, action)| Some((parse_key(key)?, action))) else {
            return Reply::Now(pages::problem(&self.tunnel, Some(&session), &Problem::NotFound));
        };
        let set = |setting, value: &str| {
            let value = SettingText::try_from(value.trim().to_owned()).map_err(str::to_owned)?;
            Ok((Change::Set(key, setting, value), ChangeKind::Peer(key)))
        };
        let change = match action {
            "renew" => {
                let known = self.snapshot.as_ref().and_then(|(snapshot, _)| snapshot.find(&peer_id(&key)));
                let name = known.map_or_else(|| key.to_string(), Peer::name);
                Ok((Change::Renew(key), ChangeKind::Renew(key, name)))
            }
            "remove" => Ok((Change::Remove(key), ChangeKind::Remove)),
            "rename" => name_of(request).map(|name| (Change::Rename(key, name), ChangeKind::Peer(key))),
            "disable" => set(Setting::Disabled, "yes"),
            "enable" => set(Setting::Disabled, ""),
            "note" => set(Setting::Note, &request.field("value")),
            "expires" => set(Setting::Expires, &request.field("value")),
            _ => return Reply::Now(pages::problem(&self.tunnel, Some(&session), &Problem::NotFound)),
        };
        match change {
            Ok((change, kind)) => self.change(change, kind, session, id, from),
            Err(reason) => {
                let problem = Problem::Failed(reason);
                Reply::Now(pages::problem(&self.tunnel, Some(&session), &problem))
            }
        }
    }

    fn add(&mut self, request: &Request, session: Session, id: ConnectionId, from: IpAddr) -> Reply {
        let name = match name_of(request) {
            Ok(name) => name,
            Err(reason) => {
                let (typed, problem) = (request.field("name"), Problem::Failed(reason));
                return Reply::Now(pages::new(&self.tunnel, &session, &typed, Some(&problem)));
            }
        };
        let kind = ChangeKind::Add(name.as_str().to_owned());
        let full_tunnel = request.field("routes").as_str() != "vpn";
        self.change(Change::Add { name, full_tunnel }, kind, session, id, from)
    }

    /// Sends a change; the request waits for its result.
    pub(super) fn change(
        &mut self,
        change: Change,
        kind: ChangeKind,
        session: Session,
        connection: ConnectionId,
        from: IpAddr,
    ) -> Reply {
        if self.changes.len() >= MAX_CHANGES {
            let problem = Problem::Failed("too many changes at once".to_owned());
            return Reply::Now(pages::problem(&self.tunnel, Some(&session), &problem));
        }
        let number = self.next_change;
        self.next_change = number.wrapping_add(1);
        self.changes.insert(number, PendingChange { connection, session, kind });
        self.send(FromAdmin::Change { number, from, change });
        Reply::Later
    }

    /// Takes the result of a change.
    pub(in crate::admin) fn handle_changed(
        &mut self,
        number: u32,
        result: Result<Option<ClientText>, String>,
        now: Instant,
    ) {
        let Some(PendingChange { connection, session, kind }) = self.changes.remove(&number) else { return };
        // the next page shows the change
        self.snapshot = None;
        let response = match (result, kind) {
            (Ok(Some(client)), ChangeKind::Add(name) | ChangeKind::Renew(_, name)) => {
                pages::added(&self.tunnel, &session, &name, &client)
            }
            (Ok(_), ChangeKind::Add(_) | ChangeKind::Renew(..) | ChangeKind::Remove) => {
                Response::redirect("/")
            }
            (Ok(_), ChangeKind::Peer(key)) => Response::redirect(&format!("/peers/{}", peer_id(&key))),
            (Ok(_), ChangeKind::Account { account, ends_sessions }) => {
                self.account = Some(account);
                self.offered = None;
                if ends_sessions {
                    self.begin_after_new_password(now)
                } else {
                    Response::redirect("/account")
                }
            }
            (Err(reason), ChangeKind::Add(name)) => {
                pages::new(&self.tunnel, &session, &name, Some(&Problem::Failed(reason)))
            }
            (Err(reason), ChangeKind::Peer(key) | ChangeKind::Renew(key, _)) => {
                // the page shows the peer, once it is known
                let page = Page::Peer(peer_id(&key), Some(Problem::Failed(reason)));
                self.views.push((connection, View { session, page }));
                self.request_peers(now);
                return;
            }
            (Err(reason), ChangeKind::Remove | ChangeKind::Account { .. }) => {
                pages::problem(&self.tunnel, Some(&session), &Problem::Failed(reason))
            }
        };
        self.responses.push_back((connection, response));
    }

    /// Ends all sessions, and begins one for the browser that has set the password.
    fn begin_after_new_password(&mut self, now: Instant) -> Response {
        self.sessions.end_all();
        let token: Token = self.sessions.begin(false, now, &mut self.random);
        Response::redirect("/").with_cookie(&self.cookie, Some(&token.to_hex()))
    }
}

fn name_of(request: &Request) -> Result<PeerName, String> {
    request.field("name").trim().parse::<PeerName>().map_err(|error| error.to_string())
}

/// Parses a key as the page's addresses have it.
fn parse_key(text: &str) -> Option<PublicKey> {
    parse_hex(text).map(PublicKey::from_bytes)
}
