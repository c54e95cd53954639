//! Errors of the settings.

use std::fmt::Display;

use super::PeerComment;

/// Maximum number of characters of an invalid value in a message.
const MAX_SHOWN: usize = 60;
/// Length of a run of base64 that may be part of a key, wherever it was pasted.
const MIN_SECRET_RUN: usize = 20;

/// An invalid value of a setting.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: found {found}, expected {expected}")]
pub struct SettingError {
    /// The setting.
    pub key: PeerComment,
    /// The value in quotes, in one visible line, or a description that reveals no secret.
    pub found: String,
    /// Description of a valid value.
    pub expected: String,
}

impl SettingError {
    pub(super) fn new(key: PeerComment, found: &str, expected: impl Display) -> Self {
        let found = if may_be_secret(found) {
            format!("{} characters, not shown since they may be a secret", found.chars().count())
        } else {
            format!("'{}'", found.escape_debug().take(MAX_SHOWN).collect::<String>())
        };
        Self { key, found, expected: expected.to_string() }
    }
}

fn may_be_secret(text: &str) -> bool {
    let is_base64 = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '+' | '/');
    text.split(|letter| !is_base64(letter)).any(|run| run.len() >= MIN_SECRET_RUN)
}
