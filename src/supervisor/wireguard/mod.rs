//! The supervisor's part of WireGuard mode: the configuration file, the socket for wg(8), routes
//! and tables of the host, and the peers as far as these depend on them. Keys, sessions and packets
//! are handled by the tunnel process.

mod access;
mod admin;
mod audit;
mod bypass;
mod change;
mod dns;
mod early_lookup;
mod endpoint_cache;
mod endpoint_names;
mod excluded;
mod file;
mod firewall;
mod hand_over;
mod identity;
mod invitations;
mod kill_switch;
mod mode;
mod names;
mod nat64;
mod open;
mod peers;
mod preview;
mod reconcile;
mod reload;
mod restart;
mod route;
mod rules;
mod ruleset;
mod saved_state;
mod state;
mod tables;
mod uapi;

pub(crate) use file::ConfigFile;
pub(crate) use kill_switch::{EngagedKillSwitch, PendingKillSwitch};
pub(crate) use preview::{TunnelPreview, preview};
pub(crate) use state::WireGuard;
