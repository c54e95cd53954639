//! Messages between the supervisor and the `dns` process. The limits are checked on both sides: a
//! message beyond them is invalid.

use serde::{Deserialize, Serialize};

use super::settings::{DnsSettings, MAX_ENTRIES};
use crate::config::ApplyDns;
use crate::resolver::messages::ErrorMessage;

/// A message to the process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToDns {
    /// The first message.
    Start {
        /// Name that the tunnel was started with.
        tunnel: String,
        /// The back end.
        method: ApplyDns,
        /// True to use seccomp and Landlock.
        is_sandboxed: bool,
    },
    /// Settings to apply. Answered by [`FromDns::Applied`] or [`FromDns::NotApplied`].
    Apply(DnsSettings),
    /// Request to remove what was applied. Answered by [`FromDns::Reverted`] or
    /// [`FromDns::NotReverted`].
    Revert,
}

/// A message from the process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromDns {
    /// The process is confined, and waits for settings. The name of its back end.
    Ready(ErrorMessage),
    /// No back end can be used, or the process cannot confine itself. It ends.
    NotReady(ErrorMessage),
    /// The settings are in effect.
    Applied(Warnings),
    /// The settings are not in effect.
    NotApplied(ErrorMessage),
    /// The applied settings are removed.
    Reverted(Warnings),
    /// The applied settings could not be removed.
    NotReverted(ErrorMessage),
    /// Another program had changed the host's state, and it was restored.
    Restored(ErrorMessage),
    /// The settings are not in effect any more.
    Lost(ErrorMessage),
}

/// At most `MAX_ENTRIES` warnings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<ErrorMessage>")]
pub struct Warnings(Vec<ErrorMessage>);

impl TryFrom<Vec<ErrorMessage>> for Warnings {
    type Error = &'static str;

    fn try_from(warnings: Vec<ErrorMessage>) -> Result<Self, &'static str> {
        if warnings.len() <= MAX_ENTRIES { Ok(Self(warnings)) } else { Err("too many warnings") }
    }
}

impl Warnings {
    /// Returns the first warnings of a list.
    pub fn first_of(warnings: Vec<String>) -> Self {
        Self(warnings.into_iter().take(MAX_ENTRIES).map(ErrorMessage::cut).collect())
    }

    /// Returns the warnings.
    pub fn into_vec(self) -> Vec<String> {
        self.0.into_iter().map(ErrorMessage::into_string).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::{decode, encode};

    #[test]
    fn too_many_warnings_are_no_message() {
        let many = |count| Warnings(vec![ErrorMessage::cut("x".to_owned()); count]);
        let message = FromDns::Applied(many(MAX_ENTRIES));
        assert_eq!(decode(&encode(&message).unwrap()), Ok(message));
        assert!(decode::<FromDns>(&encode(&FromDns::Reverted(many(MAX_ENTRIES + 1))).unwrap()).is_err());
        assert_eq!(Warnings::first_of(vec!["y".to_owned(); 100]).into_vec().len(), MAX_ENTRIES);
    }
}
