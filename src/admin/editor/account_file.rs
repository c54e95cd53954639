//! The file of the accounts: `NAME.admin`, beside the configuration.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::super::messages::AccountsText;
use super::super::sign_in::Accounts;
use crate::config::TunName;
use crate::server::Writer;

/// The file.
#[derive(Debug)]
pub(in crate::admin) struct AccountFile(PathBuf);

impl AccountFile {
    pub(in crate::admin) fn new(folder: &Path, tunnel: &TunName) -> Self {
        Self(folder.join(format!("{tunnel}.admin")))
    }

    /// Reads the text, which is empty if the file is not there.
    ///
    /// # Errors
    /// A text for the log: it cannot be read, or is not one of accounts.
    pub(super) fn read(&self) -> Result<AccountsText, String> {
        let path = self.0.display();
        match fs::read_to_string(&self.0) {
            Ok(text) => {
                let accounts = AccountsText::try_from(text).and_then(|text| text.parse().map(|_| text));
                accounts.map_err(|error| format!("{path}: {error}"))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(AccountsText::default()),
            Err(error) => Err(format!("{path} cannot be read: {error}")),
        }
    }

    /// Changes the accounts, while no other process does. Returns the text of the file, which only
    /// its owner may read.
    ///
    /// # Errors
    /// A text for the page or the command, as of `edit`; the file is unchanged.
    pub(in crate::admin) fn update(
        &self,
        edit: impl FnOnce(&mut Accounts) -> Result<(), String>,
    ) -> Result<AccountsText, String> {
        let writer = Writer::lock(&self.0).map_err(|error| error.to_string())?;
        let mut accounts = self.read()?.parse().map_err(|error| error.to_string())?;
        edit(&mut accounts)?;
        let text = accounts.to_text();
        let bytes = text.as_str().as_bytes();
        let written = if self.0.exists() { writer.replace(bytes) } else { writer.create(bytes) };
        written.map_err(|error| error.to_string())?;
        Ok(text)
    }
}
