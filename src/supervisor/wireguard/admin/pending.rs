//! Changes that the editor makes.

use std::net::IpAddr;

use crate::admin::messages::Principal;

/// A change that the editor makes.
#[derive(Debug)]
pub(super) struct PendingChange {
    pub(super) number: u32,
    pub(super) generation: u32,
    pub(super) from: IpAddr,
    pub(super) by: Principal,
    pub(super) kind: ChangeKind,
}

/// The change.
#[derive(Debug)]
pub(super) enum ChangeKind {
    File,
    Account,
    /// The enrolment of a device by a link.
    Enrolment,
    /// The tokens of the API.
    Tokens,
    /// None: an answer.
    Question,
}
