//! Errors that a page shows.

use std::time::Duration;

use super::super::http::Status;
use super::super::texts;

/// An error that a page shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::admin) enum Problem {
    /// The password or code is wrong.
    Wrong,
    /// Too many attempts, and the time to wait.
    TooMany(Duration),
    /// The link is not valid.
    Link,
    /// The form is of another session.
    Stale,
    /// The session has ended.
    Ended,
    /// There is no such page.
    NotFound,
    /// There is no such peer.
    NoPeer,
    /// The change was not made, for this reason.
    Failed(String),
    /// The change was not made, for the reasons at its fields.
    Fields,
}

impl Problem {
    /// Returns its text.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Wrong => texts::WRONG.to_owned(),
            Self::TooMany(wait) => {
                texts::wait(wait.as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX))
            }
            Self::Link => texts::WRONG_LINK.to_owned(),
            Self::Stale => texts::STALE.to_owned(),
            Self::Ended => texts::ENDED.to_owned(),
            Self::NotFound => texts::NOT_FOUND.to_owned(),
            Self::NoPeer => texts::NO_PEER.to_owned(),
            Self::Fields => texts::FIELDS.to_owned(),
            Self::Failed(reason) => format!("{}: {reason}", texts::FAILED),
        }
    }

    /// Returns the status of the response.
    pub(in crate::admin) const fn status(&self) -> Status {
        match self {
            Self::Wrong | Self::Link | Self::Stale | Self::Ended => Status::Forbidden,
            Self::TooMany(_) => Status::TooManyRequests,
            Self::NotFound | Self::NoPeer => Status::NotFound,
            Self::Failed(_) | Self::Fields => Status::Conflict,
        }
    }
}
