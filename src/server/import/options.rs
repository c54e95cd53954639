//! The options of an import.

use std::num::NonZeroU16;
use std::path::PathBuf;

use crate::server::{ClientDns, ClientEndpoint};

/// The file to import, and settings that it may lack.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub struct Import {
    /// File of wg-quick, or wg0.json of wg-easy 14 and before; '-' for standard input
    #[arg(value_name = "FILE")]
    pub source: PathBuf,

    /// Address that clients connect to, for clients added later; the port is 51820 unless given
    #[arg(long, env = "WONTUN_ENDPOINT", value_name = "HOST[:PORT]")]
    pub endpoint: Option<ClientEndpoint>,

    /// UDP port to listen on, which a file of wg-easy does not contain [default: the port of
    /// --endpoint, 51820]
    #[arg(long, env = "WONTUN_LISTEN_PORT", value_name = "PORT")]
    pub listen_port: Option<NonZeroU16>,

    /// Name servers for clients added later, separated by commas, or 'none'
    #[arg(long, env = "WONTUN_DNS", value_name = "ADDRESSES")]
    pub dns: Option<ClientDns>,
}
