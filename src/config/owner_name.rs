//! The name of a person to whom peers belong.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Maximum length of a name in bytes, enough for an e-mail address of usual length.
const MAX_LENGTH: usize = 64;
/// Name that nobody can have, since it reads like the administrator's.
const RESERVED: &str = "admin";

/// The name of an owner of peers, with which the person signs in to the admin page: in lower case,
/// so that no two names differ in case only.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct OwnerName(String);

impl OwnerName {
    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<OwnerName> for String {
    fn from(name: OwnerName) -> Self {
        name.0
    }
}

impl TryFrom<String> for OwnerName {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        text.parse()
    }
}

impl fmt::Display for OwnerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for OwnerName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let name = text.to_ascii_lowercase();
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-@+".contains(&byte);
        let is_name = (1..=MAX_LENGTH).contains(&name.len())
            && name.bytes().all(is_plain)
            && name.starts_with(|letter: char| letter.is_ascii_alphanumeric())
            && name != RESERVED;
        if is_name {
            Ok(Self(name))
        } else {
            Err(
                "a name of 1 to 64 letters, digits and . _ - @ +, such as anna, which begins with a letter or digit and \
                 is not 'admin'",
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain_and_in_lower_case() {
        for (text, name) in
            [("anna", "anna"), ("Anna", "anna"), ("a.b+vpn@example.com", "a.b+vpn@example.com")]
        {
            assert_eq!(text.parse::<OwnerName>().unwrap().as_str(), name);
        }
        let long = "a".repeat(MAX_LENGTH + 1);
        for wrong in ["", " anna", "anna ", "an na", "-a", ".a", "jörg", "a\n", "a]", "a=b", "Admin", &long]
        {
            assert!(wrong.parse::<OwnerName>().is_err(), "{wrong:?}");
        }
    }
}
