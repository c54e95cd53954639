//! A note about a peer.

use std::fmt;
use std::str::FromStr;

/// Maximum length of a note in characters.
const MAX_LENGTH: usize = 200;

/// A text for people: one line of visible characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note(Box<str>);

impl Note {
    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Note {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let plain = text.replace(['"', '\'', '\\'], "");
        let is_visible = plain.escape_debug().eq(plain.chars());
        if (1..=MAX_LENGTH).contains(&text.chars().count()) && is_visible {
            Ok(Self(text.into()))
        } else {
            Err(format!("one line of 1 to {MAX_LENGTH} visible characters"))
        }
    }
}
