//! Setting a server up: its file, its clients, and how the file is changed without ever being half-written.
//!
//! [`Folder`] is where it all is. [`ServerFile`] is the file, read; it edits its text in place, so that every other
//! byte stays as it was, and what it gives back has been read again and says what was meant. [`Folder::lock`] gives the
//! one who may write. [`peers`] says what adding, removing and renaming a peer means, [`ClientFile`] is what the client
//! gets, [`QrCode`] is that as a picture. [`import`] takes over what another program set up.
//!
//! wg-quick reads the file too, so what only we need to know is in comments:
//!
//! | Comment | In | Meaning |
//! |---|---|---|
//! | `# Name = phone` | `[Peer]` | what the peer is called |
//! | `# ClientEndpoint = vpn.example.com:51820` | `[Interface]` | where clients find this server |
//! | `# ClientDNS = 9.9.9.9, 2620:fe::fe` | `[Interface]` | name servers for clients; `none` for none |
//!
//! A comment directly above a section's header belongs to that section.
//!
//! Nothing here talks to a running tunnel; that is [`crate::commands`]' part.

mod address;
mod client_file;
mod dns;
mod endpoint;
mod error;
mod folder;
pub mod import;
mod new_peer;
pub mod peers;
mod qr;
mod server_file;
mod volume;
mod write;

#[cfg(test)]
mod testing;

pub use crate::config::{PeerName, PeerNameError};
pub use address::{Subnet, SubnetError};
pub use client_file::ClientFile;
pub use dns::{ClientDns, ClientDnsError};
pub use endpoint::{ClientEndpoint, ClientEndpointError, DEFAULT_PORT};
pub use error::SetupError;
pub use folder::{Folder, Initial, Prepared};
pub use qr::QrCode;
pub use server_file::{ServerFile, ServerPeer};
pub use write::{Writer, create_secret};
