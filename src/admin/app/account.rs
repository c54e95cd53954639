//! Signing in, and changes of the account.

use std::net::IpAddr;

use super::super::http::{ConnectionId, Reply, Request, Response};
use super::super::messages::{Change, Event};
use super::super::pages::{self, Problem};
use super::super::sign_in::{Account, PasswordHash, Session, Token, TotpSecret};
use super::pending::ChangeKind;
use super::state::App;
use crate::net::timer::unix_now;
use wontun_proto::time::Instant;

impl App {
    pub(super) fn sign_in(&mut self, request: &Request, from: IpAddr, now: Instant) -> Response {
        if let Err(problem) = self.check_password(request, "password", from, now) {
            return pages::sign_in(&self.tunnel, self.account.as_ref(), Some(&problem));
        }
        self.log(from, Event::SignedIn);
        self.begin(false, now)
    }

    /// Checks the password in a field of the form, and the code of the app.
    fn check_password(
        &mut self,
        request: &Request,
        field: &str,
        from: IpAddr,
        now: Instant,
    ) -> Result<(), Problem> {
        let Some(account) = &self.account else { return Err(Problem::Wrong) };
        if let Err(wait) = self.attempts.begin(from, now) {
            self.log(from, Event::TooMany);
            return Err(Problem::TooMany(wait));
        }
        let is_password = account.password.is_of(&request.field(field));
        let code = request.field("code");
        let step = account.totp.as_ref().map(|totp| totp.step_of(&code, unix_now(), self.last_step));
        // both are checked in any case: the time does not tell which was wrong
        match (is_password, step) {
            (true, None) => {}
            (true, Some(Some(step))) => self.last_step = step,
            _ => {
                self.log(from, Event::Refused);
                return Err(Problem::Wrong);
            }
        }
        self.attempts.handle_success(from);
        Ok(())
    }

    pub(super) fn sign_in_by_link(&mut self, request: &Request, from: IpAddr, now: Instant) -> Response {
        // a token cannot be guessed, but trying costs the process time
        if let Err(wait) = self.attempts.begin(from, now) {
            return pages::link(&self.tunnel, Some(&Problem::TooMany(wait)));
        }
        let typed = Token::parse(request.field("link").trim());
        let is_valid = match (&self.link, typed) {
            (Some((link, end)), Some(typed)) => now < *end && link.is_same(&typed),
            _ => false,
        };
        if !is_valid {
            self.log(from, Event::Refused);
            return pages::link(&self.tunnel, Some(&Problem::Link));
        }
        self.link = None;
        self.attempts.handle_success(from);
        self.log(from, Event::UsedLink);
        self.begin(true, now)
    }

    /// Begins a session, and leads to its first page.
    fn begin(&mut self, is_by_link: bool, now: Instant) -> Response {
        let token = self.sessions.begin(is_by_link, now, &mut self.random);
        let path = if is_by_link { "/account" } else { "/" };
        Response::redirect(path).with_cookie(&self.cookie, Some(&token.to_hex()))
    }

    /// Sets the password: the first one, after a link any, else with the current one.
    pub(super) fn set_password(
        &mut self,
        request: &Request,
        session: Session,
        id: ConnectionId,
        from: IpAddr,
        now: Instant,
    ) -> Reply {
        let refused = |app: &Self, problem: &Problem| {
            Reply::Now(match &app.account {
                Some(account) => pages::account(&app.tunnel, &session, account, None, Some(problem)),
                None => pages::password(&app.tunnel, &session, Some(problem)),
            })
        };
        if !session.is_by_link {
            // the session proves the second factor
            let totp = self.account.as_mut().and_then(|account| account.totp.take());
            let checked = self.check_password(request, "current", from, now);
            if let Some(account) = &mut self.account {
                account.totp = totp;
            }
            if let Err(problem) = checked {
                return refused(self, &problem);
            }
        }
        let password = match PasswordHash::new(&request.field("password"), &mut self.random) {
            Ok(password) => password,
            Err(expected) => return refused(self, &Problem::Failed(expected)),
        };
        // who has lost the password has probably lost the app, too
        let totp = self.account.as_ref().filter(|_| !session.is_by_link).and_then(|known| known.totp.clone());
        let account = Account { password, totp };
        let change = Change::Account(account.to_text());
        self.change(change, ChangeKind::Account { account, ends_sessions: true }, session, id, from)
    }

    /// Turns the authenticator app on or off.
    pub(super) fn set_app(
        &mut self,
        request: &Request,
        session: Session,
        id: ConnectionId,
        from: IpAddr,
        now: Instant,
    ) -> Reply {
        let Some(account) = self.account.clone() else { return Reply::Now(Response::redirect("/password")) };
        if request.path == "/account/app-new" {
            self.offered = Some(TotpSecret::random(&mut self.random));
            return Reply::Now(Response::redirect("/account"));
        }
        if let Err(wait) = self.attempts.begin(from, now) {
            let problem = Problem::TooMany(wait);
            let page =
                pages::account(&self.tunnel, &session, &account, self.offered.as_ref(), Some(&problem));
            return Reply::Now(page);
        }
        let is_on = request.path == "/account/app-on";
        let secret = if is_on { self.offered.clone() } else { account.totp.clone() };
        let code = request.field("code");
        let step = secret.as_ref().and_then(|secret| secret.step_of(&code, unix_now(), self.last_step));
        let Some(step) = step else {
            let offered = self.offered.as_ref();
            let page = pages::account(&self.tunnel, &session, &account, offered, Some(&Problem::Wrong));
            return Reply::Now(page);
        };
        self.last_step = step;
        self.attempts.handle_success(from);
        let account = Account { totp: secret.filter(|_| is_on), ..account };
        let change = Change::Account(account.to_text());
        self.change(change, ChangeKind::Account { account, ends_sessions: false }, session, id, from)
    }
}
