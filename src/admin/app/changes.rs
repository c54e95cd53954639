//! Changes: each is sent to the supervisor, and its form is answered by the result.

use std::net::IpAddr;

use super::super::http::{ConnectionId, Reply, Request, Response};
use super::super::messages::{
    Answer, Change, ClientText, Field, FieldError, FromAdmin, NewPeer, PeerEdit, Principal, Question,
    Refusal, ServerSetting, SettingText,
};
use super::super::pages::{self, Form, PeerResult, Problem, ServerResult};
use super::super::sign_in::{Session, Token};
use super::super::snapshot::{Peer, id as peer_id};
use super::super::texts;
use super::pending::{ChangeKind, PendingChange};
use super::route::PeerAction;
use super::state::{App, Page, View};
use crate::config::peer_settings::PeerComment;
use crate::config::{PeerName, PeerNameError};
use wontun_proto::time::Instant;
use wontun_proto::wireguard::PublicKey;

/// Maximum number of changes that are under way.
pub(super) const MAX_CHANGES: usize = 16;
/// Maximum number of changes of an owner of peers that are under way.
const MAX_OWNER_CHANGES: usize = 2;

impl App {
    /// Makes the change of a peer that a form is for.
    pub(super) fn handle_peer_action(
        &mut self,
        (key, action): (PublicKey, PeerAction),
        request: &Request,
        session: Session,
        id: ConnectionId,
        from: IpAddr,
        now: Instant,
    ) -> Reply {
        let form = Form::of(request);
        let disable = |value: &str| {
            let value = SettingText::cut(value.to_owned());
            let edit = PeerEdit::of_settings(vec![(PeerComment::Disabled, value)]);
            Ok(Change::Set(key, Box::new(edit)))
        };
        let change = match action {
            PeerAction::Renew => {
                if let Principal::Owner(owner) = session.principal()
                    && let Err(wait) = self.renewals.begin(owner, now)
                {
                    let problem = Problem::TooMany(wait);
                    return Reply::Now(pages::problem(&self.tunnel, Some(&session), &problem));
                }
                let known = self
                    .snapshot
                    .as_ref()
                    .and_then(|(snapshot, _)| snapshot.find(session.principal(), &peer_id(&key)));
                let name = known.map_or_else(|| key.to_string(), Peer::name);
                return self.change(Change::Renew(key), ChangeKind::Renew(key, name), session, id, from);
            }
            PeerAction::Remove => {
                return self.change(Change::Remove(key), ChangeKind::Remove, session, id, from);
            }
            PeerAction::Test => return self.test(key, form, session, id, now),
            PeerAction::Rename => name_of(&form).map(|name| Change::Rename(key, name)),
            PeerAction::Disable => disable("yes"),
            PeerAction::Enable => disable(""),
            PeerAction::Set => peer_edit(&form).map(|edit| Change::Set(key, Box::new(edit))),
        };
        match change {
            Ok(change) => self.change(change, ChangeKind::Peer(key, form), session, id, from),
            Err(refusal) => self.show_refused(key, form, refusal, session, id, now),
        }
    }

    pub(super) fn add(
        &mut self,
        request: &Request,
        session: Session,
        id: ConnectionId,
        from: IpAddr,
    ) -> Reply {
        let form = Form::of(request);
        match new_peer(&form) {
            Ok(peer) => {
                let kind = ChangeKind::Add(peer.name.as_str().to_owned(), form);
                self.change(Change::Add(Box::new(peer)), kind, session, id, from)
            }
            Err(refusal) => {
                let (form, problem) = form.refused(refusal);
                Reply::Now(pages::new(&self.tunnel, &session, &form, Some(&problem)))
            }
        }
    }

