//! The owners of peers: links for them, and the end of their accounts.

use super::super::http::{Reply, Request};
use super::super::messages::{Change, Event, Principal};
use super::super::pages::{self, Problem};
use super::super::sign_in::{Accounts, Session, Token};
use super::pending::{Caller, ChangeKind};
use super::state::App;
use crate::config::OwnerName;
use wontun_proto::time::Instant;

impl App {
    /// Makes a link, which replaces an earlier one of the same person.
    pub(in crate::admin) fn make_link(&mut self, principal: Principal, now: Instant) -> Token {
        self.links.make(principal, now, &mut self.random)
    }

    /// Shows a new link of an owner.
    pub(super) fn show_link(&mut self, request: &Request, caller: &Caller) -> Reply {
        let &Caller { ref session, from, now, .. } = caller;
        let Some(owner) = owner_of(request) else { return self.no_owner(session) };
        let principal = Principal::Owner(owner.clone());
        self.log(from, Event::MadeLink(principal.clone()));
        let token = self.make_link(principal, now);
        Reply::Now(pages::owner_link(&self.tunnel, session, &owner, &self.urls, &token))
    }

    /// Removes the account of an owner.
    pub(super) fn remove_account(&mut self, request: &Request, caller: Caller) -> Reply {
        let Some(owner) = owner_of(request) else { return self.no_owner(&caller.session) };
        // at once: a change that the owner makes now could come after this one
        self.end_access(&Principal::Owner(owner.clone()));
        self.submit(Ok(Change::RemoveAccount(owner)), ChangeKind::RemoveAccount, caller)
    }

    /// Takes the accounts of the file, of which some were changed by a command.
    pub(in crate::admin) fn handle_accounts(&mut self, accounts: Accounts) {
        for principal in self.accounts.changed(&accounts) {
            self.end_access(&principal);
        }
        self.accounts = accounts;
    }

    /// Ends the sessions of a person, and makes a link void.
    fn end_access(&mut self, principal: &Principal) {
        self.sessions.end_all_of(principal);
        self.links.remove(principal);
        self.offered.remove(principal);
        if let Principal::Owner(owner) = principal {
            self.accounts.remove(owner);
        }
    }

    fn no_owner(&self, session: &Session) -> Reply {
        Reply::Now(pages::problem(&self.tunnel, Some(session), &Problem::NotFound))
    }
}

fn owner_of(request: &Request) -> Option<OwnerName> {
    request.field("owner").parse().ok()
}
