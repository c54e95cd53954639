//! All accounts, and the text of their file: `NAME.admin`, beside the configuration, which only its
//! owner may read. The administrator's account comes first; that of an owner of peers follows a
//! line `[NAME]`. A file of one account, as earlier versions write it, is one of the
//! administrator's.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::super::principal::Principal;
use super::account::{Account, AccountError};
use crate::config::OwnerName;

/// Maximum number of owners who have an account.
const MAX_OWNERS: usize = 50;
/// Maximum length of the text in bytes, so that it fits a message together with the longest
/// certificate.
const MAX_TEXT: usize = 14 * 1024;
const HEADER: &str = "# The accounts of wontun's admin page. 'wontun admin link' sets a new password.\n";

/// The accounts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::admin) struct Accounts {
    admin: Option<Account>,
    owners: BTreeMap<OwnerName, Account>,
}

/// The text of the accounts' file, in which passwords are hashed.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct AccountsText(Zeroizing<String>);

impl TryFrom<String> for AccountsText {
    type Error = AccountError;

    fn try_from(text: String) -> Result<Self, AccountError> {
        let text = Zeroizing::new(text);
        if text.len() <= MAX_TEXT { Ok(Self(text)) } else { Err(AccountError) }
    }
}

impl AccountsText {
    /// Returns the text.
    pub(in crate::admin) fn as_str(&self) -> &str {
        &self.0
    }

    /// Parses the text.
    ///
    /// # Errors
    /// [`AccountError`].
    pub(in crate::admin) fn parse(&self) -> Result<Accounts, AccountError> {
        let mut accounts = Accounts::default();
        let mut principal = Principal::Admin;
        let mut lines = Vec::new();
        let line_of = |line: &str| !line.is_empty() && !line.starts_with('#');
        for line in self.0.lines().map(str::trim).filter(|line| line_of(line)) {
            match line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                Some(name) => {
                    accounts.insert_lines(principal, &lines)?;
                    lines.clear();
                    principal = Principal::Owner(name.parse().map_err(|_| AccountError)?);
                }
                None => lines.push(line),
            }
        }
        accounts.insert_lines(principal, &lines)?;
        Ok(accounts)
    }
}

impl Accounts {
    /// Returns the account of a person.
    pub(in crate::admin) fn get(&self, principal: &Principal) -> Option<&Account> {
        match principal {
            Principal::Admin => self.admin.as_ref(),
            Principal::Owner(name) => self.owners.get(name),
            Principal::Token(_) | Principal::Invitation => None,
        }
    }

    /// Sets the account of a person. Returns false if there are too many, or if it is no person.
    pub(in crate::admin) fn set(&mut self, principal: Principal, account: Account) -> bool {
        match principal {
            Principal::Token(_) | Principal::Invitation => return false,
            Principal::Admin => self.admin = Some(account),
            Principal::Owner(name) => {
                if self.owners.len() >= MAX_OWNERS && !self.owners.contains_key(&name) {
                    return false;
                }
                self.owners.insert(name, account);
            }
        }
        true
    }

    /// Removes the account of an owner. Returns false if there is none.
    pub(in crate::admin) fn remove(&mut self, owner: &OwnerName) -> bool {
        self.owners.remove(owner).is_some()
    }

    /// Returns the owners who have an account.
    pub(in crate::admin) fn owners(&self) -> impl Iterator<Item = &OwnerName> {
        self.owners.keys()
    }

    /// Returns true if nobody has an account.
    pub(in crate::admin) fn is_empty(&self) -> bool {
        self.admin.is_none() && self.owners.is_empty()
    }

    /// Returns true if somebody's account has an authenticator app.
    pub(in crate::admin) fn has_totp(&self) -> bool {
        self.admin.iter().chain(self.owners.values()).any(|account| account.totp.is_some())
    }

    /// Returns the people whose accounts are not the same in `other`.
    pub(in crate::admin) fn changed(&self, other: &Self) -> Vec<Principal> {
        let owners = self.owners.keys().cloned().map(Principal::Owner);
        owners.chain([Principal::Admin]).filter(|each| self.get(each) != other.get(each)).collect()
    }

