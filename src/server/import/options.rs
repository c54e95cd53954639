//! The options of an import.

use std::num::NonZeroU16;
use std::path::PathBuf;

use crate::server::{ClientDns, ClientEndpoint};

/// The file to import, and settings that it may lack.
#[derive(Clone, Debug)]
pub struct Import {
    /// Path of the file; `-` is standard input.
    pub source: PathBuf,
    /// Address that clients connect to, for clients added later.
    pub endpoint: Option<ClientEndpoint>,
    /// UDP port of the server, which wg-easy's JSON does not contain; `None` for the endpoint's
    /// port.
    pub listen_port: Option<NonZeroU16>,
    /// Name servers of clients added later.
    pub dns: Option<ClientDns>,
}
