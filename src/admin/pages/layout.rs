//! The common parts of all pages.

use maud::{DOCTYPE, Markup, html};

use super::super::http::{Response, Status};
use super::super::messages::Principal;
use super::super::sign_in::Session;
use super::super::texts;
use super::problem::Problem;

/// A page.
pub(super) struct Page<'a> {
    pub(super) tunnel: &'a str,
    pub(super) session: Option<&'a Session>,
    pub(super) title: &'a str,
    /// Its address, if the navigation has it.
    pub(super) path: &'a str,
    pub(super) problem: Option<&'a Problem>,
    /// A script beside that of all pages.
    pub(super) script: Option<&'a str>,
    /// Query for the events by which the script updates it; `None` for none.
    pub(super) live: Option<String>,
}

impl<'a> Page<'a> {
    /// Creates a page that is not updated.
    pub(super) const fn new(tunnel: &'a str, session: Option<&'a Session>, title: &'a str) -> Self {
        Self { tunnel, session, title, path: "", problem: None, script: None, live: None }
    }

    /// Returns the response with `body`.
    pub(super) fn response(&self, body: &Markup) -> Response {
        let Self { tunnel, session, title, path, problem, script, live } = self;
        let current = |address: &str| (*path == address).then_some("page");
        let html = html! {
            (DOCTYPE)
            html lang=(texts::LANGUAGE) {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    title { (title) " – " (tunnel) }
                    link rel="icon" href="/icon.svg" type="image/svg+xml";
                    link rel="stylesheet" href="/style.css";
                    script src="/script.js" defer {}
                    @if let Some(script) = script { script src=(script) defer {} }
                }
                body data-live=[live.as_ref()] {
                    a .skip href="#content" { (texts::SKIP) }
                    header {
                        a .brand href="/" { (texts::TITLE) " " span { (tunnel) } }
                        @if let Some(session) = session {
                            nav {
                                a href="/" aria-current=[current("/")] { (texts::PEERS) }
                                @if *session.principal() == Principal::Admin {
                                    a href="/owners" aria-current=[current("/owners")] { (texts::OWNERS) }
                                    a href="/server" aria-current=[current("/server")] { (texts::SERVER) }
                                }
                                a href="/account" aria-current=[current("/account")] { (texts::ACCOUNT) }
                                form method="post" action="/sign-out" {
                                    (token(session))
                                    button .plain { (texts::SIGN_OUT) }
                                }
                            }
                        }
                    }
                    main #content {
                        @if let Some(problem) = problem {
                            p .problem role="alert" { (problem.text()) }
                        }
                        (body)
                    }
                    @if live.is_some() { p #news .quiet role="status" {} }
                }
            }
        };
        let status = problem.map_or(Status::Ok, Problem::status);
        Response::new(status, "text/html; charset=utf-8", html.into_string().into_bytes())
    }
}

/// Returns the hidden field that a form of this session has.
pub(super) fn token(session: &Session) -> Markup {
    html! { input type="hidden" name="token" value=(*session.csrf().to_hex()); }
}

/// Returns a page with a problem only.
pub(in crate::admin) fn problem(tunnel: &str, session: Option<&Session>, problem: &Problem) -> Response {
    let body = html! { p { a href="/" { (texts::BACK) } } };
    Page { problem: Some(problem), ..Page::new(tunnel, session, texts::TITLE) }.response(&body)
}