    /// Returns the text of their file.
    pub(in crate::admin) fn to_text(&self) -> AccountsText {
        // one allocation, so that nothing is left in freed memory
        let mut text = Zeroizing::new(String::with_capacity(MAX_TEXT));
        text.push_str(HEADER);
        if let Some(account) = &self.admin {
            account.write(&mut text);
        }
        for (name, account) in &self.owners {
            text.push_str("\n[");
            text.push_str(name.as_str());
            text.push_str("]\n");
            account.write(&mut text);
        }
        AccountsText(text)
    }

    fn insert_lines(&mut self, principal: Principal, lines: &[&str]) -> Result<(), AccountError> {
        if lines.is_empty() && principal == Principal::Admin {
            return Ok(());
        }
        let is_new = self.get(&principal).is_none();
        let is_set = self.set(principal, Account::of_lines(lines)?);
        if is_new && is_set { Ok(()) } else { Err(AccountError) }
    }
}

impl fmt::Debug for AccountsText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccountsText(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::super::{PasswordHash, TotpSecret};
    use super::*;
    use crate::net::random::SystemRandom;

    fn account(has_totp: bool) -> Account {
        let mut random = SystemRandom::open().unwrap();
        let totp = has_totp.then(|| TotpSecret::random(&mut random));
        Account { password: PasswordHash::of_nothing(&mut random), totp }
    }

    fn parsed(text: &str) -> Result<Accounts, AccountError> {
        AccountsText::try_from(text.to_owned())?.parse()
    }

    #[test]
    fn accounts_are_read_back_and_anything_else_refused() {
        let mut accounts = Accounts::default();
        assert_eq!(accounts.to_text().parse(), Ok(Accounts::default()));
        accounts.set(Principal::Owner("anna".parse().unwrap()), account(true));
        assert_eq!(accounts.to_text().parse(), Ok(accounts.clone()), "without the administrator");
        accounts.set(Principal::Admin, account(true));
        accounts.set(Principal::Owner("ben@example.com".parse().unwrap()), account(false));
        let text = accounts.to_text();
        assert_eq!(text.parse(), Ok(accounts.clone()));
        assert!(!format!("{text:?}").contains("argon2"), "{text:?}");
        let one = accounts.get(&Principal::Admin).unwrap().to_text();
        let line = one.as_str().lines().find(|line| line.starts_with("password")).unwrap();
        for wrong in [
            "[anna]",
            "[anna]\n[ben]\n",
            "password = x",
            "[admin]\npassword = x",
            &format!("[a b]\n{line}"),
            &format!("[anna]\n{line}\n[Anna]\n{line}"),
            &format!("{line}\n{line}"),
            &format!("{line}\nrole = admin"),
        ] {
            assert_eq!(parsed(wrong), Err(AccountError), "{wrong}");
        }
        assert_eq!(parsed(&"#".repeat(MAX_TEXT + 1)), Err(AccountError));
    }

    /// The file of an earlier version is the administrator's account, and stays it.
    #[test]
    fn the_file_of_one_account_is_the_administrators() {
        let admin = account(true);
        let old = format!(
            "# The account of wontun's admin page. 'wontun admin link' sets a new password.\n{}",
            admin.to_text().as_str()
        );
        let mut accounts = parsed(&old).unwrap();
        assert_eq!(accounts.get(&Principal::Admin), Some(&admin));
        accounts.set(Principal::Owner("anna".parse().unwrap()), account(false));
        assert_eq!(parsed(accounts.to_text().as_str()).unwrap().get(&Principal::Admin), Some(&admin));
    }

    #[test]
    fn the_file_of_most_accounts_fits() {
        let mut accounts = Accounts::default();
        accounts.set(Principal::Admin, account(true));
        for number in 0..MAX_OWNERS {
            let name = format!("{number:a<64}").parse().unwrap();
            assert!(accounts.set(Principal::Owner(name), account(true)));
        }
        assert!(!accounts.set(Principal::Owner("b".parse().unwrap()), account(false)));
        let text = accounts.to_text();
        assert!(text.as_str().len() <= MAX_TEXT, "{}", text.as_str().len());
        assert_eq!(AccountsText::try_from(text.as_str().to_owned()).unwrap().parse(), Ok(accounts));
    }
}
