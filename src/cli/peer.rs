//! The commands of `wontun peer`.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Subcommand};

use super::options::ServerFolder;
use crate::config::peer_settings::Note;
use crate::server::{ClientDns, PeerName};

/// Subcommands of `wontun peer`.
#[derive(Clone, Debug, Subcommand)]
pub enum PeerCommand {
    /// Add a client and print its configuration
    ///
    /// The configuration is a file for wg-quick, wontun and the WireGuard apps. It is the only copy
    /// of the client's private key: redirect it to a file of mode 0600 (umask 077), or use --qr.
    Add {
        /// Folder of the server.
        #[command(flatten)]
        folder: ServerFolder,

        /// The client.
        #[command(flatten)]
        options: AddOptions,
    },
    /// List clients: names, addresses, latest handshakes
    #[command(visible_alias = "ls")]
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,

        /// Folder of the server.
        #[command(flatten)]
        folder: ServerFolder,
    },
    /// Show a client; never a private key
    Show {
        /// Name or public key of the client
        #[arg(value_name = "NAME")]
        name: String,

        /// Print JSON
        #[arg(long)]
        json: bool,

        /// Folder of the server.
        #[command(flatten)]
        folder: ServerFolder,
    },
    /// Change settings of a client
    ///
    /// The settings are comments of the client's section in DIR/tun0.conf. Sessions continue.
    Set {
        /// Name or public key of the client
        #[arg(value_name = "NAME")]
        name: String,

        /// The settings.
        #[command(flatten)]
        options: SetOptions,

        /// Folder of the server.
        #[command(flatten)]
        folder: ServerFolder,
    },
    /// Remove a client and disconnect it at once
    #[command(visible_alias = "rm")]
    Remove {
        /// Name or public key of the client
        #[arg(value_name = "NAME")]
        name: String,

        /// Folder of the server.
        #[command(flatten)]
        folder: ServerFolder,
    },
    /// Accept a client's clock as it is, after it was once in the future
    ///
    /// A client's handshakes have timestamps, which must grow. If its clock was once in the future,
    /// its handshakes are rejected until then. This forgets the latest timestamp; its session
    /// continues.
    Reset {
        /// Name or public key of the client
        #[arg(value_name = "NAME")]
        name: String,

        /// Folder of the server.
        #[command(flatten)]
        folder: ServerFolder,
    },
    /// Rename a client; its session continues
    Rename {
        /// Name or public key of the client
        #[arg(value_name = "NAME")]
        name: String,

        /// New name of the client
        #[arg(value_name = "NEW-NAME")]
        new_name: PeerName,

        /// Folder of the server.
        #[command(flatten)]
        folder: ServerFolder,
    },
}

/// The client that `wontun peer add` adds.
#[derive(Clone, Debug, Args)]
#[group(skip)]
pub struct AddOptions {
    /// Name of the new client
    #[arg(value_name = "NAME")]
    pub name: PeerName,

    /// Send all of the client's traffic through the tunnel, not only that for the server's networks
    #[arg(long)]
    pub full_tunnel: bool,

    /// Public key of a client that keeps its private key; the configuration is printed without one
    #[arg(long, value_name = "KEY", conflicts_with_all = ["qr", "qr_file"])]
    pub public_key: Option<String>,

    /// Name servers of this client, separated by commas, or 'none' [default: those of the server's
    /// file]
    #[arg(long, value_name = "ADDRESSES")]
    pub dns: Option<ClientDns>,

    /// Also print the configuration as a QR code, on standard error
    #[arg(long)]
    pub qr: bool,

    /// Also write the configuration as a QR code, to a new SVG file of mode 0600
    #[arg(long, value_name = "FILE")]
    pub qr_file: Option<PathBuf>,
}

/// The settings that `wontun peer set` changes.
#[derive(Clone, Debug, Args)]
#[group(required = true, multiple = true)]
pub struct SetOptions {
    /// Text for people; '' removes it
    #[arg(long, value_name = "TEXT")]
    pub note: Option<NoteOption>,
}

/// The value of `--note`: a note, or none.
#[derive(Clone, Debug)]
pub struct NoteOption(pub Option<Note>);

impl FromStr for NoteOption {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self(None));
        }
        text.parse().map(|note| Self(Some(note))).map_err(|expected: String| format!("expected {expected}"))
    }
}
