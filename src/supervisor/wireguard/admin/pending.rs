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

/// What is changed.
#[derive(Debug)]
pub(super) enum ChangeKind {
    /// What the log says.
    File(String),
    Account(AccountText),
}
