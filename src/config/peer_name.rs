//! The name of a peer.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use wontun_proto::wireguard::PublicKey;

/// Maximum length of a name in characters.
const MAX_LENGTH: usize = 64;

/// The name of a peer: one line of visible characters, in a file and on a terminal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct PeerName(String);

/// Error of parsing a [`PeerName`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerNameError {
    /// The name is empty or too long.
    #[error("a peer's name has 1 to {MAX_LENGTH} characters, this one {0}: choose another")]
    Length(usize),
    /// The name contains a newline, a control character, an invisible character or one that changes
    /// the text direction.
    #[error(
        "'{0}' contains an invisible character: choose a name of letters, digits, signs and single spaces"
    )]
    Invisible(String),
    /// The name begins or ends with a space, or begins with a dash, which would make it an option.
    #[error("'{0}' begins or ends with a space, or begins with '-': choose a name without")]
    Edge(String),
    /// The name is a public key, which already identifies a peer.
    #[error("the name is a public key: choose a name that identifies the device")]
    Key,
}

impl PeerName {
    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<PeerName> for String {
    fn from(name: PeerName) -> Self {
        name.0
    }
}

impl TryFrom<String> for PeerName {
    type Error = PeerNameError;

    fn try_from(text: String) -> Result<Self, PeerNameError> {
        text.parse()
    }
}

impl fmt::Display for PeerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for PeerName {
    type Err = PeerNameError;

    fn from_str(text: &str) -> Result<Self, PeerNameError> {
        let length = text.chars().count();
        if !(1..=MAX_LENGTH).contains(&length) {
            return Err(PeerNameError::Length(length));
        }
        // `escape_debug` escapes quotes and backslashes too, which are visible
        let plain = text.replace(['"', '\'', '\\'], "");
        if plain.escape_debug().ne(plain.chars()) {
            return Err(PeerNameError::Invisible(text.escape_debug().to_string()));
        }
        if text.starts_with([' ', '-']) || text.ends_with(' ') {
            return Err(PeerNameError::Edge(text.to_owned()));
        }
        if text.parse::<PublicKey>().is_ok() {
            return Err(PeerNameError::Key);
        }
        Ok(Self(text.to_owned()))
    }
}

/// Returns the name of a peer for logs: its name, or else the beginning of its public key.
pub(crate) fn display_name(name: Option<&PeerName>, key: &PublicKey) -> String {
    if let Some(name) = name {
        return name.to_string();
    }
    let mut text = key.to_string();
    text.truncate(10);
    text.push('…');
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_that_people_give() {
        for name in ["phone", "Anna's laptop", "büro-2", "電話", "tablet #2 = old", "a\"b\\c", "🦀"] {
            assert_eq!(name.parse::<PeerName>().unwrap().as_str(), name);
        }
        assert!("é".repeat(MAX_LENGTH).parse::<PeerName>().is_ok());
    }

    #[test]
    fn what_is_wrong_is_told_in_one_visible_line() {
        for (name, part) in [
            ("", "this one 0"),
            (&"x".repeat(65), "this one 65"),
            ("a\nPublicKey = b", "invisible character"),
            ("a\rb", "invisible character"),
            ("a\tb", "invisible character"),
            ("a\0b", "invisible character"),
            ("\u{1b}[31mred", "invisible character"),
            ("a\u{7f}", "invisible character"),
            ("a\u{85}b", "invisible character"),
            ("a\u{2028}b", "invisible character"),
            ("abc\u{202e}gpj", "invisible character"),
            ("a\u{200b}b", "invisible character"),
            ("a\u{a0}b", "invisible character"),
            ("\u{301}a", "invisible character"),
            (" a", "space"),
            ("a ", "space"),
            ("-a", "'-'"),
            ("hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=", "is a public key"),
        ] {
            let error = name.parse::<PeerName>().unwrap_err().to_string();
            assert!(error.contains(part), "{name:?}: {error}");
            assert!(!error.chars().any(char::is_control) && !error.contains('\u{202e}'), "{error:?}");
        }
    }

    proptest! {
        #[test]
        fn a_name_is_its_own_trimmed_line(text in "\\PC{0,70}|.{0,70}") {
            if let Ok(name) = text.parse::<PeerName>() {
                let shown = name.to_string();
                prop_assert_eq!(shown.trim(), &text);
                prop_assert!(!text.chars().any(char::is_control));
                prop_assert_eq!(shown.lines().count(), 1);
            }
        }
    }
}
