//! What the program does besides running a tunnel: keys, and how the tunnels that run are.

mod error;
mod keys;
mod show;
mod unlock;

pub use error::CommandError;
pub use keys::{genkey, genpsk, pubkey};
pub use show::{ShowOptions, show};
pub use unlock::unlock;
