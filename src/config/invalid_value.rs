//! An invalid value in a message.

/// Minimum length of a run of base64 characters that may be part of a key, wherever it was pasted.
const MIN_SECRET_RUN: usize = 20;
/// Maximum number of characters of a value in a message.
const MAX_SHOWN: usize = 60;

/// Returns `value` in quotes and in one visible line, or a description of it if it is empty or may
/// contain a secret.
pub(crate) fn describe(value: &str) -> String {
    let length = value.chars().count();
    if value.is_empty() {
        "nothing".to_owned()
    } else if may_be_secret(value) {
        format!("{length} characters, not shown since they may be a secret")
    } else if length > MAX_SHOWN {
        let start: String = value.chars().take(MAX_SHOWN).collect();
        format!("'{}…'", start.escape_debug())
    } else {
        format!("'{}'", value.escape_debug())
    }
}

/// Returns true if `value` may contain a key or a part of one: then no message repeats it.
pub(crate) fn may_be_secret(value: &str) -> bool {
    let is_base64 = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/');
    value.split(|c| !is_base64(c)).any(|run| run.len() >= MIN_SECRET_RUN)
}
