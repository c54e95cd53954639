//! The file of the account: `NAME.admin`, beside the configuration.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::super::messages::AccountText;
use crate::config::TunName;
use crate::server::Writer;

/// The file.
#[derive(Debug)]
pub(super) struct AccountFile(PathBuf);

impl AccountFile {
    pub(super) fn new(folder: &Path, tunnel: &TunName) -> Self {
        Self(folder.join(format!("{tunnel}.admin")))
    }

    /// Reads the text, if the file is there.
    ///
    /// # Errors
    /// A text for the log: it cannot be read, or is none of an account.
    pub(super) fn read(&self) -> Result<Option<AccountText>, String> {
        let path = self.0.display();
        match fs::read_to_string(&self.0) {
            Ok(text) => {
                let account = AccountText::try_from(text).and_then(|text| text.parse().map(|_| text));
                account.map(Some).map_err(|error| format!("{path}: {error}"))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(format!("{path} cannot be read: {error}")),
        }
    }

    /// Replaces or creates the file, which only its owner may read.
    ///
    /// # Errors
    /// A text for the page; the file is unchanged.
    pub(super) fn write(&self, text: &AccountText) -> Result<(), String> {
        let written = Writer::lock(&self.0).and_then(|writer| {
            let text = text.as_str().as_bytes();
            if self.0.exists() { writer.replace(text) } else { writer.create(text) }
        });
        written.map_err(|error| error.to_string())
    }
}
