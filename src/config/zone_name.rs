//! The domain of the peers' names.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Maximum length of a label in bytes (RFC 1035, section 2.3.4).
const MAX_LABEL: usize = 63;
/// Maximum length of a domain, so that a peer's name fits before it.
const MAX_DOMAIN: usize = 180;

/// A domain for the peers' names, in lower case: labels of letters, digits and dashes, separated by
/// dots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ZoneName(String);

/// Error of parsing a [`ZoneName`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ZoneNameError {
    /// It is not a domain.
    #[error(
        "'{0}' is not a domain: expected letters, digits, dashes and dots, such as vpn or vpn.example.com"
    )]
    Invalid(String),
    /// It belongs to another protocol.
    #[error("'local' is looked up by multicast DNS, not here: choose another domain, such as vpn")]
    Local,
}

impl ZoneName {
    /// Returns the domain without a dot at its end.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ZoneName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<ZoneName> for String {
    fn from(name: ZoneName) -> Self {
        name.0
    }
}

impl TryFrom<String> for ZoneName {
    type Error = ZoneNameError;

    fn try_from(text: String) -> Result<Self, ZoneNameError> {
        text.parse()
    }
}

impl FromStr for ZoneName {
    type Err = ZoneNameError;

    fn from_str(text: &str) -> Result<Self, ZoneNameError> {
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        if name == "local" || name.ends_with(".local") {
            return Err(ZoneNameError::Local);
        }
        let is_number =
            name.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
        if name.len() <= MAX_DOMAIN && !is_number && name.split('.').all(is_label) {
            Ok(Self(name))
        } else {
            Err(ZoneNameError::Invalid(text.escape_debug().to_string()))
        }
    }
}

fn is_label(label: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=MAX_LABEL).contains(&label.len())
        && label.bytes().all(is_plain)
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// A [`ZoneName`], or that there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ZoneOption {
    /// Names are answered in this domain.
    Zone(ZoneName),
    /// No names are answered.
    Off,
}

impl ZoneOption {
    /// Returns the domain, if there is one.
    pub fn into_zone(self) -> Option<ZoneName> {
        match self {
            Self::Zone(zone) => Some(zone),
            Self::Off => None,
        }
    }
}

impl fmt::Display for ZoneOption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Zone(zone) => zone.fmt(f),
            Self::Off => f.write_str("none"),
        }
    }
}

impl FromStr for ZoneOption {
    type Err = ZoneNameError;

    fn from_str(text: &str) -> Result<Self, ZoneNameError> {
        if text == "none" { Ok(Self::Off) } else { text.parse().map(Self::Zone) }
    }
}
