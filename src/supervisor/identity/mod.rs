//! The device's name, its index and its network namespace, which others change while the tunnel
//! runs: what goes by them follows.
//!
//! What outlives the tunnel, its tables and its label, keeps the name that the tunnel was started
//! with ([`crate::link::Routes`], [`crate::link::KillSwitch`]). Sockets get the new one.

mod follow;
mod state;

pub(super) use state::Identity;
