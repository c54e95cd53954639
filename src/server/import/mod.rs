//! Imports the configuration of another program: a wg-quick file, the JSON of wg-easy, or the
//! tables of its database.
//!
//! The result is a [`ServerFile`] with the old keys, addresses and preshared keys, so that every
//! client continues with the file that it has. Nothing in the input is ever run: hooks of a
//! wg-quick file become comments, and a notice says what they did. The clients' private keys that
//! wg-easy stores are not imported.

mod error;
mod hooks;
mod json;
mod names;
mod network;
mod options;
mod redact;
mod translation;
mod wg_easy;
mod wg_easy_15;
mod wg_easy_client;
mod wg_quick;

use std::path::Path;

use super::error::ServerError;
use super::folder::Folder;
use super::server_file::ServerFile;
use crate::config::wg_quick::read_input;
use translation::Translation;

pub use error::ImportError;
pub use options::Import;
pub use redact::redacted;

/// First bytes of an SQLite database.
const DATABASE: &[u8] = b"SQLite format 3\0";
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The result of an import, before anything is written.
#[derive(Clone, Debug)]
pub struct Imported {
    /// The new file.
    pub file: ServerFile,
    /// Format of the input.
    pub format: Format,
    /// Differences from the input, one line each, without secrets.
    pub notices: Vec<String>,
}

/// Format of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A wg-quick file.
    WgQuick,
    /// The `wg0.json` of wg-easy up to version 14, or the tables of version 15.
    WgEasy,
}

impl Import {
    /// Reads the input and translates it for `folder`. Writes nothing.
    ///
    /// # Errors
    /// [`ImportError`] with the error and its position.
    pub fn read(&self, folder: &Folder) -> Result<Imported, ImportError> {
        let text = read_input(&self.source)?;
        self.translate(&text, &folder.file())
    }

    /// Translates the text of an input. `target` is the path of the new file.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn translate(&self, text: &[u8], target: &Path) -> Result<Imported, ImportError> {
        if text.starts_with(DATABASE) {
            return Err(ImportError::Database(self.source.clone()));
        }
        let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
        let (format, translation) = if text.trim_ascii_start().starts_with(b"{") {
            (Format::WgEasy, wg_easy::translate(self, text)?)
        } else if wg_easy_15::is_tables(text) {
            (Format::WgEasy, wg_easy_15::translate(self, text)?)
        } else {
            (Format::WgQuick, wg_quick::translate(&self.source, text)?)
        };
        let Translation { text, notices, endpoint, dns } = translation;
        let mut file = ServerFile::parse(target, text)?;
        let port = file.configuration().interface.listen_port;
        if let Some(wanted) = self.listen_port.filter(|&wanted| port != Some(wanted)) {
            return Err(ServerError::Conflict {
                path: self.source.clone(),
                key: "ListenPort",
                found: port.map_or(0, u16::from).to_string(),
                wanted: wanted.to_string(),
            }
            .into());
        }
        if let Some(dns) = self.dns.as_ref().or(dns.as_ref()) {
            file = file.with_dns(dns)?;
        }
        if let Some(endpoint) = self.endpoint.as_ref().or(endpoint.as_ref()) {
            file = file.with_endpoint(endpoint)?;
        }
        let mut imported = Imported { file, format, notices };
        if !imported.is_client() && imported.file.configuration().networks().is_empty() {
            imported.notices.push(format!(
                "{}; 'wontun peer add' waits for that",
                ServerError::NoSubnet(target.to_owned())
            ));
        }
        Ok(imported)
    }
}

impl Imported {
    /// Writes the file into `folder`, which is created if there is none. Never overwrites a file.
    ///
    /// # Errors
    /// [`ImportError::Exists`], or the error of writing. Nothing was changed.
    pub fn write(&self, folder: &Folder) -> Result<(), ImportError> {
        folder.create(&self.file).map_err(|error| match error {
            ServerError::Exists(path) => ImportError::Exists(path),
            other => other.into(),
        })
    }

    /// Returns true for the configuration of a client: it has an endpoint and no port of its own.
    pub fn is_client(&self) -> bool {
        self.file.configuration().is_client()
    }
}

#[cfg(test)]
mod tests;
