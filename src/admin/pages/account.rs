//! Pages about signing in, and the account.

use maud::{Markup, PreEscaped, html};

use super::super::http::Response;
use super::super::messages::Principal;
use super::super::sign_in::{Account, Accounts, MIN_PASSWORD, Session, TotpSecret};
use super::super::texts;
use super::layout::{Page, token};
use super::problem::Problem;
use crate::server::QrCode;

/// Returns the page for signing in with a password, if somebody has one. It does not tell who has.
pub(in crate::admin) fn sign_in(tunnel: &str, accounts: &Accounts, problem: Option<&Problem>) -> Response {
    let has_owners = accounts.owners().next().is_some();
    let body = html! {
        h1 { (texts::SIGN_IN) }
        @if !accounts.is_empty() {
            form .card method="post" action="/sign-in" {
                @if has_owners {
                    label { (texts::NAME)
                        input name="name" autocomplete="username" autocapitalize="none" spellcheck="false";
                    }
                    p .hint { (texts::SIGN_IN_NAME) }
                }
                label { (texts::PASSWORD)
                    input type="password" name="password" autocomplete="current-password" required autofocus;
                }
                @if accounts.has_totp() {
                    label { (texts::CODE)
                        input name="code" inputmode="numeric" autocomplete="one-time-code" maxlength="8"
                            required[!has_owners];
                    }
                    @if has_owners { p .hint { (texts::CODE_IF) } }
                }
                button { (texts::SIGN_IN) }
            }
            p .hint { (texts::FORGOTTEN) " " code { (texts::LINK_COMMAND) } }
        } @else {
            p { (texts::NO_PASSWORD) }
            pre { (texts::LINK_COMMAND) }
        }
    };
    Page { problem, ..Page::new(tunnel, None, texts::SIGN_IN) }.response(&body)
}

/// Returns the page that a link leads to. The script fills the token in, and sends the form.
pub(in crate::admin) fn link(tunnel: &str, problem: Option<&Problem>) -> Response {
    let body = html! {
        h1 { (texts::LINK) }
        @if problem.is_some() {
            pre { (texts::LINK_COMMAND) }
        }
        form .card #link method="post" action="/link" {
            label { (texts::LINK_TOKEN)
                input name="link" autocomplete="off" required;
            }
            p .hint { (texts::LINK_HELP) }
            button { (texts::CONTINUE) }
        }
    };
    Page { problem, ..Page::new(tunnel, None, texts::LINK) }.response(&body)
}

/// Returns the page for the first password.
pub(in crate::admin) fn password(tunnel: &str, session: &Session, problem: Option<&Problem>) -> Response {
    let body = html! {
        h1 { (texts::SET_PASSWORD) }
        (password_form(session))
    };
    // without links to pages that this session may not see yet
    Page { problem, ..Page::new(tunnel, None, texts::SET_PASSWORD) }.response(&body)
}

fn password_form(session: &Session) -> Markup {
    html! {
        form .card method="post" action="/account/password" {
            (token(session))
            @if !session.is_by_link {
                label { (texts::CURRENT_PASSWORD)
                    input type="password" name="current" autocomplete="current-password" required;
                }
            }
            label { (texts::NEW_PASSWORD)
                input type="password" name="password" autocomplete="new-password" required minlength=(MIN_PASSWORD);
            }
            p .hint { (texts::SET_PASSWORD_HELP) }
            button { (texts::SAVE) }
        }
    }
}

/// Returns the page of the account; `offered` is the secret for an app.
pub(in crate::admin) fn account(
    tunnel: &str,
    session: &Session,
    account: &Account,
    offered: Option<&TotpSecret>,
    problem: Option<&Problem>,
) -> Response {
    let body = html! {
        h1 { (texts::ACCOUNT) }
        h2 { (texts::SET_PASSWORD) }
        (password_form(session))
        h2 { (texts::TWO_FACTOR) }
        @if account.totp.is_some() {
            form .card method="post" action="/account/app-off" {
                (token(session))
                p { (texts::TWO_FACTOR_ON) }
                label { (texts::CODE)
                    input name="code" inputmode="numeric" autocomplete="one-time-code" maxlength="8" required;
                }
                button { (texts::TURN_OFF) }
            }
        } @else if let Some(secret) = offered {
            form .card method="post" action="/account/app-on" {
                (token(session))
                p { (texts::TWO_FACTOR_SCAN) }
                (code_of(tunnel, secret))
                p { code { (*secret.to_base32()) } }
                label { (texts::CODE)
                    input name="code" inputmode="numeric" autocomplete="one-time-code" maxlength="8" required;
                }
                button { (texts::TURN_ON) }
            }
        } @else {
            form .card method="post" action="/account/app-new" {
                (token(session))
                p { (texts::TWO_FACTOR_OFF) }
                button { (texts::TURN_ON) }
            }
        }
        @if *session.principal() == Principal::Admin {
            h2 { (texts::TOKENS) }
            p { a href="/tokens" { (texts::SHOW_TOKENS) } }
        }
    };
    Page { path: "/account", problem, ..Page::new(tunnel, Some(session), texts::ACCOUNT) }.response(&body)
}

/// Returns the QR code of a secret, in the form that authenticator apps read.
fn code_of(tunnel: &str, secret: &TotpSecret) -> Markup {
    let label: String = tunnel.chars().filter(char::is_ascii_alphanumeric).collect();
    let url = format!("otpauth://totp/wontun:{label}?secret={}&issuer=wontun", *secret.to_base32());
    match QrCode::new(url.as_bytes()) {
        Ok(code) => {
            let svg = code.svg();
            // made of numbers only
            let svg = PreEscaped(String::from_utf8_lossy(&svg).into_owned());
            html! { div .qr role="img" aria-label=(texts::QR_LABEL) { (svg) } }
        }
        Err(_) => html! {},
    }
}
