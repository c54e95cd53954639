//! Why nothing was imported.

use std::path::PathBuf;

use crate::config::wg_quick::{KeyError, LoadError};
use crate::setup::SetupError;

/// What is wrong, and where. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file cannot be read, or a line of wg-quick's file is wrong.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The file that comes out cannot be written, or would not say what was meant.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// There is a file in its place.
    #[error("{} exists, and is never overwritten: import into another folder with --dir, or under another name with --tun", .0.display())]
    Exists(PathBuf),
    /// wg-easy 15 keeps a database.
    #[error(
        "{}: is a database, as wg-easy 15 keeps one: import the wg0.conf beside it, which that version writes at each change and which has the same keys, names and addresses",
        .0.display()
    )]
    Database(PathBuf),
    /// The JSON cannot be read.
    #[error("{}:{line}: no JSON: {what}; expected the wg0.json of wg-easy, whole and unchanged", file.display())]
    Json {
        /// The file.
        file: PathBuf,
        /// The line, the first being 1.
        line: usize,
        /// What is wrong there.
        what: String,
    },
    /// A value of the JSON is not what it should be.
    #[error("{}: {path}: found {found}, expected {expected}", file.display())]
    Value {
        /// The file.
        file: PathBuf,
        /// Where in it, such as `clients.ID.address`.
        path: String,
        /// What is there, or what can be said of it.
        found: String,
        /// What should be.
        expected: &'static str,
    },
    /// A key of the JSON is none.
    #[error("{}: {path}: {source}", file.display())]
    Key {
        /// The file.
        file: PathBuf,
        /// Where in it.
        path: String,
        /// What is wrong with it.
        source: KeyError,
    },
    /// The private key is given to the tunnel by a command.
    #[error(
        "{}:{line}: {hook} gives the tunnel its private key by a command, which is not run: write the key into [Interface] as PrivateKey = KEY, or as PrivateKeyFile = /PATH, and try again",
        file.display()
    )]
    KeyByCommand {
        /// The file.
        file: PathBuf,
        /// The hook's line.
        line: usize,
        /// The hook.
        hook: &'static str,
    },
    /// A file that is looked for beside the one that is read.
    #[error(
        "{}: the key file '{}' is named by a relative path, which would start at another folder: write it with its whole path",
        file.display(),
        .key.to_string_lossy().escape_debug()
    )]
    RelativeKeyFile {
        /// The file.
        file: PathBuf,
        /// The path in it.
        key: PathBuf,
    },
}
