//! What the program does besides running a tunnel: keys, setting a server up, and how the tunnels that run are.

mod apply;
mod error;
mod import;
mod init;
mod keys;
mod output;
mod peer;
mod serve;
mod show;
mod unlock;

pub use error::CommandError;
pub use import::import;
pub use init::init;
pub use keys::{genkey, genpsk, pubkey};
pub use peer::{AddOptions, add_peer, list_peers, remove_peer, rename_peer, show_peer};
pub use serve::prepare;
pub use show::{ShowOptions, show};
pub use unlock::unlock;
