//! Random tokens, which are compared in constant time.

use std::fmt;

use ring::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;
use zeroize::{Zeroize, Zeroizing};

use wontun_proto::wireguard::Random;

/// Length of a token in bytes.
const LENGTH: usize = 32;

/// A random value that nobody can guess.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token([u8; LENGTH]);

/// The hash of a token: what is kept to recognize it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenHash([u8; SHA256_OUTPUT_LEN]);

impl Token {
    /// Draws a token.
    pub(crate) fn random(random: &mut dyn Random) -> Self {
        let mut bytes = [0; LENGTH];
        random.fill(&mut bytes);
        Self(bytes)
    }

    /// Parses 64 hexadecimal digits.
    pub(in crate::admin) fn parse(text: &str) -> Option<Self> {
        parse_hex(text).map(Self)
    }

    /// Returns true if the tokens are the same.
    pub(in crate::admin) fn is_same(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }

    /// Returns the token as hexadecimal digits.
    pub fn to_hex(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(2 * LENGTH));
        push_hex(&mut text, &self.0);
        text
    }

    /// Returns the hash.
    pub(crate) fn hash(&self) -> TokenHash {
        let mut hash = [0; SHA256_OUTPUT_LEN];
        hash.copy_from_slice(digest(&SHA256, &self.0).as_ref());
        TokenHash(hash)
    }
}

impl TokenHash {
    /// Returns true if the hashes are the same.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }

    /// Returns true if it is that of `token`.
    pub(in crate::admin) fn is_of(&self, token: &Token) -> bool {
        self.0.ct_eq(&token.hash().0).into()
    }

    /// Parses 64 hexadecimal digits.
    pub(in crate::admin) fn parse(text: &str) -> Option<Self> {
        parse_hex(text).map(Self)
    }

    /// Returns the hash as hexadecimal digits.
    pub(in crate::admin) fn to_hex(self) -> String {
        let mut text = String::with_capacity(2 * SHA256_OUTPUT_LEN);
        push_hex(&mut text, &self.0);
        text
    }
}

fn push_hex(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        for digit in [byte >> 4, byte & 0xf] {
            text.push(char::from_digit(digit.into(), 16).unwrap_or_default());
        }
    }
}

/// Parses 64 hexadecimal digits.
pub(in crate::admin) fn parse_hex(text: &str) -> Option<[u8; LENGTH]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * LENGTH {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut bytes = [0; LENGTH];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let &[high, low] = pair else { return None };
        *byte = digit(high)? << 4 | digit(low)?;
    }
    Some(bytes)
}

impl Drop for Token {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::random::SystemRandom;

    #[test]
    fn a_token_is_read_back_and_recognized() {
        let mut random = SystemRandom::open().unwrap();
        let (token, other) = (Token::random(&mut random), Token::random(&mut random));
        let text = token.to_hex();
        assert_eq!(Token::parse(&text), Some(token.clone()));
        assert!(token.hash().is_of(&token) && !token.hash().is_of(&other));
        assert_eq!(format!("{token:?}"), "Token(…)");
        for wrong in ["", &text[1..], &text.replace(|digit: char| digit.is_ascii_digit(), "g"), "ü"] {
            assert_eq!(Token::parse(wrong), None, "{wrong}");
        }
    }
}
