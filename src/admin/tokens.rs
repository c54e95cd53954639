//! Tokens of the API, and the text of their file: `NAME.admin-tokens`, beside the configuration,
//! which only its owner may read. A line is a token; its secret is there as a hash only.

use std::fmt::Write as _;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::sign_in::{Token, TokenHash};
use crate::config::peer_settings::Expiry;
use crate::config::{ApiScopes, TokenName};

/// Maximum number of tokens.
const MAX_TOKENS: usize = 32;
/// Maximum length of the text in bytes.
const MAX_TEXT: usize = 8 * 1024;
/// Beginning of a secret, by which programs that look for leaked ones recognize it.
const PREFIX: &str = "wontun_";
const HEADER: &str =
    "# Tokens of the API of wontun's admin page: their hashes. 'wontun admin token' changes them.\n";

/// A token of the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ApiToken {
    pub(crate) name: TokenName,
    pub(crate) scopes: ApiScopes,
    pub(crate) created: Timestamp,
    pub(crate) expires: Option<Expiry>,
    pub(crate) hash: TokenHash,
}

/// The tokens, in the order in which they were made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ApiTokens(Vec<ApiToken>);

/// The text of their file, at most 8 KiB.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct TokensText(String);

/// Errors of [`ApiTokens`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokensError {
    /// The text is none of tokens.
    #[error(
        "line {0} is no token: 'NAME scope=SCOPES created=TIME [expires=TIME] sha256=HASH' is expected, as wontun writes \
         it; remove the line, and make the token again by 'wontun admin token add'"
    )]
    Line(usize),
    /// The text is too long.
    #[error("it is longer than {MAX_TEXT} bytes")]
    Long,
    /// There is a token of this name.
    #[error("there is a token '{0}' already: choose another name, or remove that one first")]
    Taken(TokenName),
    /// There is no token of this name.
    #[error("there is no token '{0}': 'wontun admin token list' lists them")]
    Unknown(TokenName),
    /// There are too many.
    #[error("there are {MAX_TOKENS} tokens already: remove one first")]
    TooMany,
}

impl TryFrom<String> for TokensText {
    type Error = TokensError;

    fn try_from(text: String) -> Result<Self, TokensError> {
        if text.len() <= MAX_TEXT { Ok(Self(text)) } else { Err(TokensError::Long) }
    }
}

impl TokensText {
    /// Returns the text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Parses the text.
    ///
    /// # Errors
    /// [`TokensError`].
    pub(crate) fn parse(&self) -> Result<ApiTokens, TokensError> {
        let mut tokens = ApiTokens::default();
        for (number, line) in self.0.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let token = parse_line(line).ok_or(TokensError::Line(number + 1))?;
            tokens.add(token)?;
        }
        Ok(tokens)
    }
}

fn parse_line(line: &str) -> Option<ApiToken> {
    let mut words = line.split_whitespace();
    let name = words.next()?.parse().ok()?;
    let (mut scopes, mut created, mut expires, mut hash) = (None, None, None, None);
    for word in words {
        let (key, value) = word.split_once('=')?;
        match key {
            "scope" => scopes = Some(value.parse().ok()?),
            "created" => created = Some(value.parse().ok()?),
            "expires" => expires = Some(value.parse().ok()?),
            "sha256" => hash = Some(TokenHash::parse(value)?),
            _ => return None,
        }
    }
    Some(ApiToken { name, scopes: scopes?, created: created?, expires, hash: hash? })
}

impl ApiTokens {
    /// Adds a token.
    ///
    /// # Errors
    /// [`TokensError`]: its name is taken, or there are too many.
    pub(crate) fn add(&mut self, token: ApiToken) -> Result<(), TokensError> {
        if self.0.iter().any(|each| each.name == token.name) {
            return Err(TokensError::Taken(token.name));
        }
        if self.0.len() >= MAX_TOKENS {
            return Err(TokensError::TooMany);
        }
        self.0.push(token);
        Ok(())
    }

    /// Removes a token.
    ///
    /// # Errors
    /// [`TokensError`]: there is none of this name.
    pub(crate) fn remove(&mut self, name: &TokenName) -> Result<(), TokensError> {
        let before = self.0.len();
        self.0.retain(|each| each.name != *name);
        if self.0.len() < before { Ok(()) } else { Err(TokensError::Unknown(name.clone())) }
    }

    /// Returns the tokens.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &ApiToken> {
        self.0.iter()
    }

    /// Returns the token with this secret, unless it has expired at `now`, a time since 1970.
    /// Compares it with all, in constant time.
    pub(crate) fn find(&self, secret: &Token, now: Duration) -> Option<&ApiToken> {
        let mut found = None;
        for each in &self.0 {
            if each.hash.is_of(secret) {
                found = Some(each);
            }
        }
        found.filter(|each: &&ApiToken| each.expires.is_none_or(|end| now < end.since_epoch()))
    }

    /// Returns the text of their file.
    pub(crate) fn to_text(&self) -> TokensText {
        let mut text = HEADER.to_owned();
        for ApiToken { name, scopes, created, expires, hash } in &self.0 {
            // writing to memory does not fail
            let _ = write!(text, "{name} scope={scopes} created={created}");
            if let Some(expires) = expires {
                let _ = write!(text, " expires={expires}");
            }
            let _ = writeln!(text, " sha256={}", hash.to_hex());
        }
        TokensText(text)
    }
}