    pub(super) fn invite(
        &mut self,
        request: &Request,
        session: Session,
        id: ConnectionId,
        from: IpAddr,
    ) -> Reply {
        let form = Form::of(request);
        // its link would not be a secret, and browsers make no keys there
        let checked = if request.is_secure {
            let valid = text_of(Field::Valid, form.get(Field::Valid.name()).unwrap_or_default());
            new_peer(&form).and_then(|peer| Ok((peer, valid.map_err(|error| Refusal::new(vec![error]))?)))
        } else {
            Err(Refusal::of_all(texts::INVITE_NEEDS_HTTPS))
        };
        match checked {
            Ok((peer, valid)) => {
                let (name, host) = (peer.name.as_str().to_owned(), request.host.clone());
                let kind = ChangeKind::Invite { name, host, form };
                self.change(Change::Invite(Box::new(peer), valid), kind, session, id, from)
            }
            Err(refusal) => {
                let (form, problem) = form.refused(refusal);
                Reply::Now(pages::new(&self.tunnel, &session, &form, Some(&problem)))
            }
        }
    }

    pub(super) fn set_server(
        &mut self,
        request: &Request,
        session: Session,
        id: ConnectionId,
        from: IpAddr,
    ) -> Reply {
        let form = Form::of(request);
        let values = ServerSetting::ALL.into_iter().filter_map(|setting| {
            let field = Field::Server(setting);
            Some(text_of(field, form.get(field.name())?).map(|text| (setting, text)))
        });
        match values.collect() {
            Ok(values) => self.change(Change::Server(values), ChangeKind::Server(form), session, id, from),
            Err(error) => {
                let (form, problem) = form.refused(Refusal::new(vec![error]));
                self.show_server(form, Some(problem), session, id)
            }
        }
    }

    /// Shows the page of the server, with what the editor says.
    pub(super) fn show_server(
        &mut self,
        form: Form,
        problem: Option<Problem>,
        session: Session,
        id: ConnectionId,
    ) -> Reply {
        self.ask(Question::Server, ChangeKind::ShowServer(form, problem), session, id)
    }

    fn test(
        &mut self,
        key: PublicKey,
        form: Form,
        session: Session,
        id: ConnectionId,
        now: Instant,
    ) -> Reply {
        match text_of(Field::Target, form.get(Field::Target.name()).unwrap_or_default()) {
            Ok(target) => {
                let from = form.get("direction") == Some("from");
                let question = Question::Access { key, target, from };
                self.ask(question, ChangeKind::Test(key, form), session, id)
            }
            Err(error) => self.show_refused(key, form, Refusal::new(vec![error]), session, id, now),
        }
    }

    /// Shows the page of a peer with a form that was refused.
    fn show_refused(
        &mut self,
        key: PublicKey,
        form: Form,
        refusal: Refusal,
        session: Session,
        id: ConnectionId,
        now: Instant,
    ) -> Reply {
        let (form, problem) = form.refused(refusal);
        let result = PeerResult { problem: Some(problem), form, verdict: None };
        self.show_peer(key, result, session, id, now);
        Reply::Later
    }

    /// Shows the page of a peer, once the peers are known.
    fn show_peer(
        &mut self,
        key: PublicKey,
        result: PeerResult,
        session: Session,
        id: ConnectionId,
        now: Instant,
    ) {
        let page = Page::Peer(peer_id(&key), Box::new(result));
        self.views.push((id, View { session, page }));
        self.request_peers(now);
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
        let by = session.principal().clone();
        match self.insert(kind, session, connection) {
            Ok(number) => self.send(FromAdmin::Change { number, from, by, change }),
            Err(response) => return Reply::Now(*response),
        }
        Reply::Later
    }

    /// Sends a question; the request waits for its answer.
    fn ask(
        &mut self,
        question: Question,
        kind: ChangeKind,
        session: Session,
        connection: ConnectionId,
    ) -> Reply {
        match self.insert(kind, session, connection) {
            Ok(number) => self.send(FromAdmin::Question { number, question }),
            Err(response) => return Reply::Now(*response),
        }
        Reply::Later
    }

