//! Moving over from another set-up: wg-quick's file, and the JSON that wg-easy keeps.
//!
//! What comes out is a [`ServerFile`] with the old keys, addresses and preshared keys, so that every client goes on with
//! the file that it has. Nothing of what is read is ever run: a wg-quick file's hooks become comments, and what they did
//! is said. wg-easy's copies of its clients' private keys are left behind.

mod draft;
mod error;
mod hidden;
mod hooks;
mod names;
mod network;
mod options;
mod wg_easy;
mod wg_quick;

use std::path::Path;

use super::error::SetupError;
use super::folder::Folder;
use super::peers::networks;
use super::server_file::ServerFile;
use crate::config::wg_quick::read_once;
use draft::Draft;

pub use error::ImportError;
pub use hidden::without_secrets;
pub use options::Import;

/// How an SQLite database begins.
const DATABASE: &[u8] = b"SQLite format 3\0";
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// What came of it; nothing has been written yet.
#[derive(Clone, Debug)]
pub struct Imported {
    /// The file that it makes.
    pub file: ServerFile,
    /// What was read.
    pub format: Format,
    /// What is otherwise than it was, a line each, without secrets.
    pub notices: Vec<String>,
}

/// What was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// wg-quick's file.
    WgQuick,
    /// wg-easy's `wg0.json`, of version 14 and before.
    WgEasy,
}

impl Import {
    /// Reads the file and makes of it what is to be in `folder`.
    ///
    /// # Errors
    /// [`ImportError`]: what is wrong, and where.
    pub fn read(&self, folder: &Folder) -> Result<Imported, ImportError> {
        let text = read_once(&self.source)?;
        self.translate(&text, &folder.file())
    }

    /// As [`Self::read`], from the file's text. The file that comes out is to be at `target`.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn translate(&self, text: &[u8], target: &Path) -> Result<Imported, ImportError> {
        if text.starts_with(DATABASE) {
            return Err(ImportError::Database(self.source.clone()));
        }
        let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
        let (format, Draft { text, notices }) = if text.trim_ascii_start().starts_with(b"{") {
            (Format::WgEasy, wg_easy::draft(self, text)?)
        } else {
            (Format::WgQuick, wg_quick::draft(&self.source, text)?)
        };
        let mut file = ServerFile::understand(target, text)?;
        let port = file.configuration().interface.listen_port;
        if let Some(wanted) = self.listen_port.filter(|&wanted| port != Some(wanted)) {
            return Err(SetupError::Different {
                path: self.source.clone(),
                key: "ListenPort",
                found: port.map_or(0, u16::from).to_string(),
                wanted: wanted.to_string(),
            }
            .into());
        }
        if let Some(dns) = &self.dns {
            file = file.with_dns(dns)?;
        }
        if let Some(endpoint) = &self.endpoint {
            file = file.with_endpoint(endpoint)?;
        }
        let mut imported = Imported { file, format, notices };
        if !imported.is_client() && networks(&imported.file).is_empty() {
            imported.notices.push(format!(
                "{}; 'wontun peer add' waits for that",
                SetupError::NoSubnet(target.to_owned())
            ));
        }
        Ok(imported)
    }
}

impl Imported {
    /// Writes the file into `folder`, which is made if there is none; never in the place of one that is there.
    ///
    /// # Errors
    /// [`ImportError::Exists`], or why it cannot be written. Nothing was changed.
    pub fn write(&self, folder: &Folder) -> Result<(), ImportError> {
        folder.create(&self.file).map_err(|error| match error {
            SetupError::Exists(path) => ImportError::Exists(path),
            other => other.into(),
        })
    }

    /// Whether it is a client's: it knows where its peer is and has no port of its own.
    pub fn is_client(&self) -> bool {
        let configuration = self.file.configuration();
        configuration.interface.listen_port.is_none()
            && configuration.peers.iter().any(|peer| peer.endpoint.is_some())
    }
}

#[cfg(test)]
mod tests;
