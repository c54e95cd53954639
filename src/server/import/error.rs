//! Errors of an import.

use std::path::PathBuf;

use crate::config::wg_quick::{KeyError, LoadError};
use crate::exit::{self, ExitCode};
use crate::server::ServerError;

/// The query that prints the tables of wg-easy 15 that are imported.
const QUERY: &str =
    "SELECT * FROM interfaces_table; SELECT * FROM user_configs_table; SELECT * FROM clients_table";

/// Error of an import. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file cannot be read, or contains an invalid line (wg-quick).
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The new file cannot be written, or does not parse to the expected configuration.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The target file exists.
    #[error("{} exists, and is never overwritten: import into another folder with --dir, or under another name with --tun", .0.display())]
    Exists(PathBuf),
    /// The file is a database, as wg-easy 15 has one.
    #[error(
        "{path}: is a database, as wg-easy 15 keeps one: import its tables with: sqlite3 -json {path} '{QUERY}' | wontun import -; without sqlite3, the wg0.conf beside it has the enabled clients, without their expiry",
        path = .0.display()
    )]
    Database(PathBuf),
    /// The JSON cannot be parsed.
    #[error("{}:{line}: no JSON: {what}; expected the wg0.json of wg-easy, whole and unchanged", file.display())]
    Json {
        /// The file.
        file: PathBuf,
        /// Line number, starting at 1.
        line: usize,
        /// The error in that line.
        what: String,
    },
    /// A value in the JSON is invalid.
    #[error("{}: {path}: found {found}, expected {expected}", file.display())]
    Value {
        /// The file.
        file: PathBuf,
        /// Path of the value in the JSON, such as `clients.ID.address`.
        path: String,
        /// The value, or a description of it.
        found: String,
        /// Description of a valid value.
        expected: &'static str,
    },
    /// A key in the JSON is invalid.
    #[error("{}: {path}: {source}", file.display())]
    Key {
        /// The file.
        file: PathBuf,
        /// Path of the key in the JSON.
        path: String,
        /// The error in the key.
        source: KeyError,
    },
    /// A command passes the private key to the tunnel.
    #[error(
        "{}:{line}: {hook} gives the tunnel its private key by a command, which is not run: write the key into [Interface] as PrivateKey = KEY, or as PrivateKeyFile = /PATH, and try again",
        file.display()
    )]
    KeyByCommand {
        /// The file.
        file: PathBuf,
        /// Line number of the hook.
        line: usize,
        /// Name of the hook.
        hook: &'static str,
    },
    /// A key file has a relative path.
    #[error(
        "{}: the key file '{}' has a relative path, which would be resolved in another folder: write its absolute path",
        file.display(),
        .key.to_string_lossy().escape_debug()
    )]
    RelativeKeyFile {
        /// The file.
        file: PathBuf,
        /// Path of the key file, as written.
        key: PathBuf,
    },
}

impl ExitCode for ImportError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Load(error) => error.exit_code(),
            Self::Server(error) => error.exit_code(),
            Self::Exists(_) => exit::FAILURE,
            _ => exit::CONFIG,
        }
    }
}