    /// Returns the number of a new request to the supervisor.
    fn insert(
        &mut self,
        kind: ChangeKind,
        session: Session,
        connection: ConnectionId,
    ) -> Result<u32, Box<Response>> {
        let own = self.changes.values().filter(|each| each.session.principal() == session.principal());
        let is_owner = *session.principal() != Principal::Admin;
        if self.pending() >= MAX_CHANGES || (is_owner && own.count() >= MAX_OWNER_CHANGES) {
            let problem = Problem::Failed("too many changes at once".to_owned());
            return Err(Box::new(pages::problem(&self.tunnel, Some(&session), &problem)));
        }
        let number = self.next_change;
        self.next_change = number.wrapping_add(1);
        self.changes.insert(number, PendingChange { connection, session, kind });
        Ok(number)
    }

    /// Takes the result of a change.
    pub(in crate::admin) fn handle_changed(
        &mut self,
        number: u32,
        result: Result<Option<ClientText>, Refusal>,
        now: Instant,
    ) {
        if self.handle_enrolled(number, &result) {
            return;
        }
        let Some(PendingChange { connection, session, kind }) = self.changes.remove(&number) else {
            return self.handle_api_changed(number, result);
        };
        // the next page shows the change
        self.snapshot = None;
        if !self.sessions.has(&session, now) {
            // the account was removed meanwhile, or has another password
            let response = pages::sign_in(&self.tunnel, &self.accounts, Some(&Problem::Ended));
            self.responses.push_back((connection, response));
            return;
        }
        let response = match (result, kind) {
            (Ok(Some(client)), ChangeKind::Add(name, _) | ChangeKind::Renew(_, name)) => {
                pages::added(&self.tunnel, &session, &name, &client)
            }
            (Ok(Some(token)), ChangeKind::Invite { name, host, .. }) => {
                pages::invited(&self.tunnel, &session, &name, &host, &token)
            }
            (Ok(_), ChangeKind::Peer(key, _)) => Response::redirect(&format!("/peers/{}", peer_id(&key))),
            (Ok(_), ChangeKind::Server(_)) => Response::redirect("/server"),
            (Ok(_), ChangeKind::RemoveAccount) => Response::redirect("/owners"),
            (Ok(_), ChangeKind::Account { account, ends_sessions }) => {
                let principal = session.principal().clone();
                self.accounts.set(principal.clone(), account);
                self.offered.remove(&principal);
                if ends_sessions {
                    self.begin_after_new_password(principal, now)
                } else {
                    Response::redirect("/account")
                }
            }
            (Ok(_), ChangeKind::AddToken { name, secret, .. }) => {
                pages::token_added(&self.tunnel, &session, &name, &secret)
            }
            (Ok(_), ChangeKind::RemoveToken) => Response::redirect("/tokens"),
            (Ok(_), _) => Response::redirect("/"),
            (Err(refusal), ChangeKind::AddToken { form, .. }) => {
                let (form, problem) = form.refused(refusal);
                self.show_tokens(&session, &form, Some(&problem))
            }
            (Err(refusal), ChangeKind::Add(_, form) | ChangeKind::Invite { form, .. }) => {
                let (form, problem) = form.refused(refusal);
                pages::new(&self.tunnel, &session, &form, Some(&problem))
            }
            (Err(refusal), ChangeKind::Peer(key, form)) => {
                self.show_refused(key, form, refusal, session, connection, now);
                return;
            }
            (Err(refusal), ChangeKind::Renew(key, _)) => {
                // the reason may name other peers
                let refusal = match session.principal() {
                    Principal::Owner(_) => Refusal::of_all(texts::ASK_ADMIN),
                    _ => refusal,
                };
                self.show_refused(key, Form::default(), refusal, session, connection, now);
                return;
            }
            (Err(refusal), ChangeKind::Server(form)) => {
                let (form, problem) = form.refused(refusal);
                match self.show_server(form, Some(problem), session, connection) {
                    Reply::Now(response) => response,
                    Reply::Later | Reply::Stream => return,
                }
            }
            (Err(refusal), _) => {
                let (_, problem) = Form::default().refused(refusal);
                pages::problem(&self.tunnel, Some(&session), &problem)
            }
        };
        self.responses.push_back((connection, response));
    }

