//! The commands other than running a tunnel: keys, server setup, and the status of running tunnels.

mod apply;
mod completions;
mod dispatch;
mod error;
mod import;
mod init;
mod keys;
mod kill_switch;
mod output;
mod peer;
mod serve;
mod show;
mod top;

pub use completions::completions;
pub use dispatch::dispatch;
pub use error::CommandError;
pub use import::import;
pub use init::init;
pub use keys::{genkey, genpsk, pubkey};
pub use kill_switch::{kill_switch_off, kill_switch_on};
pub use peer::{AddOptions, add_peer, list_peers, remove_peer, rename_peer, show_peer};
pub use serve::prepare;
pub use show::{ShowOptions, show};
pub use top::{TopOptions, top};
