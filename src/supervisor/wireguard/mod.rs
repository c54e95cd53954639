//! WireGuard mode, as the supervisor sees it: the configuration file, wg(8)'s socket, routes and
//! tables of the host, and the peers as far as these depend on them. Keys, sessions and packets are
//! the tunnel process's.

mod bypass;
mod change;
mod early;
mod file;
mod firewall;
mod identity;
mod kill_switch;
mod mode;
mod names;
mod open;
mod peers;
mod reconcile;
mod reload;
mod remembered;
mod route;
mod ruleset;
mod state;
mod tables;
mod uapi;

pub use file::ConfigFile;
pub use kill_switch::{EngagedKillSwitch, PendingKillSwitch};
pub use state::WireGuard;
