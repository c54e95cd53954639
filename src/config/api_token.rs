//! Tokens of the admin page's API: their names, and what they are for.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Maximum length of a name in characters.
const MAX_NAME: usize = 32;

/// The name of a token.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TokenName(String);

/// Error of parsing a [`TokenName`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a token's name has 1 to {MAX_NAME} letters, digits, '.', '_' and '-', and begins with a letter or digit, such as \
     grafana"
)]
pub struct TokenNameError;

/// A right of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApiScope {
    /// Reads peers, their state, the settings and the changes.
    Read,
    /// Adds, changes and removes peers.
    Peers,
    /// Changes what the server's file says for all clients.
    Settings,
}

/// Error of parsing an [`ApiScope`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected read, peers or settings, or some of them separated by commas")]
pub struct ApiScopeError;

/// The rights of a token. All of them may read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiScopes {
    peers: bool,
    settings: bool,
}

impl TokenName {
    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TokenName {
    type Err = TokenNameError;

    fn from_str(text: &str) -> Result<Self, TokenNameError> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let begins = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
        let is_valid = begins && text.len() <= MAX_NAME && text.bytes().all(is_plain);
        if is_valid { Ok(Self(text.to_owned())) } else { Err(TokenNameError) }
    }
}

impl TryFrom<String> for TokenName {
    type Error = TokenNameError;

    fn try_from(text: String) -> Result<Self, TokenNameError> {
        text.parse()
    }
}

impl From<TokenName> for String {
    fn from(name: TokenName) -> Self {
        name.0
    }
}

impl fmt::Display for TokenName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl ApiScope {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Read, Self::Peers, Self::Settings];

    /// Returns the name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Peers => "peers",
            Self::Settings => "settings",
        }
    }
}

impl FromStr for ApiScope {
    type Err = ApiScopeError;

    fn from_str(text: &str) -> Result<Self, ApiScopeError> {
        Self::ALL.into_iter().find(|scope| scope.name() == text.trim()).ok_or(ApiScopeError)
    }
}

impl ApiScopes {
    /// Returns true if `scope` is one of them.
    pub const fn allow(self, scope: ApiScope) -> bool {
        match scope {
            ApiScope::Read => true,
            ApiScope::Peers => self.peers,
            ApiScope::Settings => self.settings,
        }
    }
}

impl FromIterator<ApiScope> for ApiScopes {
    fn from_iter<I: IntoIterator<Item = ApiScope>>(scopes: I) -> Self {
        scopes.into_iter().fold(Self::default(), |scopes, scope| Self {
            peers: scopes.peers || scope == ApiScope::Peers,
            settings: scopes.settings || scope == ApiScope::Settings,
        })
    }
}

impl FromStr for ApiScopes {
    type Err = ApiScopeError;

    fn from_str(text: &str) -> Result<Self, ApiScopeError> {
        text.split(',').map(str::parse).collect()
    }
}

impl fmt::Display for ApiScopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = ApiScope::ALL.into_iter().filter(|scope| self.allow(*scope)).map(ApiScope::name);
        f.write_str(&names.collect::<Vec<_>>().join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_words() {
        for name in ["grafana", "a", "home.lan_2-x", &"a".repeat(MAX_NAME)] {
            assert_eq!(name.parse::<TokenName>().unwrap().as_str(), name);
        }
        for name in ["", "-a", ".", "a b", "a=b", "ü", "a\n", &"a".repeat(MAX_NAME + 1)] {
            assert_eq!(name.parse::<TokenName>(), Err(TokenNameError), "{name}");
        }
    }

    #[test]
    fn scopes_are_read_back_and_all_include_reading() {
        for (text, allowed) in [
            ("read", [true, false, false]),
            ("read,peers", [true, true, false]),
            ("read,settings", [true, false, true]),
            ("read,peers,settings", [true, true, true]),
        ] {
            let scopes: ApiScopes = text.parse().unwrap();
            assert_eq!(ApiScope::ALL.map(|scope| scopes.allow(scope)), allowed, "{text}");
            assert_eq!(scopes.to_string(), text);
        }
        assert_eq!("settings, peers".parse::<ApiScopes>().unwrap().to_string(), "read,peers,settings");
        for wrong in ["", "all", "read,", "Read"] {
            assert_eq!(wrong.parse::<ApiScopes>(), Err(ApiScopeError), "{wrong}");
        }
    }
}
