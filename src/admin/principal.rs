//! The people and programs who use the page.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::config::{OwnerName, TokenName};

/// The one for whom a request is made: the holder of the account that a session belongs to, or the
/// holder of a secret that is no session.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Principal {
    /// The administrator, who may do everything.
    Admin,
    /// The owner of some peers, who sees these and renews their keys.
    Owner(OwnerName),
    /// A token of the API, which has no session.
    Token(TokenName),
    /// The device of an invitation, by its link, which has no session.
    Invitation,
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Admin => f.write_str("admin"),
            Self::Owner(name) => name.fmt(f),
            Self::Token(name) => name.fmt(f),
            Self::Invitation => f.write_str("invitation"),
        }
    }
}
