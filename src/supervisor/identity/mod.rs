//! The device's name, index and network namespace, which other programs may change while the tunnel
//! runs: everything that depends on them is updated.
//!
//! Tables and the ownership marker, which outlive the tunnel, keep the name that the tunnel was
//! started with ([`crate::netlink::Routes`], [`crate::netlink::KillSwitch`]). Sockets get the new
//! one.

mod state;
mod update;

pub(super) use state::DeviceIdentity;
