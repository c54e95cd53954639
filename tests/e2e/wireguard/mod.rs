//! WireGuard: the real binary against itself and against other implementations, each configured by
//! Debian's `wg`.
//!
//! The first group of modules is the laboratory, the second the scenarios, one topic per file. A
//! scenario is a function of the programs at its ends, and `between!` lists the pairs that it is
//! run with. `WONTUN_STAND_IN=wireguard-go` runs that program in place of wontun, which shows
//! whether a scenario matches other implementations.

/// `between!(scenario: { name: (server, client, …), … })` makes a test of each line.
macro_rules! between {
    ($scenario:ident: { $($name:ident: ($($argument:expr),+ $(,)?)),+ $(,)? }) => {
        mod $scenario {
            #[allow(unused_imports)]
            use super::{Implementation::*, *};
            $(#[test]
            fn $name() {
                super::$scenario($($argument),+);
            })+
        }
    };
}

pub(crate) mod capture;
pub(crate) mod implementation;
mod iperf;
pub(crate) mod name_server;
pub(crate) mod no_nftables;
pub(crate) mod node;
pub(crate) mod pair;
pub(crate) mod probe;
mod relay;
pub(crate) mod settings;
pub(crate) mod site;
pub(crate) mod state_file;
pub(crate) mod tally;

mod access;
mod audit;
mod basics;
mod before_lock;
mod bypass;
mod candidates;
mod commands;
mod counters;
mod dnsmasq;
mod endpoint_cache;
mod faults;
mod full_tunnel;
mod hostile;
pub(crate) mod kill_switch;
mod lifecycle;
mod limits;
mod live_keys;
mod local_stub;
mod many_peers;
mod many_sites;
pub(crate) mod memory;
mod moved;
mod mtu;
mod names;
mod nat;
mod no_answer;
mod one_key;
mod paths;
mod rekey;
mod reload;
mod restart;
mod restart_nat;
mod roaming;
mod secrets;
mod server_nat;
mod steering;
pub(crate) mod wg_quick_tool;
mod wg_tool;
