//! The device's name, index and network namespace, which other programs may change while the tunnel
//! runs: everything that depends on them is updated.
//!
//! What outlives the tunnel, its tables and its ownership marker, keeps the name that the tunnel
//! was started with ([`crate::link::Routes`], [`crate::link::KillSwitch`]). Sockets get the new
//! one.

mod follow;
mod state;

pub(super) use state::Identity;
