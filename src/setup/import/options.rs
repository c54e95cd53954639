//! What the user wants imported.

use std::num::NonZeroU16;
use std::path::PathBuf;

use crate::setup::{ClientDns, ClientEndpoint};

/// What to import, and what its file does not say.
#[derive(Clone, Debug)]
pub struct Import {
    /// The file; `-` is standard input.
    pub source: PathBuf,
    /// Where clients find the server: for those that are added later.
    pub endpoint: Option<ClientEndpoint>,
    /// The UDP port that it listens on, which is not in wg-easy's JSON; `None` for the endpoint's.
    pub listen_port: Option<NonZeroU16>,
    /// Name servers for clients that are added later.
    pub dns: Option<ClientDns>,
}
