//! Attacks and accidents on the host itself, by other users, administrators and programs.

mod check;
mod doctor;
mod elsewhere;
mod endpoint_routes;
mod input_chain;
mod kill_switch_commands;
mod kill_switch_pass;
mod kill_switch_start;
mod kill_switch_unit;
mod metrics_host;
mod nat_state;
mod noise_peer;
mod other_family;
mod overlap;
mod peer_noise;
mod plain_by_name;
mod renamed;
mod repairs;
mod resolver;
mod ruleset;
mod session_keys;
mod setcap;
mod spoof;
mod suspension;
mod tun_owner;
mod udp_port;
