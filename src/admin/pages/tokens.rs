//! Pages about the tokens of the API.

use std::collections::BTreeMap;
use std::net::IpAddr;

use maud::{Markup, html};

use super::super::http::Response;
use super::super::sign_in::{Session, Token};
use super::super::texts;
use super::super::tokens::{ApiToken, ApiTokens, secret_text};
use super::form::Form;
use super::layout::{Page, token};
use super::problem::Problem;
use crate::config::{ApiScope, TokenName};

/// Time since 1970 in seconds, and address, of each token's last use.
type Uses = BTreeMap<TokenName, (u64, IpAddr)>;

/// Returns the page of the tokens.
pub(in crate::admin) fn tokens(
    tunnel: &str,
    session: &Session,
    (tokens, used): (&ApiTokens, &Uses),
    form: &Form,
    problem: Option<&Problem>,
) -> Response {
    let body = html! {
        p { a href="/account" { "← " (texts::ACCOUNT) } }
        h1 { (texts::TOKENS) }
        p .hint { (texts::TOKENS_HELP) }
        @if tokens.iter().next().is_some() { (table(session, tokens, used)) }
        form .card method="post" action="/tokens" {
            (token(session))
            h2 { (texts::ADD_TOKEN) }
            label for="name" { (texts::NAME) }
            input id="name" name="name" value=(form.get("name").unwrap_or_default()) maxlength="32" autocomplete="off"
                required aria-describedby="name-help";
            p .hint #name-help { (texts::TOKEN_NAME_HELP) }
            fieldset {
                legend { (texts::SCOPES) }
                label .choice { input type="checkbox" checked disabled; (texts::scope(ApiScope::Read)) }
                @for scope in [ApiScope::Peers, ApiScope::Settings] {
                    label .choice {
                        input type="checkbox" name=(scope.name()) value="yes"
                            checked[form.get(scope.name()).is_some()];
                        (texts::scope(scope))
                    }
                }
            }
            label for="expires" { (texts::ENDS) }
            input id="expires" name="expires" value=(form.get("expires").unwrap_or_default()) autocomplete="off"
                aria-describedby="expires-help";
            p .hint #expires-help { (texts::ENDS_HELP) }
            button { (texts::ADD_TOKEN) }
        }
    };
    Page { problem, ..Page::new(tunnel, Some(session), texts::TOKENS) }.response(&body)
}

fn table(session: &Session, tokens: &ApiTokens, used: &Uses) -> Markup {
    html! {
        table .peers {
            thead { tr {
                th scope="col" { (texts::NAME) }
                th scope="col" { (texts::SCOPES) }
                th scope="col" { (texts::ENDS) }
                th scope="col" { (texts::LAST_USE) }
                th scope="col" { (texts::REMOVE) }
            } }
            tbody { @for ApiToken { name, scopes, expires, .. } in tokens.iter() { tr {
                th scope="row" { (name) }
                td data-label=(texts::SCOPES) { (scopes.to_string().replace(',', ", ")) }
                td data-label=(texts::ENDS) { @match expires { Some(end) => (end), None => (texts::NEVER) } }
                td data-label=(texts::LAST_USE) {
                    @match used.get(name) {
                        Some((at, from)) => { (texts::time(*at)) ", " (from) }
                        None => (texts::NEVER),
                    }
                }
                td {
                    form method="post" action="/tokens/remove" {
                        (token(session))
                        input type="hidden" name="name" value=(name);
                        button .plain aria-label={ (texts::REMOVE) " " (name) } { (texts::REMOVE) }
                    }
                }
            } } }
        }
    }
}

/// Returns the page with the secret of a new token.
pub(in crate::admin) fn token_added(tunnel: &str, session: &Session, name: &str, secret: &Token) -> Response {
    let body = html! {
        h1 { (name) }
        p { (texts::TOKEN_ONCE) }
        label for="file" { (texts::SECRET) }
        textarea #file readonly rows="2" spellcheck="false" data-name={ (name) ".token" } { (*secret_text(secret)) }
        p .bar {
            button #save hidden { (texts::SAVE_FILE) }
            button #copy .plain hidden { (texts::COPY) }
            a .button href="/tokens" { (texts::DONE) }
        }
    };
    Page::new(tunnel, Some(session), name).response(&body)
}
