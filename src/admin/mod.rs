//! The admin page of a server: a web page in two processes of their own.
//!
//! `wontun-admin` speaks HTTP. It has no capability, no key and no file; its listening sockets are
//! handed to it. It gets the peers and their state without secrets, and sends changes as typed
//! messages ([`messages`]) to the supervisor, which treats them as hostile. The file of a new peer
//! passes through it once.
//!
//! `wontun-editor` changes the server's file with the functions of [`crate::server`] that
//! `wontun peer` uses. It runs as the user that wontun was started as, to whom the file belongs,
//! may open files in the configuration's folder only, and has no network. After a change the
//! supervisor reads the file again.
//!
//! | File | Content |
//! |---|---|
//! | `messages.rs` | messages between the supervisor and both processes |
//! | `changes.rs` | changes and questions in these messages |
//! | `principal.rs` | the people who use the page |
//! | `process.rs` | `wontun-admin`: start, event loop |
//! | `app/` | what a request does |
//! | `api/` | the API: its routes, the bodies of requests, errors |
//! | `http/` | the HTTP server |
//! | `sign_in/` | account, sessions, limits on attempts |
//! | `tokens.rs` | tokens of the API |
//! | `pages/` | HTML |
//! | `texts.rs` | all texts of the page |
//! | `assets/` | style sheet and script |
//! | `snapshot.rs` | the peers and their state |
//! | `editor/` | `wontun-editor` |

pub mod api;
mod app;
mod certificate;
mod changes;
pub mod editor;
pub mod http;
pub mod messages;
mod pages;
mod principal;
mod process;
pub(crate) mod sign_in;
mod snapshot;
mod texts;
pub(crate) mod tokens;

use std::path::Path;

use crate::config::{OwnerName, TunName};

pub use self::process::main;

/// Role of the process that serves the page.
pub(crate) const ROLE: &str = "admin";

/// Removes the account of an owner of peers from the file of the accounts beside the configuration
/// `file`.
///
/// # Errors
/// A text for the command: there is no such account, or the file cannot be changed.
pub(crate) fn remove_account(file: &Path, tunnel: &TunName, owner: &OwnerName) -> Result<(), String> {
    let folder = file.parent().unwrap_or(Path::new("."));
    let removed = editor::AccountFile::new(folder, tunnel)
        .update(|accounts| if accounts.remove(owner) { Ok(()) } else { Err(format!("'{owner}' has none")) });
    removed.map(|_| ())
}