/// Returns the secret of a token as its user gets it: once.
pub(crate) fn secret_text(secret: &Token) -> Zeroizing<String> {
    let digits = secret.to_hex();
    // with space for a newline: a text that grows leaves copies behind
    let mut text = Zeroizing::new(String::with_capacity(PREFIX.len() + digits.len() + 1));
    text.push_str(PREFIX);
    text.push_str(&digits);
    text
}

/// Parses a secret.
pub(crate) fn parse_secret(text: &str) -> Option<Token> {
    Token::parse(text.strip_prefix(PREFIX)?)
}

#[cfg(test)]
pub(in crate::admin) mod tests {
    use super::*;
    use crate::net::random::SystemRandom;

    /// Makes a token, and returns its secret.
    pub(in crate::admin) fn add(
        tokens: &mut ApiTokens,
        name: &str,
        scopes: &str,
        expires: Option<&str>,
    ) -> Token {
        let secret = Token::random(&mut SystemRandom::open().unwrap());
        let (name, scopes) = (name.parse().unwrap(), scopes.parse().unwrap());
        let expires = expires.map(|end| end.parse().unwrap());
        let created = "2026-11-30T00:00:00Z".parse().unwrap();
        tokens.add(ApiToken { name, scopes, created, expires, hash: secret.hash() }).unwrap();
        secret
    }

    #[test]
    fn tokens_are_read_back_and_recognized_until_they_end() {
        let mut tokens = ApiTokens::default();
        let grafana = add(&mut tokens, "grafana", "read", None);
        let deploy = add(&mut tokens, "deploy", "read,peers", Some("2027-01-31T12:00:00Z"));
        let text = tokens.to_text();
        assert!(!text.as_str().contains(grafana.to_hex().as_str()), "{text:?}");
        assert_eq!(TokensText::try_from(text.as_str().to_owned()).unwrap().parse(), Ok(tokens.clone()));
        let end = "2027-01-31T12:00:00Z".parse::<Expiry>().unwrap().since_epoch();
        let name = |secret: &Token, now| tokens.find(secret, now).map(|token| token.name.as_str());
        let before = end - Duration::from_secs(1);
        assert_eq!((name(&grafana, end), name(&deploy, before)), (Some("grafana"), Some("deploy")));
        assert_eq!(name(&deploy, end), None, "it has ended");
        assert_eq!(name(&Token::random(&mut SystemRandom::open().unwrap()), before), None);
        assert_eq!(parse_secret(&secret_text(&deploy)), Some(deploy.clone()));
        assert!(parse_secret(&deploy.to_hex()).is_none(), "without its beginning");
        // removed, and only that one
        tokens.remove(&"deploy".parse().unwrap()).unwrap();
        assert!(tokens.find(&deploy, before).is_none() && tokens.find(&grafana, before).is_some());
        let unknown = tokens.remove(&"deploy".parse().unwrap());
        assert_eq!(unknown, Err(TokensError::Unknown("deploy".parse().unwrap())));
    }

    #[test]
    fn their_number_is_limited_and_all_fit_the_text() {
        let mut tokens = ApiTokens::default();
        for number in 0..MAX_TOKENS {
            let name = format!("{number:032}");
            add(&mut tokens, &name, "read,peers,settings", Some("2027-01-31T12:00:00Z"));
        }
        let text = tokens.to_text().as_str().to_owned();
        assert_eq!(TokensText::try_from(text).unwrap().parse(), Ok(tokens.clone()));
        let other = ApiToken { name: "other".parse().unwrap(), ..tokens.iter().next().unwrap().clone() };
        assert_eq!(tokens.add(other), Err(TokensError::TooMany));
    }

    #[test]
    fn anything_else_is_refused_with_its_line() {
        let hash = "0".repeat(64);
        let valid = format!("a scope=read created=2026-11-30T00:00:00Z sha256={hash}");
        let text = |line: &str| TokensText::try_from(format!("{HEADER}{line}\n")).unwrap().parse();
        assert_eq!(text(&valid).unwrap().iter().count(), 1);
        for wrong in ["x", "password = x", &valid.replace("read", "all"), &valid[..valid.len() - 1]] {
            assert_eq!(text(wrong), Err(TokensError::Line(2)), "{wrong}");
        }
        let twice = text(&format!("{valid}\n{valid}"));
        assert_eq!(twice, Err(TokensError::Taken("a".parse().unwrap())));
        assert_eq!(TokensText::try_from("#".repeat(MAX_TEXT + 1)), Err(TokensError::Long));
    }
}
