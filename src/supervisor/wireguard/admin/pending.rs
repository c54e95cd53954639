//! Changes that the editor makes.

use std::net::IpAddr;

use crate::admin::messages::AccountText;

/// A change that the editor makes.
#[derive(Debug)]
pub(super) struct PendingChange {
    pub(super) number: u32,
    pub(super) generation: u32,
    pub(super) from: IpAddr,
    pub(super) kind: ChangeKind,
}

/// The change.
#[derive(Debug)]
pub(super) enum ChangeKind {
    File,
    Account(AccountText),
    /// The enrolment of a device by a link.
    Enrolment,
    /// None: an answer.
    Question,
}
