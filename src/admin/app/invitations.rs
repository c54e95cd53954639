//! Enrolment of devices by the links of invitations. Who has a link needs no account: its token is
//! checked by the editor, with the file.

use std::net::IpAddr;
use std::time::Duration;

use super::super::http::{ConnectionId, Reply, Request, Response, Status};
use super::super::messages::{
    Change, ClientText, Event, Field, FromAdmin, LinkEnrolment, Principal, Refusal,
};
use super::super::pages;
use super::super::sign_in::Attempt;
use super::pending::Enrolment;
use super::state::App;
use crate::enroll::code::OneTimeSecret;
use wontun_proto::time::Instant;

/// Maximum number of enrolments that are under way.
const MAX_ENROLMENTS: usize = 4;
/// Time after which one that was not answered is forgotten.
const TIMEOUT: Duration = Duration::from_secs(60);

impl App {
    /// Replaces the one-time keys of an invitation by those that a browser has made, by HTTPS only.
    pub(super) fn enrol(
        &mut self,
        request: &Request,
        connection: ConnectionId,
        from: IpAddr,
        now: Instant,
    ) -> Reply {
        if !request.is_secure {
            return Reply::Now(refused(Status::Forbidden));
        }
        if self.enrolments.attempts.begin(from, &Attempt::Link, now).is_err() {
            self.log(from, Event::TooManyLinks);
            return Reply::Now(refused(Status::TooManyRequests));
        }
        let Some(enrolment) = enrolment_of(request) else { return Reply::Now(refused(Status::Forbidden)) };
        let pending = &mut self.enrolments.pending;
        pending.retain(|_, each| now.since(each.began) < TIMEOUT);
        if pending.len() >= MAX_ENROLMENTS {
            return Reply::Now(refused(Status::Unavailable));
        }
        let number = self.next_change;
        self.next_change = number.wrapping_add(1);
        pending.insert(number, Enrolment { connection, from, began: now });
        let change = Change::Enrol(Box::new(enrolment));
        self.send(FromAdmin::Change { number, from, by: Principal::Invitation, change });
        Reply::Later
    }

    /// Takes the result of an enrolment. Returns false if the change is none.
    pub(super) fn handle_enrolled(
        &mut self,
        number: u32,
        result: &Result<Option<ClientText>, Refusal>,
    ) -> bool {
        let Some(Enrolment { connection, from, .. }) = self.enrolments.pending.remove(&number) else {
            return false;
        };
        let response = match result {
            Ok(Some(client)) => {
                self.enrolments.attempts.handle_success(from, &Attempt::Link);
                pages::enrolled(client)
            }
            // used, taken back, disabled, expired, or never made: the same answer
            Err(refusal) if refusal.has_error_of(Field::Token) => refused(Status::Forbidden),
            // the reason is in the log of the server, and none of the device's business
            Ok(None) | Err(_) => refused(Status::Unavailable),
        };
        self.snapshot = None;
        self.responses.push_back((connection, response));
        true
    }
}

/// Returns the enrolment that a request asks for.
fn enrolment_of(request: &Request) -> Option<LinkEnrolment> {
    Some(LinkEnrolment {
        token: OneTimeSecret::from_token(&request.field("link"))?,
        key: request.field("key").parse().ok()?,
        preshared_key: request.field("preshared").parse().ok()?,
    })
}

/// Returns a response whose status says all: the page has the texts.
fn refused(status: Status) -> Response {
    Response::text(status, status.line())
}
