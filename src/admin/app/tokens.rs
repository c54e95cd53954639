//! The page of the API's tokens, and their changes.

use std::net::IpAddr;

use super::super::http::{ConnectionId, Reply, Request, Response};
use super::super::messages::{Change, NewToken, SettingText};
use super::super::pages::{self, Form, Problem};
use super::super::sign_in::{Session, Token};
use super::pending::ChangeKind;
use super::state::App;
use crate::config::{ApiScope, TokenName};

impl App {
    pub(super) fn show_tokens(&self, session: &Session, form: &Form, problem: Option<&Problem>) -> Response {
        pages::tokens(&self.tunnel, session, (&self.api.tokens, &self.api.used), form, problem)
    }

    pub(super) fn add_token(
        &mut self,
        request: &Request,
        session: Session,
        id: ConnectionId,
        from: IpAddr,
    ) -> Reply {
        let form = Form::of(request);
        let parsed = form.get("name").unwrap_or_default().trim().parse::<TokenName>();
        let checked = parsed.map_err(|error| error.to_string()).and_then(|name| {
            let expires = SettingText::try_from(form.get("expires").unwrap_or_default().to_owned());
            Ok((name, expires.map_err(str::to_owned)?))
        });
        let (name, expires) = match checked {
            Ok(checked) => checked,
            Err(error) => {
                return Reply::Now(self.show_tokens(&session, &form, Some(&Problem::Failed(error))));
            }
        };
        let scopes = [ApiScope::Peers, ApiScope::Settings].into_iter();
        let scopes = scopes.filter(|scope| form.get(scope.name()).is_some()).collect();
        let secret = Token::random(&mut self.random);
        let wanted = NewToken { name: name.clone(), scopes, expires, hash: secret.hash() };
        let kind = ChangeKind::AddToken { name, secret, form };
        self.change(Change::AddToken(wanted), kind, session, id, from)
    }

    pub(super) fn remove_token(
        &mut self,
        request: &Request,
        session: Session,
        id: ConnectionId,
        from: IpAddr,
    ) -> Reply {
        match request.field("name").parse() {
            Ok(name) => self.change(Change::RemoveToken(name), ChangeKind::RemoveToken, session, id, from),
            Err(_) => Reply::Now(pages::problem(&self.tunnel, Some(&session), &Problem::NotFound)),
        }
    }
}
