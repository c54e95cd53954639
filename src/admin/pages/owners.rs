//! The owners of peers.

use std::collections::BTreeMap;

use maud::html;

use super::super::http::Response;
use super::super::messages::Token;
use super::super::sign_in::{Accounts, Session};
use super::super::snapshot::Snapshot;
use super::super::texts;
use super::layout::{Page, token};
use crate::config::OwnerName;

/// Returns the page of the owners: those of peers, and those who have an account.
pub(in crate::admin) fn owners(
    tunnel: &str,
    session: &Session,
    snapshot: &Snapshot,
    accounts: &Accounts,
) -> Response {
    let mut owners: BTreeMap<&str, (usize, bool)> =
        snapshot.owners().into_iter().map(|(name, peers)| (name, (peers, false))).collect();
    for name in accounts.owners() {
        owners.entry(name.as_str()).or_default().1 = true;
    }
    let body = html! {
        h1 { (texts::OWNERS) " " span .count { (owners.len()) } }
        p { (texts::OWNERS_HELP) }
        @if owners.is_empty() {
            p .empty { (texts::NO_OWNERS) }
        }
        div .cards {
            @for (name, (peers, has_account)) in &owners {
                section .card {
                    h2 { (name) }
                    dl {
                        dt { (texts::PEERS) } dd { (peers) }
                        dt { (texts::PASSWORD) } dd { (if *has_account { texts::IS_SET } else { texts::IS_NOT_SET }) }
                    }
                    form method="post" action="/owners/link" {
                        (token(session))
                        input type="hidden" name="owner" value=(name);
                        button { (texts::MAKE_LINK) }
                    }
                    @if *has_account {
                        details {
                            summary { (texts::REMOVE_ACCOUNT) }
                            form method="post" action="/owners/remove" {
                                (token(session))
                                input type="hidden" name="owner" value=(name);
                                p { (texts::REMOVE_ACCOUNT_HELP) }
                                button .danger { (texts::REMOVE_NOW) }
                            }
                        }
                    }
                }
            }
        }
    };
    Page { path: "/owners", ..Page::new(tunnel, Some(session), texts::OWNERS) }.response(&body)
}

/// Returns the page with a new link of an owner, at each address of the page.
pub(in crate::admin) fn owner_link(
    tunnel: &str,
    session: &Session,
    owner: &OwnerName,
    urls: &[String],
    link: &Token,
) -> Response {
    let body = html! {
        h1 { (texts::LINK_OF) " " (owner) }
        p { (texts::LINK_OF_HELP) }
        @for url in urls { pre { (url) "/link#" (*link.to_hex()) } }
        a .button href="/owners" { (texts::DONE) }
    };
    Page::new(tunnel, Some(session), texts::OWNERS).response(&body)
}