    /// Takes the answer to a question: its page shows it, once the peers are known.
    pub(in crate::admin) fn handle_answer(
        &mut self,
        number: u32,
        result: Result<Answer, Refusal>,
        now: Instant,
    ) {
        let Some(PendingChange { connection, session, kind }) = self.changes.remove(&number) else {
            return self.handle_api_answer(number, result);
        };
        match (kind, result) {
            (ChangeKind::Test(key, form), Ok(Answer::Access { is_allowed, text })) => {
                let verdict = Some((is_allowed, text.into_string()));
                self.show_peer(key, PeerResult { problem: None, form, verdict }, session, connection, now);
            }
            (ChangeKind::Test(key, form), Err(refusal)) => {
                self.show_refused(key, form, refusal, session, connection, now);
            }
            (ChangeKind::ShowServer(form, problem), result) => {
                let mut shown = ServerResult { problem, form, ..ServerResult::default() };
                match result {
                    Ok(Answer::Server { settings, changes }) => {
                        (shown.settings, shown.changes) = (settings, changes);
                    }
                    Ok(_) => {}
                    Err(refusal) => shown.problem = Some(Form::default().refused(refusal).1),
                }
                self.views.push((connection, View { session, page: Page::Server(Box::new(shown)) }));
                self.request_peers(now);
            }
            _ => {
                let response = pages::problem(&self.tunnel, Some(&session), &Problem::NotFound);
                self.responses.push_back((connection, response));
            }
        }
    }

    /// Ends all sessions of a person, and begins one for the browser that has set the password.
    fn begin_after_new_password(&mut self, principal: Principal, now: Instant) -> Response {
        self.sessions.end_all_of(&principal);
        let token: Token = self.sessions.begin(principal, false, now, &mut self.random);
        Response::redirect("/").with_cookie(&self.cookie, Some(&token.to_hex()))
    }
}

fn name_of(form: &Form) -> Result<PeerName, Refusal> {
    let name = form.get(Field::Name.name()).unwrap_or_default().trim();
    name.parse().map_err(|error: PeerNameError| Refusal::new(vec![FieldError::new(Some(Field::Name), error)]))
}

/// Returns the settings that a form has fields of.
fn settings_of(form: &Form) -> Result<Vec<(PeerComment, SettingText)>, Refusal> {
    // an invitation has a form of its own
    let settings = PeerComment::ALL.into_iter().filter(|setting| *setting != PeerComment::Invitation);
    let values = settings.filter_map(|setting| {
        let field = Field::Setting(setting);
        Some(text_of(field, form.get(field.name())?).map(|text| (setting, text)))
    });
    values.collect::<Result<_, _>>().map_err(|error| Refusal::new(vec![error]))
}

/// Returns the new peer that a form describes.
fn new_peer(form: &Form) -> Result<NewPeer, Refusal> {
    Ok(NewPeer {
        name: name_of(form)?,
        addresses: typed(form, Field::Address)?.unwrap_or_default(),
        sites: typed(form, Field::Site)?.unwrap_or_default(),
        full_tunnel: form.get("routes") != Some("vpn"),
        settings: settings_of(form)?,
    })
}

/// Returns the change of a peer that a form describes.
fn peer_edit(form: &Form) -> Result<PeerEdit, Refusal> {
    Ok(PeerEdit {
        addresses: typed(form, Field::Address)?.unwrap_or_default(),
        sites: typed(form, Field::Site)?,
        settings: settings_of(form)?,
    })
}

/// Returns the value of a field, if the form has it.
fn typed(form: &Form, field: Field) -> Result<Option<SettingText>, Refusal> {
    let text = form.get(field.name()).map(|text| text_of(field, text));
    text.transpose().map_err(|error| Refusal::new(vec![error]))
}

fn text_of(field: Field, text: &str) -> Result<SettingText, FieldError> {
    SettingText::try_from(text.to_owned()).map_err(|error| FieldError::new(Some(field), error))
}
