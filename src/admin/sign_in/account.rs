//! An account.

use std::fmt::{self, Write as _};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::password::PasswordHash;
use super::totp::TotpSecret;

/// Maximum length of the text in bytes.
const MAX_TEXT: usize = 1024;

/// An account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::admin) struct Account {
    pub(in crate::admin) password: PasswordHash,
    pub(in crate::admin) totp: Option<TotpSecret>,
}

/// The text of an account, in which the password is hashed: at most 1,024 bytes.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct AccountText(Zeroizing<String>);

/// Error: the text is none of an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "it is not the account of an admin page: 'password = $argon2id$…' is expected, as wontun writes it; remove the \
     file, and set a password by 'wontun admin link'"
)]
pub struct AccountError;

impl TryFrom<String> for AccountText {
    type Error = AccountError;

    fn try_from(text: String) -> Result<Self, AccountError> {
        if text.len() <= MAX_TEXT { Ok(Self(Zeroizing::new(text))) } else { Err(AccountError) }
    }
}

impl AccountText {
    #[cfg(test)]
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// Parses the text.
    ///
    /// # Errors
    /// [`AccountError`].
    pub(in crate::admin) fn parse(&self) -> Result<Account, AccountError> {
        let lines: Vec<_> = self.0.lines().collect();
        Account::of_lines(&lines)
    }
}

impl Account {
    /// Parses the lines of an account.
    ///
    /// # Errors
    /// [`AccountError`].
    pub(super) fn of_lines(lines: &[&str]) -> Result<Self, AccountError> {
        let (mut password, mut totp) = (None, None);
        for line in lines {
            let (key, value) = line.split_once('=').ok_or(AccountError)?;
            let value = value.trim();
            match key.trim() {
                "password" if password.is_none() => {
                    password = Some(PasswordHash::parse(value).ok_or(AccountError)?);
                }
                "totp" if totp.is_none() => totp = Some(TotpSecret::parse(value).ok_or(AccountError)?),
                _ => return Err(AccountError),
            }
        }
        Ok(Self { password: password.ok_or(AccountError)?, totp })
    }

    /// Returns its text.
    pub(in crate::admin) fn to_text(&self) -> AccountText {
        let mut text = Zeroizing::new(String::with_capacity(MAX_TEXT));
        self.write(&mut text);
        AccountText(text)
    }

    /// Writes its lines.
    pub(super) fn write(&self, text: &mut String) {
        // writing to memory does not fail
        let _ = writeln!(text, "password = {}", self.password);
        if let Some(totp) = &self.totp {
            text.push_str("totp = ");
            text.push_str(&totp.to_base32());
            text.push('\n');
        }
    }
}

impl fmt::Debug for AccountText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccountText(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::random::SystemRandom;

    #[test]
    fn an_account_is_read_back_and_anything_else_refused() {
        let mut random = SystemRandom::open().unwrap();
        let password = PasswordHash::new("correct horse", &mut random).unwrap();
        for totp in [None, Some(TotpSecret::random(&mut random))] {
            let account = Account { password: password.clone(), totp };
            let text = account.to_text();
            assert_eq!(AccountText::try_from(text.as_str().to_owned()).unwrap().parse(), Ok(account));
            assert!(!format!("{text:?}").contains("argon2"), "{text:?}");
        }
        for wrong in ["", "password = x", "totp = x", "PrivateKey = x", "password"] {
            assert_eq!(
                AccountText::try_from(wrong.to_owned()).unwrap().parse(),
                Err(AccountError),
                "{wrong}"
            );
        }
        assert_eq!(AccountText::try_from("#".repeat(MAX_TEXT + 1)), Err(AccountError));
    }
}
