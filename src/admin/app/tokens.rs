//! The page of the API's tokens, and their changes.

use super::super::http::{Reply, Request, Response};
use super::super::messages::{Change, NewToken, Refusal, SettingText};
use super::super::pages::{self, Form, Problem};
use super::super::sign_in::{Session, Token};
use super::pending::{Caller, ChangeKind};
use super::state::App;
use crate::config::{ApiScope, TokenName};

impl App {
    pub(super) fn show_tokens(&self, session: &Session, form: &Form, problem: Option<&Problem>) -> Response {
        pages::tokens(&self.tunnel, session, (&self.api.tokens, &self.api.used), form, problem)
    }

    pub(super) fn add_token(&mut self, request: &Request, caller: Caller) -> Reply {
        let form = Form::of(request);
        let secret = Token::random(&mut self.random);
        let wanted = new_token(&form, &secret).map_err(Refusal::of_all);
        self.submit(wanted.map(Change::AddToken), ChangeKind::AddToken { secret, form }, caller)
    }

    pub(super) fn remove_token(&mut self, request: &Request, caller: Caller) -> Reply {
        match request.field("name").parse() {
            Ok(name) => self.submit(Ok(Change::RemoveToken(name)), ChangeKind::RemoveToken, caller),
            Err(_) => Reply::Now(pages::problem(&self.tunnel, Some(&caller.session), &Problem::NotFound)),
        }
    }
}

/// Returns the token that a form describes.
fn new_token(form: &Form, secret: &Token) -> Result<NewToken, String> {
    let name = form.get("name").unwrap_or_default().trim().parse::<TokenName>();
    let scopes = [ApiScope::Peers, ApiScope::Settings].into_iter();
    Ok(NewToken {
        name: name.map_err(|error| error.to_string())?,
        scopes: scopes.filter(|scope| form.get(scope.name()).is_some()).collect(),
        expires: SettingText::try_from(form.get("expires").unwrap_or_default().to_owned())?,
        hash: secret.hash(),
    })
}
