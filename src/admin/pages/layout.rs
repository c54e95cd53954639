//! The common parts of all pages.

use maud::{DOCTYPE, Markup, html};

use super::super::http::{Response, Status};
use super::super::sign_in::Session;
use super::problem::Problem;
use super::texts;

/// A page.
pub(super) struct Page<'a> {
    pub(super) tunnel: &'a str,
    pub(super) session: Option<&'a Session>,
    pub(super) title: &'a str,
    pub(super) problem: Option<&'a Problem>,
    /// True if the script updates the values.
    pub(super) is_live: bool,
}

impl Page<'_> {
    /// Returns the response with `body`.
    pub(super) fn response(&self, body: &Markup) -> Response {
        let Self { tunnel, session, title, problem, is_live } = self;
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
                }
                body data-live[*is_live] {
                    a .skip href="#content" { (texts::SKIP) }
                    header {
                        a .brand href="/" { (texts::TITLE) " " span { (tunnel) } }
                        @if let Some(session) = session {
                            nav {
                                a href="/" { (texts::PEERS) }
                                a href="/account" { (texts::ACCOUNT) }
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
    Page { tunnel, session, title: texts::TITLE, problem: Some(problem), is_live: false }.response(&body)
}
