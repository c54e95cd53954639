//! Changes that the editor makes.

use std::net::IpAddr;

use crate::admin::messages::AccountText;
use crate::config::TokenName;

/// A change that the editor makes.
#[derive(Debug)]
pub(super) struct PendingChange {
    pub(super) number: u32,
    pub(super) generation: u32,
    pub(super) from: IpAddr,
    /// The token of the API by which it is made.
    pub(super) token: Option<TokenName>,
    pub(super) kind: ChangeKind,
}

/// The change.
#[derive(Debug)]
pub(super) enum ChangeKind {
    File,
    Account(AccountText),
    /// The enrolment of a device by a link.
    Enrolment,
    /// The tokens of the API.
    Tokens,
    /// None: an answer.
    Question,
}
