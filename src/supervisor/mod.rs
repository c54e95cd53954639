//! The supervisor: the process that was started by the user. It keeps exactly CAP_NET_ADMIN and
//! owns what the tunnel needs of the host: the TUN device's state, routes, rules, nf_tables tables,
//! settings, UDP sockets, the configuration file, the socket for wg(8), signals and the service
//! manager. It reads no packets or datagrams; the tunnel process does ([`crate::daemon`]), which
//! has no capabilities, and each of whose messages is treated as hostile: routes, tables, marks and
//! ports come from the configuration alone.
//!
//! Its event loop waits with poll(2) for a handful of descriptors. It does no work per packet.

mod context;
mod dns;
mod error;
mod event_loop;
mod hand_over;
mod identity;
mod link_changes;
mod link_watch;
mod lookups;
mod mode;
mod names;
mod path_changes;
mod path_watch;
mod plain;
mod reconcile;
mod reload;
mod service_manager;
mod socket_budget;
mod sockets;
mod start;
mod tunnel;
mod wireguard;

pub(crate) use error::SupervisorError;
pub(crate) use event_loop::Supervisor;
pub(crate) use hand_over::{Predecessor, Stored, TakeOverSource};
pub(crate) use mode::Mode;
pub(crate) use plain::Plain;
pub(crate) use start::{StartOptions, Starting};
pub(crate) use wireguard::{
    ConfigFile, EngagedKillSwitch, PendingKillSwitch, TunnelPreview, WireGuard, preview,
};
