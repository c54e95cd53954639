//! Setup of a server: its file, its clients, and atomic changes of the file.
//!
//! `Folder` is the folder with the file. [`ServerFile`] is the parsed file. It edits its text in
//! place, so that every other byte is kept; the result of an edit is parsed again and compared with
//! the expected configuration. `Folder::lock` returns the lock for writing. `peers` adds peers,
//! `ClientFile` is the file of a client, `QrCode` shows it as a QR code. [`import`] takes over
//! the configuration of another program.
//!
//! wg-quick reads the file too, so values that only wontun needs are in comments:
//!
//! | Comment | In | Meaning |
//! |---|---|---|
//! | `# Name = phone` | `[Peer]` | name of the peer |
//! | `# ClientEndpoint = vpn.example.com:51820` | `[Interface]` | endpoint for clients |
//! | `# ClientDNS = 9.9.9.9, 2620:fe::fe` | `[Interface]` | name servers for clients, or `none` |
//! | `# Policy = isolate` | `[Interface]` | policy for peers without rules |
//!
//! A comment directly above a section's header belongs to that section.
//!
//! This module does not access a running tunnel; that is [`crate::commands`]' part.

pub(crate) mod access;
mod address;
mod client_file;
mod endpoint;
mod error;
mod folder;
pub mod import;
mod kept_keys;
mod outer_address;
pub(crate) mod peer_list;
pub(crate) mod peers;
mod qr;
mod server_file;
mod volume;
mod write;

#[cfg(test)]
mod testing;

pub(crate) use crate::config::{ClientDns, PeerName};
pub(crate) use endpoint::ClientEndpoint;
pub(crate) use error::ServerError;
pub(crate) use folder::{Folder, InitOptions, Prepared};
pub(crate) use kept_keys::KeptKeys;
pub(crate) use outer_address::{is_public, outer_addresses};
pub(crate) use qr::QrCode;
pub use server_file::{ServerFile, ServerPeer};
pub(crate) use write::{Writer, create_secret, create_unsynced, sync_all_in};
