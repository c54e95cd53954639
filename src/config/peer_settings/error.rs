//! Errors of the settings.

use std::borrow::Cow;

use super::PeerComment;
use crate::config::invalid_value::describe;

/// An invalid value of a setting.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: found {found}, expected {expected}")]
pub struct SettingError {
    /// The setting.
    pub key: PeerComment,
    /// The value in quotes, in one visible line, or a description that reveals no secret.
    pub found: String,
    /// Description of a valid value, which does not repeat the invalid one.
    pub expected: Cow<'static, str>,
}

impl SettingError {
    pub(super) fn new(key: PeerComment, found: &str, expected: impl Into<Cow<'static, str>>) -> Self {
        Self { key, found: describe(found), expected: expected.into() }
    }
}
