//! Changes: each is sent to the supervisor, and its form is answered by the result.

use super::super::http::{Reply, Request, Response};
use super::super::messages::{
    Answer, Change, ClientText, Field, FieldError, FromAdmin, NewPeer, PeerEdit, Principal, Question,
    Refusal, ServerSetting, SettingText,
};
use super::super::pages::{self, Form, PeerResult, Problem, ServerResult};
use super::super::sign_in::Token;
use super::super::snapshot::{Peer, id as peer_id};
use super::super::texts;
use super::pending::{Caller, ChangeKind, PendingChange};
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
        caller: Caller,
    ) -> Reply {
        let form = Form::of(request);
        let disable = |value: &str| {
            let value = SettingText::cut(value.to_owned());
            let edit = PeerEdit::of_settings(vec![(PeerComment::Disabled, value)]);
            Ok(Change::Set(key, Box::new(edit)))
        };
        let change = match action {
            PeerAction::Renew => {
                if let Principal::Owner(owner) = caller.session.principal()
                    && let Err(wait) = self.renewals.begin(owner, caller.now)
                {
                    let problem = Problem::TooMany(wait);
                    return Reply::Now(pages::problem(&self.tunnel, Some(&caller.session), &problem));
                }
                let known = self
                    .snapshot
                    .as_ref()
                    .and_then(|(snapshot, _)| snapshot.find(caller.session.principal(), &peer_id(&key)));
                let name = known.map_or_else(|| key.to_string(), Peer::name);
                return self.submit(Ok(Change::Renew(key)), ChangeKind::Renew(key, name), caller);
            }
            PeerAction::Remove => return self.submit(Ok(Change::Remove(key)), ChangeKind::Remove, caller),
            PeerAction::Test => return self.test(key, form, caller),
            PeerAction::Rename => name_of(&form).map(|name| Change::Rename(key, name)),
            PeerAction::Disable => disable("yes"),
            PeerAction::Enable => disable(""),
            PeerAction::Set => peer_edit(&form).map(|edit| Change::Set(key, Box::new(edit))),
        };
        self.submit(change, ChangeKind::Peer(key, form), caller)
    }

    pub(super) fn add(&mut self, request: &Request, caller: Caller) -> Reply {
        let form = Form::of(request);
        let change = new_peer(&form).map(|peer| Change::Add(Box::new(peer)));
        self.submit(change, ChangeKind::Add(form), caller)
    }

    pub(super) fn invite(&mut self, request: &Request, caller: Caller) -> Reply {
        let form = Form::of(request);
        // its link would not be a secret, and browsers make no keys there
        let change = if request.is_secure {
            new_peer(&form).and_then(|peer| {
                let valid = typed(&form, Field::Valid)?.unwrap_or_default();
                Ok(Change::Invite(Box::new(peer), valid))
            })
        } else {
            Err(Refusal::of_all(texts::INVITE_NEEDS_HTTPS))
        };
        self.submit(change, ChangeKind::Invite { host: request.host.clone(), form }, caller)
    }

    pub(super) fn set_server(&mut self, request: &Request, caller: Caller) -> Reply {
        let form = Form::of(request);
        let values = ServerSetting::ALL.into_iter().filter_map(|setting| {
            let value = typed(&form, Field::Server(setting)).transpose()?;
            Some(value.map(|text| (setting, text)))
        });
        let change = values.collect::<Result<_, _>>().map(Change::Server);
        self.submit(change, ChangeKind::Server(form), caller)
    }

    /// Shows the page of the server, with what the editor says.
    pub(super) fn show_server(&mut self, form: Form, problem: Option<Problem>, caller: Caller) -> Reply {
        self.ask(Question::Server, ChangeKind::ShowServer(form, problem), caller)
    }

    fn test(&mut self, key: PublicKey, form: Form, caller: Caller) -> Reply {
        let from = form.get("direction") == Some("from");
        match typed(&form, Field::Target) {
            Ok(target) => {
                let question = Question::Access { key, target: target.unwrap_or_default(), from };
                self.ask(question, ChangeKind::Test(key, form), caller)
            }
            Err(refusal) => self.refuse(ChangeKind::Test(key, form), refusal, caller),
        }
    }

    /// Shows the page of a peer, once the peers are known.
    fn show_peer(&mut self, key: PublicKey, result: PeerResult, caller: Caller) -> Reply {
        let Caller { session, connection, now, .. } = caller;
        let page = Page::Peer(peer_id(&key), Box::new(result));
        self.views.push((connection, View { session, page }));
        self.request_peers(now);
        Reply::Later
    }

    /// Sends a change, whose result the request waits for. A form that is no change is shown again.
    pub(super) fn submit(
        &mut self,
        change: Result<Change, Refusal>,
        kind: ChangeKind,
        caller: Caller,
    ) -> Reply {
        let change = match change {
            Ok(change) => change,
            Err(refusal) => return self.refuse(kind, refusal, caller),
        };
        let (from, by) = (caller.from, caller.session.principal().clone());
        match self.insert(kind, caller) {
            Ok(number) => self.send(FromAdmin::Change { number, from, by, change }),
            Err(response) => return Reply::Now(*response),
        }
        Reply::Later
    }

    /// Shows why a change was refused, with its form if it has one.
    fn refuse(&mut self, kind: ChangeKind, refusal: Refusal, caller: Caller) -> Reply {
        let session = &caller.session;
        Reply::Now(match kind {
            ChangeKind::Add(form) | ChangeKind::Invite { form, .. } => {
                let (form, problem) = form.refused(refusal);
                pages::new(&self.tunnel, session, &form, Some(&problem))
            }
            ChangeKind::AddToken { form, .. } => {
                let (form, problem) = form.refused(refusal);
                self.show_tokens(session, &form, Some(&problem))
            }
            ChangeKind::Peer(key, form) | ChangeKind::Test(key, form) => {
                let (form, problem) = form.refused(refusal);
                return self.show_peer(
                    key,
                    PeerResult { problem: Some(problem), form, verdict: None },
                    caller,
                );
            }
            ChangeKind::Renew(key, _) => {
                // the reason may name other peers
                let refusal = match session.principal() {
                    Principal::Owner(_) => Refusal::of_all(texts::ASK_ADMIN),
                    _ => refusal,
                };
                return self.refuse(ChangeKind::Peer(key, Form::default()), refusal, caller);
            }
            ChangeKind::Server(form) => {
                let (form, problem) = form.refused(refusal);
                return self.show_server(form, Some(problem), caller);
            }
            ChangeKind::Remove
            | ChangeKind::Account { .. }
            | ChangeKind::RemoveAccount
            | ChangeKind::RemoveToken
            | ChangeKind::ShowServer(..) => {
                let (_, problem) = Form::default().refused(refusal);
                pages::problem(&self.tunnel, Some(session), &problem)
            }
        })
    }

    /// Sends a question; the request waits for its answer.
    fn ask(&mut self, question: Question, kind: ChangeKind, caller: Caller) -> Reply {
        match self.insert(kind, caller) {
            Ok(number) => self.send(FromAdmin::Question { number, question }),
            Err(response) => return Reply::Now(*response),
        }
        Reply::Later
    }

    /// Returns the number of a new request to the supervisor.
    fn insert(&mut self, kind: ChangeKind, caller: Caller) -> Result<u32, Box<Response>> {
        let session = &caller.session;
        let own = self.changes.values().filter(|each| each.caller.session.principal() == session.principal());
        let is_owner = *session.principal() != Principal::Admin;
        if self.pending() >= MAX_CHANGES || (is_owner && own.count() >= MAX_OWNER_CHANGES) {
            let problem = Problem::Failed("too many changes at once".to_owned());
            return Err(Box::new(pages::problem(&self.tunnel, Some(session), &problem)));
        }
        let number = self.next_change;
        self.next_change = number.wrapping_add(1);
        self.changes.insert(number, PendingChange { caller, kind });
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
        let Some(PendingChange { caller, kind }) = self.changes.remove(&number) else {
            return self.handle_api_changed(number, result);
        };
        let (caller, connection) = (Caller { now, ..caller }, caller.connection);
        // the next page shows the change
        self.snapshot = None;
        let reply = match result {
            // the account was removed meanwhile, or has another password
            _ if !self.sessions.has(&caller.session, now) => {
                Reply::Now(pages::sign_in(&self.tunnel, &self.accounts, Some(&Problem::Ended)))
            }
            Ok(client) => Reply::Now(self.accept(kind, client, &caller)),
            Err(refusal) => self.refuse(kind, refusal, caller),
        };
        if let Reply::Now(response) = reply {
            self.responses.push_back((connection, response));
        }
    }

    /// Returns the page after a change that was made.
    fn accept(&mut self, kind: ChangeKind, client: Option<ClientText>, caller: &Caller) -> Response {
        let session = &caller.session;
        match (kind, client) {
            (ChangeKind::Add(form), Some(client)) => {
                pages::added(&self.tunnel, session, typed_name(&form), &client)
            }
            (ChangeKind::Renew(_, name), Some(client)) => pages::added(&self.tunnel, session, &name, &client),
            (ChangeKind::Invite { host, form }, Some(token)) => {
                pages::invited(&self.tunnel, session, typed_name(&form), &host, &token)
            }
            (ChangeKind::Peer(key, _), _) => Response::redirect(&format!("/peers/{}", peer_id(&key))),
            (ChangeKind::Server(_), _) => Response::redirect("/server"),
            (ChangeKind::RemoveAccount, _) => Response::redirect("/owners"),
            (ChangeKind::Account { account, ends_sessions }, _) => {
                let principal = session.principal().clone();
                self.accounts.set(principal.clone(), account);
                self.offered.remove(&principal);
                if ends_sessions {
                    self.begin_after_new_password(principal, caller.now)
                } else {
                    Response::redirect("/account")
                }
            }
            (ChangeKind::AddToken { secret, form }, _) => {
                pages::token_added(&self.tunnel, session, typed_name(&form), &secret)
            }
            (ChangeKind::RemoveToken, _) => Response::redirect("/tokens"),
            _ => Response::redirect("/"),
        }
    }

    /// Takes the answer to a question: its page shows it, once the peers are known.
    pub(in crate::admin) fn handle_answer(
        &mut self,
        number: u32,
        result: Result<Answer, Refusal>,
        now: Instant,
    ) {
        let Some(PendingChange { caller, kind }) = self.changes.remove(&number) else {
            return self.handle_api_answer(number, result);
        };
        let caller = Caller { now, ..caller };
        match (kind, result) {
            (ChangeKind::Test(key, form), Ok(Answer::Access { is_allowed, text })) => {
                let verdict = Some((is_allowed, text.into_string()));
                self.show_peer(key, PeerResult { problem: None, form, verdict }, caller);
            }
            (kind @ ChangeKind::Test(..), Err(refusal)) => {
                self.refuse(kind, refusal, caller);
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
                let view = View { session: caller.session, page: Page::Server(Box::new(shown)) };
                self.views.push((caller.connection, view));
                self.request_peers(now);
            }
            _ => {
                let response = pages::problem(&self.tunnel, Some(&caller.session), &Problem::NotFound);
                self.responses.push_back((caller.connection, response));
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

/// Returns the name that was typed.
fn typed_name(form: &Form) -> &str {
    form.get(Field::Name.name()).unwrap_or_default().trim()
}

fn name_of(form: &Form) -> Result<PeerName, Refusal> {
    typed_name(form)
        .parse()
        .map_err(|error: PeerNameError| Refusal::new(vec![FieldError::new(Some(Field::Name), error)]))
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
