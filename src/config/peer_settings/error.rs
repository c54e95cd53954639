//! Errors of the settings.

use std::fmt::Display;

use super::PeerComment;

/// Maximum number of characters of an invalid value in a message.
const MAX_SHOWN: usize = 60;

/// An invalid value of a setting.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: found '{found}', expected {expected}")]
pub struct SettingError {
    /// The setting.
    pub key: PeerComment,
    /// The value, in one visible line.
    pub found: String,
    /// Description of a valid value.
    pub expected: String,
}

impl SettingError {
    pub(super) fn new(key: PeerComment, found: &str, expected: impl Display) -> Self {
        let found: String = found.escape_debug().take(MAX_SHOWN).collect();
        Self { key, found, expected: expected.to_string() }
    }
}
