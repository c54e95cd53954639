//! The supervisor: the process that was started. It keeps exactly CAP_NET_ADMIN and owns what the
//! tunnel needs of the host: the TUN device's state, routes, rules, tables of nf_tables, settings,
//! UDP sockets, the configuration file, wg(8)'s socket, signals and the service manager. It reads
//! no packet and no datagram; the tunnel process does ([`crate::device`]), which has no capability,
//! and of whose messages each is treated as hostile: routes, tables, marks and ports come from the
//! configuration alone.
//!
//! Its loop waits with poll(2) for a handful of descriptors. Nothing here is done for a packet.

mod context;
mod error;
mod event_loop;
mod identity;
mod link_changes;
mod link_watch;
mod lookups;
mod mode;
mod plain;
mod reconcile;
mod service;
mod socket_budget;
mod sockets;
mod start;
mod tunnel;
mod wireguard;

pub use error::SupervisorError;
pub use event_loop::Supervisor;
pub use mode::{Mode, Source};
pub use plain::Plain;
pub use sockets::SocketsError;
pub use start::{StartOptions, Starting};
pub use wireguard::{ConfigFile, EngagedKillSwitch, PendingKillSwitch, WireGuard};
