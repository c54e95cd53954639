//! Signing in, and changes of a person's own account.

use std::net::IpAddr;

use super::super::http::{Reply, Request, Response};
use super::super::messages::{Change, Event, Principal};
use super::super::pages::{self, Problem};
use super::super::sign_in::{Account, Attempt, PasswordHash, Token, TotpSecret};
use super::pending::{Caller, ChangeKind};
use super::route::AppAction;
use super::state::App;
use crate::net::timer::unix_now;
use wontun_proto::time::Instant;

impl App {
    pub(super) fn sign_in(&mut self, request: &Request, from: IpAddr, now: Instant) -> Response {
        let principal = typed_principal(&request.field("name"));
        match self.check_password(request, "password", principal, true, from, now) {
            Ok(principal) => {
                self.log(from, Event::SignedIn(principal.clone()));
                self.begin(principal, false, now)
            }
            Err(problem) => pages::sign_in(&self.tunnel, &self.accounts, Some(&problem)),
        }
    }

    /// Checks the password in a field of the form, and the code of the app if the account has one.
    /// Returns the person whose password it is. The time does not tell whether there is an account.
    fn check_password(
        &mut self,
        request: &Request,
        field: &str,
        principal: Option<Principal>,
        needs_code: bool,
        from: IpAddr,
        now: Instant,
    ) -> Result<Principal, Problem> {
        if self.accounts.is_empty() {
            return Err(Problem::Wrong);
        }
        let attempt = principal.clone().map_or(Attempt::Other, Attempt::Account);
        if let Err(wait) = self.attempts.begin(from, &attempt, now) {
            self.log(from, Event::TooMany);
            return Err(Problem::TooMany(wait));
        }
        let account = principal.as_ref().and_then(|principal| self.accounts.get(principal)).cloned();
        let hash = match &account {
            Some(account) => account.password.clone(),
            None => PasswordHash::of_nothing(&mut self.random),
        };
        let is_password = hash.is_of(&request.field(field)) && account.is_some();
        let code = request.field("code");
        let last = principal.as_ref().and_then(|principal| self.last_steps.get(principal)).copied();
        let totp = account.and_then(|account| account.totp).filter(|_| needs_code);
        let step = totp.map(|totp| totp.step_of(&code, unix_now(), last.unwrap_or_default()));
        // both are checked in any case: the time does not tell which was wrong
        let (Some(principal), true, None | Some(Some(_))) = (principal, is_password, step) else {
            self.log(from, Event::Refused);
            return Err(Problem::Wrong);
        };
        if let Some(step) = step.flatten() {
            self.last_steps.insert(principal.clone(), step);
        }
        self.attempts.handle_success(from, &attempt);
        Ok(principal)
    }

    pub(super) fn sign_in_by_link(&mut self, request: &Request, from: IpAddr, now: Instant) -> Response {
        // a token cannot be guessed, but trying costs the process time
        if let Err(wait) = self.attempts.begin(from, &Attempt::Link, now) {
            return pages::link(&self.tunnel, Some(&Problem::TooMany(wait)));
        }
        let typed = Token::parse(request.field("link").trim());
        let Some(principal) = typed.and_then(|typed| self.links.take(&typed, now)) else {
            self.log(from, Event::Refused);
            return pages::link(&self.tunnel, Some(&Problem::Link));
        };
        self.attempts.handle_success(from, &Attempt::Link);
        self.log(from, Event::UsedLink(principal.clone()));
        self.begin(principal, true, now)
    }

    /// Begins a session, and leads to its first page.
    fn begin(&mut self, principal: Principal, is_by_link: bool, now: Instant) -> Response {
        let token = self.sessions.begin(principal, is_by_link, now, &mut self.random);
        let path = if is_by_link { "/account" } else { "/" };
        Response::redirect(path).with_cookie(&self.cookie, Some(&token.to_hex()))
    }

    /// Sets the password of the session's person: the first one, after a link any, else with the
    /// current one.
    pub(super) fn set_password(&mut self, request: &Request, caller: Caller) -> Reply {
        let Caller { session, from, now, .. } = &caller;
        let principal = session.principal().clone();
        let refused = |app: &Self, problem: &Problem| {
            Reply::Now(match app.accounts.get(session.principal()) {
                Some(account) => pages::account(&app.tunnel, session, account, None, Some(problem)),
                None => pages::password(&app.tunnel, session, Some(problem)),
            })
        };
        if !session.is_by_link {
            // the session proves the second factor
            let checked =
                self.check_password(request, "current", Some(principal.clone()), false, *from, *now);
            if let Err(problem) = checked {
                return refused(self, &problem);
            }
        }
        let password = match PasswordHash::new(&request.field("password"), &mut self.random) {
            Ok(password) => password,
            Err(expected) => return refused(self, &Problem::Failed(expected)),
        };
        // who has lost the password has probably lost the app, too
        let known = self.accounts.get(&principal).filter(|_| !session.is_by_link);
        let account = Account { password, totp: known.and_then(|known| known.totp.clone()) };
        let change = Change::Account { text: account.to_text(), may_be_new: session.is_by_link };
        self.submit(Ok(change), ChangeKind::Account { account, ends_sessions: true }, caller)
    }

    /// Turns the authenticator app of the session's person on or off.
    pub(super) fn set_app(&mut self, action: AppAction, request: &Request, caller: Caller) -> Reply {
        let Caller { session, from, now, .. } = &caller;
        let principal = session.principal().clone();
        let Some(account) = self.accounts.get(&principal).cloned() else {
            return Reply::Now(Response::redirect("/password"));
        };
        if action == AppAction::New {
            self.offered.insert(principal, TotpSecret::random(&mut self.random));
            return Reply::Now(Response::redirect("/account"));
        }
        let attempt = Attempt::Account(principal.clone());
        let offered = self.offered.get(&principal).cloned();
        if let Err(wait) = self.attempts.begin(*from, &attempt, *now) {
            let problem = Problem::TooMany(wait);
            let page = pages::account(&self.tunnel, session, &account, offered.as_ref(), Some(&problem));
            return Reply::Now(page);
        }
        let is_on = action == AppAction::On;
        let secret = if is_on { offered.clone() } else { account.totp.clone() };
        let code = request.field("code");
        let last = self.last_steps.get(&principal).copied().unwrap_or_default();
        let step = secret.as_ref().and_then(|secret| secret.step_of(&code, unix_now(), last));
        let Some(step) = step else {
            let page =
                pages::account(&self.tunnel, session, &account, offered.as_ref(), Some(&Problem::Wrong));
            return Reply::Now(page);
        };
        self.last_steps.insert(principal, step);
        self.attempts.handle_success(*from, &attempt);
        let account = Account { totp: secret.filter(|_| is_on), ..account };
        let change = Change::Account { text: account.to_text(), may_be_new: false };
        self.submit(Ok(change), ChangeKind::Account { account, ends_sessions: false }, caller)
    }
}

/// Returns the person whose name was typed: nothing is the administrator's. `None` if nobody can
/// have the name.
fn typed_principal(name: &str) -> Option<Principal> {
    match name.trim() {
        "" => Some(Principal::Admin),
        name if name.eq_ignore_ascii_case("admin") => Some(Principal::Admin),
        name => name.parse().ok().map(Principal::Owner),
    }
}
